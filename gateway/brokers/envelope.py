"""How publications, joins and leaves travel between nodes, whatever the release of each.

A message is version ``1``, a kind, and msgpack: ``1p<offset>:<epoch>:<Publication>`` (``1p0::`` without
history), ``1j<ClientInfo>``, ``1l<ClientInfo>``. A change of a map is ``1m<offset>:<epoch>:<length>:<Publication>``,
and behind that many bytes what its key had before, if that is told; a removal is ``1r`` with the same, and the key's
tags behind it. A script in Redis writes the head of publications with offset. What a stream keeps is the msgpack alone.
New fields may be added to the structs; anything else takes a new version, or kind, understood one release before it is
sent: see docs/architecture.md.
"""

from msgspec.msgpack import Decoder

from gateway.brokers.base import BrokerEvents
from gateway.messages import ClientInfo, Join, Leave, Publication, unpacker
from gateway.skipped import UNREADABLE, Skipped

WITHOUT_OFFSET = b"1p0::"
JOIN = b"1j"
LEAVE = b"1l"
CHANGE = b"1m"
REMOVAL = b"1r"

_publications = unpacker(Publication)
_infos = unpacker(ClientInfo)
_tags = Decoder(dict[str, str]).decode


class Reader:
    """Reads messages and streams. What it does not understand it leaves out: a newer node may have sent it."""

    def __init__(self) -> None:
        self.skipped = Skipped("message")

    def stored(self, data: bytes, offset: int) -> Publication | None:
        """A publication from a stream, without the marks of live ones."""
        try:
            publication = _publications.decode(data)
        except UNREADABLE as error:
            self.skipped.add(f"{error}: a publication in a stream")
            return None
        publication.offset, publication.epoch, publication.time, publication.exclude = offset, "", 0, None
        return publication

    def kept(self, data: bytes, offset: int) -> Publication | None:
        """What a map has, or has had: as `stored`, with the time at which it was published."""
        try:
            publication = _publications.decode(data)
        except UNREADABLE as error:
            self.skipped.add(f"{error}: a publication in a map")
            return None
        publication.offset, publication.patchable = offset, False
        return publication

    def deliver(self, events: BrokerEvents, channel: str, message: bytes) -> None:
        """Tell of what has arrived for a channel."""
        read = self.read(message)
        if isinstance(read, Publication):
            events.on_publication(channel, read)
        elif isinstance(read, Join):
            events.on_join(channel, read.info)
        elif read is not None:
            events.on_leave(channel, read.info)

    def read(self, message: bytes) -> Publication | Join | Leave | None:
        kind = message[:2]
        try:
            if message.startswith(WITHOUT_OFFSET):
                return _publications.decode(message[len(WITHOUT_OFFSET) :])
            if kind == b"1p":
                offset, epoch, data = message[2:].split(b":", 2)
                publication = _publications.decode(data)
                publication.offset, publication.epoch = int(offset), epoch.decode()
                return publication
            if kind in (CHANGE, REMOVAL):
                return _change(kind, message)
            if kind == JOIN:
                return Join(_infos.decode(memoryview(message)[2:]))
            if kind == LEAVE:
                return Leave(_infos.decode(memoryview(message)[2:]))
            self.skipped.add(f"unknown version or kind: {kind!r}")
        except UNREADABLE as error:
            self.skipped.add(f"{error}: {kind!r}")
        return None


def tagged(publication: Publication, tags: bytes) -> Publication:
    """A removal with the tags of what is removed, as they were packed; empty for none."""
    publication.tags = _tags(tags) if tags else None
    return publication


def _change(kind: bytes, message: bytes) -> Publication:
    offset, epoch, length, rest = message[2:].split(b":", 3)
    size = int(length)
    publication, behind = _publications.decode(rest[:size]), rest[size:]
    publication.offset, publication.epoch = int(offset), epoch.decode()
    if kind == REMOVAL:
        return tagged(publication, behind)
    if behind:
        publication.previous = _publications.decode(behind).data
    return publication
