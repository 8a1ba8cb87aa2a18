"""How large a run is: ``CHAOS_SCALE`` shrinks the whole run, whose one is 3,000 clients."""

import os
from typing import NamedTuple

ROOMS_OF = 10
"""One channel in so many is a room, with presence, joins and leaves; the others are feeds."""
MAD = "feed:mad"
"""The channel of a publisher gone mad, to which one client in sixty subscribes."""


class Size(NamedTuple):
    clients: int
    channels: int
    rate: float
    """Publications a second, over all channels."""
    calm: float = 10.0
    """Seconds of load before each fault."""

    @classmethod
    def whole(cls) -> "Size":
        scale = float(os.environ.get("CHAOS_SCALE", "1"))
        return cls(max(20, round(3000 * scale)), max(20, round(300 * scale)), max(20.0, 300 * scale))

    @property
    def names(self) -> list[str]:
        return [f"{'feed' if number % ROOMS_OF else 'room'}:{number}" for number in range(self.channels)]

    @property
    def rooms(self) -> list[str]:
        return [name for name in self.names if name.startswith("room:")]

    def of(self, client: int) -> list[str]:
        """The channels that a client subscribes to: about as many clients in each."""
        names = self.names
        mad = [MAD] if client % 60 == 0 else []
        first, second = client % len(names), (client // len(names) * 7 + client * 11 + 3) % len(names)
        return list(dict.fromkeys([*mad, names[first], names[second]]))
