"""The command line: serve, token, publish, listen, bench, info, asyncapi, client, config."""

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import msgspec
import typer
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.bench.command import command as bench_command
from gateway.config.contradictions import find_warnings
from gateway.config.durations import parse_duration
from gateway.config.reference import reference
from gateway.config.settings import Settings, TokenSettings
from gateway.config.sources import load, schema, show
from gateway.errors import Disconnect, SettingsError
from gateway.serve.errors import ServeError
from gateway.serve.reaching import Reach, reach, websocket_url
from gateway.serve.serving import serve
from gateway.serve.sides import check_certificates
from gateway.version import __version__

if TYPE_CHECKING:
    from gateway.contracts.contract import Contract

USAGE, FAILURE = 2, 1
"""Exit codes: what was asked makes no sense, or it did not work."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds before `listen` connects again."""

app = typer.Typer(
    help="A horizontally scaled WebSocket gateway for FastAPI.", no_args_is_help=True, pretty_exceptions_enable=False
)
config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config, name="config")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Settings file: TOML, JSON or YAML. By default $GATEWAY_CONFIG.", metavar="FILE"
    ),
]
Dev = Annotated[bool, typer.Option("--dev", help="Dev mode, as in gateway serve --dev.")]
Url = Annotated[str | None, typer.Option("--url", help="Address of the gateway, by default from the settings.")]
Key = Annotated[str | None, typer.Option("--key", help="API key, by default http_api.key of the settings.")]
Target = Annotated[str, typer.Argument(help="The gateway, as app.main:gateway.", metavar="MODULE:NAME")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]


def main() -> None:
    app()


class Failure(Exception):  # noqa: N818  an error is one of a catalogue here
    """What was asked did not work. The text is for the user."""


@contextmanager
def _told() -> Iterator[None]:
    """Tell failures in words and by exit code, without a traceback."""
    try:
        yield
    except SettingsError as error:
        _fail(str(error), USAGE)
    except (Failure, ServeError) as error:
        _fail(str(error), FAILURE)
    except (RecursionError, OverflowError, UnicodeError) as error:
        _fail(f"a value cannot be used: {error}", USAGE)


def _fail(text: str, code: int) -> None:
    typer.echo("\n".join(f"gateway: {line}" for line in text.splitlines()), err=True)
    raise typer.Exit(code)


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
    with _told():
        read = partial(load, file, flags, dev=dev)
        serve(read(), create_app, read)


@app.command()
def token(
    user: Annotated[str, typer.Option("--user", "-u", help="User id; empty for an anonymous one.")],
    ttl: Annotated[str, typer.Option(help='Life time, such as "30m" or "24h"; 0 is for ever.')] = "1h",
    channel: Annotated[str | None, typer.Option(help="Make a subscription token for this channel.")] = None,
    dev: Dev = False,
    file: Config = None,
) -> None:
    """Print a token with which a client connects, or subscribes to a channel."""
    try:
        seconds = float(parse_duration(ttl))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ttl") from error
    with _told():
        typer.echo(_mint(load(file, dev=dev), user, seconds, channel))


def _mint(settings: Settings, user: str, ttl: float, channel: str | None) -> str:
    client = settings.client
    keys: TokenSettings = client.token
    section = "client.token"
    if channel is not None and client.subscription_token.enabled:
        keys, section = client.subscription_token, "client.subscription_token"
    if not keys.hmac_secret_key:
        name = f"GATEWAY_{section}.hmac_secret_key".upper().replace(".", "__")
        raise SettingsError(
            f"{section}.hmac_secret_key is not set, and tokens are signed with it: set {name}, "
            'for example to the output of "openssl rand -hex 32"; or use --dev'
        )
    claims = {"iss": keys.issuer, "aud": keys.audience, keys.user_id_claim or "sub": user}
    given: dict[str, Any] = {name: value for name, value in claims.items() if value}
    if channel is None:
        return sign_connection(keys.hmac_secret_key, user, ttl, **given)
    return sign_subscription(keys.hmac_secret_key, user, channel, ttl, **given)


@app.command()
def publish(
    channel: Annotated[str, typer.Argument(help="Channel, such as chat:lobby.")],
    data: Annotated[str, typer.Argument(help="JSON; what is not JSON is sent as a string.")],
    url: Url = None,
    key: Key = None,
    dev: Dev = False,
    file: Config = None,
) -> None:
    """Publish into a channel, over the HTTP API."""
    try:
        msgspec.json.decode(data)
        raw = data.encode()
    except msgspec.DecodeError:
        typer.echo("not JSON, sent as a string", err=True)
        raw = msgspec.json.encode(data)
    with _told():
        result = _call(load(file, dev=dev), "publish", {"channel": channel, "data": msgspec.Raw(raw)}, url, key)
    typer.echo(msgspec.json.encode(result).decode())


@app.command()
def info(url: Url = None, key: Key = None, dev: Dev = False, file: Config = None) -> None:
    """Show the nodes that run."""
    columns = {
        "name": "Node",
        "version": "Version",
        "num_clients": "Clients",
        "num_users": "Users",
        "num_subs": "Subscriptions",
        "num_channels": "Channels",
        "uptime": "Uptime (s)",
    }
    with _told():
        nodes = _call(load(file, dev=dev), "info", {}, url, key).get("nodes", [])
    table = Table(*columns.values())
    for node in nodes:
        table.add_row(*(str(node.get(name, "")) for name in columns))
    Console().print(table)


def _client(found: Reach) -> httpx.Client:
    """What calls a gateway there."""
    if not (found.path or found.tls):
        return httpx.Client()
    return httpx.Client(transport=httpx.HTTPTransport(uds=found.path or None, verify=found.tls or True))


def _call(settings: Settings, method: str, params: dict[str, Any], url: str | None, key: str | None) -> dict[str, Any]:
    """Call the server API and return the result. Raises `Failure`."""
    found = Reach(url) if url else reach(settings, operators=True)
    base = found.url
    headers = {"Content-Type": "application/json", "X-API-Key": key or settings.http_api.key}
    try:
        with _client(found) as client:
            response = client.post(
                f"{base.rstrip('/')}/api/{method}", content=msgspec.json.encode(params), headers=headers
            )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise Failure(f"{base} refuses the API key: give the one in its http_api.key with --key")
        answer = response.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Failure(f"{base} does not answer as a gateway: {error}; give its address with --url") from error
    if refusal := answer.get("error"):
        raise Failure(f"{method}: {refusal['message']} ({refusal['code']})")
    result: dict[str, Any] = answer.get("result", {})
    return result


@app.command()
def listen(
    channel: Annotated[str, typer.Argument(help="Channel, such as chat:lobby.")],
    url: Annotated[str | None, typer.Option("--url", help="ws:// or wss:// address, by default from settings.")] = None,
    user: Annotated[str, typer.Option("--user", "-u", help="User id to connect as.")] = "cli",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print joins and leaves on stderr, too.")] = False,
    dev: Dev = False,
    file: Config = None,
) -> None:
    """Print what is published into a channel, one line each, until Ctrl-C."""
    with _told():
        settings = load(file, dev=dev)
        tokens = _mint(settings, user, 0, None), _mint(settings, user, 0, channel)
        with suppress(KeyboardInterrupt):
            if url:
                asyncio.run(_listen(url, {}, channel, tokens, verbose))
            else:
                found = reach(settings)
                asyncio.run(_listen(found.websocket, found.options, channel, tokens, verbose))


async def _listen(url: str, options: dict[str, Any], channel: str, tokens: tuple[str, str], verbose: bool) -> None:
    """Stay subscribed. Raises `Failure` when the server will not have us, `SettingsError` for a wrong address."""
    pause = FIRST_PAUSE
    while True:
        try:
            async with connect(url, max_size=None, ping_interval=None, **options) as connection:
                listener = Listener(connection, channel, verbose)
                await listener.run(*tokens)
        except InvalidURI as error:
            raise SettingsError(f"{url} is not an address such as ws://127.0.0.1:8000/connection/websocket") from error
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "connection lost")
            if not Disconnect(code, reason).reconnect:
                raise Failure(f"closed by the server: {reason} ({code})") from error
            if listener.subscribed:
                pause = FIRST_PAUSE
            _say(f"closed: {reason} ({code})")
        except (OSError, WebSocketException) as error:
            _say(f"{url}: {error}")
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  spreads clients, hides nothing
        pause = min(2 * pause, LONGEST_PAUSE)


class Listener:
    """One connection of `listen`: Centrifuge JSON, reduced to what is needed."""

    def __init__(self, connection: ClientConnection, channel: str, verbose: bool) -> None:
        self.subscribed = False
        self._connection = connection
        self._channel = channel
        self._verbose = verbose
        self._pong = False

    async def run(self, connection_token: str, subscription_token: str) -> None:
        """Until the connection closes, which raises `ConnectionClosed`."""
        subscribe = {"channel": self._channel, "token": subscription_token}
        commands = {"id": 1, "connect": {"token": connection_token, "name": "cli"}}, {"id": 2, "subscribe": subscribe}
        await self._connection.send("\n".join(msgspec.json.encode(command).decode() for command in commands))
        while True:
            for line in str(await self._connection.recv(decode=True)).splitlines():
                await self._reply(msgspec.json.decode(line))

    async def _reply(self, reply: dict[str, Any]) -> None:
        match reply:
            case {"error": {"temporary": True}} | {"push": {"unsubscribe": {"code": 2500 | 2501 | 2502}}}:
                await self._connection.close()  # and so begin anew
            case {"error": {"code": code, "message": message}}:
                raise Failure(f"{'connect' if reply['id'] == 1 else 'subscribe'}: {message} ({code})")
            case {"connect": result}:
                self._pong = result.get("pong", False)
            case {"subscribe": result}:
                self.subscribed = True
                _say(f"subscribed to {self._channel}")
                for publication in result.get("publications", ()):
                    self._print(publication)
            case {"push": {"unsubscribe": {"code": code, "reason": reason}}}:
                raise Failure(f"unsubscribed by the server: {reason} ({code})")
            case {"push": {"pub": publication}}:
                self._print(publication)
            case {"push": {"join": member} | {"leave": member}} if self._verbose:
                verb = "joins" if "join" in reply["push"] else "leaves"
                _say(f"{member['info']['user'] or 'anonymous'} {verb} ({member['info']['client']})")
            case _ if not reply and self._pong:
                await self._connection.send("{}")

    def _print(self, publication: dict[str, Any]) -> None:
        typer.echo(msgspec.json.encode(publication["data"]).decode())
        sys.stdout.flush()  # a pipe shows each line at once


def _say(text: str) -> None:
    typer.echo(text, err=True)


app.command()(_told()(bench_command(_mint, websocket_url)))


@app.command()
def asyncapi(target: Target, output: Output = None) -> None:
    """Write the AsyncAPI document of an application's channels and procedures."""
    from gateway.contracts.asyncapi import asyncapi

    with _told():
        _write(msgspec.json.format(msgspec.json.encode(asyncapi(_contract(target)))).decode() + "\n", output)


@app.command()
def client(
    target: Target,
    typescript: Annotated[bool, typer.Option("--typescript", help="In TypeScript, for npm centrifuge.")] = False,
    output: Output = None,
) -> None:
    """Write a typed client of an application's channels and procedures."""
    from gateway.contracts.typescript import typescript as render

    if not typescript:
        raise typer.BadParameter("say in which language: --typescript", param_hint="--typescript")
    with _told():
        _write(render(_contract(target)), output)


def _contract(target: str) -> "Contract":
    from gateway.serve.loading import LoadError, load_contract

    try:
        return load_contract(target)
    except LoadError as error:
        raise Failure(str(error)) from error


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from error


@config.command("check")
def config_check(dev: Dev = False, file: Config = None) -> None:
    """Say whether the settings are correct; if not, what to write."""
    with _told():
        settings = load(file, dev=dev)
        check_certificates(settings.http_server)
    for warning in find_warnings(settings):
        typer.echo(f"gateway: {warning}", err=True)
    typer.echo("The settings are correct.")


@config.command("show")
def config_show(dev: Dev = False, file: Config = None) -> None:
    """Print the settings in force as YAML, secrets masked."""
    with _told():
        typer.echo(show(load(file, dev=dev)), nl=False)


@config.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the settings."""
    typer.echo(schema())


@config.command("sql")
def config_sql(
    name: Annotated[str, typer.Option("--schema", help="Schema of the tables.")] = "public", file: Config = None
) -> None:
    """Print the SQL that makes the tables and functions of engine.postgres, for engine.postgres.skip_schema_init."""
    from gateway.program.engine import Engine

    with _told():
        database = Engine(load(file)).database
        if database is None:
            raise SettingsError('engine.type must be "postgres" for this, with engine.postgres.dsn')
        typer.echo(database.schema(name))


@config.command("reference")
def config_reference() -> None:
    """Print every setting with its default and meaning, in Markdown."""
    typer.echo(reference(), nl=False)
