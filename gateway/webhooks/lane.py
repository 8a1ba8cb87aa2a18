"""What one target is told: in order, as long as there is anything, and again until it is taken or put aside."""

import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import Protocol

from gateway.config.settings.pusher import PusherWebhookSettings
from gateway.metrics import Metrics
from gateway.outbox.base import Event, Outbox
from gateway.recurring import Recurring
from gateway.webhooks.post import Failed
from gateway.webhooks.targets import Target

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most."""

AT_ONCE = 100
"""Events put aside in one go."""

BODY = 64 * 1024
"""Bytes of events in one request, unless one alone has more: receivers take some 100 KB without being told to."""

Pause = Callable[[float], Awaitable[None]]
"""Returns after so many seconds."""


class Sends(Protocol):
    async def send(self, target: Target, events: Sequence[Event], attempt: int, within: float) -> None:
        """Raises `Failed`."""


class Telling:
    """What the lanes of a node share."""

    def __init__(
        self,
        outbox: Outbox,
        post: Sends,
        settings: Callable[[], PusherWebhookSettings],
        metrics: Metrics,
        recurring: Recurring,
        clock: Callable[[], float],
        pause: Pause,
    ) -> None:
        self.outbox = outbox
        self.post = post
        self.settings = settings
        self.metrics = metrics
        self.recurring = recurring
        self.clock = clock
        self.pause = pause

    def lost(self, app: str, number: int) -> None:
        """So many events of an app could not be kept."""
        self.metrics.webhook_events["lost"] += number
        self.recurring.happened(f"lost {app}", "webhooks of app %s: %d events are lost, too many wait", app, number)


class Lane:
    """One target, with no more than one request under way. Another that takes its turn may tell something again."""

    def __init__(self, target: Target, telling: Telling) -> None:
        self.target = target
        self._telling = telling
        self._attempt = 0
        self._failing_since: float | None = None
        self._ending = False
        self.sending = False
        """Whether a request is under way."""

    def end(self) -> None:
        """Begin no other request."""
        self._ending = True

    async def run(self) -> None:
        """Tell all that there is. Raises ``BrokerUnavailable``: what has been told meanwhile is told again."""
        target, telling = self.target, self._telling
        try:
            while not self._ending:
                events = await telling.outbox.of(target.app.id, target.name, telling.settings().batch_size)
                if not events:
                    break
                await self._tell(_first(events))
        finally:
            self._fails(False)

    async def _tell(self, events: Sequence[Event]) -> None:
        target, telling = self.target, self._telling
        self._attempt += 1
        self.sending = True
        try:
            await telling.post.send(target, events, self._attempt, telling.settings().timeout)
            await telling.outbox.settle(target.app.id, target.name, events)
        except Failed as failed:
            self.sending = False
            await self._failed(failed)
            return
        finally:
            self.sending = False
        telling.metrics.webhook_events["told"] += len(events)
        for event in events:
            telling.metrics.webhook_lag.observe(max(0.0, telling.clock() - event.time))
        self._attempt = 0
        self._fails(False)
        telling.recurring.over(self._kind, "webhook of app %s is taken again by %s", target.app.id, target.shown)

    async def _failed(self, failed: Failed) -> None:
        target, telling = self.target, self._telling
        self._fails(True)
        text = "webhook of app %s is not taken by %s: %s"
        telling.recurring.happened(self._kind, text, target.app.id, target.shown, failed, reason=failed.kind)
        if not await self._put_aside():
            pause = min(LONGEST_PAUSE, 2.0 ** min(self._attempt - 1, 10))
            await telling.pause(pause * random.uniform(0.75, 1.0))  # noqa: S311

    async def _put_aside(self) -> bool:
        """Put aside what is too old, of a target that has not been reached for as long. Whether nothing is left."""
        target, telling = self.target, self._telling
        oldest = telling.clock() - telling.settings().retry_for
        if self._failing_since is None or self._failing_since > oldest:
            return False
        while events := await telling.outbox.of(target.app.id, target.name, AT_ONCE):
            old = [event for event in events if event.time <= oldest]
            if old:
                await telling.outbox.put_aside(target.app.id, target.name, old)
                telling.metrics.webhook_events["put_aside"] += len(old)
                text = "webhooks of app %s: %d events could not be told to %s, and are put aside as dead letters"
                telling.recurring.happened(f"dead {target.app.id}", text, target.app.id, len(old), target.shown)
            if len(old) < len(events):
                return False
        return True

    @property
    def _kind(self) -> str:
        return f"{self.target.app.id} {self.target.name}"

    def _fails(self, failing: bool) -> None:
        """Count those that fail."""
        if failing != (self._failing_since is not None):
            self._telling.metrics.webhook_failing += 1 if failing else -1
            self._failing_since = self._telling.clock() if failing else None


def _first(events: Sequence[Event]) -> Sequence[Event]:
    """As many as one request should have."""
    sizes = accumulate(len(event.body) for event in events)
    return events[: max(1, sum(size <= BODY for size in sizes))]
