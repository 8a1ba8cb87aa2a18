"""The two kinds of pub/sub that Redis has, and what a connection is subscribed to."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from gateway.batches import batches
from gateway.errors import BrokerUnavailable, another
from gateway.redis.connection import SubscriberConnection
from gateway.redis.keys import slot
from gateway.redis.resp import REDIRECTIONS, CommandRefused, Handler

logger = logging.getLogger(__name__)

CHANNELS_PER_COMMAND = 512
"""Channels that one SUBSCRIBE names: enough to be cheap, few enough not to hold up Redis."""

NAMES_UNDER_WAY = 16 * CHANNELS_PER_COMMAND
"""While subscribing again: a million channels neither wait as bytes of commands all at once, nor hold up the loop."""


class PubSub(NamedTuple):
    """The words of one kind of pub/sub."""

    subscribe: str
    unsubscribe: str
    publish: str
    numsub: str
    message: bytes
    """What begins a message that arrives."""

    @property
    def sharded(self) -> bool:
        """Whether a command may name only channels of one slot."""
        return self is SHARDED

    def commands(self, names: Iterable[bytes]) -> Iterable[list[bytes]]:
        """The names as commands may name them together."""
        if self is not SHARDED:
            return batches(names, CHANNELS_PER_COMMAND)
        slots: defaultdict[int, list[bytes]] = defaultdict(list)
        for name in names:
            slots[slot(name)].append(name)
        return (some for those in slots.values() for some in batches(those, CHANNELS_PER_COMMAND))


CLASSIC = PubSub("SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", "NUMSUB", b"message")
SHARDED = PubSub("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", "SHARDNUMSUB", b"smessage")
"""Of a Redis Cluster from 7.0 on: a message stays on the servers of its channel's slot."""


_Asked = dict[bytes, tuple[Handler | None, asyncio.Future[None]]]
"""What a command is to name: who is told when it is confirmed, and the handler to forget if it is refused."""


class Subscriptions:
    """What is subscribed to over one connection, which may be lost and made again: ``restore`` then."""

    def __init__(
        self,
        words: PubSub,
        execute: Callable[..., asyncio.Future[Any]],
        moved: Callable[[bytes], None] = lambda name: None,
    ) -> None:
        """``moved`` is told of a name that cannot be subscribed again, since the slot is another server's."""
        self.handlers: dict[bytes, Handler] = {}
        self._words = words
        self._execute = execute
        self._moved = moved
        self._subscribing: _Asked = {}
        self._unsubscribing: _Asked = {}
        self._due = False

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        self.handlers[name] = handler
        return self._ask(name, handler, subscribing=True)

    async def listen(self, name: bytes, handler: Handler) -> None:
        self.handlers[name] = handler
        try:
            await self._ask(name, None, subscribing=True)
        except BrokerUnavailable:
            logger.debug("%r is subscribed as soon as Redis is there", name)

    def unsubscribe(self, name: bytes) -> asyncio.Future[None]:
        self.handlers.pop(name, None)
        return self._ask(name, None, subscribing=False)

    async def forget(self, names: Iterable[bytes]) -> None:
        await asyncio.gather(*(self.unsubscribe(name) for name in names))

    async def restore(self, connection: SubscriberConnection) -> None:
        """Subscribe to everything over a new connection, before anybody may use it."""
        subscribed: set[bytes] = set()
        while subscribed != self.handlers.keys():  # which may change meanwhile
            missing, ended = self.handlers.keys() - subscribed, subscribed - self.handlers.keys()
            await self._on_all(connection, self._words.subscribe, missing)
            await self._on_all(connection, self._words.unsubscribe, ended)
            subscribed = (subscribed | missing) - ended

    async def _on_all(self, connection: SubscriberConnection, verb: str, names: Iterable[bytes]) -> None:
        for some in batches(names, NAMES_UNDER_WAY):
            await asyncio.gather(*(self._on_some(connection, verb, batch) for batch in self._words.commands(some)))

    async def _on_some(self, connection: SubscriberConnection, verb: str, names: list[bytes]) -> None:
        """Those of a slot that has moved meanwhile do not cost the others their connection."""
        try:
            await connection.execute(verb, *names, replies=len(names))
        except CommandRefused as refused:
            if refused.redis_code not in REDIRECTIONS:
                raise
            for name in names:
                self._moved(name)

    def _ask(self, name: bytes, handler: Handler | None, *, subscribing: bool) -> asyncio.Future[None]:
        """Have it sent with all that is asked for in this turn of the event loop."""
        loop = asyncio.get_running_loop()
        if name in self._subscribing or name in self._unsubscribing:
            self._send()  # what is asked of one name is done in order
        if not self._due:
            self._due = True
            loop.call_soon(self._send_due)
        future: asyncio.Future[None] = loop.create_future()
        (self._subscribing if subscribing else self._unsubscribing)[name] = handler, future
        return future

    def _send_due(self) -> None:
        self._due = False
        self._send()

    def _send(self) -> None:
        subscribing, self._subscribing = self._subscribing, {}
        unsubscribing, self._unsubscribing = self._unsubscribing, {}
        for verb, asked, done in (
            (self._words.subscribe, subscribing, self._subscribed),
            (self._words.unsubscribe, unsubscribing, self._unsubscribed),
        ):
            for names in self._words.commands(asked) if asked else ():
                self._execute(verb, *names, replies=len(names)).add_done_callback(partial(done, names, asked))

    def _subscribed(self, names: list[bytes], asked: _Asked, answer: asyncio.Future[Any]) -> None:
        """Pass an answer on to all who share it."""
        refused = answer.exception()
        for name in names:
            handler, future = asked[name]
            if refused is None:
                if not future.done():
                    future.set_result(None)
                continue
            if handler is not None and self.handlers.get(name) is handler:
                del self.handlers[name]
            if not future.done():
                future.set_exception(another(refused))

    def _unsubscribed(self, names: list[bytes], asked: _Asked, answer: asyncio.Future[Any]) -> None:
        if answer.exception() is not None:
            logger.debug("%d subscriptions ended with the connection", len(names))
        for name in names:
            _, future = asked[name]
            if not future.done():
                future.set_result(None)
