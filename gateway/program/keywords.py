"""Keywords that a call does not take: refused, though Python itself would let a ``**options`` take them."""

from collections.abc import Collection
from difflib import get_close_matches


def check_keywords(call: str, given: Collection[str], known: Collection[str]) -> None:
    """Raises ``TypeError`` for a keyword that the call does not take, and names the one that was meant."""
    for name in given:
        if name not in known:
            meant = get_close_matches(name, known, n=1)
            guess = f"did you mean '{meant[0]}'? " if meant else ""
            raise TypeError(f"{call} got an unexpected keyword argument '{name}'; {guess}it takes {', '.join(known)}")
