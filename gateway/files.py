"""Open files of this process, of which each connection is one, and how many more there may be.

The kernel gives the lowest free number to whatever is opened: a number shows how many files there are, at the least,
and costs nothing to know.
"""

import logging
import os
import time
from collections import Counter
from math import inf

from gateway.recurring import Recurring

try:
    import resource
except ImportError:  # pragma: no cover  # Windows has no such limit
    KNOWN = False
else:
    KNOWN = True

MOST_SPARE, LEAST_SPARE = 128, 16
"""Files that no client gets, of a limit that is large or small: for the broker, the server API, health checks, names
to resolve and files to read."""

MOST_UNLOOKED = 64
"""Clients that are let in between two looks: a look opens a file, which is dear for each."""

MOST_UNNUMBERED = 16
"""Connections between two of which the number is looked at: a limit may be lowered while there is room."""

CUT: Counter[str] = Counter()
"""Connections of this process that were closed unheard, by reason."""

_cut = Recurring(logging.getLogger(__name__), time.monotonic, counts=CUT)


def limit() -> int:
    """How many files may be open; 0 is without limit."""
    if not KNOWN:
        return 0
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if most == resource.RLIM_INFINITY else most


def spare(most: int) -> int:
    """Of so many files those that are not for clients."""
    return max(LEAST_SPARE, min(MOST_SPARE, most // 8))


def room(most: int) -> int:
    """Connections for which a limit of open files is enough."""
    return most - spare(most)


def left() -> float:
    """How many more files there are for clients; without end where there is no limit."""
    most = limit()
    if not most:
        return inf
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return 0
    os.close(number)
    return max(0, room(most) - number)


def scarce() -> bool:
    """Whether only the spare files are left, so that no more clients are to be let in."""
    return left() <= 0


class Lookout:
    """The same for who asks before each client: it looks when a quarter of what was left may have been taken."""

    def __init__(self) -> None:
        self._unlooked = 0

    def scarce(self) -> bool:
        if self._unlooked:
            self._unlooked -= 1
            return False
        there = left()
        self._unlooked = int(min(there / 4, MOST_UNLOOKED))
        return there <= 0


class Numbers:
    """`exhausted` for who would ask it of each connection, of which the number is not known for nothing."""

    def __init__(self) -> None:
        self._unlooked = 0

    def due(self) -> bool:
        """Whether the number of the next connection is to be looked at."""
        if self._unlooked:
            self._unlooked -= 1
            return False
        return True

    def exhausted(self, number: int) -> bool:
        """Whether this is to be closed unheard."""
        most = limit()
        there = (most - spare(most) // 2 - number) // 4 if most else MOST_UNNUMBERED
        self._unlooked = max(0, min(there, MOST_UNNUMBERED))
        return exhausted(number)


def exhausted(number: int) -> bool:
    """Whether a connection with this number is to be closed unheard: half of the spare files are used up."""
    most = limit()
    if not most or number < most - spare(most) // 2:
        return False
    _cut.happened("file_limit", "connections are closed unheard: nearly all %d files are open (ulimit -n)", most)
    return True
