"""One Redis server, by two connections that look after themselves.

One ``Shard`` serves broker and presence together; whoever composes the application does ::

    shard = Shard(settings.engine.redis)
    broker, presence = RedisBroker(shard), RedisPresence(shard)
    await shard.start()
    await broker.start(node, events)
    await presence.start(node, swept)
    ...
    await presence.close()
    await broker.close()
    await shard.close()
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from gateway.batches import batches
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.redis.connection import RedisConnection, SubscriberConnection, connect
from gateway.redis.echo import Echo
from gateway.redis.endpoint import Endpoint
from gateway.redis.identity import identify, identify_again
from gateway.redis.keys import Keys
from gateway.redis.link import Link
from gateway.redis.resp import Argument, CommandRefused, Handler
from gateway.redis.script import Script

logger = logging.getLogger(__name__)

CHANNELS_PER_COMMAND = 512
"""Channels that one SUBSCRIBE names: enough to be cheap, few enough not to hold up Redis."""

COMMANDS_UNDER_WAY = 16
"""Of these while subscribing again, so that a million channels do not wait as bytes of commands all at once."""

MISSING_PROBES = 2
"""Probes that were published and have not arrived: one may still be on its way."""


_Connection = TypeVar("_Connection", bound=RedisConnection)


class _Request(NamedTuple):
    verb: str
    name: bytes
    handler: Handler | None
    future: asyncio.Future[None]


class Shard:
    """One Redis server, by two supervised connections: one for commands, one for pub/sub.

    While a connection is away its commands fail at once with ``BrokerUnavailable``. Subscriptions come back
    by themselves; then everybody in ``on_reconnect`` is called, since messages may have been missed and the
    server may be another one. Numbered probes, published every ``probe_interval``, show whether messages still arrive.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._endpoint = Endpoint.parse(settings.address)
        self.keys = Keys(settings.prefix)
        self.on_reconnect: list[Callable[[], None]] = []
        self.deaf = False
        self.lag = 0.0
        self._scripts: list[Script] = []
        self._handlers: dict[bytes, Handler] = {}
        self._requests: list[_Request] = []
        self._commands = Link("command connection", self._open_commands, self._link_changed)
        self._subscriber = Link("pub/sub connection", self._open_subscriber, self._link_changed)
        self._probe_name = self.keys.shared("probe", secrets.token_hex(8))
        self._echo_name = self.keys.shared("echo", secrets.token_hex(8))
        self._echo = Echo(lambda number: self.execute("PUBLISH", self._echo_name, number))
        self._probes = self._arrived = 0
        self._missing: list[int] = []
        self._known_as: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to connect. Returns after the first attempt, whether it worked or not."""
        self._handlers[self._probe_name] = self._probe_arrived
        self._handlers[self._echo_name] = self._echo.hear
        links = (self._commands, self._subscriber)
        self._tasks = [asyncio.create_task(link.run()) for link in links]
        await asyncio.gather(*(link.attempted.wait() for link in links))
        self._tasks.append(asyncio.create_task(self._probe()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def connected(self) -> bool:
        return self._commands.connected and self._subscriber.connected

    @property
    def reconnects(self) -> int:
        return max(0, self._commands.connects - 1) + max(0, self._subscriber.connects - 1)

    @property
    def refusal(self) -> str:
        """What Redis refuses and is likely to go on refusing, such as OOM or WRONGPASS; empty if nothing."""
        return self._commands.refusal or self._subscriber.refusal

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command. The answer may be ``BrokerUnavailable``."""
        return self._commands.execute(*command)

    def load(self, *scripts: Script) -> None:
        """Have every server that is connected to know these. To be called before ``start``."""
        self._scripts += scripts

    async def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run a script, by its digest if the server knows it."""
        try:
            return await self.execute(*script.by_digest(keys, args, self._identity))
        except CommandRefused as exc:
            if exc.redis_code != "NOSCRIPT":
                raise
        return await self.execute(*script.by_text(keys, args, self._identity))

    @property
    def _identity(self) -> bytes:
        """Which history of data the server holds to which a command sent now will go."""
        connection = self._commands.connection
        return b"" if connection is None else connection.identity

    async def echo(self) -> None:
        """Return when what has been published here before has arrived, where subscribed.

        Never fails, and does not wait for long if nothing arrives.
        """
        await self._echo.wait()

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        """Have ``handler`` called with what arrives on ``name``; done when Redis has confirmed.

        Fails with ``BrokerUnavailable``, and then nothing is left of it. Who cancels it unsubscribes to be sure.
        """
        self._handlers[name] = handler
        return self._request("SUBSCRIBE", name, handler)

    async def listen(self, name: bytes, handler: Handler) -> None:
        """Like ``subscribe``, but holds even if the server is away now and comes later."""
        self._handlers[name] = handler
        try:
            await self._request("SUBSCRIBE", name)
        except BrokerUnavailable:
            logger.debug("%r is subscribed as soon as Redis is there", name)

    def unsubscribe(self, name: bytes) -> Awaitable[None]:
        """Stop the handler, at once; done when Redis has confirmed or is away. Never fails."""
        self._handlers.pop(name, None)
        return self._unsubscribed(name, self._request("UNSUBSCRIBE", name))

    async def _unsubscribed(self, name: bytes, confirmed: asyncio.Future[None]) -> None:
        try:
            await confirmed
        except BrokerUnavailable:
            logger.debug("%r ended with the connection", name)

    async def forget(self, names: Iterable[bytes]) -> None:
        """Stop many handlers, at once."""
        await asyncio.gather(*(self.unsubscribe(name) for name in names))

    def _request(self, verb: str, name: bytes, handler: Handler | None = None) -> asyncio.Future[None]:
        """A ``handler`` is forgotten if the request is refused."""
        loop = asyncio.get_running_loop()
        if not self._requests:
            loop.call_soon(self._send_requests)
        future: asyncio.Future[None] = loop.create_future()
        self._requests.append(_Request(verb, name, handler, future))
        return future

    def _send_requests(self) -> None:
        """Send the (un)subscriptions of this tick in few commands, in the order in which they were made."""
        requests, self._requests = self._requests, []
        for verb, same in groupby(requests, lambda request: request.verb):
            for batch in batches(same, CHANNELS_PER_COMMAND):
                names = [request.name for request in batch]
                answer = self._subscriber.execute(verb, *names, replies=len(batch))
                answer.add_done_callback(partial(self._pass_on, batch))

    def _pass_on(self, requests: Iterable[_Request], answer: asyncio.Future[Any]) -> None:
        """Pass an answer on to all who share it."""
        refused = answer.exception() is not None
        for _, name, handler, future in requests:
            if refused and handler is not None and self._handlers.get(name) is handler:
                del self._handlers[name]
            if future.done():
                continue
            if refused:
                future.set_exception(BrokerUnavailable())
            else:
                future.set_result(None)

    async def _connect(self, name: str, make: Callable[[], _Connection]) -> _Connection:
        settings = self._settings
        return await connect(self._endpoint, make, f"{settings.prefix}-{name}", settings.connect_timeout)

    async def _open_commands(self) -> RedisConnection:
        connection = await self._connect("commands", partial(RedisConnection, self._settings.io_timeout))
        await self._end_former(connection)
        await identify(connection)
        # A script that is unknown is sent again whole, and what was sent after it may then come before it
        for script in self._scripts:
            connection.execute("SCRIPT", "LOAD", script.text).add_done_callback(_ignored)
        return connection

    async def _end_former(self, connection: RedisConnection) -> None:
        """Have the server end the connection before this one: what it still holds must not be carried out later.

        Named by id and address, since another server, or this one started again, gives the same ids anew; by a Unix
        socket all have one address. A user whom Redis allows neither command does without.
        """
        if self._endpoint.path:
            return
        if self._known_as:
            connection.execute("CLIENT", "KILL", *self._known_as, optional=True).add_done_callback(_ignored)
        self._known_as = ()
        with suppress(CommandRefused):
            info = await connection.execute("CLIENT", "INFO", optional=True)
            told = dict(part.split("=", 1) for part in info.decode().split() if "=" in part)
            if {"id", "addr"} <= told.keys():
                self._known_as = "ID", told["id"], "ADDR", told["addr"]

    async def _open_subscriber(self) -> SubscriberConnection:
        """Connect and subscribe everything again, before anybody may use the connection."""
        make = partial(SubscriberConnection, self._settings.io_timeout, self._handlers)
        connection = await self._connect("subscriber", make)
        subscribed: set[bytes] = set()
        try:
            while subscribed != self._handlers.keys():  # which may change meanwhile
                missing, ended = self._handlers.keys() - subscribed, subscribed - self._handlers.keys()
                await _on_all(connection, "SUBSCRIBE", missing)
                await _on_all(connection, "UNSUBSCRIBE", ended)
                subscribed = (subscribed | missing) - ended
        except BaseException:
            await connection.close("subscribing again failed")
            raise
        self._missing.clear()
        return connection

    def _link_changed(self) -> None:
        """Tell of a reconnect, as soon as commands can be sent.

        Not only once both connections are there: who looks at positions must come before new publications.
        """
        if self._commands.connected and self.reconnects:
            for callback in self.on_reconnect:
                try:
                    callback()
                except Exception:  # let through, it would cost the connection, and the others their call
                    logger.exception("what follows a reconnect failed")

    async def _probe(self) -> None:
        """Publish to ourselves, and give both connections up when the probes do not come."""
        while True:
            try:
                self._check_hearing()
                # Not wait_for, which on Python 3.11 can lose a cancellation.
                async with asyncio.timeout(self._settings.probe_interval):
                    await self._publish_probe()
            except (BrokerUnavailable, TimeoutError):
                logger.debug("no probe: a failed publish proves nothing about receiving")
            except Exception:  # a supervisor that dies leaves the node deaf for ever
                logger.exception("a probe failed")
            await asyncio.sleep(self._settings.probe_interval)

    def _check_hearing(self) -> None:
        if len(self._missing) < MISSING_PROBES:
            return
        self.deaf = True
        self._missing.clear()
        # either may have come to be at another server than the other one
        for connection, reason in (
            (self._subscriber.connection, f"deaf: {MISSING_PROBES} probes were published and did not arrive"),
            (self._commands.connection, "published probes that did not arrive"),
        ):
            if connection is not None:
                connection.drop(reason)

    async def _publish_probe(self) -> None:
        subscriber = self._subscriber.connection
        self._probes = number = self._probes + 1
        await self.execute("PUBLISH", self._probe_name, f"{number}:{asyncio.get_running_loop().time()!r}")
        listened = subscriber is not None and subscriber is self._subscriber.connection
        if listened and number > self._arrived:  # it may have come before the answer did
            self._missing.append(number)
        if self._commands.connection is not None:
            await identify_again(self._commands.connection)

    def _probe_arrived(self, payload: bytes) -> None:
        number, _, sent = payload.partition(b":")
        self._arrived = int(number)
        self._missing = [missing for missing in self._missing if missing > self._arrived]
        self.lag = max(0.0, asyncio.get_running_loop().time() - float(sent))
        self.deaf = False


def _ignored(answer: asyncio.Future[Any]) -> None:
    """Take note of a failure without consequence."""
    if not answer.cancelled():
        answer.exception()


async def _on_all(connection: RedisConnection, verb: str, names: Iterable[bytes]) -> None:
    for some in batches(batches(names, CHANNELS_PER_COMMAND), COMMANDS_UNDER_WAY):
        await asyncio.gather(*(connection.execute(verb, *batch, replies=len(batch)) for batch in some))
