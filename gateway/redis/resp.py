"""The words of the Redis protocol (RESP2), which hiredis reads and writes."""

import re
from collections.abc import Callable

from gateway.errors import BrokerUnavailable

Argument = bytes | str | int | float
Handler = Callable[[bytes], None]
"""Takes the payload of a pub/sub message. Plain and quick; what it raises is logged."""

SERVED_ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN")
"""Answers of a server that is not, or not yet, the one to talk to: the address must be resolved anew."""

REDIRECTIONS = ("MOVED", "ASK", "TRYAGAIN")
"""Answers of a cluster whose slot is another server's, or on its way there."""

UNDONE = {
    *SERVED_ELSEWHERE,
    *REDIRECTIONS,
    *("OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "NOREPLICAS"),
    *("NOSCRIPT", "BUSY", "CLUSTERDOWN", "CROSSSLOT"),
}
"""Answers to a command, or a script, that has changed nothing: they come before its first write, or never."""

_WRAPPED = re.compile("-(READONLY|LOADING|MASTERDOWN|OOM|MISCONF|NOREPLICAS) ")
"""Redis before 7 puts what a command within a script answered behind words of its own."""

_WITHIN_SCRIPT = re.compile("The user executing the script|ACL failure in script")
"""A right that is missing amid a script, which may have written something before; releases have other words for it."""


def milliseconds(seconds: float) -> int:
    """A time as Redis takes it: whole, and not nothing."""
    return max(1, int(seconds * 1000))


class CommandRefused(BrokerUnavailable):
    """Redis answered with an error. ``code`` is its first word, such as OOM; clients never see ``detail``."""

    def __init__(self, detail: str) -> None:
        super().__init__()
        self.detail = detail
        within = _WITHIN_SCRIPT.search(detail)
        wrapped = _WRAPPED.search(detail)
        self.redis_code = "NOPERM" if within else wrapped[1] if wrapped else detail.partition(" ")[0]
        if "without any password configured" in detail:  # AUTH, where the server has no password
            self.redis_code = "WRONGPASS"
        self.stored = "no" if self.redis_code in UNDONE and not within else "maybe"

    @property
    def served_elsewhere(self) -> bool:
        return self.redis_code in SERVED_ELSEWHERE
