"""What clients did, by their own account: who was where from when to when, and what was published."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = float("inf")


class Spot(NamedTuple):
    """A channel, or a user's part in a presence channel."""

    channel: str
    user: str = ""


@dataclass
class Visit:
    """One connection in one spot. ``begun`` is when it asked; ``acked`` stays away if it was never let in."""

    begun: float
    acked: float = NEVER
    ended: float = NEVER


@dataclass
class Said:
    """A client event, the node that took it, and when that is known to have dealt with it."""

    channel: str
    node: int
    sent: float
    taken: float = NEVER


@dataclass
class Ledger:
    visits: defaultdict[Spot, list[Visit]] = field(default_factory=lambda: defaultdict(list))
    said: dict[str, Said] = field(default_factory=dict)
    """By their data."""
    misses: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Empty cache channels: when somebody was let in there, and on which node."""
    killed: list[tuple[int, float]] = field(default_factory=list)
    """Nodes, and when."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When Redis was away."""

    def begin(self, spot: Spot) -> Visit:
        visit = Visit(time.time())
        self.visits[spot].append(visit)
        return visit

    def there(self) -> set[Spot]:
        """Who has somebody just now."""
        return {
            spot
            for spot, visits in self.visits.items()
            if any(visit.acked < NEVER and visit.ended == NEVER for visit in visits)
        }

    def away(self, begin: float, end: float, margin: float = 0.0) -> bool:
        """Whether Redis was away at some time between these, or near them."""
        return any(start - margin < end and begin < stop + margin for start, stop in self.outages)

    def died(self, node: int, begin: float, end: float) -> bool:
        return any(number == node and begin <= at <= end for number, at in self.killed)
