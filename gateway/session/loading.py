"""How a client loads a map: page by page, then the changes since the first page, until it has caught up.

Source: Centrifuge protocol, "Map subscribe protocol".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.config.settings.maps import MapSettings
from gateway.core.map_reading import is_continuous
from gateway.core.node import Node
from gateway.core.patches import Patches, patched, whole
from gateway.core.recovery import Recovery
from gateway.core.tags import TagsFilter
from gateway.core.variants import EVERYTHING, Had
from gateway.errors import Error, ErrorCode
from gateway.maps.base import MapOptions, MapPage
from gateway.messages import Payload, Position, Publication

STREAM, STATE = 1, 2
"""Phases, in requests and answers; without one the subscription is live."""

LIVE = 0
PHASES = (LIVE, STREAM, STATE)


@dataclass(slots=True)
class Loading:
    """What a load has of its first request, and how far it has come."""

    options: MapOptions
    settings: MapSettings
    began: float
    recovers: bool
    """Whether the client comes back with a position, and needs but the changes since."""
    frozen: Position | None = None
    """Where the map stood at the first page."""
    target: int | None = None
    """Offset that changes are given up to before it is live."""
    start: Position | None = None
    """From where it is to be live."""
    busy: bool = False
    given_up: bool = False
    """Whether what changes is kept for it no more."""

    def had(self, found: Recovery | None) -> Had:
        """What its client has of the map: all, or what a recovery has ``found``; the rest it may have dropped."""
        if found is None:
            return None
        if not self.recovers:
            return EVERYTHING
        last = {each.key: each.removed for each in found.publications}
        return frozenset(key for key, removed in last.items() if not removed)

    def is_late(self, now: float) -> bool:
        return now - self.began > self.settings.catch_up_timeout

    async def page(self, node: Node, channel: Channel, limit: int, cursor: str, at: Position) -> MapPage:
        """Entries after the cursor that have not changed since the first page, for a client that stands ``at``.

        Raises ``Error`` (112) if that is another map's position.
        """
        page = await node.maps.store.read_state(channel.name, self.options, limit, cursor)
        top = Position(page.position.offset, page.position.epoch)
        if self.options.streams and (at.epoch or at.offset) and at.epoch != top.epoch:
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        if self.frozen is None:
            self.frozen = top
        elif self.frozen.epoch != top.epoch:
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        frozen = self.frozen.offset
        return MapPage([each for each in page.entries if each.offset <= frozen], top, page.cursor)

    async def changes(self, node: Node, channel: Channel, limit: int, since: Position) -> list[Publication] | None:
        """At most ``limit`` changes after ``since``; None once the client may go live from there.

        Raises ``Error`` (112) where some of them are lost.
        """
        if self.frozen is not None and since.epoch != self.frozen.epoch:
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        which = HistoryFilter(limit, since)
        changes, position = await node.maps.store.read_stream(channel.name, self.options, which)
        if self.frozen is None:
            self.frozen = Position(since.offset, position.epoch)
        if not is_continuous(since, changes, position, limit):
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        if self.target is None:
            self.target = position.offset
        return None if since.offset + limit >= self.target else changes

    async def look_up(self, node: Node, channel: Channel) -> Recovery | None:
        """The changes since ``start``. Raises ``Error`` (112) for more than are allowed, and where some are lost."""
        if not self.options.streams:
            return None
        assert self.start is not None
        most = self.settings.most_changes
        which = HistoryFilter(most if most < 0 else most + 1, self.start)
        changes, position = await node.maps.store.read_stream(channel.name, self.options, which)
        if not is_continuous(self.start, changes, position):
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        return Recovery(True, changes, Position(position.offset, position.epoch))


def latest(held: Sequence[Publication], tags: TagsFilter | None) -> list[Publication]:
    """The last change of each key, of those that pass, in their order."""
    found: dict[str, Publication] = {}
    for each in held:
        if tags is None or tags.passes(each.tags):
            found.pop(each.key, None)
            found[each.key] = each
    return list(found.values())


def chained(patches: Patches, publications: Sequence[Publication]) -> list[Publication]:
    """For somebody with delta: of each key the first as it is, the others by patches, where these are shorter."""
    before: dict[str, Payload] = {}
    told: list[Publication] = []
    for each in publications:
        base = None if each.removed else before.get(each.key)
        patch = None if base is None else patches.between(base, each.data)
        told.append(whole(each) if patch is None else patched(each, patch))
        if each.removed:
            before.pop(each.key, None)
        else:
            before[each.key] = each.data
    return told
