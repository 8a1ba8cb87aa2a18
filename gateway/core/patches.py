"""Patches in place of publications, for those who have negotiated delta: each is made once, whoever gets it.

Source: Centrifuge protocol, "Delta compression".
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from gateway.messages import Payload, Position, Publication, Quoted
from gateway.protocols.fossil import LARGEST, create

MOST_BASES = 32 * 1024 * 1024
"""Bytes of the latest publications of channels that are kept for patches on a node. Without it the next goes whole."""

MOST_PATCHES = 8 * 1024 * 1024
"""Bytes of patches, and of what they are between, that are kept for those who recover."""

ENTRY = 300
"""Bytes that one of them takes besides."""

MADE_AT_ONCE = 64 * 1024
"""Bytes of publications of which patches are made for one who recovers, but for those that are known: some 10 ms."""


class Patches:
    """Makes patches, and keeps some: those who return together recover the same."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], Quoted | None] = OrderedDict()
        self._size = 0

    def between(self, base: Payload, target: Payload) -> Quoted | None:
        """What makes the one of the other; None if the target itself is no longer, or one of them is large."""
        if max(len(base), len(target)) > LARGEST:
            return None
        pair = base, target
        if pair in self._known:
            self._known.move_to_end(pair)
            return self._known[pair]
        made = create(base, target)
        patch = Quoted(made) if len(made) < len(target) else None
        self._known[pair] = patch
        self._size += _size(pair, patch)
        while self._size > MOST_PATCHES:
            self._size -= _size(*self._known.popitem(last=False))
        return patch

    def chain(self, publications: Iterable[Publication]) -> list[Publication]:
        """The same for somebody with delta: the first as it is, each other by a patch, where that is shorter."""
        told: list[Publication] = []
        before: Payload | None = None
        left = MADE_AT_ONCE
        for each in publications:
            patch = None
            if before is not None and ((before, each.data) in self._known or left >= len(each.data)):
                left -= 0 if (before, each.data) in self._known else len(each.data)
                patch = self.between(before, each.data)
            told.append(whole(each) if patch is None else patched(each, patch))
            before = each.data
        return told


class _Base(NamedTuple):
    """What was published there, which patches may be made of."""

    position: Position
    data: Payload


class Bases:
    """The latest publications of channels in which somebody on this node has negotiated delta."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, _Base] = OrderedDict()
        self._size = 0

    def __contains__(self, channel: str) -> bool:
        return channel in self._of

    def keep(self, channel: str, position: Position, data: Payload) -> None:
        self.drop(channel)
        if len(data) <= LARGEST:
            self._of[channel] = _Base(position, data)
            self._size += len(data)
            while self._size > MOST_BASES:
                self._size -= len(self._of.popitem(last=False)[1].data)

    def drop(self, channel: str) -> None:
        if base := self._of.pop(channel, None):
            self._size -= len(base.data)

    def before(self, channel: str, publication: Publication) -> Payload | None:
        """What everybody had who stood right before a publication, if that is known."""
        base = self._of.get(channel)
        if base is None or base.position != Position(publication.offset - 1, publication.epoch):
            return None
        return base.data


def whole(publication: Publication) -> Publication:
    """As those get it who have negotiated delta, if it goes as it is."""
    return replace(publication, data=Quoted(publication.data))


def patched(publication: Publication, patch: Quoted) -> Publication:
    return replace(publication, data=patch, delta=True)


def _size(pair: tuple[bytes, bytes], patch: Quoted | None) -> int:
    return ENTRY + len(pair[0]) + len(pair[1]) + len(patch or b"")
