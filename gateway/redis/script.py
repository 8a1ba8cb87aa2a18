"""Lua scripts that Redis runs."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha1
from pathlib import Path

from gateway.redis.resp import Argument

UNIDENTIFIED = b"?"
"""In place of a server's identity: the script is to ask for itself."""


class Script:
    """A Lua script beside the module that runs it; of several files, one follows the other.

    One that is ``identified`` has one more argument, the last: which history of data the server is known to hold, by
    the connection that it is sent on.
    """

    def __init__(self, *paths: Path, identified: bool = False) -> None:
        self.text = b"".join(path.read_bytes() for path in paths)
        self.identified = identified

    @cached_property
    def sha(self) -> str:
        return sha1(self.text, usedforsecurity=False).hexdigest()

    @cached_property
    def sharded(self) -> "Script":
        """The same with sharded pub/sub, for a cluster."""
        script = Script(identified=self.identified)
        script.text = self.text.replace(b"'PUBLISH'", b"'SPUBLISH'")
        return script

    def by_digest(
        self, keys: Sequence[Argument], args: Sequence[Argument], identity: bytes = UNIDENTIFIED
    ) -> tuple[Argument, ...]:
        """The command that runs it; the answer is NOSCRIPT where it is not known."""
        if self.identified:  # as most are; without a call that would do for both
            return ("EVALSHA", self.sha, len(keys), *keys, *args, identity)
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def by_text(
        self, keys: Sequence[Argument], args: Sequence[Argument], identity: bytes = UNIDENTIFIED
    ) -> tuple[Argument, ...]:
        """The command that runs it wherever it is not known yet."""
        return ("EVAL", self.text, *self._operands(keys, args, identity))

    def _operands(self, keys: Sequence[Argument], args: Sequence[Argument], identity: bytes) -> tuple[Argument, ...]:
        return (len(keys), *keys, *args, identity) if self.identified else (len(keys), *keys, *args)
