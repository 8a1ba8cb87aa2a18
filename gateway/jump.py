"""Which of several places a name belongs to: jump consistent hash.

Source: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014. With one place more, only its
share of the names moves, and all of it there.
"""

from functools import lru_cache
from hashlib import blake2b

_MULTIPLIER = 2862933555777941757
_MASK = 2**64 - 1


@lru_cache(65536)
def jump(name: str, places: int) -> int:
    """The number of one of so many places, from 0: the same in every process."""
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    place, candidate = 0, 0
    while candidate < places:
        place = candidate
        key = (key * _MULTIPLIER + 1) & _MASK
        candidate = int((place + 1) * (1 << 31) / ((key >> 33) + 1))
    return place
