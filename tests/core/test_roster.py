"""A roster: who is there by user, what others are told of it, and what a client is told who comes."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.core.hub import Hub
from gateway.core.roster import ECHO, Roster
from gateway.kinds import Names
from gateway.messages import ClientInfo, Join, Leave, Payload, SubscriptionCount, opaque
from gateway.metrics import Metrics
from gateway.protocols.base import Wire, WireProtocol
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.plain import PlainText
from gateway.protocols.pusher import PusherProtocol
from tests.core.test_hub import Client, Reader, text_wire
from tests.core.test_hub import tick as hub_tick
from tests.core.test_wheel import Clock

ROOM = "shop:presence-room"


class _Lines(PusherProtocol):
    """Several messages of a tick as lines: transports have a frame for each."""

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)


WIRE = Wire(_Lines(Names("shop")), bytes.decode)


def member(user: str, client: str, info: Any = None, chan_info: Any = None) -> ClientInfo:
    return ClientInfo(user, client, _payload(info), _payload(chan_info))


def _payload(value: Any) -> Payload | None:
    return None if value is None else Payload(json.dumps(value).encode())


async def told(client: Client) -> list[tuple[str, Any]]:
    """What a client has been told of members since the last look."""
    await hub_tick()
    frames, client.frames[:] = "\n".join(client.frames), []
    events = [json.loads(line) for line in frames.splitlines()]
    return [(each["event"].removeprefix("pusher_internal:"), json.loads(each["data"])) for each in events]


def added(user: str, info: Any = None) -> tuple[str, Any]:
    return "member_added", {"user_id": user, "user_info": info}


def removed(user: str) -> tuple[str, Any]:
    return "member_removed", {"user_id": user}


def snapshot(roster: Roster) -> Any:
    return json.loads(json.loads(roster.snapshot()))["presence"]


def enter(hub: Hub, client: str, user: str = "", wire: Wire = WIRE) -> Client:
    """A client that is told who comes and goes."""
    connection = Client(wire, client, user)
    hub.open(connection)
    subscriber = Reader(connection, ROOM, joins=True)
    hub.join(subscriber)
    hub.enter(subscriber, None)
    return connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hub() -> Hub:
    return Hub(Metrics())


@pytest.fixture
def roster(hub: Hub, clock: Clock) -> Roster:
    """One that has been read, and nobody was there."""
    roster = Roster(ROOM, hub, clock)
    roster.begin_read()
    roster.end_read({})
    return roster


async def test_the_first_connection_of_a_user_is_told_and_the_last(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("17", "a", {"name": "Noor"}))
    assert await told(watcher) == [added("17", {"name": "Noor"})]
    roster.joined(member("17", "b"))
    roster.parted(member("17", "a"))
    assert await told(watcher) == []
    assert roster.has("17")
    roster.parted(member("17", "b"))
    assert await told(watcher) == [removed("17")]
    assert not roster.has("17")
    assert roster.count == 0


async def test_joins_and_leaves_that_change_nothing(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.parted(member("17", "a"))
    roster.joined(member("17", "a"))
    roster.joined(member("17", "a"))
    roster.parted(member("17", "b"))
    assert await told(watcher) == [added("17")]
    roster.parted(member("17", "a"))
    roster.parted(member("17", "a"))
    assert await told(watcher) == [removed("17")]


async def test_who_comes_here_is_told_to_the_others_at_once_and_not_to_himself(hub: Hub, roster: Roster) -> None:
    other, itself = enter(hub, "1.1"), enter(hub, "2.2")
    roster.came(member("17", "2.2"))
    assert (await told(other), await told(itself)) == ([added("17")], [])
    roster.joined(member("17", "2.2"))  # from the broker
    assert (await told(other), await told(itself)) == ([], [])
    roster.left(member("17", "2.2"))
    assert (await told(other), await told(itself)) == ([removed("17")], [])
    roster.left(member("17", "2.2"))
    assert await told(other) == []


async def test_what_the_broker_says_late_of_who_was_here_is_old(hub: Hub, roster: Roster) -> None:
    watcher, noor = enter(hub, "1.1"), member("17", "2.2")
    roster.came(noor)
    roster.left(noor)
    assert await told(watcher) == [added("17"), removed("17")]
    roster.joined(noor)
    roster.parted(noor)
    assert await told(watcher) == []
    roster.came(noor)
    roster.left(noor)
    roster.came(noor)
    assert len(await told(watcher)) == 3
    for _ in range(2):
        roster.joined(noor)
        roster.parted(noor)
    roster.joined(noor)
    assert await told(watcher) == []
    assert roster.has("17")


async def test_what_others_take_for_dead_is_here_all_the_same(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.came(member("17", "2.2"))
    roster.parted(member("17", "2.2"))  # swept
    roster.begin_read()
    roster.end_read({})
    assert await told(watcher) == [added("17")]
    assert roster.has("17")


async def test_who_was_here_is_not_kept_for_ever(roster: Roster, clock: Clock) -> None:
    for number in range(5):
        noor = member("17", str(number))
        roster.came(noor)
        roster.left(noor)
        clock.now += ECHO + 1
    assert len(roster._gone) == 1


async def test_one_without_a_name_is_a_user_of_its_own(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("", "a"))
    roster.joined(member("", "b"))
    assert await told(watcher) == [added("a"), added("b")]


async def test_one_who_is_somebody_else_now(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("17", "a"))
    roster.joined(member("23", "a"))
    assert await told(watcher) == [added("17"), removed("17"), added("23")]


async def test_a_user_keeps_the_info_that_others_were_told(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("17", "a", {"n": 1}))
    roster.joined(member("17", "a", {"n": 2}))
    roster.joined(member("17", "b", {"n": 3}))
    roster.parted(member("17", "a"))
    assert await told(watcher) == [added("17", {"n": 1})]
    assert roster.members() == {"17": b'{"n": 1}'}


async def test_what_is_shown_of_a_member(roster: Roster) -> None:
    roster.joined(member("subscription", "a", 1, 2))
    roster.joined(ClientInfo("binary", "b", opaque(b"\xff")))
    assert roster.members() == {"subscription": b"2", "binary": None}


async def test_the_snapshot(roster: Roster) -> None:
    assert snapshot(roster) == {"ids": [], "hash": {}, "count": 0}
    roster.joined(member("17", "a", {"name": 'N"o\\or\n☃'}))
    roster.came(member('2"3', "b"))
    roster.came(member('2"3', "c"))
    assert snapshot(roster) == {
        "ids": ["17", '2"3'],
        "hash": {"17": {"name": 'N"o\\or\n☃'}, '2"3': None},
        "count": 2,
    }
    assert roster.snapshot() is roster.snapshot()
    roster.parted(member("17", "a"))
    assert snapshot(roster) == {"ids": ['2"3'], "hash": {'2"3': None}, "count": 1}


async def test_a_read_tells_what_is_different(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    for user in "abc":
        roster.joined(member(user, user))
    await told(watcher)
    roster.begin_read()
    roster.end_read({"b": member("b", "b"), "c2": member("c", "c2"), "d": member("d", "d")})
    assert await told(watcher) == [added("d"), removed("a")]
    roster.parted(member("c", "c2"))
    assert await told(watcher) == [removed("c")]


async def test_what_is_told_during_a_read_is_newer(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("goes", "goes"))
    await told(watcher)
    roster.begin_read()
    roster.parted(member("goes", "goes"))
    roster.joined(member("comes", "comes"))
    roster.came(member("here", "here"))
    roster.joined(member("both", "both"))
    roster.parted(member("both", "both"))
    assert len(await told(watcher)) == 5
    roster.end_read({"goes": member("goes", "goes"), "both": member("both", "both")})
    assert await told(watcher) == []
    assert [*roster.members()] == ["comes", "here"]


async def test_a_read_that_misses_some_removes_nobody(hub: Hub, roster: Roster) -> None:
    watcher = enter(hub, "1.1")
    roster.joined(member("a", "a"))
    roster.begin_read()
    roster.end_read({"b": member("b", "b")}, whole=False)
    assert await told(watcher) == [added("a"), added("b")]


async def test_a_read_that_has_failed_changes_nothing(roster: Roster) -> None:
    roster.joined(member("a", "a"))
    roster.begin_read()
    roster.end_read(None)
    assert roster.has("a")


async def test_the_first_read_is_told_to_nobody(hub: Hub, clock: Clock) -> None:
    watcher, roster = enter(hub, "1.1"), Roster(ROOM, hub, clock)
    roster.begin_read()
    roster.joined(member("a", "a"))
    roster.joined(member("b", "b"))
    roster.parted(member("b", "b"))
    roster.end_read({"b": member("b", "b"), "c": member("c", "c")})
    assert await told(watcher) == []
    assert [*roster.members()] == ["a", "c"]


async def test_listeners_are_told_of_users(roster: Roster, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, bool]] = []

    def once(user: str, present: bool) -> None:
        roster.listeners.remove(once)
        raise RuntimeError(user)

    roster.listeners += [once, lambda user, present: heard.append((user, present))]
    for client in "ab":
        roster.joined(member("17", client))
    for client in "ab":
        roster.parted(member("17", client))
    assert heard == [("17", True), ("17", False)]
    assert caplog.messages == ["a listener of a roster failed"]


@pytest.mark.parametrize("protocol", [CentrifugeJson(), CentrifugeJson().compact, CentrifugeProtobuf(), PlainText()])
async def test_who_knows_members_by_connection_is_told_no_users(
    hub: Hub, roster: Roster, protocol: WireProtocol
) -> None:
    others = [enter(hub, f"{number}.1", wire=Wire(protocol, bytes)) for number in range(2)]
    watcher = enter(hub, "2.2")
    roster.joined(member("17", "a"))
    hub.announce(ROOM, SubscriptionCount(3))
    roster.parted(member("17", "a"))
    assert await told(watcher) == [added("17"), ("subscription_count", {"subscription_count": 3}), removed("17")]
    assert [each.frames for each in others] == [[], []]
    assert [each.disconnected for each in others] == [[], []]


async def test_who_knows_members_by_user_is_told_no_connections(hub: Hub) -> None:
    watcher, other = enter(hub, "1.1"), enter(hub, "2.2", wire=text_wire())
    hub.announce(ROOM, Join(member("17", "a")))
    hub.announce(ROOM, Leave(member("17", "a")))
    assert await told(watcher) == []
    assert other.frames == ["join leave"]
