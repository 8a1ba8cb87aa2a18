"""Redis for programs without event loop: scripts and publishes, by redis-py."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec.structs import replace
from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from gateway.brokers.calls import Call
from gateway.config.settings import RedisSettings
from gateway.redis.address import ClusterSeeds, Place, SentinelGroup, read_addresses
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import SLOTS, Keys, slot
from gateway.redis.pubsub import CLASSIC, SHARDED, PubSub
from gateway.redis.resp import Argument
from gateway.redis.script import Script
from gateway.redis.topology import Address, read_topology

TRIES = 20
"""How often a call follows a slot of a cluster that is on its way."""

PAUSE = 0.05
"""Seconds between."""


class UnreachableError(RedisConnectionError):
    """There is no connection, so that nothing has been sent."""


class BlockingShard(Protocol):
    """One Redis, be it one server or a cluster. May be shared by threads, and used on both sides of a fork."""

    keys: Keys

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Answers in order, an exception for what was refused.

        Raises ``RedisError`` if connections fail; it is ``UnreachableError`` if nothing has been sent.
        """

    def forget(self) -> None:
        """Close connections that nobody uses: perhaps another server is the one to talk to by now."""

    def close(self) -> None: ...


def open_blocking(settings: RedisSettings) -> list[BlockingShard]:
    """One for each address; opens no connection yet. Raises ``SettingsError``."""
    return [_open(settings, place) for place in read_addresses(settings)]


def _open(settings: RedisSettings, place: Place) -> BlockingShard:
    match place:
        case SentinelGroup():
            return BlockingServer(Keys(settings.prefix, place.master.db), _sentinel_pool(settings, place))
        case ClusterSeeds(seeds):
            return BlockingCluster(settings, seeds)
    return BlockingServer(Keys(settings.prefix, place.db), _pool(settings, place))


class BlockingServer:
    """One server, by a pool of connections."""

    def __init__(self, keys: Keys, pool: ConnectionPool, words: PubSub = CLASSIC) -> None:
        self.keys = keys
        self._pool = pool
        self._words = words
        self._redis = Redis(connection_pool=pool)
        self._redis.response_callbacks.clear()  # answers as they are

    def run(self, calls: Sequence[Call], *, asking: bool = False) -> list[Any]:
        """``asking``, in passing, of a cluster whose slot is on its way here."""
        answers = self.execute([self._command(call) for call in calls], asking=asking)
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            scripts = {script for index in unknown if (script := calls[index].script)}
            lessons = [
                ("SCRIPT", "LOAD", (script.sharded if self._words.sharded else script).text) for script in scripts
            ]
            try:
                self.execute(lessons)
                again = self.execute([self._command(calls[index]) for index in unknown], asking=asking)
            except UnreachableError as error:  # but the others have been sent
                raise RedisConnectionError from error
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        return answers

    def execute(self, commands: Sequence[tuple[Argument, ...]], *, asking: bool = False) -> list[Any]:
        """Answers to commands that leave together."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                if asking:
                    pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]  # redis-py leaves it so
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            answers = pipeline.execute(raise_on_error=False)
        return answers[1::2] if asking else answers

    def forget(self) -> None:
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        self._pool.disconnect()

    def _command(self, call: Call) -> tuple[Argument, ...]:
        if call.script is None:
            return (self._words.publish, *call.keys, *call.args)
        return self._variant(call.script).by_digest(call.keys, call.args)

    def _variant(self, script: Script) -> Script:
        return script.sharded if self._words.sharded else script


class BlockingCluster:
    """A Redis Cluster; each call goes to whichever server owns its slot."""

    def __init__(self, settings: RedisSettings, seeds: Sequence[Endpoint]) -> None:
        self.keys = Keys(settings.prefix)
        self._settings = settings
        self._seeds = seeds
        self._servers: dict[Address, BlockingServer] = {}
        self._owners: list[Address | None] = [None] * SLOTS

    def run(self, calls: Sequence[Call]) -> list[Any]:
        answers: list[Any] = [None] * len(calls)
        left = list(range(len(calls)))
        sent = False
        for _ in range(TRIES):
            try:
                self._run_at_owners(calls, left, answers)
            except UnreachableError as error:
                self.forget()
                if sent or len(left) < len(calls) or any(answer is not None for answer in answers):
                    raise RedisConnectionError from error
                raise
            sent = True
            left = [number for number in left if isinstance(answers[number], MovedError | AskError | TryAgainError)]
            if not left:
                break
            self._follow(calls, left, answers)
            left = [number for number in left if isinstance(answers[number], MovedError | AskError | TryAgainError)]
            if not left:
                break
            time.sleep(PAUSE)
        return answers

    def _run_at_owners(self, calls: Sequence[Call], numbers: Sequence[int], answers: list[Any]) -> None:
        groups: defaultdict[Address, list[int]] = defaultdict(list)
        for number in numbers:
            groups[self._owner(calls[number])].append(number)
        for address, those in groups.items():
            for number, answer in zip(those, self._server(address).run([calls[at] for at in those]), strict=True):
                answers[number] = answer

    def _follow(self, calls: Sequence[Call], numbers: Sequence[int], answers: list[Any]) -> None:
        """Learn where slots have gone, and ask for what is on its way where it is going."""
        for number in numbers:
            match answers[number]:
                case AskError() as led:
                    [answers[number]] = self._server((led.host, led.port)).run([calls[number]], asking=True)
                case MovedError() as led:
                    self._owners[self._slot(calls[number])] = led.host, led.port

    def _slot(self, call: Call) -> int:
        key = call.keys[0]
        return slot(key if isinstance(key, bytes) else str(key).encode())

    def _owner(self, call: Call) -> Address:
        """Raises ``UnreachableError`` if nobody is known to own the slot."""
        place = self._slot(call)
        if self._owners[place] is None:
            self._learn()
        owner = self._owners[place]
        if owner is None:
            raise UnreachableError("nobody owns the slot")
        return owner

    def _learn(self) -> None:
        known = [*self._servers, *((seed.host, seed.port) for seed in self._seeds)]
        failure: Exception | None = None
        for address in known:
            try:
                info, slots = self._server(address).execute([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
                if isinstance(slots, Exception):
                    raise slots
                self._owners = read_topology(info, slots, address).owners
            except RedisError as error:
                failure = error
            else:
                return
        raise UnreachableError from failure

    def _server(self, address: Address) -> BlockingServer:
        server = self._servers.get(address)
        if server is None:
            endpoint = replace(self._seeds[0], host=address[0], port=address[1])
            server = self._servers[address] = BlockingServer(self.keys, _pool(self._settings, endpoint), SHARDED)
        return server

    def forget(self) -> None:
        self._owners = [None] * SLOTS
        for server in self._servers.values():
            server.forget()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


# — connections —


class _Pool(ConnectionPool):
    def get_connection(self, *args: Any, **options: Any) -> Any:
        try:
            return super().get_connection(*args, **options)
        except (RedisError, OSError) as error:
            raise UnreachableError from error


class _SentinelPool(SentinelConnectionPool):
    def get_connection(self, *args: Any, **options: Any) -> Any:
        try:
            return super().get_connection(*args, **options)
        except (RedisError, OSError) as error:
            raise UnreachableError from error


def _over_tls(kind: type[Connection], endpoint: Endpoint) -> type[Connection]:
    """Connections of a kind, by TLS if the endpoint says so: with the same context as a node's."""
    if endpoint.tls is None:
        return kind
    wrap = endpoint.tls.wrap_socket

    class OverTLS(kind):  # type: ignore[misc, valid-type]
        def _connect(self) -> Any:
            return wrap(super()._connect(), server_hostname=endpoint.server_name or self.host)

    return OverTLS


class _Credentials(CredentialProvider):
    """Are asked for at each connection, since the file that holds the password may have changed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._endpoint.password or self._endpoint.read_password()
        return (self._endpoint.username, password) if self._endpoint.username else (password,)


def _options(settings: RedisSettings, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "credential_provider": _Credentials(endpoint) if endpoint.password or endpoint.password_file else None,
        "db": endpoint.db,
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.io_timeout,
        "retry": Retry(NoBackoff(), 0),
        "client_name": f"{settings.prefix}-publisher",
        "protocol": 2,
    }


def _pool(settings: RedisSettings, endpoint: Endpoint) -> ConnectionPool:
    options = _options(settings, endpoint)
    if endpoint.path:
        del options["socket_connect_timeout"]
        return _Pool(connection_class=UnixDomainSocketConnection, path=endpoint.path, **options)
    return _Pool(connection_class=_over_tls(Connection, endpoint), host=endpoint.host, port=endpoint.port, **options)


def _sentinel_pool(settings: RedisSettings, group: SentinelGroup) -> ConnectionPool:
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [Redis(connection_pool=_pool(settings, each)) for each in group.sentinels]
    return _SentinelPool(  # type: ignore[no-untyped-call]
        group.master_name,
        sentinel,
        connection_class=_over_tls(SentinelManagedConnection, group.master),
        **_options(settings, group.master),
    )
