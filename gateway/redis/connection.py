"""One connection to a Redis server: commands out, replies in order, everything else given up in time.

Speaks RESP2. redis-py's own asyncio reader stays deaf for ever when its socket dies of ETIMEDOUT on
Python >= 3.11, hence this one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import hiredis

from gateway.errors import BrokerUnavailable
from gateway.redis.endpoint import Endpoint
from gateway.redis.resp import Argument, CommandRefused, Handler

logger = logging.getLogger(__name__)


MAX_UNSENT = 32 * 1024 * 1024
"""Bytes waiting to be sent from which commands are refused: Redis' own limit for a slow subscriber."""


class _Waiting:
    """A command on its way: who wants the reply, since when, and how many replies are due."""

    __slots__ = ("future", "replies", "since")

    def __init__(self, future: asyncio.Future[Any], since: float, replies: int) -> None:
        self.future = future
        self.since = since
        self.replies = replies


def unavailable() -> asyncio.Future[Any]:
    """An answer that is ``BrokerUnavailable`` already."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(BrokerUnavailable())
    return future


class RedisConnection(asyncio.Protocol):
    """Commands of one event-loop tick leave in one write; replies resolve in order.

    A caller that is cancelled leaves its place in the queue, so that its reply reaches nobody else.
    ``closed`` is done, with the reason, when the connection is.
    """

    def __init__(self, io_timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._io_timeout = io_timeout
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: deque[_Waiting] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._refusals: set[str] = set()
        self._lost = asyncio.Event()
        self.closed: asyncio.Future[str] = self._loop.create_future()

    def execute(self, *command: Argument, replies: int = 1) -> asyncio.Future[Any]:
        """Send a command. The answer is ``BrokerUnavailable`` if there is none in time.

        Of several ``replies`` the last one is the answer.
        """
        if self._full or self.closed.done():
            return unavailable()
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says 1-tuple
        future: asyncio.Future[Any] = self._loop.create_future()
        now = self._loop.time()
        self._waiting.append(_Waiting(future, now, replies))
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._io_timeout, self._check_deadline)
        return future

    def drop(self, reason: str) -> None:
        """Close at once and fail whatever waits for an answer."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._unsent.clear()
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(BrokerUnavailable())
        self._waiting.clear()

    async def close(self, reason: str) -> None:
        """Drop the connection and wait until the transport is gone."""
        self.drop(reason)
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, though not by inheritance
        self._transport.set_write_buffer_limits(high=MAX_UNSENT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self.drop(f"connection lost: {exc or 'closed by the server'}")

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except hiredis.ProtocolError as exc:
            self.drop(f"not the Redis protocol: {exc}")

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            self.drop(f"unasked reply: {reply!r:.100}")
            return
        refused = isinstance(reply, hiredis.ReplyError)
        waiting = self._waiting[0]
        waiting.replies -= 1
        if waiting.replies and not refused:
            return
        self._waiting.popleft()
        if refused:
            self._refuse(waiting.future, CommandRefused(str(reply)))
        elif not waiting.future.done():
            waiting.future.set_result(reply)

    def _refuse(self, future: asyncio.Future[Any], error: CommandRefused) -> None:
        if error.redis_code != "NOSCRIPT" and error.redis_code not in self._refusals:
            self._refusals.add(error.redis_code)
            logger.warning("Redis refuses a command (said once per connection and kind): %s", error.detail)
        if not future.done():
            future.set_exception(error)
        if error.served_elsewhere:
            self.drop(error.detail)

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _check_deadline(self) -> None:
        """Give the connection up if its oldest command is overdue. One timer serves all commands."""
        self._timer = None
        if not self._waiting:
            return
        deadline = self._waiting[0].since + self._io_timeout
        if deadline <= self._loop.time():
            self.drop(f"no answer for {self._io_timeout:g} s")
        else:
            self._timer = self._loop.call_at(deadline, self._check_deadline)


class SubscriberConnection(RedisConnection):
    """A connection for pub/sub: messages go to the handler of their channel.

    Commands here are SUBSCRIBE and UNSUBSCRIBE, which are answered once for each channel that they name.
    """

    def __init__(self, io_timeout: float, handlers: dict[bytes, Handler]) -> None:
        super().__init__(io_timeout)
        self._handlers = handlers
        self.heard = True

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self._reader.feed(data)
        gets = self._reader.gets
        handler_of = self._handlers.get
        try:
            while (reply := gets()) is not False:
                if type(reply) is list and reply[0] == b"message":
                    if handler := handler_of(reply[1]):
                        try:
                            handler(reply[2])
                        except Exception:
                            # Let through, it would cost the connection and every message behind it.
                            logger.exception("handling a message of %r failed", reply[1])
                else:
                    self._answer(reply)
        except hiredis.ProtocolError as exc:
            self.drop(f"not the Redis protocol: {exc}")


_Connection = TypeVar("_Connection", bound=RedisConnection)


async def connect(
    endpoint: Endpoint, make: Callable[[], _Connection], name: str, connect_timeout: float
) -> _Connection:
    """Connect and log in. Raises ``OSError`` (``TimeoutError`` too) or ``BrokerUnavailable``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(connect_timeout):
        if endpoint.path:
            _, connection = await loop.create_unix_connection(make, endpoint.path)
        else:
            _, connection = await loop.create_connection(make, endpoint.host, endpoint.port, ssl=endpoint.tls)
        try:
            await asyncio.gather(*(connection.execute(*command) for command in endpoint.handshake(name)))
        except BaseException:
            await connection.close("handshake failed")
            raise
    return connection
