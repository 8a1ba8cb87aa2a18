"""One Redis server, by two connections that look after themselves."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gateway.batches import batches
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.health import ServerHealth
from gateway.redis.connection import RedisConnection, SubscriberConnection, connect, ignored, unavailable
from gateway.redis.echo import Echo
from gateway.redis.endpoint import Endpoint
from gateway.redis.identity import Usage, count_flushes, identify, identify_again, measure
from gateway.redis.keys import Keys
from gateway.redis.link import Link
from gateway.redis.mode import find_misfit
from gateway.redis.probes import Probes
from gateway.redis.pubsub import CHANNELS_PER_COMMAND, CLASSIC, PubSub, Subscriptions
from gateway.redis.refusals import Refusals
from gateway.redis.resp import REDIRECTIONS, Argument, CommandRefused, Handler
from gateway.redis.script import Script

logger = logging.getLogger(__name__)

_IDENTITY = Script(Path(__file__).parent / "lua" / "identity.lua")

_Connection = TypeVar("_Connection", bound=RedisConnection)


class Server:
    """One Redis server as a ``Shard``, by two supervised connections: one for commands, one for pub/sub.

    While a connection is away its commands fail at once with ``BrokerUnavailable``. Subscriptions come back
    by themselves; then everybody in ``on_reconnect`` is called, since messages may have been missed and the
    server may be another one. Numbered probes, published every ``probe_interval``, show whether messages still arrive.
    """

    def __init__(
        self,
        settings: RedisSettings,
        endpoint: Endpoint,
        words: PubSub = CLASSIC,
        counts: Counter[str] | None = None,
    ) -> None:
        """``counts``, by kind, are of what is refused, if somebody counts for several servers."""
        self._settings = settings
        self.endpoint = endpoint
        self.keys = Keys(settings.prefix, self.endpoint.db)
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_moved: Callable[[bytes], None] = lambda name: None
        """Told of a subscription that the server has ended, since the slot is another's."""
        self.spans = not words.sharded
        self._words = words
        self._scripts: list[Script] = [_IDENTITY]
        self._refusals = Refusals(
            lambda: self._place,
            counts,
            expected=REDIRECTIONS if words.sharded else (),
            rights=self.keys.shared("*").decode(),
            scripts=self._scripts,
        )
        self._commands = Link(
            lambda: f"{self._place} for commands", self._open_commands, self._link_changed, self._refusals
        )
        self._subscriber = Link(
            lambda: f"{self._place} for pub/sub", self._open_subscriber, self._link_changed, self._refusals
        )
        self._subscriptions = Subscriptions(words, self._subscriber.execute, self._lose)
        self._echo = Echo(lambda number: self.publish(self._echo_name, number), lambda: self._place)
        self._probes = Probes(
            settings.probe_interval,
            self._publish_probe,
            lambda: self._subscriber.connection,
            self._drop_both,
        )
        self._tag = b""
        self._probe_name = self._echo_name = b""
        self._own_handlers: dict[bytes, Handler] = {}
        if not words.sharded:
            self._name_own()
        self._known_as: tuple[str, ...] = ()
        self._misfit = ""
        self._usage = Usage()
        self._flushes: tuple[RedisConnection | None, int] = (None, -1)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._subscriptions.handlers |= self._own_handlers
        links = (self._commands, self._subscriber)
        self._tasks = [asyncio.create_task(link.run()) for link in links]
        await asyncio.gather(*(link.attempted.wait() for link in links))
        if self._misfit:
            await self.close()
            raise SettingsError(f"{self._misfit} (engine.redis.address, for short GATEWAY_REDIS_URL)")
        self._tasks.append(asyncio.create_task(self._probes.run()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def connected(self) -> bool:
        return self._commands.connected and self._subscriber.connected

    @property
    def deaf(self) -> bool:
        return self._probes.deaf

    @property
    def lag(self) -> float:
        return self._probes.lag

    @property
    def reconnects(self) -> int:
        return max(0, self._commands.connects - 1) + max(0, self._subscriber.connects - 1)

    @property
    def refused(self) -> Mapping[str, int]:
        return self._refusals.counts

    def health(self) -> list[ServerHealth]:
        problem = next((link.problem for link in (self._commands, self._subscriber) if not link.connected), "")
        found = ServerHealth(
            self._label,
            connected=self.connected,
            deaf=self.deaf,
            lag=self.lag,
            reconnects=self.reconnects,
            problem=problem,
            **self._usage._asdict(),
        )
        return [self._refusals.shown_in(found)]

    @property
    def _label(self) -> str:
        """Its name, which stays; ``_place`` is for the log, and says where it is now."""
        return str(self.endpoint)

    @property
    def _place(self) -> str:
        return str(self.endpoint)

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        connection = self._commands.connection
        return unavailable() if connection is None else connection.execute(*command)

    def load(self, *scripts: Script) -> None:
        self._scripts += scripts

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        connection = self._commands.connection
        return unavailable() if connection is None else connection.run(script, keys, args)

    def run_text(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        """Run a script that the server may not know."""
        connection = self._commands.connection
        if connection is None:
            return unavailable()
        return connection.execute(*script.by_text(keys, args, connection.identity))

    async def identity(self) -> bytes:
        return bytes(await self.run(_IDENTITY, [], []))

    # — pub/sub —

    def publish(self, name: Argument, message: Argument) -> asyncio.Future[int]:
        return self.execute(self._words.publish, name, message)

    async def hearers(self, names: Sequence[bytes]) -> list[int]:
        counts: list[int] = []
        for some in batches(names, CHANNELS_PER_COMMAND):
            answer = await self.execute("PUBSUB", self._words.numsub, *some)
            counts += answer[1::2]  # after the name of each
        return counts

    async def echo(self) -> None:
        await self._echo.wait()

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        return self._subscriptions.subscribe(name, handler)

    async def listen(self, name: bytes, handler: Handler) -> None:
        await self._subscriptions.listen(name, handler)

    def unsubscribe(self, name: bytes) -> asyncio.Future[None]:
        return self._subscriptions.unsubscribe(name)

    async def forget(self, names: Iterable[bytes]) -> None:
        await self._subscriptions.forget(names)

    def names(self) -> list[bytes]:
        return [name for name in self._subscriptions.handlers if name not in self._own_handlers]

    def hears(self, name: bytes) -> bool:
        """Whether it is subscribed, or about to be."""
        return name in self._subscriptions.handlers

    def _lose(self, name: bytes) -> None:
        """Forget a subscription that is for another server to have; its own names wait for ``speak_in``."""
        if name not in self._own_handlers:
            self._subscriptions.handlers.pop(name, None)
        self.on_moved(name)

    # — to itself —

    async def speak_in(self, tag: bytes) -> None:
        """Have what it publishes to itself lie in the slot of a hash tag: with sharded pub/sub one of its own."""
        if self._tag != tag:
            self._tag, former = tag, self._own_handlers
            self._name_own()
            await asyncio.gather(*(self.listen(name, handler) for name, handler in self._own_handlers.items()))
            await self.forget(former)

    def _name_own(self) -> None:
        tag = (f"{{{self._tag.decode()}}}",) if self._tag else ()
        self._probe_name, self._echo_name = (
            self.keys.shared(kind, *tag, secrets.token_hex(8)) for kind in ("probe", "echo")
        )
        self._own_handlers = {self._probe_name: self._probes.hear, self._echo_name: self._echo.hear}

    # — connections —

    async def _locate(self) -> Endpoint:
        """Where it is now. Raises ``OSError`` if that cannot be known."""
        return self.endpoint

    async def _connect(self, name: str, make: Callable[[], _Connection]) -> _Connection:
        self.endpoint = await self._locate()
        settings = self._settings
        return await connect(self.endpoint, make, f"{settings.prefix}-{name}", settings.connect_timeout)

    async def _open_commands(self) -> RedisConnection:
        connection = await self._connect(
            "commands", partial(RedisConnection, self._settings.io_timeout, self._refusals)
        )
        await self._check_mode(connection)
        await self._end_former(connection)
        await identify(connection)
        # A script that is unknown is sent again whole, and others wait for that
        for script in self._scripts:
            connection.execute("SCRIPT", "LOAD", script.text).add_done_callback(ignored)
        return connection

    async def _check_mode(self, connection: RedisConnection) -> None:
        """Raises ``SettingsError`` if it is another kind of server than its address says."""
        if not self._words.sharded:
            self._misfit = await find_misfit(connection, self.endpoint)
            if self._misfit:
                await connection.close("another kind of server")
                raise SettingsError(self._misfit)

    async def _end_former(self, connection: RedisConnection) -> None:
        """Have the server end the connection before this one: what it still holds must not be carried out later.

        Named by id and address, since another server, or this one started again, gives the same ids anew; by a Unix
        socket all have one address. A user whom Redis allows neither command does without.
        """
        if self._known_as:
            connection.execute("CLIENT", "KILL", *self._known_as, optional=True).add_done_callback(ignored)
        self._known_as = ()
        with suppress(CommandRefused):
            info = await connection.execute("CLIENT", "INFO", optional=True)
            told = dict(part.split("=", 1) for part in info.decode().split() if "=" in part)
            if {"id", "addr"} <= told.keys() and not told["addr"].startswith("/"):
                self._known_as = "ID", told["id"], "ADDR", told["addr"]

    async def _open_subscriber(self) -> SubscriberConnection:
        """Connect and subscribe everything again, before anybody may use the connection."""
        make = partial(
            SubscriberConnection,
            self._settings.io_timeout,
            self._subscriptions.handlers,
            self._words.message,
            self._lose,
            self._refusals,
        )
        connection = await self._connect("subscriber", make)
        try:
            await self._subscriptions.restore(connection)
        except BaseException:
            await connection.close("subscribing again failed")
            raise
        self._probes.restart()
        return connection

    def _link_changed(self) -> None:
        """Tell of a reconnect, as soon as commands can be sent.

        Not only once both connections are there: who looks at positions must come before new publications.
        """
        if self._commands.connected and self.reconnects:
            call_all(self.on_reconnect)

    async def _publish_probe(self, probe: str) -> None:
        if not self._probe_name:
            raise BrokerUnavailable
        await self.publish(self._probe_name, probe)
        if (connection := self._commands.connection) is not None:
            await identify_again(connection)  # a server changes its history under an open connection, too
            await self._check_memory(connection)
            self._usage = await measure(connection, self.endpoint.db)

    async def _check_memory(self, connection: RedisConnection) -> None:
        """What a server has been made to forget (FLUSHALL) is missed as after a reconnect."""
        flushes = await count_flushes(connection)
        known, self._flushes = self._flushes, (connection, flushes)
        if known[0] is connection and known[1] != flushes:
            logger.warning("Redis %s has been emptied", self.endpoint)
            call_all(self.on_reconnect)

    def _drop_both(self, reason: str = "deaf: probes were published and did not arrive") -> None:
        """Either may have come to be at another server than the other one."""
        for connection in (self._subscriber.connection, self._commands.connection):
            if connection is not None:
                connection.drop(reason)


def call_all(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call them all; what one raises is let through to nobody."""
    for callback in callbacks:
        try:
            callback()
        except Exception:  # it would cost the connection, and the others their call
            logger.exception("what follows a reconnect failed")
