"""Token buckets of a process: what may be spent, and what somebody has spent. Times in seconds of one clock.

A bucket is kept as the moment at which it is full again, as in `limits.base`; here without a store, an await or an
object for each take, since commands pay for it.
"""

from collections.abc import Collection, Mapping
from typing import Any

from gateway.config.settings.limits import read_buckets

ROOM = 16384
"""Accounts of one generation: as many as a node has connections, and of both they take 8 MB."""

NOISE = 1e-6
"""Seconds by which sums of floats may be off."""

Kind = type[Any] | str
"""What is asked for: a command by its type, else a word."""

Bucket = tuple[int, float, float]
"""Its number among those of an account, the seconds in which one token comes, those in which all do."""


class Rules:
    """What may be spent, by kind. A change makes other rules, and accounts begin anew under these."""

    __slots__ = ("dry_run", "layer", "longest", "of", "size")

    def __init__(
        self,
        layer: str,
        rates: Mapping[Kind, str],
        *,
        total: str = "",
        apart: Collection[Kind] = (),
        dry_run: bool = False,
    ) -> None:
        """``rates`` by kind, as `read_buckets` has them; ``total`` is shared by all kinds but those ``apart``."""
        self.layer = layer
        """Its name in settings and metrics."""
        self.dry_run = dry_run
        self.size = 0
        self.longest = 0.0
        """After so many seconds without a take every bucket is full."""
        shared = self._buckets(total)
        self.of: dict[Kind, tuple[Bucket, ...]] = {}
        for kind, text in rates.items():
            if buckets := self._buckets(text) + (() if kind in apart else shared):
                self.of[kind] = buckets

    def _buckets(self, text: str) -> tuple[Bucket, ...]:
        found = []
        for rate, interval in read_buckets(text):
            found.append((self.size, interval / rate, interval + NOISE))
            self.size += 1
            self.longest = max(self.longest, interval)
        return tuple(found)


class Account:
    """What one connection, user or address has spent."""

    __slots__ = ("_full", "_rules")

    def __init__(self) -> None:
        self._rules: Rules | None = None
        self._full: list[float] = []

    def take(self, rules: Rules, kind: Kind, now: float, cost: int = 1) -> bool:
        """Spend ``cost``, or nothing and answer False where a bucket has not so much."""
        buckets = rules.of.get(kind)
        if buckets is None:
            return True
        full = self._full if self._rules is rules else self._full_under(rules)
        for number, step, depth in buckets:  # no calls here: each would cost as much as the rest
            at = full[number]
            if (at if at > now else now) + step * cost > now + depth:
                return False
        for number, step, _ in buckets:
            at = full[number]
            full[number] = (at if at > now else now) + step * cost
        return True

    def drain(self, rules: Rules, kind: Kind, now: float) -> None:
        """Spend one of each bucket that has it: of what is never refused."""
        full = self._full_under(rules)
        for number, step, depth in rules.of.get(kind, ()):
            full[number] = min(max(full[number], now) + step, now + depth)

    def wait(self, rules: Rules, kind: Kind, now: float) -> float:
        """Seconds until one may be taken."""
        full = self._full_under(rules)
        return max((full[number] + step - depth - now for number, step, depth in rules.of.get(kind, ())), default=0.0)

    def _full_under(self, rules: Rules) -> list[float]:
        if self._rules is not rules:
            self._rules, self._full = rules, [0.0] * rules.size
        return self._full


class Accounts:
    """Accounts by key, as many as are in use, and `ROOM` twice at most.

    There are two generations. Whoever is asked for belongs to the young one; now and then that becomes the old one,
    and what was old and has not been asked for since is forgotten: its buckets are full again, unless so many have
    come that there is no room. Nothing is searched, whatever the number.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._young: dict[str, Account] = {}
        self._old: dict[str, Account] = {}
        self._turned = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def of(self, key: str, longest: float, now: float) -> Account:
        """The account of a key, whose buckets all fill within ``longest`` seconds."""
        account = self._young.get(key)
        if account is None:
            account = self._old.pop(key, None) or Account()
            if now - self._turned >= longest or len(self._young) >= self._room:
                self._old, self._young, self._turned = self._young, {}, now
            self._young[key] = account
        return account
