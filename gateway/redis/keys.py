"""Names of the keys and pub/sub channels that are kept in Redis."""

from binascii import crc_hqx
from itertools import count
from zlib import crc32

PARTITIONS = 128
"""Hash tags that keys are spread over. Fixed: another number would rename every key."""

SLOTS = 16384
"""Of a Redis Cluster."""


def slot(key: bytes) -> int:
    """The slot of a Redis Cluster that a key lies in: by its hash tag, if it has one (cluster specification)."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin) if begin else -1
    return crc_hqx(key[begin:end] if end > begin else key, 0) % SLOTS


def _tags() -> list[bytes]:
    """A tag for each partition, the nth amid the nth part of all slots, so that equal ranges hold equally many."""
    size = SLOTS // PARTITIONS
    tags: dict[int, bytes] = {}
    for number in count():
        part, place = divmod(slot(tag := b"p%d" % number), size)
        if abs(place - size // 2) <= size // 8:
            tags.setdefault(part, tag)
        if len(tags) == PARTITIONS:
            break
    return [tags[part] for part in range(PARTITIONS)]


TAGS = _tags()


def partition(channel: str) -> int:
    """What tells which keys share a hash tag."""
    return crc32(channel.encode()) % PARTITIONS


class Keys:
    """Names of keys and pub/sub channels.

    What belongs to a channel carries its partition as hash tag, on one server as on a cluster:
    ``gateway:{p42}:s:news``. The kinds are ``s`` stream, ``m`` its meta data, ``i`` idempotency results,
    ``h`` the summary of presence, ``e`` an owner's members in it and ``x`` their index, ``o`` occupancy and ``y`` its
    index, ``l`` the lease of a live source and ``n`` its number, ``c`` the pub/sub channel.
    What webhooks have to tell is filed by its app instead: ``w``, and kinds that begin so.
    Limits are filed by their name and key instead: ``r`` rates, ``q`` quotas.
    Another database than 0 is part of all names, since pub/sub knows no databases.
    """

    def __init__(self, prefix: str, db: int = 0) -> None:
        self._prefix = f"{prefix}@{db}" if db else prefix
        self._begin = f"{self._prefix}:{{".encode()
        self._tags = [b"%b%b}:" % (self._begin, tag) for tag in TAGS]

    def of(self, kind: bytes, channel: str) -> bytes:
        name = channel.encode()
        return b"%b%b:%b" % (self._tags[crc32(name) % PARTITIONS], kind, name)

    def is_of(self, kind: bytes, name: bytes) -> bool:
        """Whether a name has been made by ``of`` for that kind."""
        before, _, after = name.partition(b"}:")
        return before.startswith(self._begin) and after.startswith(kind + b":")

    def stream(self, channel: str) -> list[bytes]:
        """A stream's meta data, and the stream itself."""
        name = channel.encode()
        tag = self._tags[crc32(name) % PARTITIONS]
        return [b"%bm:%b" % (tag, name), b"%bs:%b" % (tag, name)]

    def published(self, channel: str) -> tuple[bytes, bytes, bytes]:
        """The same two, and the channel's pub/sub channel."""
        name = channel.encode()
        tag = self._tags[crc32(name) % PARTITIONS]
        return b"%bm:%b" % (tag, name), b"%bs:%b" % (tag, name), b"%bc:%b" % (tag, name)

    def owned(self, kind: bytes, channel: str, owner: str) -> bytes:
        """What one owner has in a channel. The name of an owner has no colon."""
        name = channel.encode()
        return b"%b%b:%b:%b" % (self._tags[crc32(name) % PARTITIONS], kind, owner.encode(), name)

    def index(self, kind: bytes, channel: str, owner: str) -> bytes:
        """Beside a channel, the index of what an owner has in all channels of the same partition."""
        return b"%b%b:%b" % (self._tags[crc32(channel.encode()) % PARTITIONS], kind, owner.encode())

    def indexes(self, kind: bytes, owner: str) -> list[bytes]:
        """An owner's indexes, in all partitions."""
        return [b"%b%b:%b" % (tag, kind, owner.encode()) for tag in self._tags]

    def result(self, channel: str, idempotency_key: str) -> bytes:
        name = channel.encode()
        # The length keeps channel "a:b" with key "c" apart from channel "a" with key "b:c".
        return b"%bi:%d:%b:%b" % (self._tags[crc32(name) % PARTITIONS], len(name), name, idempotency_key.encode())

    def shared(self, *words: str) -> bytes:
        """What belongs to nodes rather than to a channel."""
        return ":".join((self._prefix, *words)).encode()
