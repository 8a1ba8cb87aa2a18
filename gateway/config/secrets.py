"""Secrets that stand in files: `key_file = "/run/secrets/key"` in place of `key`, for every setting that holds one.

The variable of `http_api.key_file` is GATEWAY_HTTP_API__KEY_FILE. In a table of keys by name, such as `http_api.keys`,
`billing_file` is the file of the key `billing`. Files are read when settings are.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from gateway.config.masking import is_secret

FILE = "_file"
"""Ends the name of a setting whose value stands in a file."""

FILE_ERROR = "secret_file"
"""Type of the errors here, as pydantic tells them."""

LARGEST = 65536
"""Most bytes of such a file: a secret is short, and a device has no end."""


class _FromFile:
    """Marks a setting that may stand in a file though its name does not say that it is a secret."""


FROM_FILE = _FromFile()

Keys = dict[Annotated[str, Field(pattern=r"^[-\w]{1,64}$")], Annotated[str, Field(min_length=1)]]
"""Keys by name, any of which is good: so that one can follow another while both are in use."""


def may_be_file(name: str, field: FieldInfo, fields: Mapping[str, FieldInfo]) -> bool:
    """Whether ``NAME_file`` stands for the setting; where that is a setting by itself it does not."""
    if name + FILE in fields or name.endswith(FILE) or field.annotation == Keys:
        return False
    return FROM_FILE in field.metadata or (field.annotation is str and is_secret(name))


def with_files_read(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """The values of a section, with what stands in files. Raises ``ValidationError`` that names setting and path."""
    found = dict(values)
    wrong: list[InitErrorDetails] = []
    for name, field in fields.items():
        if field.annotation == Keys and isinstance(found.get(name), Mapping):
            keys = found[name] = dict(found[name])
            for entry in [entry for entry in keys if str(entry).endswith(FILE)]:
                wrong += _read(keys, str(entry).removesuffix(FILE), (name,))
        elif name + FILE in found and may_be_file(name, field, fields):
            wrong += _read(found, name, ())
    if wrong:
        raise ValidationError.from_exception_data("settings", wrong)
    return found


def add_files(schema: dict[str, Any], fields: Mapping[str, FieldInfo]) -> None:
    """Let the JSON schema of a section know the names of files, too."""
    for name, field in fields.items():
        if may_be_file(name, field, fields):
            schema["properties"][name + FILE] = {"type": "string", "description": f"File that holds {name}."}


def _read(values: dict[str, Any], name: str, place: tuple[str, ...]) -> Iterator[InitErrorDetails]:
    """Put the text of the file in the place of its path; yields what is wrong with it."""
    path = values.pop(name + FILE)
    text = problem = ""
    if values.get(name):
        problem = f"{name} and {name}{FILE} are both given; keep one of them"
    elif not isinstance(path, str):
        problem = f'must be the path of a file, for example {name}{FILE} = "/run/secrets/{name}"'
    else:
        text, problem = _text(path)
    if problem:
        error = PydanticCustomError(FILE_ERROR, "{problem}", {"problem": problem})
        yield InitErrorDetails(type=error, loc=(*place, name + FILE), input="")
    values[name] = text


def _text(path: str) -> tuple[str, str]:
    """What stands in a file, without the newline at its end; or what is wrong with it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        return "", f'"{path}" cannot be read: {error.strerror}; give the path of a file that holds the secret alone'
    except ValueError:  # also of a path with a null byte
        return "", f'"{path}" cannot be read: it is not text in UTF-8'
    if len(data) > LARGEST:
        return "", f'"{path}" has more than {LARGEST} bytes; it should hold the secret alone'
    return text, "" if text.strip() else f'"{path}" is empty; it should hold the secret alone'
