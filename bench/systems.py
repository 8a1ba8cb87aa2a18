"""The systems that are compared: how each is started, what it speaks and what it is made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from bench import triggers
from bench.environment import HERE, PEERS, Compiled, Environment, Here, Node, Virtualenv
from bench.redises import Layout
from bench.servers import Server, free_port
from gateway.bench.dialect import CENTRIFUGE, CENTRIFUGE_PROTOBUF, Dialect

PLAIN = Dialect(path="/ws")
"""Every text frame is a message to all, and nothing is said before."""

SOCKET_IO = Dialect(
    path="/socket.io/?EIO=4&transport=websocket",
    steps=(b"0{", b"40{"),
    hello=(b"40", b'420["subscribe","{channel}"]'),
    ready=b"430[",
    publish=b'42["publish","{channel}",{data}]',
    ping=b"2",
    pong=b"3",
)
"""Engine.IO 4 over WebSocket alone, and a room per channel."""

PUSHER = Dialect(
    path=f"/app/{triggers.KEY}?protocol=7&client=js&version=8.6.0&flash=false",
    steps=(b'"pusher:connection_established"',),
    hello=(b'{"event":"pusher:subscribe","data":{"auth":"","channel":"{channel}"}}',),
    ready=b'"pusher_internal:subscription_succeeded"',
    ping=b'{"event":"pusher:ping","data":"{}"}',
    pong=b'{"event":"pusher:pong","data":{}}',
    mark=rb'"t\":',
)
"""What pusher-js says and is told, in public channels; data are JSON in a string."""

SECRET = "a secret of the bench, long enough to sign tokens with"
"""Signs the tokens of those systems that ask for them."""

CONFIG = HERE / "gateway.toml"

LIMIT = Compiled(PEERS / "limit.c")
GATEWAY = Here()
PYTHON = Virtualenv("peers", PEERS / "requirements.txt")
BROADCASTER = Virtualenv("broadcaster", PEERS / "requirements-broadcaster.txt")
NODE = Node()
SOKETI = Node(PEERS / "soketi")


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A server to measure. ``{port}`` and ``{redis}`` in its words are filled in."""

    name: str
    title: str
    packages: tuple[str, ...]
    """Whose versions belong into the table."""
    environment: Environment
    words: tuple[str, ...]
    dialect: Dialect = PLAIN
    announces: str = ""
    """What it logs once it is up, if listening says too little."""
    variables: Mapping[str, str] = {}
    redis: Layout = Layout()
    """Of which ``{redis}`` is the address."""
    tokens: bool = False
    """Whether connections need one, signed with `SECRET`."""
    triggered: bool = False
    """Whether a backend publishes, by the HTTP API of the Pusher protocol, and no connection does."""
    own_channels: bool = False
    """Whether each connection of a storm has a channel of its own."""
    directory: Path = HERE.parent
    """Where it runs: for a gateway, the checkout that is measured."""

    def versions(self) -> str:
        return ", ".join(self.environment.version(package) for package in self.packages)

    def server(self, core: int, redis: str) -> Server:
        """The server, not started yet."""
        port = free_port()
        filled = [word.replace("{port}", str(port)).replace("{redis}", redis) for word in self.words]
        command = self.environment.command(filled)
        given = {
            name: value.replace("{port}", str(port)).replace("{redis}", redis) for name, value in self.variables.items()
        }
        variables = {"BENCH_REDIS": redis, **given}
        server = Server(self.name, command, core, port, self.announces, **variables)
        server.directory = self.directory
        return server

    def of(self, checkout: Path) -> "System":
        """The same gateway as another checkout has it."""
        ours, theirs = str(CONFIG), str(checkout / CONFIG.relative_to(self.directory))
        words = tuple(theirs if word == ours else word for word in self.words)
        if not _has_first(checkout):
            words = tuple("httptools" if word == _FIRST else word for word in words)
        return structs.replace(self, name=f"{self.name} of {checkout.name}", words=words, directory=checkout)


def uvicorn(app: str) -> tuple[str, ...]:
    """One process of uvicorn as it is fastest: uvloop, httptools, the newer of its WebSocket protocols, no logs."""
    where = ("-m", "uvicorn", "--app-dir", str(PEERS), f"{app}:app", "--port", "{port}")
    made_of = ("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio")
    return (*where, *made_of, "--ws-per-message-deflate", "false", "--log-level", "error", "--no-access-log")


def gateway(name: str, title: str, *words: str, **variables: str) -> System:
    serve = ("-m", "gateway", "serve", "--config", str(CONFIG), "--port", "{port}")
    return System(
        name=name,
        title=title,
        packages=("wsgateway", "uvicorn"),
        environment=GATEWAY,
        words=(*serve, *words),
        dialect=CENTRIFUGE,
        announces="ready on",
        variables=variables,
    )


def on_uvicorn(name: str, title: str, app: str, *packages: str, dialect: Dialect = PLAIN) -> System:
    environment = BROADCASTER if "broadcaster" in packages else PYTHON
    return System(
        name=name,
        title=title,
        packages=(*packages, "uvicorn"),
        environment=environment,
        words=uvicorn(app),
        dialect=dialect,
    )


def on_node(name: str, title: str, script: str, *packages: str, dialect: Dialect = PLAIN) -> System:
    return System(
        name=name,
        title=title,
        packages=(*packages, "node"),
        environment=NODE,
        words=(str(PEERS / script), "{port}"),
        dialect=dialect,
        variables={"NODE_ENV": "production"},
    )


_REDIS = ("--redis-url", "{redis}")
_HISTORY = {
    "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_SIZE": "100",
    "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__HISTORY_TTL": "60s",
}


def with_history(name: str, title: str, redis: Layout, **variables: str) -> System:
    """A gateway that keeps the last hundred publications of each channel in Redis."""
    return structs.replace(gateway(name, title, *_REDIS, **_HISTORY, **variables), redis=redis)


def with_many_channels(name: str, title: str, redis: Layout) -> System:
    """A gateway whose clients may have a thousand subscriptions each, and need not answer pings."""
    variables = {"GATEWAY_CLIENT__CHANNEL_LIMIT": "1000", "GATEWAY_CLIENT__PING_INTERVAL": "0"}
    return structs.replace(gateway(name, title, *_REDIS, **variables), redis=redis)


_TOKENS = {
    "GATEWAY_CLIENT__INSECURE": "false",
    "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET,
    "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT": "true",
    "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__ALLOW_PUBLISH_FOR_SUBSCRIBER": "true",
    "GATEWAY_HTTP_API__INSECURE": "true",
}
_RECOVERY = {**_HISTORY, "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__FORCE_RECOVERY": "true"}


def with_tokens(name: str, title: str, *words: str, **variables: str) -> System:
    """A gateway whose clients come with a token."""
    return structs.replace(gateway(name, title, *words, **_TOKENS, **variables), tokens=True, own_channels=True)


_FIRST = "gateway.transports.uvicorn_dispatch:first_protocol"


def _has_first(checkout: Path) -> bool:
    """Whether a checkout has that class: older ones leave the first request to uvicorn."""
    module, _, name = _FIRST.partition(":")
    source = checkout / f"{module.replace('.', '/')}.py"
    return source.exists() and name in source.read_text()


def program(name: str, title: str, dialect: Dialect, **variables: str) -> System:
    """A FastAPI application with the gateway in it: ``bench/peers/program.py``."""
    where = ("-m", "uvicorn", "--app-dir", str(PEERS), "program:app", "--port", "{port}")
    classes = ("--http", _FIRST, "--ws", "gateway.transports.uvicorn_websocket:WebSocketProtocol")
    served = ("--loop", "uvloop", *classes)
    return System(
        name=name,
        title=title,
        packages=("wsgateway", "fastapi", "uvicorn"),
        environment=GATEWAY,
        words=(*where, *served, "--log-level", "info", "--no-access-log"),
        dialect=dialect,
        announces="startup complete",
        own_channels=True,
        variables={"GATEWAY_REDIS_URL": "{redis}", **variables},
    )


_TWO_SUBSCRIPTIONS = structs.replace(
    CENTRIFUGE,
    hello=(
        b"\n".join(
            (
                b'{"id":1,"connect":{}}',
                b'{"id":2,"subscribe":{"channel":"news"}}',
                b'{"id":3,"subscribe":{"channel":"inbox:{channel}"}}',
            )
        ),
    ),
    ready=b'"id":3,"subscribe"',
)
_INBOX = structs.replace(
    CENTRIFUGE, hello=tuple(each.replace(b"{channel}", b"inbox:{channel}") for each in CENTRIFUGE.hello)
)

_APP = (triggers.APP, triggers.KEY, triggers.SECRET)
_PUSHER = {
    "GATEWAY_PUSHER__ENABLED": "true",
    "GATEWAY_PUSHER__APPS": json.dumps([dict(zip(("id", "key", "secret"), _APP, strict=True))]),
}
_SOKETI = {
    "SOKETI_HOST": "127.0.0.1",
    "SOKETI_PORT": "{port}",
    "SOKETI_METRICS_ENABLED": "false",
    **{f"SOKETI_DEFAULT_APP_{name}": value for name, value in zip(("ID", "KEY", "SECRET"), _APP, strict=True)},
    "NODE_ENV": "production",
}

SYSTEMS: Sequence[System] = (
    System(name="limit", title="limit (C)", packages=("gcc",), environment=LIMIT, words=("{port}",)),
    gateway("gateway", "**gateway**"),
    structs.replace(gateway("gateway-protobuf", "**gateway**, Protobuf"), dialect=CENTRIFUGE_PROTOBUF),
    gateway("gateway-redis", "**gateway** + Redis", *_REDIS),
    gateway("gateway-two", "**two gateways** + Redis", *_REDIS, "--workers", "2"),
    with_history("gateway-history", "**gateway** + history in Redis", Layout()),
    with_many_channels("channels-1", "**gateway** + one Redis", Layout()),
    with_many_channels("channels-2", "**gateway** + two shards", Layout(2)),
    with_many_channels("channels-cluster", "**gateway** + Cluster of three", Layout(3, cluster=True)),
    with_history("redis-1", "**gateway** + one Redis", Layout()),
    with_history("redis-2", "**gateway** + two shards", Layout(2)),
    with_history("redis-4", "**gateway** + four shards", Layout(4)),
    with_history("cluster-3", "**gateway** + Cluster of three", Layout(3, cluster=True)),
    with_tokens("token", "**gateway**, token"),
    with_tokens("token-redis", "**gateway** + Redis, token", *_REDIS),
    with_tokens("history", "**gateway**, token and history", **_RECOVERY),
    with_tokens("history-redis", "**gateway** + Redis, token and history", *_REDIS, **_RECOVERY),
    program("program-redis", "program with on_connect + Redis, two subscriptions", _TWO_SUBSCRIPTIONS),
    structs.replace(
        program(
            "program-token",
            "program with on_connect + Redis, token and history",
            _INBOX,
            GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET,
        ),
        tokens=True,
    ),
    gateway("gateway-history-memory", "**gateway** + history in memory", **_HISTORY),
    on_uvicorn("tutorial", "tutorial ConnectionManager", "tutorial", "fastapi"),
    on_uvicorn("tutorial-redis", "tutorial ConnectionManager + Redis", "tutorial_redis", "fastapi", "redis"),
    on_uvicorn("broadcaster", "Starlette + broadcaster", "starlette_broadcaster", "starlette", "broadcaster", "redis"),
    on_uvicorn("channels", "Django Channels", "django_channels", "channels", "channels_redis", "redis"),
    on_uvicorn(
        "python-socketio",
        "python-socketio + Redis manager",
        "python_socketio",
        "python-socketio",
        "redis",
        dialect=SOCKET_IO,
    ),
    on_node(
        "socket.io",
        "Socket.IO + Redis adapter",
        "socket_io.mjs",
        "socket.io",
        "@socket.io/redis-adapter",
        dialect=SOCKET_IO,
    ),
    on_node("ws", "plain ws + Redis", "ws.mjs", "ws", "redis"),
    structs.replace(
        gateway("pusher", "**gateway**, Pusher", **_PUSHER),
        dialect=PUSHER,
        triggered=True,
    ),
    System(
        name="soketi",
        title="Soketi",
        packages=("@soketi/soketi", "uWebSockets.js", "node"),
        environment=SOKETI,
        words=(str(PEERS / "soketi" / "node_modules" / "@soketi" / "soketi" / "bin" / "server.js"), "start"),
        dialect=PUSHER,
        variables=_SOKETI,
        triggered=True,
    ),
    structs.replace(
        on_node("ws-pusher", "Pusher on plain ws", "ws_pusher.mjs", "ws", dialect=PUSHER),
        words=(str(PEERS / "ws_pusher.mjs"), "{port}", *_APP),
        triggered=True,
    ),
)

BY_NAME: Mapping[str, System] = {system.name: system for system in SYSTEMS}
