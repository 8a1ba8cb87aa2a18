"""What a client is told who comes: the members of a channel, as text that is made once and mended by parts.

Of a channel with thousands of members each who comes is told of all, and each who comes changes what they are. So it is
kept in blocks, in the order in which members have come, and a change costs a block.

Source: Pusher Channels protocol, "Presence channel events".
"""

from itertools import count

from msgspec.json import encode

from gateway.messages import Payload

BLOCK = 64
"""Members of one block: of 5,000 members, a change has 64 of them written anew, and 80 blocks put together."""


class _Block:
    __slots__ = ("made", "members")

    def __init__(self) -> None:
        self.members: dict[int, tuple[bytes, bytes]] = {}
        """What each is among the ids, and in the hash."""
        self.made: tuple[bytes, bytes] | None = None

    def parts(self) -> tuple[bytes, bytes]:
        if self.made is None:
            ids, entries = zip(*self.members.values(), strict=True)
            self.made = b",".join(ids), b",".join(entries)
        return self.made


class MembersText:
    """A JSON string that holds JSON: ids, hash and count of the members."""

    __slots__ = ("_blocks", "_count", "_made", "_numbers")

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._numbers = count()
        self._count = 0
        self._made: bytes | None = None

    def add(self, user: str, info: Payload | None) -> int:
        """Add a member, at the end; answers the number by which it can be removed."""
        number, name = next(self._numbers), encode(user).decode()
        entry = f"{name}:{'null' if info is None else info.decode()}"
        block = self._blocks.get(number // BLOCK)
        if block is None:
            block = self._blocks[number // BLOCK] = _Block()
        block.members[number] = _inner(name), _inner(entry)
        block.made = self._made = None
        self._count += 1
        return number

    def remove(self, number: int) -> None:
        block = self._blocks[number // BLOCK]
        del block.members[number]
        if not block.members:
            del self._blocks[number // BLOCK]
        block.made = self._made = None
        self._count -= 1

    def __bytes__(self) -> bytes:
        if self._made is None:
            blocks = [block.parts() for block in self._blocks.values()]
            ids, entries = b",".join([ids for ids, _ in blocks]), [entries for _, entries in blocks] or [b""]
            # the large part is copied once: what stands around it is put to its ends
            entries[0] = rb'"{\"presence\":{\"ids\":[%b],\"hash\":{%b' % (ids, entries[0])
            entries[-1] = rb'%b},\"count\":%d}}"' % (entries[-1], self._count)
            self._made = b",".join(entries)
        return self._made


def _inner(text: str) -> bytes:
    """JSON as it stands within a JSON string."""
    return encode(text)[1:-1]
