"""How many client events a connection may still send: so many a second, and as many at once."""


class Bucket:
    """Fills by the time that has passed, for which it takes no timer."""

    __slots__ = ("_left", "_seen")

    def __init__(self, rate: int, now: float) -> None:
        self._left = float(rate)
        self._seen = now

    def take(self, rate: int, now: float) -> bool:
        """Whether there is one left, which is taken then. ``rate`` is that of now: settings may change."""
        self._left = min(rate, self._left + (now - self._seen) * rate)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
