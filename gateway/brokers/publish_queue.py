"""Publishing while the broker is away: what has not been sent waits for it, a little while and in order."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from heapq import heappop, heappush
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, TypeVarTuple

from gateway.brokers.base import NO_EXTRAS, Broker, PublishOptions, StreamOptions
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable, Stored
from gateway.messages import Publication, Receipt
from gateway.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PROBE = 0.05
"""Seconds between two rounds of attempts while the broker is away."""

PROBED = 16
"""Channels in which one round tries: what is away may be one of several servers, so that one channel says little."""

MOST, MOST_BYTES = 10_000, 16 * 1024 * 1024
"""Publications that may wait, and bytes of their data: beyond that they fail at once."""

NOT_PUBLISHED = "not published: the broker does not take it just now, try again"
PERHAPS_PUBLISHED = (
    "may have been published: the broker has not answered; "
    "what is repeated with the same idempotency_key is published once"
)


def failure(*, sent: bool) -> BrokerUnavailable:
    """What a publisher is told, by whether his publication was sent."""
    stored: Stored = "maybe" if sent else "no"
    return BrokerUnavailable(PERHAPS_PUBLISHED if sent else NOT_PUBLISHED, stored=stored)


async def _finished(work: Coroutine[Any, Any, Any], told: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        await work
    except Exception as error:
        told(*args, error)
    else:
        told(*args, None)


class _Waiting(NamedTuple):
    """One that waits. Its number is that of its first attempt: nobody is overtaken."""

    number: int
    ends: float
    turn: "asyncio.Future[bool]"


class _Lane:
    """Those who wait to publish to one channel."""

    __slots__ = ("count", "queue")

    def __init__(self) -> None:
        self.queue: list[_Waiting] = []
        """A heap; those whose turn has come are in it no more."""
        self.count = 0
        """Of all, those included whose turn has come and who have not noticed."""

    def admit(self) -> None:
        """Give the first its turn, if anybody is left."""
        while self.queue:
            turn = heappop(self.queue).turn
            if not turn.done():
                turn.set_result(True)
                return

    def dismiss(self, now: float) -> None:
        """Send away those whose time is over."""
        while self.queue and self.queue[0].ends <= now:
            turn = heappop(self.queue).turn
            if not turn.done():
                turn.set_result(False)


class PublishQueue:
    """Publishes by a broker. Nobody waits for longer than ``wait`` seconds for it to come back.

    What the broker says was not sent waits, and whoever publishes to the same channel meanwhile waits behind it. What
    was sent and not answered may have been published: it is tried again, once, only if it has an idempotency key. An
    error that does not say whether it was sent is passed on as it is.
    """

    def __init__(
        self, broker: Broker, wait: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._wait = wait
        self._metrics = metrics
        self._clock = clock
        self._number = 0
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        """In the order in which they are to be tried next."""
        self._count = self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._work = Tasks()

    @property
    def waiting(self) -> tuple[int, int]:
        """Publications that wait, and bytes of their data."""
        return self._count, self._bytes

    def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Coroutine[Any, Any, Receipt]:
        """As `Broker.publish`; its ``BrokerUnavailable`` says what has become of the publication."""
        once, size = bool(options.idempotency_key), len(publication.data)
        return self.run(once, size, self._broker.publish, channel, publication, stream, options)

    def post(
        self,
        channel: str,
        publication: Publication,
        stream: StreamOptions,
        told: Callable[[*Ts, Exception | None], None],
        *args: *Ts,
    ) -> bool:
        """`Broker.post`, as far as nobody waits: else False.

        ``told``, which raises nothing, hears what ``publish`` would raise, or None; perhaps before this returns.
        """
        posted = not self._lanes and self._broker.post(channel, publication, stream)
        if posted is True:
            told(*args, None)
        elif posted:
            self._number = number = self._number + 1
            ends = self._clock() + self._wait
            posted.add_done_callback(partial(self._answered, number, ends, channel, publication, stream, told, args))
        return posted is not False

    def _answered(
        self,
        number: int,
        ends: float,
        channel: str,
        publication: Publication,
        stream: StreamOptions,
        told: Callable[..., None],
        args: tuple[Any, ...],
        answer: asyncio.Future[Any],
    ) -> None:
        error = BrokerUnavailable(stored="maybe") if answer.cancelled() else answer.exception()
        if isinstance(error, BrokerUnavailable):
            if error.stored == "no" and not self._is_final(0, False):
                size, act = len(publication.data), self._broker.publish
                again = self._run(number, ends, True, False, size, act, channel, publication, stream, NO_EXTRAS)
                self._work.begin(_finished(again, told, args))
                return
            if error.stored:
                error = self._failure(error.stored == "maybe")
        elif self._lanes:
            self._follow(channel)
        told(*args, error)

    def run(
        self,
        once: bool,
        size: int,
        act: Callable[Concatenate[str, P], Awaitable[T]],
        channel: str,
        *args: P.args,
        **kw: P.kwargs,
    ) -> Coroutine[Any, Any, T]:
        """Do what publishes ``size`` bytes to a channel. ``once``: what is done again is done once."""
        self._number += 1
        return self._run(self._number, self._clock() + self._wait, False, once, size, act, channel, *args, **kw)

    async def _run(
        self,
        number: int,
        ends: float,
        waits: bool,
        once: bool,
        size: int,
        act: Callable[Concatenate[str, P], Awaitable[T]],
        channel: str,
        *args: P.args,
        **kw: P.kwargs,
    ) -> T:
        """``number`` and ``ends`` are those of its first attempt; with ``waits`` that has been, and was not sent."""
        sent = 0
        may_try = (channel not in self._lanes and not waits) or await self._stand(channel, number, ends, size)
        while may_try:
            try:
                done = await act(channel, *args, **kw)
            except BrokerUnavailable as error:
                if not error.stored:
                    raise
                sent += error.stored == "maybe"
                if self._is_final(sent, once):
                    raise self._failure(sent) from error
            except asyncio.CancelledError:
                self._pass_on(channel)
                raise
            except Exception:  # it says no, but it says something
                self._follow(channel)
                raise
            else:
                if self._lanes:
                    self._follow(channel)
                return done
            may_try = await self._stand(channel, number, ends, size)
        raise self._failure(sent)

    def _is_final(self, sent: int, once: bool) -> bool:
        """Whether another attempt might publish it twice, or is in vain."""
        return sent > once or bool(self._broker.health().refusal)

    def _failure(self, sent: int) -> BrokerUnavailable:
        error = failure(sent=bool(sent))
        self._metrics.failed_publications[error.stored] += 1
        return error

    async def _stand(self, channel: str, number: int, ends: float, size: int) -> bool:
        """Wait for a turn. False if there is none in time, or no room."""
        if self._clock() >= ends or self._count >= MOST or self._bytes + size > MOST_BYTES:
            return False
        lane = self._lanes.get(channel)
        if lane is None:
            lane = self._lanes[channel] = _Lane()
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heappush(lane.queue, _Waiting(number, ends, turn))
        lane.count += 1
        self._count += 1
        self._bytes += size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PROBE, self._probe)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                lane.admit()
            raise
        finally:
            lane.count -= 1
            self._count -= 1
            self._bytes -= size
            if not lane.count:
                del self._lanes[channel]

    def _pass_on(self, channel: str) -> None:
        """One has left before it was answered: the next has its turn."""
        if lane := self._lanes.get(channel):
            lane.admit()

    def _follow(self, channel: str) -> None:
        """One has been answered: others try, in ever larger numbers, of this channel above all."""
        if lane := self._lanes.get(channel):
            lane.admit()
            lane.admit()
        self._try_some(2)

    def _probe(self) -> None:
        self._timer = None
        now = self._clock()
        for lane in self._lanes.values():
            lane.dismiss(now)
        self._try_some(PROBED)
        if self._lanes:
            self._timer = asyncio.get_running_loop().call_later(PROBE, self._probe)

    def _try_some(self, count: int) -> None:
        """Let the first of some channels try, of other channels each time."""
        for _ in range(min(count, len(self._lanes))):
            channel = next(iter(self._lanes))
            self._lanes.move_to_end(channel)
            self._lanes[channel].admit()
