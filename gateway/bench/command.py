"""The command ``gateway bench``."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from gateway.config import sources as configuration
from gateway.config.settings import Settings
from gateway.errors import SettingsError

if TYPE_CHECKING:
    from gateway.bench.plan import Plan

Mint = Callable[[Settings, str, float, str | None], str]
"""Makes a token of the settings' keys: for a user, a number of seconds (0: for ever), and perhaps a channel."""
Locate = Callable[[Settings, str | None], str]
"""The ws:// or wss:// address of a gateway: that of the settings, unless another is given. Raises `SettingsError`."""


class Publishers(StrEnum):
    """Who publishes."""

    ONE = "one"
    EACH = "each"
    NONE = "none"


def command(mint: Mint, locate: Locate) -> Callable[..., None]:
    """The command, given what it takes from the command line's other parts."""

    def bench(
        url: Annotated[str | None, typer.Option(help="ws:// or wss:// address, by default from the settings.")] = None,
        connections: Annotated[int, typer.Option("--connections", "-n", min=1, help="Clients that connect.")] = 1000,
        channels: Annotated[int, typer.Option(min=1, help="Channels; the clients are dealt out to them.")] = 1,
        publishers: Annotated[
            Publishers, typer.Option(help="Who publishes: a client for each channel, each client, or none.")
        ] = Publishers.ONE,
        inflight: Annotated[
            int, typer.Option(min=1, help="Messages under way: the next is published when one has reached everybody.")
        ] = 2,
        rate: Annotated[float, typer.Option(min=0, help="Messages per second, instead of --inflight.")] = 0.0,
        size: Annotated[int, typer.Option(min=29, help="Bytes of each message.")] = 100,
        seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.1, help="How long to measure.")] = 10.0,
        warmup: Annotated[float, typer.Option(min=0, help="Seconds to publish before that.")] = 1.0,
        processes: Annotated[int, typer.Option(min=1, help="Processes to spread the clients over, at least.")] = 1,
        sources: Annotated[
            int, typer.Option(min=0, max=250, help="Loopback addresses to connect from; 0 is one per 20,000 clients.")
        ] = 0,
        concurrency: Annotated[int, typer.Option(min=1, help="Connections on their way at a time.")] = 100,
        timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without any new one to wait for them.")] = 10.0,
        prefix: Annotated[str, typer.Option(help='What channels are called, such as "chat:bench".')] = "bench",
        token: Annotated[
            str | None, typer.Option(help="Connection token, by default one of the settings' key.")
        ] = None,
        user: Annotated[str, typer.Option("--user", "-u", help="User id to connect as.")] = "bench",
        protobuf: Annotated[bool, typer.Option("--protobuf", help="Speak Protobuf, instead of JSON.")] = False,
        insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        dev: Annotated[bool, typer.Option("--dev", help="Dev mode, as in gateway serve --dev.")] = False,
        file: Annotated[
            Path | None,
            typer.Option("--config", "-c", help="Settings file, by default $GATEWAY_CONFIG.", metavar="FILE"),
        ] = None,
    ) -> None:
        """Load a gateway with many clients, and say what it delivers.

        Clients must be allowed to subscribe and to publish: see allow_subscribe_for_client and
        allow_publish_for_client of the channels that --prefix names. What else their options ask for is measured
        with it: --dev, for one, keeps history and tells everybody of everybody who joins.
        """
        from gateway.bench.dialect import CENTRIFUGE, CENTRIFUGE_PROTOBUF  # the other commands start faster without
        from gateway.bench.plan import Plan

        dialect = CENTRIFUGE_PROTOBUF if protobuf else CENTRIFUGE
        settings = configuration.load(file, dev=dev)
        own = url is None
        secure, host, port, path = parse_address(locate(settings, url))
        if channels > connections:
            raise SettingsError(f"--channels {channels} needs as many --connections, which are {connections}")
        if token is None and settings.client.token.signing_secret:
            token = mint(settings, user, 0, None)
        plan = Plan(
            host=host,
            port=port,
            secure=secure,
            verify=not (insecure or own),  # whose certificate is made for another name than this machine has for it
            dialect=msgspec.structs.replace(dialect, path=path or dialect.path),
            tokens=(token,) if token else (),
            connections=connections,
            channels=channels,
            prefix=f"{prefix}-{token_hex(3)}-",  # another run at the same time disturbs nothing
            publishers=publishers.value,
            inflight=inflight,
            rate=rate,
            size=size,
            seconds=seconds,
            warmup=warmup,
            sources=sources,
            connect_concurrency=concurrency,
            connect_timeout=timeout,
        )
        _run(plan, processes, json)

    return bench


def _run(plan: "Plan", processes: int, json: bool) -> None:
    from rich.console import Console

    from gateway.bench.plan import LoadError
    from gateway.bench.printing import as_json, progress_bar, show
    from gateway.bench.processes import processes_for, run

    if (needed := processes_for(plan, processes)) > processes:
        typer.echo(f"{plan.connections} connections take {needed} processes: see ulimit -n", err=True)
    try:
        with progress_bar(Console(stderr=True)) as progress:
            report = run(plan, processes, progress)
    except LoadError as error:
        raise SettingsError(str(error)) from error
    if json:
        typer.echo(msgspec.json.encode(as_json(report)).decode())
    else:
        show(report, Console())
    expected = plan.publishers != "none" and not report.interrupted
    if not report.connected or (expected and not report.deliveries):
        raise typer.Exit(1)


def parse_address(url: str) -> tuple[bool, str, int, str]:
    """Whether it is secure, host, port, path with query. Raises `SettingsError`."""
    try:
        parts = urlsplit(url)
        secure = {"ws": False, "wss": True}[parts.scheme]
        host, port = parts.hostname, parts.port
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
        if not host or any(letter <= " " for letter in path):
            raise ValueError
    except (KeyError, ValueError) as error:
        raise SettingsError(
            f"{url} is not an address such as ws://127.0.0.1:8000/connection/websocket or wss://example.com"
        ) from error
    return secure, host, port or (443 if secure else 80), path
