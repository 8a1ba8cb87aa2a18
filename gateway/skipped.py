"""What another release has written and this one cannot read: left out, counted, and said once."""

import logging
from collections import Counter

from msgspec import MsgspecError

log = logging.getLogger(__name__)

UNREADABLE = (ValueError, MsgspecError)
"""What decoding raises. (Text that is not UTF-8 is a ``ValueError``.)"""

SKIPPED: Counter[str] = Counter()
"""How many in this process, by kind."""


class Skipped:
    """What one reader leaves out, all of a kind such as ``control``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = 0

    def add(self, problem: object) -> None:
        self.count += 1
        SKIPPED[self.kind] += 1
        if self.count == 1:
            log.warning("left out what this release cannot read, and will leave out more (%s): %s", self.kind, problem)
