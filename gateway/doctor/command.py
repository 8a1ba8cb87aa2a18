"""The command ``gateway doctor``."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.config import sources
from gateway.config.settings import Settings
from gateway.doctor.finding import as_json, as_text, exit_code
from gateway.errors import SettingsError

AddressOf = Callable[[Settings], str]
"""The URL at which this machine reaches the gateway of the settings. Raises `SettingsError` if there is none."""
Find = Callable[[str], Any]
"""A program's gateway by its name."""


def command(address_of: AddressOf, find: Find) -> Callable[..., None]:
    """The command, given what it takes from the command line's other parts."""

    def doctor(
        target: Annotated[
            str | None, typer.Argument(help="A program's gateway, as app.main:gateway.", metavar="[MODULE:NAME]")
        ] = None,
        url: Annotated[
            str, typer.Option(help="Address at which pages reach the gateway, through all that is before it.")
        ] = "",
        origin: Annotated[str, typer.Option(help="Origin of a page: would it be let in?")] = "",
        token: Annotated[
            str, typer.Option(help="Token of a client: would it be let in? A - reads it from stdin.")
        ] = "",
        idle: Annotated[
            bool, typer.Option("--idle", help="With --url, wait whether a silent connection lives.")
        ] = False,
        json: Annotated[bool, typer.Option("--json", help="One JSON object in place of lines.")] = False,
        dev: Annotated[bool, typer.Option("--dev", help="Dev mode, as in gateway serve --dev.")] = False,
        file: Annotated[
            Path | None, typer.Option("--config", "-c", help="Settings file, by default $GATEWAY_CONFIG.")
        ] = None,
    ) -> None:
        """Look at settings, Redis, and a running gateway, and say what is wrong and what to do.

        Exit code: 0 if all is well, 1 if something should be otherwise, 2 if something does not work.
        """
        from gateway.doctor.examination import Patient, examine, of_settings  # the other commands start faster without

        try:
            gateway = find(target) if target else None
            settings = gateway.settings if gateway is not None else sources.load(file, dev=dev)
            place = url or address_of(settings)
            given = token if token != "-" else sys.stdin.readline()  # noqa: S105  no secret, but a sign
            findings = asyncio.run(examine(Patient(settings, place, gateway, url, origin, given.strip(), idle)))
        except SettingsError as error:
            findings = of_settings(error)
        typer.echo(as_json(findings) if json else as_text(findings))
        raise typer.Exit(exit_code(findings))

    return doctor
