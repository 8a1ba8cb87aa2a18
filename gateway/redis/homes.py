"""Subscriptions in a Redis Cluster: each is at home with the owner of its slot, and follows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from gateway.batches import batches
from gateway.errors import BrokerUnavailable
from gateway.redis.connection import unavailable
from gateway.redis.resp import Handler
from gateway.redis.server import Server

TOGETHER = 1000
"""Subscriptions that follow their slots at a time."""

Ask = Callable[[Server], asyncio.Future[None]]


class Homes:
    """What is heard, and where it is subscribed."""

    def __init__(
        self,
        owner: Callable[[bytes], Server | None],
        follow: Callable[[bytes, Ask], asyncio.Future[None]],
        look: asyncio.Event,
    ) -> None:
        """``owner`` is that of a name's slot now; ``follow`` asks it, and goes on where that leads.

        ``look`` is set for who owns what to be asked soon.
        """
        self.handlers: dict[bytes, Handler] = {}
        self.at: dict[bytes, Server] = {}
        """Where names are subscribed, or about to be."""
        self._owner = owner
        self._follow = follow
        self._look = look

    @property
    def complete(self) -> bool:
        """Whether each subscription is at some server."""
        return len(self.at) == len(self.handlers)

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        self.handlers[name] = handler
        confirmed = self._follow(name, partial(self._subscribe_at, name, handler))
        confirmed.add_done_callback(partial(self._settle, name, handler))
        return confirmed

    async def listen(self, name: bytes, handler: Handler) -> None:
        self.handlers[name] = handler
        self.at.pop(name, None)
        await self.bring(name)

    def unsubscribe(self, name: bytes) -> asyncio.Future[None]:
        self.handlers.pop(name, None)
        home = self.at.pop(name, None)
        if home is not None:
            return home.unsubscribe(name)
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return nothing

    async def bring_all(self) -> bool:
        """Bring home whatever is not; answers whether anything was not."""
        strays = [name async for name in self._strays()]
        for some in batches(strays, TOGETHER):
            await asyncio.gather(*(self.bring(name) for name in some))
        return bool(strays)

    async def bring(self, name: bytes) -> None:
        """Subscribe where the slot is now, and leave where it was. What fails stays as it was, and is tried again."""
        handler, owner, former = self.handlers.get(name), self._owner(name), self.at.get(name)
        if handler is None or owner is None or owner is former:
            return
        try:
            await self._subscribe_at(name, handler, owner)
        except BrokerUnavailable:
            self._look.set()
            if self.at.get(name) is owner:
                del self.at[name]
                if former is not None and former.hears(name):  # and who says that it has moved there may be wrong
                    self.at[name] = former
        if former is not None and self.at.get(name) is not former:  # where it may have come back meanwhile
            await former.unsubscribe(name)

    def take_from(self, server: Server, name: bytes) -> None:
        """A server has told that a channel's slot is another's, where the subscription may be already."""
        if self.at.get(name) is server:
            del self.at[name]
        self._look.set()

    def _subscribe_at(self, name: bytes, handler: Handler, server: Server) -> asyncio.Future[None]:
        if self.handlers.get(name) is not handler:  # it has ended while it was led here
            return unavailable()
        self.at[name] = server
        return server.subscribe(name, handler)

    def _settle(self, name: bytes, handler: Handler, confirmed: asyncio.Future[None]) -> None:
        """Nothing is left of a subscription that failed."""
        failed = not confirmed.cancelled() and confirmed.exception() is not None
        if failed and self.handlers.get(name) is handler:
            del self.handlers[name]
            self.at.pop(name, None)

    async def _strays(self) -> AsyncIterator[bytes]:
        """Names that are not subscribed where their slots are."""
        for some in batches(list(self.handlers), TOGETHER):
            for name in some:
                if self.at.get(name) is not self._owner(name):
                    yield name
            await asyncio.sleep(0)
