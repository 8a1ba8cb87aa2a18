"""The faults by name: what is done, to which ground, and what of the promises it touches."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module

from tests.chaos.ground import Ground

STAGES = ("server", "line", "namespace", "clock", "workers", "sentinel", "cluster", "haproxy", "nginx", "caddy")
"""Grounds on which faults happen; each is built once, for all its faults."""

Strike = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Strike
    """Does it, and undoes it: returns at the fault's end. Raises ``AssertionError`` if it did not come about."""
    stage: str = "server"
    loses_data: bool = False
    """Streams are gone: everybody must be told that nothing was recovered."""
    may_lose_data: bool = False
    """Another server takes over, which may lack something: whoever had it must be told."""
    loses_messages: bool = True
    """A connection to Redis is interrupted, and what has no history, such as joins and leaves, may be lost."""
    lapses: bool = False
    """A node is silent for longer than its lease holds, so that its members are rightly taken for gone."""
    hangs: bool = False
    """A node's event loop stands still as part of the fault, so that its delay then says nothing."""
    seamless: bool = False
    """Nobody may notice: no handshake and no publish fails."""
    brief: bool = False
    """Whether it belongs to the short run."""


FAULTS: list[Fault] = []


def fault(name: str, **traits: bool | str) -> Callable[[Strike], Strike]:
    """Enter a fault in the list."""

    def enter(strike: Strike) -> Strike:
        FAULTS.append(Fault(name, strike, **traits))  # type: ignore[arg-type]  # checked when it is made
        return strike

    return enter


def load_all() -> list[Fault]:
    """All there are, in the order in which they are played."""
    if not FAULTS:
        for name in ("node", "redis", "line", "client", "replicated"):
            import_module(f"tests.chaos.{name}_faults")
    return sorted(FAULTS, key=lambda each: STAGES.index(each.stage))
