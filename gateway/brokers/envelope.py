"""How publications, joins and leaves travel between nodes, whatever the release of each.

A message is version ``1``, a kind, and msgpack: ``1p<offset>:<epoch>:<Publication>`` (``1p0::`` without
history), ``1j<ClientInfo>``, ``1l<ClientInfo>``. A script in Redis writes the head of publications with offset.
New fields may be added to the structs; anything else takes a new version, understood one release before it
is sent.
"""

import logging

from msgspec import MsgspecError

from gateway.messages import ClientInfo, Join, Leave, Publication, unpacker

logger = logging.getLogger(__name__)

WITHOUT_OFFSET = b"1p0::"
JOIN = b"1j"
LEAVE = b"1l"


_publications = unpacker(Publication)
_infos = unpacker(ClientInfo)


def decode_publication(data: bytes, offset: int) -> Publication:
    """A publication from a stream, without the marks of live ones."""
    publication = _publications.decode(data)
    publication.offset, publication.epoch, publication.time, publication.exclude = offset, "", 0, None
    return publication


class Reader:
    """Reads messages. One that it does not understand is counted and left out: a newer node may have sent it."""

    def __init__(self) -> None:
        self.ignored = 0

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
            problem = "unknown version or kind"
        except (ValueError, MsgspecError) as exc:
            problem = str(exc)
        self.ignored += 1
        if self.ignored == 1:
            logger.warning("Ignored a message from another node, and will ignore more: %s: %r", problem, kind)
        return None
