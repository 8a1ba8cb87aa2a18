"""What goes wrong again and again: one line when it begins, one a minute while it lasts, one when it is over."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Self

MINUTE = 60.0
"""Seconds between two lines about the same, and of silence after which it is over."""

REASONS = 4
"""Different reasons that are told of one problem as they come; after that they have to wait for its next line."""

After = Callable[[float, Callable[[], None]], object]
"""Calls back after so many seconds."""


class Recurring:
    """Counts what happens, by kind, and logs few of it, so that neither an attack nor an outage floods the log.

    A kind is one of a few words, never a stranger's. What is logged is told at once or not at all: nothing is kept of
    it, for it may have a connection in it.
    """

    def __init__(
        self,
        log: logging.Logger,
        clock: Callable[[], float],
        after: After | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        """Without ``after`` nothing is said of what ends by silence."""
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._log = log
        self._clock = clock
        self._after = after
        self._spells: dict[str, _Spell] = {}

    def happened(self, kind: str, text: str, *details: object, reason: str = "", level: int = logging.WARNING) -> None:
        """It has happened, once more. A ``reason`` that is new is told without waiting."""
        self.counts[kind] += 1
        now = self._clock()
        spell = self._spells.get(kind)
        if spell is None or now - spell.last >= MINUTE:
            spell = self._spells[kind] = _Spell(now)
            self._look_later(kind, spell, MINUTE)
        spell.last = now
        spell.count += 1
        spell.over = False
        told = reason in spell.reasons or len(spell.reasons) >= REASONS
        if told and now - spell.told_at < MINUTE:
            return
        untold, seconds = spell.count - spell.told, now - spell.told_at
        extra = {"reason": kind, "count": untold}
        if untold > 1:
            text, details = f"{text} (%d times in %.0f s)", (*details, untold, seconds)
            extra["seconds"] = round(seconds)
        self._log.log(level, text, *details, extra=extra)
        if len(spell.reasons) < REASONS:
            spell.reasons.add(reason)
        spell.told_at, spell.told, spell.said, spell.level = now, spell.count, True, level

    def over(self, kind: str, text: str, *details: object) -> bool:
        """It is known to be over. Answers whether the log knew of it; if so it is told how long it has been.

        What begins again within the minute goes on: a line for each time would be a flood, too.
        """
        spell = self._spells.get(kind)
        if spell is None or spell.over:
            return False
        said, spell.over, spell.said = spell.said, True, False
        if said:
            seconds = self._clock() - spell.began
            extra = {"reason": kind, "count": spell.count, "seconds": round(seconds)}
            self._log.log(spell.level, f"{text} (%.0f s)", *details, seconds, extra=extra)
        return True

    def _look_later(self, kind: str, spell: "_Spell", seconds: float) -> None:
        if self._after is not None:
            self._after(seconds, partial(self._look, kind, spell))

    def _look(self, kind: str, spell: "_Spell") -> None:
        """Whether it goes on; if it has been quiet for a minute it does not."""
        if self._spells.get(kind) is not spell:
            return
        if (quiet := self._clock() - spell.last) < MINUTE:
            self._look_later(kind, spell, MINUTE - quiet)
            return
        del self._spells[kind]
        if spell.count > 1 and not spell.over:
            seconds = spell.last - spell.began
            extra = {"reason": kind, "count": spell.count, "seconds": round(seconds)}
            self._log.log(spell.level, "over: %s, %d times in %.0f s", kind, spell.count, seconds, extra=extra)


class _Spell:
    """One problem, from its first occurrence to its end."""

    __slots__ = ("began", "count", "last", "level", "over", "reasons", "said", "told", "told_at")

    def __init__(self, now: float) -> None:
        self.began = self.last = self.told_at = now
        self.count = self.told = 0
        """How often it has happened, and how many of these the log knows of."""
        self.reasons: set[str] = set()
        self.over = False
        self.said = False
        """Whether the log says that it goes on."""
        self.level = logging.WARNING


class Named(str):
    """What a line names, and its parts as fields; it may be kept, which a connection itself may not."""

    __slots__ = ("_fields",)
    _fields: dict[str, str]

    def __new__(cls, text: str, fields: dict[str, str]) -> Self:
        made = super().__new__(cls, text)
        made._fields = fields
        return made

    def log_fields(self) -> dict[str, str]:
        return self._fields


class Address(str):
    """Where a client comes from, as a field of its log lines, too."""

    __slots__ = ()

    def __str__(self) -> str:
        return str.__str__(self) or "somebody"

    def log_fields(self) -> dict[str, str]:
        return {"address": str(self)} if self else {}
