"""One process's worth of load: opens connections, keeps them, publishes, measures."""

import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gateway.bench.connecting import Connector
from gateway.bench.dialect import PONG, client_frame, troubles
from gateway.bench.opening import Opening
from gateway.bench.plan import Plan
from gateway.bench.publishing import STALLED, ClosedLoop, Messages, OpenLoop
from gateway.bench.reader import NOTHING, Reader, Watch
from gateway.bench.report import Report

Progress = Callable[[str, float, float], None]
"""Told some times a second what is being done, how much of it is done, and how much there is."""
Publish = Callable[[int, bytes], None]
"""Publishes data into a channel, given by its number, by another way than a client's connection."""
Passed = Callable[[int, int], None]
"""Told of a channel, and how many more messages all its subscribers here have got."""
Confirmed = Callable[[int, bytes], None]
"""Told of each connection that is subscribed: its number, and what has come behind the dialect's ``ready``."""

_TICK = 0.1
"""Seconds between two looks at all but the sockets."""
_SAMPLES = 500
"""Reads in each tick whose latency is looked at."""
_UNSENT = 1 << 24
"""Bytes that wait for one connection, when a server does not read what is published."""
_TROUBLES = b'"error":{', b'"unsubscribe":{', b'"disconnect":{'


class Load:
    """Call `connect`, then `measure` as often as you like, then `close`. Pings are answered within these calls.

    ``publish`` replaces publishing by the connections; what it has buffered, ``flush`` sends. ``passed`` is told
    of messages that have arrived, when another process publishes.
    """

    def __init__(
        self,
        plan: Plan,
        publish: Publish | None = None,
        flush: Callable[[], None] | None = None,
        passed: Passed | None = None,
        confirmed: Confirmed | None = None,
    ) -> None:
        self.plan = plan
        self.errors: Counter[str] = Counter()
        self.subscribers = [0] * plan.channels
        """How many connections here are subscribed to each channel."""
        self._everywhere: Sequence[Sequence[int]] = [self.subscribers]  # by process
        self._hook, self._flush, self._passed, self._confirmed = publish, flush, passed, confirmed
        dialect = plan.dialect
        self._reader = Reader(plan.channels, self, dialect.ping, dialect.pong, dialect.first, dialect.mark)
        self._connector = Connector(plan, self._reader, self._opened, self.errors)
        self._sockets: dict[int, socket.socket] = {}
        self._members: list[list[int]] = [[] for _ in range(plan.channels)]
        self._turns = [0] * plan.channels
        self._messages = Messages(plan)
        self._published = 0
        self._unsent: dict[int, bytearray] = {}
        self._watch: Watch | None = None
        self._loop: ClosedLoop | None = None
        self._pace: OpenLoop | None = None
        self._still = [(-1, 0.0)] * plan.channels
        self._started = False
        self._reads, self._tick_at = 0, 0.0

    @property
    def delivered(self) -> Sequence[int]:
        """Deliveries in each channel so far."""
        return self._reader.delivered

    def connect(self, progress: Progress | None = None) -> None:
        """Open the connections. Those that fail are counted in ``errors``. Raises `LoadError`."""

        def tick(now: float) -> None:
            if now >= self._tick_at:
                self._tick(now, progress, "connecting", self._connector.connected, self.plan.connections)

        self._connector.run(tick)
        if self._passed:  # the process that publishes may begin before this one measures
            for channel in range(self.plan.channels):
                self._aim(channel)

    def wait(self, until: Callable[[], bool]) -> None:
        """Do nothing but answer pings until something is the case."""
        while not until():
            self._reader.read(_TICK / 5)

    def hear(self, fd: int, receive: Callable[[], Sequence[tuple[int, int, int]]], everywhere: list[list[int]]) -> None:
        """Publish for other processes, too, this one being the first.

        ``receive`` reads from ``fd`` what `ClosedLoop.passed` is to be told; ``everywhere`` has the subscribers of
        each process.
        """

        def heard(_buffer: bytearray) -> int:
            for process, channel, messages in receive():
                if self._loop is not None:
                    self._loop.passed(process, channel, messages)
            return NOTHING

        self._everywhere = everywhere
        self._reader.add(fd, heard)

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()
        self._reader.close()

    # — measuring —

    def measure(self, seconds: float | None = None, progress: Progress | None = None) -> Report:
        """Publish, and count what is delivered. The first time, a warm-up comes before.

        KeyboardInterrupt ends it; the report tells what was counted so far.
        """
        report = self.report()
        window: tuple[float, float, int, int] | None = None
        try:
            if not self._started:
                self._start()
                self._run(self.plan.warmup, progress, "warming up")
            window = time.monotonic(), time.process_time(), sum(self.delivered), self._published
            self._reader.measure_latency(report.latency if self.plan.latency else None)
            self._run(self.plan.seconds if seconds is None else seconds, progress, "measuring")
        except KeyboardInterrupt:
            report.interrupted = True
        self._reader.measure_latency(None)
        if window is not None:
            began, used, delivered, published = window
            report.seconds = time.monotonic() - began
            report.busy = (time.process_time() - used) / report.seconds
            report.deliveries = sum(self.delivered) - delivered
            report.messages = self._published - published
        report.errors = dict(self.errors)
        report.out_of_order = self._watch.out_of_order if self._watch else 0
        return report

    def report(self) -> Report:
        """What is to be said of the connections alone."""
        connector = self._connector
        return Report(
            asked=self.plan.connections,
            connected=connector.connected,
            connect_seconds=connector.seconds,
            errors=dict(self.errors),
        )

    def _start(self) -> None:
        self._started = True
        plan = self.plan
        if plan.publishers != "none" and plan.rate:
            self._pace = OpenLoop(plan.rate, plan.channels, self._publish, time.monotonic())
        elif plan.publishers != "none":
            self._loop = ClosedLoop(plan.inflight, self._everywhere, self._publish)
        if self._loop:
            for channel in range(plan.channels):
                self._aim(channel)
            self._loop.start()

    def _run(self, seconds: float, progress: Progress | None, what: str) -> None:
        began = time.monotonic()
        end = began + seconds
        while (now := time.monotonic()) < end:
            if now >= self._tick_at:
                self._tick(now, progress, what, now - began, seconds)
            pause = max(0.0, min(end, self._tick_at) - now)
            if self._pace is not None:
                # epoll waits for whole milliseconds, which is too coarse here.
                pause = min(pause, self._pace.publish_due(now))
                select.select((self._reader,), (), (), pause)
                pause = 0.0
            self._reader.read(pause)
            if self._flush is not None:
                self._flush()

    def _tick(self, now: float, progress: Progress | None, what: str, done: float, whole: float) -> None:
        self._tick_at = now + _TICK
        self._reader.look_at((self._reader.reads - self._reads) // _SAMPLES)
        self._reads = self._reader.reads
        if self._loop is not None:
            for channel, lost in self._loop.stalled(self.delivered, now):
                self.errors[f"message not delivered for {STALLED:g} s"] += lost
                self._aim(channel)
                self._loop.start_again(channel)
        elif self._passed is not None and self._started:
            self._aim_again(now)
        if progress is not None:
            progress(what, done, whole)

    # — a message has arrived when the last of its channel's subscribers has got it —

    def _aim(self, channel: int) -> None:
        """Begin anew, whatever has been lost."""
        for fd in self._members[channel]:
            self._reader.got[fd] = 0
        self._advance(channel)

    def _advance(self, channel: int) -> int:
        """Note what all subscribers have got now; answers by how much that is more."""
        reader, members = self._reader, self._members[channel]
        if not members:
            reader.least[channel] = NOTHING
            return 0
        got = [reader.got[fd] for fd in members]
        before, least = reader.least[channel], min(got)
        reader.least[channel], reader.last[channel] = least, got.count(least)
        return least - before

    def _aim_again(self, now: float) -> None:
        """Forget messages that are lost, sooner than the process that publishes gives them up."""
        for channel, delivered in enumerate(self.delivered):
            before, since = self._still[channel]
            if delivered != before:
                self._still[channel] = delivered, now
            elif now - since >= STALLED / 2:
                self._aim(channel)

    def passed(self, channel: int) -> None:
        messages = self._advance(channel)
        if self._loop is not None:
            self._loop.passed(0, channel, messages)
        else:
            assert self._passed is not None
            self._passed(channel, messages)

    # — publishing —

    def _publish(self, channel: int) -> bool:
        """Publish a message. False if the channel has nobody who could."""
        if self._hook is not None:
            self._hook(channel, self._messages.data())
        else:
            members = self._members[channel]
            if not members:
                return False
            if self.plan.publishers == "each":
                self._turns[channel] = (self._turns[channel] + 1) % len(members)
            publisher = members[self._turns[channel]]
            self._reader.curious.add(publisher)
            self._send(publisher, self._messages.frame(channel))
        self._published += 1
        return True

    def _send(self, fd: int, frame: bytes) -> None:
        waiting = self._unsent.get(fd)
        if waiting is None:
            sent = self._write(fd, frame)
            if sent < len(frame):
                self._unsent[fd] = bytearray(frame[sent:])
                self._reader.wait_for(fd, select.EPOLLIN | select.EPOLLOUT)
        elif len(waiting) < _UNSENT:
            waiting += frame
        else:
            self.errors["not sent: the server does not read"] += 1

    def _write(self, fd: int, data: bytes | bytearray) -> int:
        """Send what the socket takes. Returns how much needs no more sending: all of it if nobody is there."""
        connection = self._sockets.get(fd)
        if connection is None:
            return len(data)
        try:
            return connection.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            self.lost(fd, f"connection lost: {error.strerror or error}")
            return len(data)

    # — what the reader and the connector tell —

    def _opened(self, opening: Opening) -> None:
        receive = opening.receive
        if self._watch is None:
            receive = self._watch = Watch(receive, self.plan.dialect.mark)
        fd, channel = opening.socket.fileno(), opening.number % self.plan.channels
        self._reader.count(fd, channel, receive)
        self._sockets[fd] = opening.socket
        self._members[channel].append(fd)
        self.subscribers[channel] += 1
        if self._confirmed is not None:
            self._confirmed(opening.number, opening.confirmation)

    def writable(self, fd: int) -> None:
        if fd in self._connector:
            self._connector.proceed(fd, bytearray())  # it cannot be through by sending
            return
        waiting = self._unsent.get(fd)
        if waiting is not None:
            del waiting[: self._write(fd, waiting)]
            if not waiting and self._unsent.pop(fd, None) is not None:
                self._reader.wait_for(fd, select.EPOLLIN)

    def asked(self, fd: int, answer: bytes, *, control: bool) -> None:
        self._send(fd, client_frame(answer, PONG if control else self.plan.dialect.first))

    def told(self, fd: int, data: bytes) -> None:
        if any(word in data for word in _TROUBLES):
            self.errors.update(troubles(data))

    def lost(self, fd: int, reason: str) -> None:
        connection = self._sockets.pop(fd, None)
        if connection is None:
            return
        self.errors[reason] += 1
        channel = self._reader.channel(fd)
        self._reader.remove(fd)
        self._unsent.pop(fd, None)
        connection.close()
        self._members[channel].remove(fd)
        self._turns[channel] = 0
        self.subscribers[channel] -= 1
        if self._reader.least[channel] != NOTHING:
            self.passed(channel)  # what it alone had still to get is asked for no more
