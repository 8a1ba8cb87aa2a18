"""The outbox in Redis: who is where by node lease, as occupancy is, and what waits beside it.

Kinds of keys, each in the partition of its app: ``wq`` what waits, by when it is due, ``wh`` what of it can be taken
back, ``wm`` the key that the app was found by and the time of the last event, ``wp`` the nodes that are in a place and
``wi`` their index, ``wt`` targets and ``wl`` what each is to be told, ``wd`` dead letters, ``wk`` what was told last.
One key of each partition, ``w``, has the apps with anything of all this to be told.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from gateway.errors import BrokerUnavailable
from gateway.outbox.base import (
    KEEP,
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
from gateway.redis.owned import INTERVALS, Intervals, Names, OwnedEntries
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_LUA = Path(__file__).parent / "lua"


def _script(name: str) -> Script:
    return Script(_LUA / "append.lua", _LUA / name)


_PLACE, _ADD, _COUNT = _script("place.lua"), _script("add.lua"), _script("count.lua")
_WAITING, _SORT, _SETTLE = _script("waiting.lua"), _script("sort.lua"), Script(_LUA / "settle.lua")

_KEEP = milliseconds(KEEP)


class RedisOutbox:
    """Keeps an outbox over a ``Shard``, which is the caller's to start and to close.

    What Redis did not answer of who is where is made good when it is back.
    """

    def __init__(self, shard: Shard, rules: Rules = RULES, intervals: Intervals = INTERVALS) -> None:
        self.lost: Lost = ignore
        self._shard = shard
        self._keys = shard.keys
        self.rules = rules
        self._owned: OwnedEntries[Place] = OwnedEntries(shard, "outbox", b"wi", self, intervals)
        self._there: dict[Place, bool] = {}
        """Places of this node, also those that it has left and Redis does not know yet."""
        self._app_keys: dict[str, str] = {}
        shard.load(_PLACE, _ADD, _COUNT, _WAITING, _SORT, _SETTLE)

    async def start(self, node: str) -> None:
        await self._owned.start(node)

    async def close(self) -> None:
        self._there = dict.fromkeys(self._there, False)
        await self._owned.close(list(self._there))

    # — what happens —

    async def enter(self, place: Place, key: str) -> None:
        self._app_keys[place.app] = key
        self._there[place] = True
        await self._change(place)

    async def leave(self, place: Place) -> None:
        if self._there.get(place):
            self._there[place] = False
            await self._change(place)

    async def _change(self, place: Place) -> None:
        with suppress(BrokerUnavailable):  # made good when it is back
            await self._owned.write(place)

    async def add(self, app: str, key: str, event: bytes, once: tuple[str, str] | None = None) -> None:
        asked, value = once or ("", "")
        keys = [*self._kept(app), self._keys.owned(b"wk", app, asked)]
        self._look(app, await self._shard.run(_ADD, keys, [*self._args(app, key), event, value, _REMEMBERED]))

    async def count(self, app: str, key: str, channel: str, number: int, gap: float) -> None:
        event = encode("subscription_count", channel, subscription_count=number)
        keys = [*self._kept(app), self._keys.owned(b"wk", app, f"count {channel}")]
        args: list[Argument] = [event, f"count {channel}", number, microseconds(gap), _REMEMBERED]
        self._look(app, await self._shard.run(_COUNT, keys, [*self._args(app, key), *args]))

    def _look(self, app: str, kept: int) -> None:
        if kept < 0:
            self.lost(app, 1)
            raise OutboxFull

    # — what is told —

    async def pending(self) -> list[str]:
        found = await self._owned.all(("SMEMBERS", key) for key in self._keys.indexes(b"w", "pending"))
        return [app.decode() for app in chain.from_iterable(found)]

    async def waiting(self, app: str, limit: int) -> Waiting:
        keys = [*self._kept(app), self._keys.of(b"wt", app)]
        key, due, targets = await self._shard.run(_WAITING, keys, [*self._args(app), limit])
        return Waiting(key.decode(), [Event(text) for text in due], frozenset(target.decode() for target in targets))

    async def sort(self, app: str, events: Sequence[tuple[Event, Sequence[str]]]) -> int:
        targets = list(dict.fromkeys(chain.from_iterable(wanted for _, wanted in events)))
        numbers = {target: str(number) for number, target in enumerate(targets, 1)}
        keys = [*self._kept(app), self._keys.of(b"wt", app), *(self._told(app, target) for target in targets)]
        args: list[Argument] = [*self._args(app), len(targets), *targets]
        for event, wanted in events:
            args += event.text, " ".join(numbers[target] for target in wanted)
        lost: int = await self._shard.run(_SORT, keys, args)
        return lost

    async def of(self, app: str, target: str, limit: int) -> list[Event]:
        found = await self._shard.execute("ZRANGE", self._told(app, target), 0, limit - 1)
        return [Event(text) for text in found]

    async def settle(self, app: str, target: str, events: Sequence[Event]) -> None:
        await self._settle(app, target, events, letters=0)

    async def put_aside(self, app: str, target: str, events: Sequence[Event]) -> None:
        await self._settle(app, target, events, letters=self.rules.dead_letters)

    async def _settle(self, app: str, target: str, events: Sequence[Event], letters: int) -> None:
        kinds = self._keys.of(b"wd", app), self._keys.of(b"wm", app)
        keys = [self._keys.of(b"wt", app), self._told(app, target), *kinds]
        await self._shard.run(_SETTLE, keys, [target, letters, _KEEP, *(event.text for event in events)])

    async def dead_letters(self, app: str) -> list[Event]:
        found = await self._shard.execute("ZRANGE", self._keys.of(b"wd", app), 0, -1)
        return [Event(text) for text in reversed(found)]

    # — as owned entries —

    def entries(self) -> Collection[Place]:
        return self._there

    def keys(self, entry: Place, owner: str) -> list[bytes]:
        return [self._owners(entry), self._owned.index(entry.app, owner)]

    async def write(self, entry: Place, names: Names) -> Any:
        there = self._there.get(entry, False)
        await self._write(entry, names, there=there)
        if not there and self._there.get(entry) is False:
            del self._there[entry]

    async def rewrite(self, entry: Place, names: Names) -> None:
        await self.write(entry, names)

    async def sweep(self, channel: str, owner: str) -> None:
        await self._write(Place.decode(channel.encode()), (owner,), there=False)

    def restored(self, swept: bool) -> None:
        """Whoever is back in a place was put there by a script, which has kept the event."""

    def renewed(self) -> None:
        """Nothing has come due."""

    async def _write(self, place: Place, names: Names, *, there: bool) -> None:
        app = place.app
        keys = [*self._kept(app), self._owners(place), *(self._owned.index(app, name) for name in names)]
        args = self._args(app, self._app_keys.get(app, ""))
        delay = microseconds(self.rules.delay)
        text: list[Argument] = [place.encode(), delay, int(there), place.came(), place.gone()]
        if await self._shard.run(_PLACE, keys, [*args, *text, *names]) < 0:
            self.lost(app, 1)

    # — keys —

    def _kept(self, app: str) -> list[bytes]:
        kinds = [self._keys.of(kind, app) for kind in (b"wq", b"wh", b"wm")]
        return [*kinds, self._keys.index(b"w", app, "pending")]

    def _args(self, app: str, key: str = "") -> list[Argument]:
        return [app, key, self.rules.most, _KEEP, self.rules.room]

    def _told(self, app: str, target: str) -> bytes:
        return self._keys.owned(b"wl", app, target)

    def _owners(self, place: Place) -> bytes:
        # no id of an app has a colon, which ends the name
        return self._keys.owned(b"wp", place.app, place.encode().decode())


_REMEMBERED = milliseconds(REMEMBERED)
