"""One connection to a Redis server: commands out, replies in order, everything else given up in time.

Speaks RESP2. redis-py's own asyncio reader stays deaf for ever when its socket dies of ETIMEDOUT on
Python >= 3.11, hence this one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import hiredis
from msgspec import Struct

from gateway.errors import BrokerUnavailable, Stored
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import slot
from gateway.redis.refusals import Refusals
from gateway.redis.resp import Argument, CommandRefused, Handler
from gateway.redis.script import Script

logger = logging.getLogger(__name__)


UNDER_WAY = 1024
UNDER_WAY_BYTES = 1024 * 1024
"""Commands, and bytes of them, sent and not answered yet; further ones wait here. It bounds what Redis keeps for us,
answers above all, and lets answers come in steps small enough to tell a busy server from a dead one."""

MAX_UNANSWERED = 32 * 1024 * 1024
"""Bytes of commands without answer, sent or not, from which more are refused: there is no end to them in sight."""

LAST_LOOK = 0.01
"""Seconds before a silent connection is given up: the event loop reads its sockets once more."""


class _Command(Struct):
    """A command on its way. It may be ``optional``, for us to do without, or a ``call`` of a script by its digest."""

    data: bytes
    future: asyncio.Future[Any]
    replies: int = 1
    optional: bool = False
    call: tuple[Script, Sequence[Argument], Sequence[Argument]] | None = None


def unavailable() -> asyncio.Future[Any]:
    """An answer that is ``BrokerUnavailable`` already."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(BrokerUnavailable(stored="no"))
    return future


def _fail(commands: deque[_Command], stored: Stored) -> None:
    for command in commands:
        if not command.future.done():
            command.future.set_exception(BrokerUnavailable(stored=stored))
    commands.clear()


class RedisConnection(asyncio.Protocol):
    """Commands of one event-loop tick leave in one write; replies resolve in order.

    It is given up when answers are due and nothing has arrived for ``io_timeout``; as long as there is progress a
    command waits for its turn, however many are before it. A caller that is cancelled leaves its place in the queue,
    so that its reply reaches nobody else. ``closed`` is done, with the reason, when the connection is. ``identity`` is
    which history of data the server is known to hold, empty where that is not known. ``refusals`` are told of what the
    server refuses.
    """

    def __init__(self, io_timeout: float, refusals: Refusals | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._io_timeout = io_timeout
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._unsent: deque[_Command] = deque()
        self._waiting: deque[_Command] = deque()
        self._again: deque[_Command] = deque()
        """Scripts that were not known: to be sent by their text before whatever is unsent."""
        self._unsent_bytes = 0
        self._waiting_bytes = 0
        self._heard_at = 0.0
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._refusals = refusals or Refusals(lambda: "server")
        self._lost = asyncio.Event()
        self.identity = b""
        self.closed: asyncio.Future[str] = self._loop.create_future()

    def execute(self, *command: Argument, replies: int = 1, optional: bool = False) -> asyncio.Future[Any]:
        """Send a command. The answer is ``BrokerUnavailable`` if the connection is given up, or too much waits for it.

        Of several ``replies`` the last one is the answer. Health does not tell of an ``optional`` one that is refused.
        """
        data = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says 1-tuple
        return self._send(_Command(data, self._loop.create_future(), replies, optional))

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        """Run a script, by its text if the server does not know it."""
        data = hiredis.pack_command(script.by_digest(keys, args, self.identity))  # type: ignore[arg-type]
        return self._send(_Command(data, self._loop.create_future(), call=(script, keys, args)))

    def _send(self, command: _Command) -> asyncio.Future[Any]:
        if self.closed.done():
            return unavailable()
        if self._unsent_bytes + self._waiting_bytes >= MAX_UNANSWERED:
            self._refusals.say_once(f"has {MAX_UNANSWERED} bytes of commands to answer; no more are taken")
            return unavailable()
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        self._unsent.append(command)
        self._unsent_bytes += len(command.data)
        return command.future

    def drop(self, reason: str) -> None:
        """Close at once and fail whatever waits for an answer."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        _fail(self._waiting, "maybe")
        _fail(self._again, "no")
        _fail(self._unsent, "no")

    async def close(self, reason: str) -> None:
        """Drop the connection and wait until the transport is gone."""
        self.drop(reason)
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, though not by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self.drop(f"connection lost: {exc or 'closed by the server'}")

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        gets, waiting, refused = self._reader.gets, self._waiting, self._refusals.present
        try:
            while (reply := gets()) is not False:
                if type(reply) is hiredis.ReplyError or refused or not waiting or waiting[0].replies > 1:
                    self._answer(reply)
                    continue
                command = waiting.popleft()
                self._waiting_bytes -= len(command.data)
                if not command.future.done():
                    command.future.set_result(reply)
        except hiredis.ProtocolError as exc:
            self.drop(f"not the Redis protocol: {exc}")
        if (self._unsent or self._again) and not self._flushing:  # there may be room for what had to wait
            self._flush()

    def _answer(self, reply: Any) -> None:
        """The same for any reply."""
        if not self._waiting:
            self.drop(f"unasked reply: {reply!r:.100}")
            return
        refused = isinstance(reply, hiredis.ReplyError)
        command = self._waiting[0]
        command.replies -= 1
        if command.replies and not refused:
            return
        self._waiting.popleft()
        self._waiting_bytes -= len(command.data)
        if refused:
            self._refuse(command, CommandRefused(str(reply)))
            return
        if self._refusals.present:
            self._refusals.done(command.data)
        if not command.future.done():
            command.future.set_result(reply)

    def _refuse(self, command: _Command, error: CommandRefused) -> None:
        if command.call is not None and error.redis_code == "NOSCRIPT" and not command.future.done():
            script, keys, args = command.call
            data = hiredis.pack_command(script.by_text(keys, args, self.identity))  # type: ignore[arg-type]
            self._again.append(_Command(data, command.future))
            self._unsent_bytes += len(data)
            return
        self._refusals.refused(error, command.data, optional=command.optional)
        if not command.future.done():
            command.future.set_exception(error)
        if error.served_elsewhere:
            self.drop(error.detail)

    def _flush(self) -> None:
        """Send all there is, or as much as there is room for."""
        self._flushing = False
        unsent, waiting = self._unsent, self._waiting
        if self._again and not waiting:
            unsent.extendleft(reversed(self._again))
            self._again.clear()
        if self._transport is None or self._again or not unsent:
            return  # what was sent behind an unknown script may not be known either, and comes before what is new
        if not waiting:
            self._heard_at = self._loop.time()  # until now nothing was due
        if len(unsent) + len(waiting) <= UNDER_WAY and self._unsent_bytes + self._waiting_bytes <= UNDER_WAY_BYTES:
            self._transport.write(b"".join([command.data for command in unsent]))
            waiting += unsent
            unsent.clear()
            self._waiting_bytes += self._unsent_bytes
            self._unsent_bytes = 0
        elif sent := self._take_some():
            self._unsent_bytes -= len(sent)
            self._waiting_bytes += len(sent)
            self._transport.write(sent)
        if self._timer is None:
            self._timer = self._loop.call_at(self._heard_at + self._io_timeout, self._check_silence)

    def _take_some(self) -> bytes:
        """What there is room for, which waits for its answers from now on."""
        unsent, waiting = self._unsent, self._waiting
        taken: list[bytes] = []
        size = self._waiting_bytes
        while unsent and len(waiting) < UNDER_WAY and size < UNDER_WAY_BYTES:
            waiting.append(command := unsent.popleft())
            taken.append(command.data)
            size += len(command.data)
        return b"".join(taken)

    def _check_silence(self, last: bool = False) -> None:
        """Give the connection up if answers are due and nothing has arrived. One timer serves all commands."""
        self._timer = None
        if not self._waiting:
            return
        deadline = self._heard_at + self._io_timeout
        if deadline > self._loop.time():
            self._timer = self._loop.call_at(deadline, self._check_silence)
        elif not last:
            # perhaps it was us who were held up, and the answers lie in the socket
            self._timer = self._loop.call_later(LAST_LOOK, self._check_silence, True)
        else:
            self.drop(f"nothing has arrived for {self._io_timeout:g} s")


class SubscriberConnection(RedisConnection):
    """A connection for pub/sub: messages go to the handler of their channel.

    Commands here are SUBSCRIBE and UNSUBSCRIBE, which are answered once for each channel that they name.
    """

    def __init__(
        self,
        io_timeout: float,
        handlers: dict[bytes, Handler],
        message: bytes = b"message",
        moved: Callable[[bytes], None] = lambda name: None,
        refusals: Refusals | None = None,
    ) -> None:
        """``message`` is the word that begins one; ``moved`` is told of a channel that the server has given up."""
        super().__init__(io_timeout, refusals)
        self._handlers = handlers
        self._message = message
        self._moved = moved

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        gets, message, waiting = self._reader.gets, self._message, self._waiting
        handler_of = self._handlers.get
        try:
            while (reply := gets()) is not False:
                if type(reply) is list and reply[0] == message:
                    if handler := handler_of(reply[1]):
                        try:
                            handler(reply[2])
                        except Exception:
                            # Let through, it would cost the connection and every message behind it.
                            logger.exception("handling a message of %r failed", reply[1])
                elif type(reply) is not list or reply[0] == b"sunsubscribe":
                    self._answer(reply)
                elif waiting and waiting[0].replies > 1:  # one of those that the command names
                    waiting[0].replies -= 1
                else:
                    RedisConnection._answer(self, reply)
        except hiredis.ProtocolError as exc:
            self.drop(f"not the Redis protocol: {exc}")
        if self._unsent and not self._flushing:
            self._flush()

    def _answer(self, reply: Any) -> None:
        if type(reply) is list and not self._has_asked(reply[1]):
            self._moved(reply[1])  # of a cluster, whose server does not own the slot any more
        elif isinstance(reply, hiredis.ReplyError) and self._is_late(str(reply)):
            logger.debug("answered already: %s", reply)
        else:
            super()._answer(reply)

    def _has_asked(self, name: bytes) -> bool:
        """Whether the next answer due is that to an unsubscribe of this name."""
        data = self._waiting[0].data if self._waiting else b""
        return b"SUNSUBSCRIBE" in data and b"\r\n%b\r\n" % name in data

    def _is_late(self, refusal: str) -> bool:
        """Whether it refuses an unsubscribe that was on its way when the server told of the same by itself.

        That counted as the answer. Each command names channels of one slot, so this one concerns another command.
        """
        code, _, rest = refusal.partition(" ")
        if code != "MOVED":
            return False
        return not self._waiting or slot(self._waiting[0].data.split(b"\r\n", 5)[4]) != int(rest.split()[0])


_Connection = TypeVar("_Connection", bound=RedisConnection)


async def connect(
    endpoint: Endpoint, make: Callable[[], _Connection], name: str, connect_timeout: float
) -> _Connection:
    """Connect and log in. Raises ``OSError`` (``TimeoutError`` too), or ``CommandRefused``."""
    commands = endpoint.handshake()
    try:
        async with asyncio.timeout(connect_timeout):
            connection = await _reach(endpoint, make)
            try:
                await _log_in(connection, commands, name)
            except BaseException:
                await connection.close("handshake failed")
                raise
    except TimeoutError as error:
        advice = "; if it does not speak TLS, its address is redis://, not rediss://" if endpoint.tls else ""
        raise TimeoutError(str(error) or f"no answer within {connect_timeout:g} s{advice}") from None
    except CommandRefused:
        raise
    except BrokerUnavailable:
        advice = "" if endpoint.path else "; if it wants TLS, its address is rediss://, not redis://"
        if endpoint.tls:  # which is heard of only when the connection is used, and not always then
            advice = "; perhaps it wants a client certificate (tls.cert_pem and tls.key_pem)"
        raise ConnectionError(f"{connection.closed.result()}{advice}") from None
    return connection


async def _reach(endpoint: Endpoint, make: Callable[[], _Connection]) -> _Connection:
    loop = asyncio.get_running_loop()
    if endpoint.path:
        _, connection = await loop.create_unix_connection(make, endpoint.path)
    else:
        _, connection = await loop.create_connection(
            make, endpoint.host, endpoint.port, ssl=endpoint.tls, server_hostname=endpoint.server_name or None
        )
    return connection


async def _log_in(connection: RedisConnection, commands: list[tuple[Argument, ...]], name: str) -> None:
    answers = [connection.execute(*command) for command in commands]
    named = connection.execute("CLIENT", "SETNAME", name, optional=True)
    named.add_done_callback(ignored)  # who may not give itself a name does without
    await asyncio.gather(*answers)


def ignored(answer: asyncio.Future[Any]) -> None:
    """Take note of a failure without consequence."""
    if not answer.cancelled():
        answer.exception()
