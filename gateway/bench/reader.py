"""The heart of the load generator: reads many sockets and counts deliveries, at about a microsecond a read."""

import random
import select
from collections.abc import Callable
from typing import Protocol

from gateway.bench.dialect import CLOSE, CONTROL_LIMIT, DIGITS, LONG, MARK, PING, TEXT, closing, now
from gateway.bench.latency import Latency

BUFFER = 1 << 18
"""Bytes read at a time: more than a socket's receive buffer usually holds."""
NOTHING = -1
"""What a receiver returns when there is nothing to count."""
_OFF = 1 << 62
_EVENTS = 1024

Receive = Callable[[bytearray], int]
"""Puts what came into the buffer and returns its size: 0 at the end of the stream, or `NOTHING`."""


class Handler(Protocol):
    """Who is told what the reader finds."""

    def passed(self, channel: int) -> None:
        """All subscribers of a channel have got more than ``least``, which must be set anew."""

    def asked(self, fd: int, answer: bytes, *, control: bool) -> None:
        """A ping came that wants this answer."""

    def told(self, fd: int, data: bytes) -> None:
        """Something else came: a reply, or trouble."""

    def lost(self, fd: int, reason: str) -> None:
        """The connection is at its end."""

    def writable(self, fd: int) -> None:
        """The socket takes more."""


class Reader:
    """Counts the marks in what comes, for each channel, and looks at nothing else if it can help it.

    Subscribers of one channel mostly get the very same bytes one after the other: what was counted for the one
    before is compared, which is many times faster than counting, and taken over.
    """

    def __init__(
        self,
        channels: int,
        handler: Handler,
        ping: bytes = b"",
        pong: bytes = b"",
        first: int = TEXT,
        mark: bytes = MARK,
    ) -> None:
        self.delivered = [0] * channels
        self.got: list[int] = []
        """Deliveries by descriptor."""
        self.least = [NOTHING] * channels
        """By channel, what the subscriber has got that has got the least; `NOTHING` if nobody asks."""
        self.last = [0] * channels
        """By channel, how many subscribers have got no more than that."""
        self.reads = 0
        self.curious: set[int] = set()  # descriptors whose every read may hold a reply
        self._handler = handler
        self._first = first
        self._mark = mark
        self._beginnings = mark[:-1]  # what ends with none of these bytes does not end within a mark
        self._split = len(mark) - 1
        self._ping = bytes((first, len(ping))) + ping if ping else b""
        self._pong = pong
        self._epoll = select.epoll()
        self._receivers: list[Receive] = []
        self._channels: list[int] = []  # by descriptor, as the receivers
        self._buffer = bytearray(BUFFER)
        self._before, self._size, self._count = b"", NOTHING, 0  # the read before, if there was nothing odd about it
        self._cut: dict[int, bytes] = {}  # ends of reads within which a mark may have begun
        self._latency: Latency | None = None
        self._stride, self._countdown = 1, _OFF

    # — which sockets —

    def add(self, fd: int, receive: Receive, events: int = select.EPOLLIN) -> None:
        """Read a socket. Before its first delivery, `count` must say for which channel."""
        if fd >= len(self._receivers):
            more = fd + 1 - len(self._receivers)
            self._receivers += [receive] * more
            self._channels += [0] * more
            self.got += [0] * more
        self._receivers[fd] = receive
        self._channels[fd] = 0
        self._epoll.register(fd, events)

    def count(self, fd: int, channel: int, receive: Receive) -> None:
        """From now on the socket is subscribed to this channel."""
        self._receivers[fd] = receive
        self._channels[fd] = channel

    def wait_for(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self.curious.discard(fd)
        self._cut.pop(fd, None)

    def channel(self, fd: int) -> int:
        return self._channels[fd]

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    # — latency —

    def measure_latency(self, latency: Latency | None) -> None:
        """Note how long deliveries take, or stop with None."""
        self._latency = latency
        self._countdown = 1 if latency else _OFF

    def look_at(self, reads: int) -> None:
        """Look at the times in so many reads of ``reads`` that the latency costs little."""
        self._stride = max(1, reads)

    # — reading —

    def read(self, timeout: float) -> None:
        """Wait for input, then read once from each socket that has some."""
        buffer, startswith = self._buffer, self._buffer.startswith
        receivers, channels, delivered = self._receivers, self._channels, self.delivered
        got, least, last = self.got, self.least, self.last
        countdown = self._countdown
        events = self._epoll.poll(timeout, _EVENTS)
        self.reads += len(events)
        for fd, event in events:
            if event & select.EPOLLOUT:
                self._handler.writable(fd)
                continue
            try:
                size = receivers[fd](buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                self._handler.lost(fd, f"connection lost: {error.strerror or error}")
                size = NOTHING
            if size == self._size and startswith(self._before) and not self._cut:
                count = self._count
            else:
                count = self._look(fd, size)
            if count:
                channel = channels[fd]
                delivered[channel] += count
                before = got[fd]
                got[fd] = before + count
                if before == least[channel]:
                    last[channel] -= 1
                    if not last[channel]:
                        self._handler.passed(channel)
            countdown -= 1
            if countdown <= 0 < count:
                countdown = self._time(size)
        self._countdown = countdown

    def _look(self, fd: int, size: int) -> int:
        """Count deliveries in a read that differs from the one before, and handle what else is in it."""
        if size <= 0:
            if not size:
                self._handler.lost(fd, "connection lost")
            return 0
        count = self._buffer.count(self._mark, 0, size)
        if count and self._is_frame(size):
            odd, farewell = fd in self.curious, None
        else:
            odd = self._pings(fd, size) or not count or fd in self.curious
            farewell = self._farewell(size)
        if odd:
            self._handler.told(fd, bytes(self._buffer[:size]))
        if farewell is not None:
            self._handler.lost(fd, farewell)
        elif self._cut or self._buffer[size - 1] in self._beginnings:
            count += self._across(fd, size)
        elif not odd:
            self._before, self._size, self._count = bytes(self._buffer[:size]), size, count
        return count

    def _is_frame(self, size: int) -> bool:
        """Whether the read is a message's frame from its first to its last byte, as most are."""
        head, length, high, low = self._buffer[:4]
        return head == self._first and (length == size - 2 or (length == LONG and high << 8 | low == size - 4))

    def _across(self, fd: int, size: int) -> int:
        """Count a mark that began in the read before, and remember the end of this one."""
        before = self._cut.pop(fd, b"")
        split = self._split
        head = before + self._buffer[: min(size, split)]
        if self._buffer[size - 1] in self._beginnings:
            self._cut[fd] = bytes(self._buffer[size - split : size]) if size >= split else bytes(head[-split:])
        return head.count(self._mark)

    def _pings(self, fd: int, size: int) -> bool:
        """Answer pings. Payloads are ASCII, or have no zeros: what is looked for stands in heads of frames alone."""
        buffer, found = self._buffer, False
        if self._ping and buffer.find(self._ping[1], 0, size) >= 0:
            for _ in range(buffer.count(self._ping, 0, size)):
                self._handler.asked(fd, self._pong, control=False)
                found = True
        at = buffer.find(PING, 0, size)
        while at >= 0:
            payload = self._payload(at, size)
            if payload is not None:
                self._handler.asked(fd, payload, control=True)
                found = True
            at = buffer.find(PING, at + 1, size)
        return found

    def _farewell(self, size: int) -> str | None:
        """What the close frame says that is the last of a read, if one is there."""
        at = self._buffer.find(CLOSE, 0, size)
        while at >= 0:
            payload = self._payload(at, size)
            if payload is not None and at + 2 + len(payload) == size:
                return closing(payload)
            at = self._buffer.find(CLOSE, at + 1, size)
        return None

    def _payload(self, at: int, size: int) -> bytes | None:
        """Payload of the control frame that begins here, if one does: the byte may be part of a length."""
        if at and not 0x20 <= self._buffer[at - 1] < 0x7E:  # what ends a frame of text
            return None
        if at + 1 >= size or self._buffer[at + 1] > CONTROL_LIMIT:
            return None
        end = at + 2 + self._buffer[at + 1]
        return bytes(self._buffer[at + 2 : end]) if end <= size else None

    def _time(self, size: int) -> int:
        """Note the latency of each delivery in the buffer. Returns how many deliveries to let pass."""
        assert self._latency is not None
        received = now()
        for time in times(self._buffer, size, self._mark):
            self._latency.add(received - time, self._stride)
        # At random, so that it is not always the same subscribers.
        return random.randrange(1, 2 * self._stride) if self._stride > 1 else 1  # noqa: S311


def times(buffer: bytearray, size: int, mark: bytes = MARK) -> list[int]:
    """When the messages in it were published, except for one that is cut off."""
    found = []
    at = buffer.find(mark, 0, size)
    while at >= 0 and at + len(mark) + DIGITS <= size:
        at += len(mark)
        found.append(int(buffer[at : at + DIGITS]))
        at = buffer.find(mark, at + DIGITS, size)
    return found


class Watch:
    """Receives for one connection and checks that messages come in the order of their publishing."""

    def __init__(self, receive: Receive, mark: bytes = MARK) -> None:
        self.out_of_order = 0
        self._receive = receive
        self._mark = mark
        self._last = 0

    def __call__(self, buffer: bytearray) -> int:
        size = self._receive(buffer)
        for time in times(buffer, size, self._mark):
            if time <= self._last:
                self.out_of_order += 1
            self._last = max(time, self._last)
        return size
