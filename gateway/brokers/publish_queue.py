"""Publishing while the broker is away: what has not been sent waits for it, a little while and in order."""

import asyncio
import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from gateway.brokers.base import Broker, PublishOptions, StreamOptions
from gateway.errors import BrokerUnavailable, Stored
from gateway.messages import Publication, Receipt
from gateway.metrics import Metrics

PROBE = 0.05
"""Seconds between two attempts while the broker is away."""

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


class _Waiting(NamedTuple):
    """One that waits. Its number is that of its first attempt: nobody is overtaken."""

    number: int
    ends: float
    turn: "asyncio.Future[bool]"


class PublishQueue:
    """Publishes by a broker. Nobody waits for longer than ``wait`` seconds for it to come back.

    What the broker says was not sent waits, and whoever comes meanwhile waits behind it. What was sent and not answered
    may have been published: it is tried again, once, only if it has an idempotency key. An error that does not say
    whether it was sent is passed on as it is.
    """

    def __init__(
        self, broker: Broker, wait: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._wait = wait
        self._metrics = metrics
        self._clock = clock
        self._number = 0
        self._queue: list[_Waiting] = []
        """A heap; those whose turn has come are in it no more."""
        self._count = self._bytes = 0
        """Of all that wait, and of those whose turn has come and who have not noticed."""
        self._timer: asyncio.TimerHandle | None = None

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        """As `Broker.publish`; its ``BrokerUnavailable`` says what has become of the publication."""
        self._number = number = self._number + 1
        ends = self._clock() + self._wait
        size = len(publication.data)
        sent = 0
        may_try = not self._count or await self._stand(number, ends, size)
        while may_try:
            try:
                receipt = await self._broker.publish(channel, publication, stream, options)
            except BrokerUnavailable as error:
                if not error.stored:
                    raise
                sent += error.stored == "maybe"
                if self._is_final(sent, options):
                    raise self._failure(sent) from error
            else:
                if self._queue:
                    self._admit(2)  # the first has come through: the others follow, in ever larger numbers
                return receipt
            may_try = await self._stand(number, ends, size)
        raise self._failure(sent)

    def _is_final(self, sent: int, options: PublishOptions) -> bool:
        """Whether another attempt might publish it twice, or is in vain."""
        return sent > bool(options.idempotency_key) or bool(self._broker.health().refusal)

    def _failure(self, sent: int) -> BrokerUnavailable:
        error = failure(sent=bool(sent))
        self._metrics.failed_publications[error.stored] += 1
        return error

    async def _stand(self, number: int, ends: float, size: int) -> bool:
        """Wait for a turn. False if there is none in time, or no room."""
        if self._clock() >= ends or self._count >= MOST or self._bytes + size > MOST_BYTES:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heappush(self._queue, _Waiting(number, ends, turn))
        self._count += 1
        self._bytes += size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PROBE, self._probe)
        try:
            return await turn
        finally:
            self._count -= 1
            self._bytes -= size

    def _probe(self) -> None:
        """Send away those whose time is over, and let the first of the others try again."""
        self._timer = None
        now = self._clock()
        while self._queue and (self._queue[0].ends <= now or self._queue[0].turn.done()):
            self._give(False)
        self._admit(1)
        if self._count:
            self._timer = asyncio.get_running_loop().call_later(PROBE, self._probe)

    def _admit(self, count: int) -> None:
        while self._queue and count:
            count -= self._give(True)

    def _give(self, may_try: bool) -> bool:
        """Give the first its turn, unless it has gone."""
        turn = heappop(self._queue).turn
        if turn.done():
            return False
        turn.set_result(may_try)
        return True
