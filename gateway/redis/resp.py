"""The words of the Redis protocol (RESP2), which hiredis reads and writes."""

from collections.abc import Callable

from gateway.errors import BrokerUnavailable

Argument = bytes | str | int | float
Handler = Callable[[bytes], None]
"""Takes the payload of a pub/sub message. Plain and quick; what it raises is logged."""

SERVED_ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN")
"""Answers of a server that is not, or not yet, the one to talk to: the address must be resolved anew."""

REDIRECTIONS = ("MOVED", "ASK", "TRYAGAIN")
"""Answers of a cluster whose slot is another server's, or on its way there."""

LASTING = ("OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "NOREPLICAS")
"""Answers that trying again does not change: an operator must."""

UNDONE = {*SERVED_ELSEWHERE, *LASTING, "NOSCRIPT", "BUSY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"}
UNDONE -= {"NOPERM"}
"""Answers to a command, or a script, that has changed nothing. NOPERM may come later than what a script has stored."""


def milliseconds(seconds: float) -> int:
    """A time as Redis takes it: whole, and not nothing."""
    return max(1, int(seconds * 1000))


class CommandRefused(BrokerUnavailable):
    """Redis answered with an error. ``code`` is its first word, such as OOM; clients never see ``detail``."""

    def __init__(self, detail: str) -> None:
        super().__init__()
        self.detail = detail
        # Redis before 7 wraps what a command within a script answered.
        wrapped = (code for code in (*SERVED_ELSEWHERE, *LASTING) if f"-{code} " in detail)
        self.redis_code = next(wrapped, detail.partition(" ")[0])
        self.stored = "no" if self.redis_code in UNDONE else "maybe"

    @property
    def served_elsewhere(self) -> bool:
        return self.redis_code in SERVED_ELSEWHERE
