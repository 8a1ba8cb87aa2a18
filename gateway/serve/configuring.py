"""The commands ``gateway config …``."""

import json as library
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs

from gateway.config.contradictions import find_warnings
from gateway.config.listing import list_settings
from gateway.config.reference import reference
from gateway.config.sources import load, schema, show, shown, translate
from gateway.errors import SettingsError
from gateway.serve.options import FAILURE, USAGE, Config, Dev, Json, print_json, say, told
from gateway.serve.sides import check_certificates

config = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@config.command()
def check(
    dev: Dev = False,
    file: Config = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings, too.")] = False,
    json: Json = False,
) -> None:
    """Say whether the settings are correct; if not, what to write. What they could do better is a warning.

    The exit code is 2 for settings with which the gateway does not start, and 1 with --strict for a warning.
    """
    problems: list[str] = []
    warnings: list[str] = []
    with told(json):
        try:
            settings = load(file, dev=dev)
            check_certificates(settings.http_server)
            warnings += find_warnings(settings)
        except SettingsError as error:
            problems = str(error).splitlines()
    if json:
        print_json({"correct": not problems, "problems": problems, "warnings": warnings})
    else:
        for line in problems + warnings:
            say(f"gateway: {line}")
        if not problems:
            typer.echo("The settings are correct.")
    if problems or (strict and warnings):
        raise typer.Exit(USAGE if problems else FAILURE)


@config.command("show")
def show_(
    dev: Dev = False,
    file: Config = None,
    origins: Annotated[bool, typer.Option("--origins", help="Each in a line, with where it comes from.")] = False,
    json: Json = False,
) -> None:
    """Print the settings in force as YAML, secrets masked."""
    with told(json):
        settings = load(file, dev=dev)
        if origins:
            listed = list_settings(settings)
            if json:
                print_json({"settings": [structs.asdict(each) for each in listed]})
            for each in () if json else listed:
                typer.echo(f"{each.key} = {library.dumps(each.value, ensure_ascii=False)}  # {each.origin}")
        elif json:
            print_json(shown(settings))
        else:
            typer.echo(show(settings), nl=False)


@config.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A configuration of Centrifugo v6.")], json: Json = False
) -> None:
    """Print a configuration of Centrifugo v6 as one of this gateway, in YAML; what became of it, on standard error.

    The gateway reads such files itself, and does not start with one that wants what there is not. The exit code is 1
    if something is left out that it wants, or what is printed does not start a gateway.
    """
    with told(json):
        text, adopted, problems = translate(file)
    if json:
        print_json({**structs.asdict(adopted), "problems": problems})
    else:
        typer.echo(text, nl=False)
        for key, target in adopted.moved.items():
            say(f"{key} is {target} here")
        for key, why in adopted.needless.items():
            say(f"{key} makes no difference: {why}")
        for key, instead in adopted.missing.items():
            say(f"MISSING {key}: {instead}")
        for problem in problems:
            say(f"WRONG {problem}")
    if adopted.missing or problems:
        raise typer.Exit(FAILURE)


@config.command("schema")
def schema_(_json: Json = False) -> None:
    """Print the JSON schema of the settings."""
    typer.echo(schema())


@config.command()
def sql(
    name: Annotated[str, typer.Option("--schema", help="Schema of the tables.")] = "public",
    file: Config = None,
    json: Json = False,
) -> None:
    """Print the SQL that makes the tables and functions of engine.postgres, for engine.postgres.skip_schema_init."""
    from gateway.program.engine import Engine  # the other commands start faster without

    with told(json):
        database = Engine(load(file)).database
        if database is None:
            raise SettingsError('engine.type must be "postgres" for this, with engine.postgres.dsn')
        text = database.schema(name)
        if json:
            print_json({"sql": text})
        else:
            typer.echo(text)


@config.command("reference")
def reference_(json: Json = False) -> None:
    """Print every setting with its default and meaning, in Markdown; as JSON, their schema."""
    if json:
        print_json(library.loads(schema()))
    else:
        typer.echo(reference(), nl=False)
