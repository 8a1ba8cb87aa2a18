"""Where a server listens, as it is written: ``host``, ``host:port``, ``[::1]:port``, ``unix:/path``."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

_BRACKETS = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_UNIX = "unix:"
_FORMS = "write 127.0.0.1, 127.0.0.1:8000, [::1]:8000 or unix:/run/gateway/gateway.sock"


class Place(NamedTuple):
    """A host and a port, or the path of a Unix socket."""

    host: str = ""
    """Name or address without brackets; empty for all addresses of the machine."""
    port: int = 0
    """0 takes a free one."""
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether nobody reaches it from another machine."""
        try:
            return bool(self.path) or ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else authority(self.host, self.port)


def read_places(written: str | Sequence[str], port: int | None) -> tuple[Place, ...]:
    """The places, of which a text has several separated by commas; ``port`` is that of those without one.

    Raises ``ValueError``, whose text says what would be right.
    """
    texts = written.split(",") if isinstance(written, str) else written
    if not texts:
        raise ValueError('there must be one, for example "127.0.0.1"')
    return tuple(dict.fromkeys(_read_place(text.strip(), port) for text in texts))


def authority(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(address: str, port: int) -> str:
    """``host:port`` under which this machine reaches what is bound there."""
    return authority({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), port)  # noqa: S104


def _read_place(text: str, port: int | None) -> Place:
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"{text!r}: a Unix socket is written with its whole path, unix:/run/gateway/gateway.sock")
        return Place(path="/" + path.lstrip("/"))
    host, number = text, None
    if "/" in text:
        raise ValueError(f"{text!r} is no address; {_FORMS}")
    if brackets := _BRACKETS.fullmatch(text):
        host, number = brackets.groups()
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
    if "[" in host or "]" in host:
        raise ValueError(f"{text!r} is no address; {_FORMS}")
    if number is not None:
        port = _read_port(text, number)
    if port is None:
        raise ValueError(f"{text!r} needs a port: write {authority(host, 9000)}")
    return Place(host, port)


def _read_port(text: str, number: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and int(number) <= 65535):
        raise ValueError(f"{text!r}: a port is a number up to 65535, as in 127.0.0.1:8000")
    return int(number)
