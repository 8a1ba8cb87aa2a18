"""The outbox within one process."""

import time
from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from gateway.outbox.base import (
    REMEMBERED,
    RULES,
    Event,
    Lost,
    OutboxFull,
    Place,
    Rules,
    Waiting,
    encode,
    ignore,
    microseconds,
)


class Kept:
    """What is kept of one app."""

    def __init__(self) -> None:
        self.key = ""
        self.last = 0
        self.places: dict[Place, set[str]] = {}
        self.queue: list[tuple[int, bytes]] = []
        """When each event is due, in order, and the event."""
        self.bytes: Counter[str] = Counter()
        """Of the events ``to`` each target; under the empty name those of the queue."""
        self.held: dict[str, tuple[int, bytes]] = {}
        """Those of the queue that can be taken back, by what they are held under."""
        self.targets: dict[str, list[bytes]] = {}
        self.dead: list[bytes] = []
        self.told: OrderedDict[str, tuple[int, str]] = OrderedDict()
        """What was told last, and when it was asked, or due; the one that was asked longest ago comes first."""


class MemoryOutbox:
    """Nobody dies but the whole process, with what it has not told. Nodes that share it are given the same ``apps``."""

    def __init__(
        self,
        rules: Rules = RULES,
        clock: Callable[[], float] = time.time,
        apps: dict[str, Kept] | None = None,
    ) -> None:
        self.lost: Lost = ignore
        self.rules = rules
        self._clock = clock
        self._apps: dict[str, Kept] = {} if apps is None else apps
        self._node = ""
        self._here: set[Place] = set()

    async def start(self, node: str) -> None:
        self._node = node

    async def close(self) -> None:
        for place in list(self._here):
            await self.leave(place)

    # — what happens —

    async def enter(self, place: Place, key: str) -> None:
        self._here.add(place)
        kept = self._of(place.app, key)
        nodes = kept.places.setdefault(place, set())
        first = not nodes
        nodes.add(self._node)
        if first and not self._taken_back(kept, str(place), self._now(kept)):
            self._append(place.app, kept, place.came())

    async def leave(self, place: Place) -> None:
        if place not in self._here:
            return
        self._here.remove(place)
        kept = self._of(place.app)
        nodes = kept.places[place]
        nodes.remove(self._node)
        if not nodes:
            del kept.places[place]
            self._append(place.app, kept, place.gone(), str(place), self.rules.delay)

    async def add(self, app: str, key: str, event: bytes, once: tuple[str, str] | None = None) -> None:
        kept = self._of(app, key)
        if once is not None:
            asked, value = once
            now = self._now(kept)
            last = self._last(kept, asked, now)
            if last and last[1] == value:
                self._remember(kept, asked, now, value)
                return
            self._append(app, kept, event, fail=True)
            self._remember(kept, asked, now, value)
        else:
            self._append(app, kept, event, fail=True)

    async def count(self, app: str, key: str, channel: str, number: int, gap: float) -> None:
        kept, name = self._of(app, key), f"count {channel}"
        now = self._now(kept)
        due = self._taken_back(kept, name, now)
        if not due:
            last = self._last(kept, name, now)
            if last and last[1] == str(number):
                return
            due = max(now, last[0] + microseconds(gap)) if last else now
        event = encode("subscription_count", channel, subscription_count=number)
        self._append(app, kept, event, name, (due - now) / 1e6, fail=True)
        self._remember(kept, name, due, str(number))

    # — what is told —

    async def pending(self) -> list[str]:
        return [app for app, kept in self._apps.items() if kept.queue or kept.targets]

    async def waiting(self, app: str, limit: int) -> Waiting:
        kept = self._of(app)
        now = self._now(kept)
        due = [Event(text) for due, text in kept.queue[:limit] if due <= now]
        return Waiting(kept.key, due, frozenset(kept.targets))

    async def sort(self, app: str, events: Sequence[tuple[Event, Sequence[str]]]) -> int:
        kept, lost = self._of(app), 0
        wanted = {event.text: targets for event, targets in events}
        found = [text for _, text in kept.queue if text in wanted]
        kept.bytes[""] -= sum(map(len, found))
        kept.queue = [each for each in kept.queue if each[1] not in wanted]
        kept.held = {name: each for name, each in kept.held.items() if each[1] not in wanted}
        for text in found:
            for target in wanted[text]:
                told = kept.targets.setdefault(target, [])
                if self._fits(kept, told, f"to {target}", text):
                    insort(told, text)
                else:
                    lost += 1
        return lost

    async def of(self, app: str, target: str, limit: int) -> list[Event]:
        return [Event(text) for text in self._of(app).targets.get(target, ())[:limit]]

    async def settle(self, app: str, target: str, events: Sequence[Event]) -> None:
        self._settle(app, target, events)

    async def put_aside(self, app: str, target: str, events: Sequence[Event]) -> None:
        kept = self._of(app)
        kept.dead = [*kept.dead, *self._settle(app, target, events)]
        del kept.dead[: max(0, len(kept.dead) - self.rules.dead_letters)]

    async def dead_letters(self, app: str) -> list[Event]:
        return [Event(text) for text in reversed(self._of(app).dead)]

    # — inside —

    def _of(self, app: str, key: str = "") -> Kept:
        kept = self._apps.setdefault(app, Kept())
        kept.key = key or kept.key
        return kept

    def _now(self, kept: Kept) -> int:
        return max(microseconds(self._clock()), kept.last + 1)

    def _append(
        self, app: str, kept: Kept, body: bytes, name: str = "", delay: float = 0.0, *, fail: bool = False
    ) -> None:
        now = self._now(kept)
        entry = now + microseconds(delay), b"%d\n\n%b" % (now, body)
        if not self._fits(kept, kept.queue, "", entry[1]):
            self.lost(app, 1)
            if fail:
                raise OutboxFull
            return
        kept.last = now
        insort(kept.queue, entry)
        if name and delay > 0:
            kept.held[name] = entry

    def _taken_back(self, kept: Kept, name: str, now: int) -> int:
        """When what is held under a name would have been due, 0 if there is nothing, or it is due."""
        entry = kept.held.get(name)
        if entry is None or entry[0] <= now:
            return 0
        del kept.held[name]
        kept.queue.remove(entry)
        kept.bytes[""] -= len(entry[1])
        return entry[0]

    def _fits(self, kept: Kept, kept_there: Sequence[object], name: str, text: bytes) -> bool:
        """Whether there is place for one more, whose bytes are counted then."""
        if len(kept_there) >= self.rules.most or kept.bytes[name] + len(text) > self.rules.room:
            return False
        kept.bytes[name] += len(text)
        return True

    def _settle(self, app: str, target: str, events: Sequence[Event]) -> list[bytes]:
        """Those of the events that the target was still to be told."""
        kept = self._of(app)
        targets = kept.targets
        told, settled = targets.get(target, []), {event.text for event in events}
        rest = [text for text in told if text not in settled]
        if rest:
            targets[target] = rest
        else:
            targets.pop(target, None)
        gone = [text for text in told if text in settled]
        kept.bytes[f"to {target}"] -= sum(map(len, gone))
        return gone

    def _last(self, kept: Kept, asked: str, now: int) -> tuple[int, str] | None:
        """What was told last, and when."""
        oldest = now - microseconds(REMEMBERED)
        while kept.told and next(iter(kept.told.values()))[0] < oldest:
            kept.told.popitem(last=False)
        return kept.told.get(asked)

    def _remember(self, kept: Kept, asked: str, at: int, value: str) -> None:
        kept.told[asked] = at, value
        kept.told.move_to_end(asked)
