"""What the commands share: options, failures told in words, and output for people or programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gateway.errors import SettingsError
from gateway.serve.listening import ServeError

USAGE, FAILURE = 2, 1
"""Exit codes: what was asked makes no sense, or it did not work."""


def _channel(name: str | None) -> str | None:
    if name == "":
        raise typer.BadParameter('a channel has a name, such as "chat:lobby"')
    return name


Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Settings file: TOML, JSON or YAML. By default $GATEWAY_CONFIG.", metavar="FILE"
    ),
]
Dev = Annotated[bool, typer.Option("--dev", help="Dev mode, as in gateway serve --dev.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the gateway, http(s):// or ws(s)://, by default from the settings."),
]
Key = Annotated[str | None, typer.Option("--key", help="API key, by default one of http_api of the settings.")]
Channel = Annotated[str, typer.Argument(help="Channel, such as chat:lobby.", callback=_channel)]
ChannelOption = Annotated[
    str | None, typer.Option("--channel", help="Make a subscription token for this channel.", callback=_channel)
]
Target = Annotated[str, typer.Argument(help="The gateway, as app.main:gateway.", metavar="MODULE:NAME")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, also of a failure.")]


class Failure(Exception):  # noqa: N818  an error is one of a catalogue here
    """What was asked did not work. The text is for the user."""


@contextmanager
def told(json: bool = False) -> Iterator[None]:
    """Tell failures in words and by exit code, without a traceback; with ``json`` on standard output, too."""
    try:
        yield
    except SettingsError as error:
        _fail(str(error), USAGE, json)
    except (Failure, ServeError) as error:
        _fail(str(error), FAILURE, json)
    except (RecursionError, OverflowError, UnicodeError) as error:
        _fail(f"a value cannot be used: {error}", USAGE, json)


def print_json(value: Any) -> None:
    """One line; what JSON cannot have is there as text."""
    typer.echo(msgspec.json.encode(value, enc_hook=str).decode())


def say(text: str) -> None:
    """A word to who sits before it, beside what the command puts out."""
    typer.echo(text, err=True)


def _fail(text: str, code: int, json: bool) -> None:
    if json:
        print_json({"error": {"message": text, "exit_code": code}})
    say("\n".join(f"gateway: {line}" for line in text.splitlines()))
    raise typer.Exit(code)
