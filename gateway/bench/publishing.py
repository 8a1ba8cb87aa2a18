"""When the next message is published: as soon as the oldest has reached everybody, or by the clock."""

from collections.abc import Callable, Sequence

from gateway.bench.dialect import client_frame, fill, message, now
from gateway.bench.plan import Plan

Publish = Callable[[int], bool]
"""Publishes a message into a channel; False if there is nobody to do it."""

STALLED = 5.0
"""Seconds without any delivery in a channel after which its messages under way count as lost."""


class ClosedLoop:
    """Keeps a number of messages in flight, in channels that take turns.

    A message has arrived once every process has counted it with all its subscribers there.
    """

    def __init__(self, inflight: int, subscribers: Sequence[Sequence[int]], publish: Publish) -> None:
        channels = len(subscribers[0])
        self._inflight = inflight
        self._publish = publish
        self._turn = 0
        self._sent = [0] * channels
        self._arrived = [0] * channels
        self._counts = [[0] * channels for _ in subscribers]  # by process
        self._waits = [  # for each channel, the processes that have subscribers
            [process for process, here in enumerate(subscribers) if here[channel]] for channel in range(channels)
        ]
        self._signs = [(-1, 0.0)] * channels

    def start(self) -> None:
        for _ in range(self._inflight):
            self._next()

    def passed(self, process: int, channel: int, messages: int) -> None:
        """A process has counted so many more messages of a channel with all its subscribers."""
        self._counts[process][channel] += messages
        arrived = min(self._counts[process][channel] for process in self._waits[channel])
        messages = arrived - self._arrived[channel]
        self._arrived[channel] = arrived
        for _ in range(messages):
            self._next()

    def _next(self) -> None:
        for _ in range(len(self._sent)):
            channel = self._turn
            self._turn = (channel + 1) % len(self._sent)
            if self._waits[channel] and self._publish(channel):
                self._sent[channel] += 1
                return

    def stalled(self, delivered: Sequence[int], now: float) -> list[tuple[int, int]]:
        """Channels in which nothing happens any more, and how many messages they have lost.

        Others are to be published for these, with `start_again`.
        """
        found = []
        for channel, sent in enumerate(self._sent):
            lost = sent - self._arrived[channel]
            sign = delivered[channel] + sum(counts[channel] for counts in self._counts) + sent
            before, since = self._signs[channel]
            if lost <= 0 or sign != before:
                self._signs[channel] = sign, now
            elif now - since >= STALLED:
                found.append((channel, lost))
        return found

    def start_again(self, channel: int) -> None:
        lost = self._sent[channel] - self._arrived[channel]
        self._arrived[channel] = self._sent[channel]
        for counts in self._counts:
            counts[channel] = self._sent[channel]
        for _ in range(lost):
            self._next()


class OpenLoop:
    """Publishes so many messages a second, evenly spaced, in channels that take turns."""

    def __init__(self, rate: float, channels: int, publish: Publish, now: float) -> None:
        self._pause = 1 / rate
        self._channels = channels
        self._publish = publish
        self._turn = 0
        self._due = now

    def publish_due(self, now: float) -> float:
        """Publish what is due. Returns the seconds until the next is."""
        while self._due <= now:
            self._due += self._pause
            self._publish(self._turn)
            self._turn = (self._turn + 1) % self._channels
        return self._due - now


class Messages:
    """Makes messages, and the frames that publish them. Only the time in them differs, and never its length."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last = 0
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def data(self) -> bytes:
        return message(self._time(), self._plan.size)

    def frame(self, channel: int) -> bytes:
        around = self._frames.get(channel)
        if around is None:
            time = self._time()
            dialect = self._plan.dialect
            payload = fill(dialect.publish, channel=self._plan.channel(channel))
            payload = dialect.encode(payload.replace(b"{data}", message(time, self._plan.size)))
            frame = client_frame(payload, dialect.first)
            head, _, tail = frame.partition(b"%d" % time)
            around = self._frames[channel] = head, tail
        return b"%b%d%b" % (around[0], self._time(), around[1])

    def _time(self) -> int:
        """Now; never the same twice, so that order can be told."""
        self._last = max(now(), self._last + 1)
        return self._last
