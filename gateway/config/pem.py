"""Keys and certificates as settings have them: a PEM, or the path of a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile


def is_text(pem: str) -> bool:
    """Whether it is the PEM itself, not the path of a file."""
    return pem.lstrip().startswith("-----BEGIN")


@contextmanager
def as_file(pem: str) -> Iterator[str]:
    """The path of a PEM, which may be the text itself: Python reads pairs from files alone."""
    if not is_text(pem):
        yield pem
        return
    with NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        yield file.name
