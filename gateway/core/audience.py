"""Who the fan-out writes to: connections, their subscriptions, and the audiences of a channel."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from gateway.core.selection import Selection
from gateway.core.tags import Tags, TagsFilter
from gateway.errors import Disconnect
from gateway.messages import Position, Publication
from gateway.protocols.base import Wire

NOBODY: "frozenset[Subscriber]" = frozenset()

Write = Callable[[Any], None]
"""Writes one frame, as the wire's ``frame`` made it. Never waits, never raises, also after the end."""


class Writer(Protocol):
    """What the hub needs of a transport."""

    def send(self, frame: Any) -> None:
        """A `Write`."""

    @property
    def write(self) -> Write:
        """What the fan-out calls: the shortest way there is just now. `Hub.reroute` is told when it is another."""


class Connection(Protocol):
    """What the hub needs of a session."""

    client: str
    user: str
    wire: Wire
    outbox: list[bytes] | None

    @property
    def transport(self) -> Writer: ...

    @property
    def subscriptions(self) -> "Mapping[str, Subscriber]":
        """By channel."""

    def disconnect(self, reason: Disconnect) -> None: ...

    def control(self, command: Any) -> None:
        """A command of the cluster for this connection."""


class Subscriber(Protocol):
    """What the hub needs of one subscription of a session."""

    @property
    def channel(self) -> str: ...

    @property
    def connection(self) -> Connection: ...

    @property
    def joins(self) -> bool:
        """Wants join and leave pushes."""

    @property
    def positioned(self) -> bool:
        """Must not miss a publication without knowing it."""

    @property
    def batch_delay(self) -> float:
        """Seconds that the channel's publications may wait to leave together."""

    @property
    def tags(self) -> TagsFilter | None:
        """Which publications it wants; None is all. It has this or ``delta``, never both."""

    @property
    def delta(self) -> bool:
        """Has negotiated patches."""

    @property
    def number(self) -> int:
        """What its client knows the channel by in pushes; 0 is by name. See `Hub.number`."""

    @property
    def held(self) -> list[Publication] | None:
        """Publications that arrive while the subscription is being made."""

    def lose_position(self, before: Position | None) -> None:
        """A publication was missed, by who stood at ``before``. The hub has let go of the subscriber already."""


@runtime_checkable
class Attendant(Protocol):
    """A subscriber that can find out what it has missed of joins and leaves, too."""

    def let_go(self) -> None:
        """Nobody writes to it any more. It hears later that it has lost its position."""


class AudienceKey(Struct, frozen=True):
    """Those who receive byte-identical frames.

    ``behind`` is set until the stream has reached them; who is not ``positioned`` does not care how it does. Those with
    ``delta`` either can read a patch, or need a full publication first: see `gateway.core.variants`.
    """

    wire: Wire
    joins: bool
    positioned: bool
    behind: Position | None = None
    tags: TagsFilter | None = None
    delta: Literal["", "full", "patch"] = ""

    def __hash__(self) -> int:
        return hash((id(self.wire), self.joins, self.positioned, self.behind, self.tags, self.delta))


class Progress(NamedTuple):
    """How far audiences are, by their keys."""

    positioned: bool
    behind: Position | None


class Audience:
    """The subscribers of one channel that receive byte-identical frames."""

    __slots__ = ("address", "apart", "delay", "key", "members", "pending", "plain", "size")

    def __init__(self, key: AudienceKey, delay: float, address: str) -> None:
        self.key = key
        self.address = address
        """What the channel is called in its frames."""
        self.plain = key.wire.protocol.omits or key.wire.in_order
        self.delay = delay
        self.members: dict[Subscriber, Write] = {}
        self.pending: list[bytes] = []
        self.size = 0
        self.apart: dict[Subscriber, list[bytes]] | None = None
        """What those get who are excluded from some of what is pending, if there are any."""

    def wants(self, tags: Tags | None) -> bool:
        """Whether its filter lets a publication with these tags pass, if it has one."""
        return self.key.tags is None or self.key.tags.passes(tags)

    def take(self) -> tuple[list[bytes], int, "dict[Subscriber, list[bytes]] | None"]:
        """What is pending, its size, and who gets something else; nothing is, afterwards."""
        taken = self.pending, self.size, self.apart
        self.pending, self.size, self.apart = [], 0, None
        return taken


class LocalChannel:
    """One channel's subscribers on this node, and the position that the node has seen."""

    __slots__ = (
        "audiences",
        "checked_at",
        "deltas",
        "groups",
        "interval",
        "joining",
        "name",
        "number",
        "plain",
        "position",
        "seen_at",
        "values",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.audiences: dict[AudienceKey, Audience] = {}
        self.joining: set[Subscriber] | frozenset[Subscriber] = NOBODY
        """Those who are about to be subscribers: `join` and `part`. Mostly there are none, and no set."""
        self.number = 0
        """What it is called to clients that know it by number."""
        self.position: Position | None = None
        self.plain = False
        """Whether plain clients hear it, or have."""
        self.groups: dict[Progress, Selection[Audience]] | None = None
        """The audiences by how far they are, if some have a filter, or have had."""
        self.deltas = False
        """Whether somebody has negotiated delta."""
        self.values: Callable[[Publication], None] | None = None
        """Delivers in place of the hub: where a backend is polled, each hears of its own keys alone."""
        self.seen_at = 0.0
        """When its last publication came."""
        self.checked_at = 0.0
        """When its position was last compared with the stream's."""
        self.interval = 0.0
        """Seconds from then to the next time, if nothing comes meanwhile."""

    @property
    def empty(self) -> bool:
        return not self.audiences and not self.joining

    def join(self, subscriber: Subscriber) -> None:
        """Somebody is about to be a subscriber."""
        if isinstance(self.joining, set):
            self.joining.add(subscriber)
        else:
            self.joining = {subscriber}

    def part(self, subscriber: Subscriber) -> bool:
        """Somebody is so no longer; answers whether he was."""
        if not isinstance(self.joining, set) or subscriber not in self.joining:
            return False
        self.joining.remove(subscriber)
        if not self.joining:
            self.joining = NOBODY
        return True

    def put(self, audience: Audience) -> None:
        key = audience.key
        self.audiences[key] = audience
        if self.groups is not None:
            self.groups.setdefault(Progress(key.positioned, key.behind), Selection()).add(audience, key.tags)
        elif key.tags is not None:
            self.groups = {}
            for each in self.audiences.values():
                self.put(each)

    def drop(self, audience: Audience) -> None:
        key = audience.key
        del self.audiences[key]
        if self.groups is not None:
            progress = Progress(key.positioned, key.behind)
            self.groups[progress].remove(audience, key.tags)
            if not self.groups[progress]:
                del self.groups[progress]

    def wanting(self, tags: Tags | None) -> list[Audience]:
        """Who wants what is published with these tags, wherever it stands."""
        if self.groups is None:
            return [*self.audiences.values()]
        return [each for group in self.groups.values() for each in group.select(tags)]

    def _groups(
        self, tags: Tags | None
    ) -> Iterator[tuple["AudienceKey | Progress", Iterable[Audience], Iterable[Audience]]]:
        """How far audiences are, who these are, and who of them wants what is published with these tags."""
        if self.groups is None:
            for key, audience in self.audiences.items():
                one = (audience,)
                yield key, one, one
        else:
            for progress, group in self.groups.items():
                yield progress, group, group.select(tags)

    def follow(self, publication: Publication, now: float) -> bool:
        """Move on to what is next for everybody, and nobody has a filter: as nearly always. Else nothing is done."""
        before = self.position
        if self.groups is not None or before is None:
            return False
        if publication.offset != before.offset + 1 or publication.epoch != before.epoch:
            return False
        for key in self.audiences:
            if key.behind is not None:
                return False
        self.position, self.seen_at = Position(publication.offset, publication.epoch), now
        return True

    def advance(
        self, publication: Publication, now: float, late: bool
    ) -> tuple[list[Audience], list[Audience], list[Audience], list[AudienceKey]]:
        """Move on to ``publication``. Answers who reads it, and who has missed something: ``late`` says that all have.

        The readers are those with the others, and want it; those whom the stream has reached by it; and of these again
        those who go on by themselves, for it is one that the others have had.
        """
        before, after = self.position, Position(publication.offset, publication.epoch)
        stale = before is not None and before.epoch == after.epoch and after.offset <= before.offset
        readers: list[Audience] = []
        arrived: list[Audience] = []
        lost: list[AudienceKey] = []
        for progress, audiences, wanting in self._groups(publication.tags):
            behind = progress.behind
            if not progress.positioned:
                if behind is None:
                    readers += wanting
                elif behind.epoch != after.epoch or after.offset > behind.offset:
                    arrived += audiences
                continue
            if stale and behind is None:
                continue
            at = behind or before
            assert at is not None  # a positioned audience without `behind` stands at the channel's position
            if at.epoch != after.epoch or after.offset > at.offset + 1 or late:
                lost += [each.key for each in audiences]
            elif after.offset == at.offset + 1:
                if behind is None:
                    readers += wanting
                else:
                    arrived += audiences
        if not stale:
            self.position = after
            self.seen_at = now
        # a stream that goes over old ground does not bring those who follow it to the channel's position
        following = [each for each in arrived if each.key.positioned] if stale else []
        return readers, arrived, following, lost

    def filters(self) -> set[TagsFilter]:
        """The filters of its subscribers, and of those who are about to be."""
        there = {key.tags for key in self.audiences} | {each.tags for each in self.joining}
        return {each for each in there if each is not None}

    def positions(self) -> set[Position]:
        """Where its positioned subscribers stand."""
        return {key.behind or self.position or Position() for key in self.audiences if key.positioned}
