"""The command line: serve, token, publish, listen, bench, info, asyncapi, client, doctor, config."""

from functools import partial
from typing import Annotated

import typer

from gateway.bench.command import command as bench_command
from gateway.config.sources import load
from gateway.doctor.command import command as doctor_command
from gateway.serve.address import locate
from gateway.serve.calling import info, publish
from gateway.serve.configuring import config
from gateway.serve.describing import asyncapi, client, find_gateway
from gateway.serve.listen import listen
from gateway.serve.minting import mint, token
from gateway.serve.options import Config, told
from gateway.serve.reaching import reach
from gateway.serve.serving import serve
from gateway.version import __version__

app = typer.Typer(
    help="A horizontally scaled WebSocket gateway for FastAPI.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(config, name="config")


def main() -> None:
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("serve")
def serve_(
    dev: Annotated[
        bool, typer.Option("--dev", help="Open everything to everybody, on loopback alone. For trying out.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Address to bind, host:port or unix:/path; several by commas.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes; more than one needs Redis.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis that joins the nodes.", metavar="URL")] = None,
    file: Config = None,
) -> None:
    """Serve the gateway."""
    from gateway.serve.app import create_app  # the other commands start faster without

    flags = {
        "http_server.address": host,
        "http_server.port": port,
        "http_server.workers": workers,
        "redis_url": redis_url,
    }
    with told():
        read = partial(load, file, flags, dev=dev)
        serve(read(), create_app, read)


app.command()(token)
app.command()(publish)
app.command()(listen)
app.command()(told()(bench_command(mint, locate)))
app.command()(info)
app.command()(asyncapi)
app.command()(client)
app.command()(told()(doctor_command(lambda settings: reach(settings).url, find_gateway)))
