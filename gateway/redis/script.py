"""Lua scripts that Redis runs."""

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from gateway.redis.resp import Argument


class Script:
    """A Lua script beside the module that runs it; of several files, one follows the other."""

    def __init__(self, *paths: Path) -> None:
        self.text = b"".join(path.read_bytes() for path in paths)
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()

    def by_digest(self, keys: Sequence[Argument], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The command that runs it; the answer is NOSCRIPT where it is not known."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)
