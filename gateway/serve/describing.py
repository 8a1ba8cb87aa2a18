"""The commands that describe a program: ``gateway asyncapi`` and ``gateway client``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gateway.errors import SettingsError
from gateway.serve.options import Failure, Json, Output, Target, print_json, told

if TYPE_CHECKING:
    from gateway.contracts.contract import Contract
    from gateway.program.gateway import Gateway


def asyncapi(target: Target, output: Output = None, json: Json = False) -> None:
    """Write the AsyncAPI document of an application's channels and procedures, which is JSON."""
    from gateway.contracts.asyncapi import asyncapi  # the other commands start faster without

    with told(json):
        _write(msgspec.json.format(msgspec.json.encode(asyncapi(_contract(target)))).decode() + "\n", output)


def client(
    target: Target,
    typescript: Annotated[bool, typer.Option("--typescript", help="In TypeScript, for npm centrifuge.")] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """Write a typed client of an application's channels and procedures."""
    from gateway.contracts.typescript import typescript as render

    if not typescript:
        raise typer.BadParameter("say in which language: --typescript", param_hint="--typescript")
    with told(json):
        text = render(_contract(target))
        if json and output is None:
            print_json({"typescript": text})
        else:
            _write(text, output)


def _contract(target: str) -> "Contract":
    from gateway.serve.loading import LoadError, load_contract

    try:
        return load_contract(target)
    except LoadError as error:
        raise Failure(str(error)) from error


def find_gateway(target: str) -> "Gateway":
    """A program's gateway. Raises `SettingsError`."""
    from gateway.serve.loading import LoadError, load_gateway

    try:
        return load_gateway(target)
    except LoadError as error:
        raise SettingsError(str(error)) from error


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from error
