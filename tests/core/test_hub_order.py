"""Whatever comes in whatever order: no subscriber is behind without being told, and none gets anything twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from gateway.core.hub import Hub
from gateway.messages import Exclusion, Payload, Position, Publication
from gateway.metrics import Metrics
from gateway.protocols.base import Wire
from tests.core.test_hub import Client, Reader, Text

TOLD = "told"
CHANNEL = "room"


@dataclass(eq=False)
class Member(Reader):
    """A subscriber that computes by itself what it must get."""

    at: Position = field(default_factory=Position)
    due: list[str] = field(default_factory=list)
    waits: bool = False
    """Has no position to keep, but has had what comes up to where it begins."""
    lost: bool = False
    left: bool = False
    hub: Hub = field(default_factory=lambda: Hub(Metrics()))

    def lose_position(self, _before: Position | None) -> None:
        self.losses += 1
        self.hub.post(self.connection, TOLD.encode())

    def expect(self, publication: Publication) -> None:
        """Who is excluded has not missed it."""
        excluded = publication.exclude is not None and self.connection.client in publication.exclude.clients
        due = [] if excluded else [bytes(publication.data).decode()]
        if self.left or self.lost:
            return
        if not self.positioned:
            reached = publication.epoch == self.at.epoch and publication.offset <= self.at.offset
            if self.waits and reached:
                return
            self.waits = False
            self.due += due
        elif publication.epoch != self.at.epoch or publication.offset > self.at.offset + 1:
            self.lost = True
        elif publication.offset == self.at.offset + 1:
            self.at = Position(publication.offset, publication.epoch)
            self.due += due

    @property
    def got(self) -> list[str]:
        return " ".join(self.frames).split()

    def check(self) -> None:
        got = self.got
        if self.lost:
            assert self.losses == 1
            assert got[-1] == TOLD
            assert got[:-1] == self.due[: len(got) - 1]
        elif self.left:
            assert got == self.due[: len(got)]
        else:
            assert got == self.due
            assert self.losses == 0


class Room:
    """One channel of a hub, its stream at the broker, and its subscribers."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.hub = Hub(Metrics())
        self.hub._output._scheduled = True  # flushed by hand
        self.wires = wires
        self.epoch = 1
        self.top = 0
        self.members: list[Member] = []

    def publish(self, offset: int, *but: int) -> None:
        text = f"{self.epoch}.{offset}"
        exclude = Exclusion(tuple(f"c{each}" for each in but)) if but else None
        publication = Publication(Payload(text.encode()), offset=offset, epoch=str(self.epoch), exclude=exclude)
        for member in self.members:
            member.expect(publication)
        self.hub.publish(CHANNEL, publication)

    def enter(self, offset: int, wire: int, positioned: bool, replayed: bool) -> None:
        joins = replayed and positioned
        at = Position(offset, str(self.epoch))
        client = Client(self.wires[wire], f"c{len(self.members)}")
        self.hub.open(client)
        member = Member(client, CHANNEL, joins, positioned, at=at, hub=self.hub)
        known = self.hub.channels.get(CHANNEL)
        member.waits = replayed and not positioned and (known is None or known.position != at)
        self.hub.join(member)
        self.hub.enter(member, at if positioned or replayed else None)
        self.members.append(member)

    def leave(self, which: int) -> None:
        if self.members:
            member = self.members[which % len(self.members)]
            member.left = True
            self.hub.leave(member)

    def flush(self) -> None:
        self.hub.flush()
        self.hub._output._scheduled = True
        for member in self.members:
            member.check()


MOSTLY, RARELY = st.sampled_from([True, True, True, False]), st.sampled_from([False, False, False, True])
ENTER = st.tuples(st.just("enter"), st.sampled_from([-2, -1, -1, 0, 0, 1, 2]), RARELY, MOSTLY, RARELY)
"""Where it stands, on which wire, whether it has a position, and whether it wants joins, or else begins at one."""
STEPS = st.one_of(
    *[st.tuples(st.just("next"))] * 5,
    *[st.tuples(st.just("next but"), st.integers(0, 5), st.integers(0, 5))] * 3,
    *[st.tuples(st.just("again"), st.integers(0, 2))] * 3,
    *[ENTER] * 4,
    st.tuples(st.just("missing")),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("new stream")),
)


@settings(max_examples=2000)
@example([("enter", 1, False, True, False), ("next",), ("enter", -2, False, True, False), ("again", 0), ("next",)])
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_nobody_is_behind_without_knowing(steps: list[tuple[str | int, ...]]) -> None:
    room = Room([Wire(Text(), bytes.decode) for _ in range(2)])
    for step in steps:
        match step:
            case ("next but", int(one), int(other)):
                room.top += 1
                room.publish(room.top, one, other)
            case ("next",):
                room.top += 1
                room.publish(room.top)
            case ("again", int(back)):
                if room.top > back:
                    room.publish(room.top - back)
            case ("missing",):
                room.top += 1
            case ("enter", int(offset), other_wire, positioned, replayed):
                room.enter(max(0, room.top + offset), int(other_wire), bool(positioned), bool(replayed))
            case ("leave", int(which)):
                room.leave(which)
            case ("flush",):
                room.flush()
            case ("new stream",):
                room.epoch, room.top = room.epoch + 1, 0
            case other:
                raise AssertionError(other)
    room.flush()
    event(f"told: {any(member.lost for member in room.members)}")
    live = [member for member in room.members if not (member.left or member.lost)]
    assert room.hub.subscriptions == room.hub.subscribers(CHANNEL) == len(live)
    assert set(room.hub.channels) == ({CHANNEL} if live else set())
