"""The two kinds of pub/sub that Redis has, and what a connection is subscribed to."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from gateway.batches import batches
from gateway.errors import BrokerUnavailable
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

    def commands(self, names: Iterable[bytes]) -> Iterator[list[bytes]]:
        """The names as commands may name them together."""
        if not self.sharded:
            yield from batches(names, CHANNELS_PER_COMMAND)
            return
        slots: defaultdict[int, list[bytes]] = defaultdict(list)
        for name in names:
            slots[slot(name)].append(name)
        for those in slots.values():
            yield from batches(those, CHANNELS_PER_COMMAND)


CLASSIC = PubSub("SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", "NUMSUB", b"message")
SHARDED = PubSub("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", "SHARDNUMSUB", b"smessage")
"""Of a Redis Cluster from 7.0 on: a message stays on the servers of its channel's slot."""


class _Request(NamedTuple):
    verb: str
    name: bytes
    handler: Handler | None
    future: asyncio.Future[None]


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
        self._requests: list[_Request] = []

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        self.handlers[name] = handler
        return self._request(self._words.subscribe, name, handler)

    async def listen(self, name: bytes, handler: Handler) -> None:
        self.handlers[name] = handler
        try:
            await self._request(self._words.subscribe, name)
        except BrokerUnavailable:
            logger.debug("%r is subscribed as soon as Redis is there", name)

    def unsubscribe(self, name: bytes) -> Awaitable[None]:
        self.handlers.pop(name, None)
        return self._unsubscribed(name, self._request(self._words.unsubscribe, name))

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

    async def _unsubscribed(self, name: bytes, confirmed: asyncio.Future[None]) -> None:
        try:
            await confirmed
        except BrokerUnavailable:
            logger.debug("%r ended with the connection", name)

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
            asked: defaultdict[bytes, list[_Request]] = defaultdict(list)
            for request in same:
                asked[request.name].append(request)
            for names in self._words.commands(asked):
                answer = self._execute(verb, *names, replies=len(names))
                answer.add_done_callback(partial(self._pass_on, [each for name in names for each in asked[name]]))

    def _pass_on(self, requests: Iterable[_Request], answer: asyncio.Future[Any]) -> None:
        """Pass an answer on to all who share it."""
        refused = answer.exception()
        for _, name, handler, future in requests:
            if refused is not None and handler is not None and self.handlers.get(name) is handler:
                del self.handlers[name]
            if future.done():
                continue
            if refused is None:
                future.set_result(None)
            else:  # one of its own for each, for whoever raises it writes into it
                detail = isinstance(refused, CommandRefused) and refused.detail
                future.set_exception(CommandRefused(detail) if detail else BrokerUnavailable())
