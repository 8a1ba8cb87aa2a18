"""Messages that wait to be sent, and those who wait for that."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.broadcast.backends import AS_MUCH_AS_FITS, Backing
from gateway.broadcast.batch import Message, room
from gateway.errors import BrokerUnavailable, Error, ErrorCode

SendBatch = Callable[[list[Message]], Awaitable[None]]


class _Waiting(NamedTuple):
    message: Message
    sent: "asyncio.Future[None]"


class Outbox:
    """Sends batch by batch: while one is under way, the next gathers."""

    def __init__(self, io_timeout: float) -> None:
        self._io_timeout = io_timeout
        self._waiting: deque[_Waiting] = deque()
        self._due = asyncio.Event()

    async def send(self, message: Message | None) -> None:
        """Send a message, or nothing but the batch that would hold one. Returns when the backend has accepted it.

        Raises ``BrokerUnavailable``, and 106 for what the backend does not take.
        """
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(message or Message("", ""), sent))
        self._due.set()
        await sent

    async def run(self, backing: Backing, send: SendBatch) -> None:
        """Send what waits and what comes, until it fails."""
        while True:
            await self._due.wait()
            some = await self._take(backing)
            try:
                await send([message for message, _ in some if message.kind])
            except BaseException:
                for _, sent in some:
                    settle(sent, BrokerUnavailable())
                raise
            for _, sent in some:
                settle(sent)

    def fail_all(self) -> None:
        """Tell all who wait that the broker is away."""
        waiting, self._waiting = self._waiting, deque()
        self._due.clear()
        for _, sent in waiting:
            settle(sent, BrokerUnavailable())

    async def _take(self, backing: Backing) -> list[_Waiting]:
        """The next of those who wait, as many as one batch holds. One that is too large for it comes first."""
        left = room(backing.largest or AS_MUCH_AS_FITS)
        some: list[_Waiting] = []
        while self._waiting and (not some or self._waiting[0].message.size <= left):
            message, sent = self._waiting.popleft()
            try:
                async with asyncio.timeout(self._io_timeout):
                    fitting = await _fit(message, backing)
            except Error as error:
                settle(sent, error)
                continue
            except BaseException:
                settle(sent, BrokerUnavailable())
                raise
            some.append(_Waiting(fitting, sent))
            left -= fitting.size
        if not self._waiting:
            self._due.clear()
        return some


async def _fit(message: Message, backing: Backing) -> Message:
    """The message, with its data in a parcel if they are too large for a batch of their own.

    Raises ``Error`` 106 if the backend has none.
    """
    most = room(backing.largest)
    if not backing.largest or message.size <= most:
        return message
    bare = Message(message.kind, message.name)
    if backing.parcels is None or bare.size > most:
        fits = max(0, most - bare.size)
        text = f"limit exceeded: {len(message.data)} bytes, and the backend takes {fits} at most"
        raise Error(ErrorCode.LIMIT_EXCEEDED, text)
    bare.parcel = await backing.parcels.store(message.data)
    return bare


def settle(future: "asyncio.Future[None]", error: Exception | None = None) -> None:
    """Answer who waits, if he still does."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
