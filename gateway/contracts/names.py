"""Names for what is generated: identifiers in every language, each once."""

import re
from collections.abc import Iterable

_WORD = re.compile(r"[A-Za-z0-9]+")

RESERVED = frozenset(
    _WORD.findall(
        "arguments async await break case catch class const continue debugger default delete do else enum eval export "
        "extends false finally for function if implements import in instanceof interface let new null package private "
        "protected public return static super switch this throw true try typeof var void while with yield undefined "
        "any boolean never number object string symbol unknown"
    )
)
"""What JavaScript and TypeScript keep for themselves."""

_START = re.compile(r"^[^A-Za-z]+")


def camel(text: str) -> str:
    """``chat-room typing`` as ``chatRoomTyping``; empty if there is no letter to begin with."""
    name = pascal(text)
    return name[:1].lower() + name[1:]


def pascal(text: str) -> str:
    """``chat-room typing`` as ``ChatRoomTyping``; empty if there is no letter to begin with."""
    words = _WORD.findall(_START.sub("", text))
    return "".join(word[0].upper() + word[1:] for word in words)


class Names:
    """Gives every name once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | RESERVED

    def take(self, *wanted: str) -> str:
        """The first that is free; if none is, the last with a number."""
        candidates = [each for each in wanted if each]
        name = next((each for each in candidates if each not in self._taken), "")
        number = 2
        while not name or name in self._taken:
            name = f"{candidates[-1]}{number}"
            number += 1
        self._taken.add(name)
        return name
