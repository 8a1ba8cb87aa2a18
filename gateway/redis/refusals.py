"""What Redis refuses: what an operator does about each kind, and what each server refuses just now."""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha1

from msgspec.structs import replace

from gateway.health import ServerHealth
from gateway.recurring import Recurring
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script

logger = logging.getLogger(__name__)

REMEDIES = {
    "NOPERM": "give the gateway's user what it lacks, with ACL SETUSER; all its rights stand in docs/redis.md",
    "NOAUTH": "the server wants a password: set engine.redis.password or password_file, of sentinels sentinel_password",
    "WRONGPASS": "correct engine.redis.user and password or password_file, of sentinels sentinel_user and its password",
    "OOM": "give the server more memory (maxmemory), or let channels keep less (history_size, history_ttl)",
    "MISCONF": "the server cannot write its data to disk: make room there, and look into its log",
    "NOREPLICAS": "bring back the replicas of the server, or lower its min-replicas-to-write",
    "READONLY": "the server is a replica: give the address of its master, or that of its sentinels (redis+sentinel://…)",
    "MASTERDOWN": "the server is a replica that has lost its master: give the address of one that serves",
    "CROSSSLOT": "take an engine.redis.prefix without braces",
    "MOVED": "the server belongs to a Redis Cluster: write its address as redis+cluster://host:port",
    "CLUSTERDOWN": "the cluster has slots that nobody serves: bring back its primaries (redis-cli --cluster check)",
    "LOADING": "wait until the server has read its data",
    "BUSY": "somebody's script runs for too long: end it with SCRIPT KILL",
}
"""Kinds that trying again does not change, each with what an operator does about it."""

PASSING = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "LOADING", "BUSY", "MOVED")
"""Kinds that a failover brings about, too, and then ends: they have to last."""

LASTS = 5.0
"""Seconds after which one of these is more than a failover."""

SETTLED = 3.0
"""Seconds without a refusal after which one that has done what was refused ends it: there may be a mixture."""

FORGOTTEN = 300.0
"""Seconds after which a refusal counts no more, whether or not anybody has asked for the same again."""

MOST = 64
"""Lacking rights, and other texts, that a server is remembered for."""

_QUOTED = re.compile(rb"'([A-Z]{3,})'")
_OPTIONS = {"count", "maxlen", "withscores", "withvalues", "wrongtype"}
"""What scripts have in quotes and capitals: the names of commands, but for these."""

_LOGIN = ("NOAUTH", "WRONGPASS")

_REFUSES = "Redis %s refuses: %s (%s%s)"


class Refusal:
    """Something that a server has begun to refuse."""

    def __init__(self, kind: str, detail: str, now: float) -> None:
        self.kind = kind
        self.detail = detail
        self.began = self.last = now
        self.commands: set[bytes] = set()
        self.lacks = ""

    @property
    def remedy(self) -> str:
        return REMEDIES[self.kind]

    @property
    def lasting(self) -> bool:
        return self.kind not in PASSING or self.last - self.began >= LASTS

    def over(self, command: bytes, now: float) -> bool:
        """Whether this command, which has been carried out, shows that."""
        if self.kind == "MOVED":  # other slots may well be here
            return False
        return command in self.commands and (self.kind in _LOGIN or now - self.last >= SETTLED)


class Refusals:
    """What one server refuses, by whichever connection; the log is told as `recurring` says.

    ``rights`` are patterns of the keys and channels that are ours; ``scripts`` those that we run. ``counts`` are by
    kind; to be followed, ``expected`` answers are no refusals.
    """

    def __init__(
        self,
        name: Callable[[], str],
        counts: Counter[str] | None = None,
        *,
        expected: Sequence[str] = (),
        rights: str = "gateway:*",
        scripts: Sequence[Script] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.present: dict[tuple[str, str], Refusal] = {}
        """By kind, and by the right that is missing."""
        self._name = name
        self._expected = ("NOSCRIPT", *expected)
        self._rights = rights
        self._scripts = scripts
        self._clock = clock
        self._telling = Recurring(logger, clock)
        self._said: set[str] = set()

    @property
    def current(self) -> Refusal | None:
        """What is refused now, and likely to be refused again."""
        now = self._clock()
        self._end(lambda refusal: now - refusal.last >= FORGOTTEN, now)
        lasting = [refusal for refusal in self.present.values() if refusal.lasting]
        return lasting[0] if lasting else None

    @property
    def lacks(self) -> str:
        """The rights that are missing, as ACL SETUSER takes them."""
        found = dict.fromkeys(refusal.lacks for refusal in self.present.values() if refusal.lacks)
        return ", ".join(found)

    def shown_in(self, health: ServerHealth) -> ServerHealth:
        """The same, of which it is said what the server refuses, if it does."""
        refusal = self.current
        if refusal is None:
            return health
        lacks = f"; it lacks {self.lacks}" if refusal.kind == "NOPERM" and self.lacks else ""
        where = "" if self._name() == health.server else f"{self._name()}: "
        problem, remedy = where + refusal.detail, refusal.remedy + lacks
        return replace(health, refusal=refusal.kind, problem=problem, remedy=remedy)

    def refused(self, error: CommandRefused, data: bytes, *, optional: bool = False) -> None:
        """Take note of an answer to a command, whose bytes are ``data``; an ``optional`` one is done without."""
        kind = error.redis_code
        if kind in self._expected or (kind == "NOAUTH" and self.tells("WRONGPASS")):  # which follows from it
            return
        self.counts[kind if kind in REMEDIES else "other"] += 1
        command = _named(data)
        detail = _without_arguments(error.detail)
        if optional and (kind not in REMEDIES or self.tells(kind)):
            return
        if optional or kind not in REMEDIES:
            self.say_once(f"refuses a command (said once): {detail}")
            return
        lack = self._find_lack(detail, command) if kind == "NOPERM" else ""
        key = (kind, lack)
        now = self._clock()
        refusal = self.present.get(key)
        if refusal is None:
            if len(self.present) >= MOST:
                return
            refusal = self.present[key] = Refusal(kind, detail, now)
            refusal.lacks = lack
        lacks = f"; it lacks {lack}" if lack else ""
        self._telling.happened(f"{kind} {lack}", _REFUSES, self._name(), detail, refusal.remedy, lacks)
        refusal.last = now
        refusal.commands.add(command)

    def done(self, data: bytes) -> None:
        """Take note of a command that has been carried out."""
        command, now = _named(data), self._clock()
        self._end(lambda refusal: refusal.over(command, now), now)

    def _end(self, over: Callable[[Refusal], bool], now: float) -> None:
        for key in [key for key, refusal in self.present.items() if over(refusal)]:
            kind, lack = key
            del self.present[key]
            self._telling.over(f"{kind} {lack}", "Redis %s does not refuse it any more: %s", self._name(), kind)

    def tells(self, kind: str) -> bool:
        """Whether the log has been told of this already."""
        return any(refusal.kind == kind for refusal in self.present.values())

    def say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < MOST:
            self._said.add(text)
            logger.warning("Redis %s %s", self._name(), text)

    def _find_lack(self, detail: str, command: bytes) -> str:
        """The right that is missing, as ACL SETUSER takes it; of a script's commands one."""
        if found := re.search("to run the '([^']+)' command", detail):
            return f"+{found[1]}"
        if re.search(r"\bkeys?\b", detail):
            return f"~{self._rights}"
        if "channel" in detail:
            return f"&{self._rights}"
        texts = [script.text for script in self._scripts if script.sha.encode() in command]
        called = sorted({word.decode().lower() for text in texts for word in _QUOTED.findall(text)} - _OPTIONS)
        return "one of " + " ".join(f"+{call}" for call in called) if called else ""


def _named(data: bytes) -> bytes:
    """A command without its arguments; of a script its digest."""
    name, *rest = data.split(b"\r\n", 5)[2::2]
    if name == b"EVALSHA":
        return b"EVAL " + rest[0]
    if name == b"EVAL":
        size = int(data.split(b"\r\n", 4)[3][1:])
        begins = len(data) - len(data.split(b"\r\n", 4)[4])
        return b"EVAL " + sha1(data[begins : begins + size], usedforsecurity=False).hexdigest().encode()
    return name


def _without_arguments(detail: str) -> str:
    """Redis repeats the arguments of a command that it does not know, and they are nobody's business."""
    return detail.partition(", with args")[0]
