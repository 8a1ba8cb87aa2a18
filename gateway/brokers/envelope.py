"""How publications, joins and leaves travel between nodes, whatever the release of each.

A message is version ``1``, a kind, and msgpack: ``1p<offset>:<epoch>:<Publication>`` (``1p0::`` without
history), ``1j<ClientInfo>``, ``1l<ClientInfo>``. A script in Redis writes the head of publications with offset. What a
stream keeps is the msgpack alone. New fields may be added to the structs; anything else takes a new version, understood
one release before it is sent: see docs/architecture.md.
"""

from gateway.brokers.base import BrokerEvents
from gateway.messages import ClientInfo, Join, Leave, Publication, unpacker
from gateway.skipped import UNREADABLE, Skipped

WITHOUT_OFFSET = b"1p0::"
JOIN = b"1j"
LEAVE = b"1l"


_publications = unpacker(Publication)
_infos = unpacker(ClientInfo)


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
            if kind == JOIN:
                return Join(_infos.decode(memoryview(message)[2:]))
            if kind == LEAVE:
                return Leave(_infos.decode(memoryview(message)[2:]))
            self.skipped.add(f"unknown version or kind: {kind!r}")
        except UNREADABLE as error:
            self.skipped.add(f"{error}: {kind!r}")
        return None
