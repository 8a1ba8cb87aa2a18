"""Rosters of several nodes: they agree with the truth in the end, whatever the order in which things reach them.

What one node tells arrives in order; what different nodes tell, in any. Connections come and go, some end before they
have come, some cannot be announced; nodes begin to want to know and cease to, miss things, and die.
"""

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.hub import Hub
from gateway.core.roster import Roster
from gateway.messages import Announcement, ClientInfo, Exclusion, MemberAdded, MemberRemoved
from tests.core.test_wheel import Clock

NODES = range(3)
USERS = ("17", "23", "")
EACH = 4
"""Connections that a node can have."""

Action = Callable[[], object]


class Client:
    """A connection, which may come and go several times: it is put to presence, starts, ends, and is cleared away."""

    def __init__(self, node: int, number: int) -> None:
        self.info = ClientInfo(USERS[number % len(USERS)], f"{node}.{number}")
        self.by_user = number % 2 == 0
        """Whether it knows members by user: then it holds the roster, and comes and goes there by itself."""
        self.state = "away"


class Node:
    """A node; in place of its hub, it is told what its subscribers would be."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.alive = True
        self.clients = [Client(number, each) for each in range(EACH)]
        self.roster: Roster | None = None
        self.view: set[str] = set()
        """Whom a subscriber takes to be there, who has come when the roster was read."""
        self.reading: dict[str, ClientInfo] | None = None
        self.begun = self.live = self.stale = False

    def announce(self, _channel: str, push: Announcement, exclude: Exclusion | None = None) -> None:
        if isinstance(push, MemberAdded):
            assert push.user not in self.view, "added twice"
            self.view.add(push.user)
        else:
            assert isinstance(push, MemberRemoved)
            assert push.user in self.view, "removed, and never there"
            self.view.remove(push.user)
        assert exclude is not None
        (client,) = exclude.clients
        for each in self.clients:
            if each.by_user and each.info.client == client and isinstance(push, MemberAdded):
                assert each.state in ("coming", "live"), "added after its end"

    def receive(self, kind: str, info: ClientInfo) -> None:
        if self.roster is None:
            return
        if kind == "doubt":
            self.stale |= self.roster.may_have(info.client)
        elif kind == "unannounced":
            self.stale = True
        else:
            (self.roster.joined if kind == "join" else self.roster.parted)(info)

    # — what it may do —

    def actions(self) -> list[Action]:
        if not self.alive:
            return []
        found: list[Action] = [partial(self.step, client) for client in self.clients]
        found += [partial(self.fail, client) for client in self.clients if client.state == "coming"]
        found += [partial(self.step, client, away=True) for client in self.clients]
        if self.roster is None:
            return [*found, self.hold]
        if not self.begun:
            if self.stale or not self.live:
                found.append(self.begin)
            if all(client.state == "away" for client in self.clients if client.by_user):
                found.append(self.release)
        elif self.reading is None:
            found.append(self.look)
        else:
            found.append(self.end)
        return [*found, self.gap]

    def fail(self, client: Client) -> None:
        """It ends before it has come: nobody has been told of it."""
        if client.by_user:
            assert self.roster is not None
            self.roster.left(client.info)
        del self.world.there[client.info.client]
        client.state = "away"
        self.world.tell(self.number, "doubt", client.info)

    def step(self, client: Client, *, away: bool = False) -> None:
        """Let it go on; what it does cannot be announced while the broker is ``away``."""
        info, by_user, world = client.info, client.by_user, self.world
        match client.state:
            case "away" if not by_user or self.live:
                world.there[info.client] = info
                client.state = "coming"
            case "coming":
                if by_user:
                    assert self.roster is not None
                    self.roster.came(info)
                world.tell(self.number, "unannounced" if away else "join", info)
                client.state = "live"
            case "live":
                if by_user:
                    assert self.roster is not None
                    self.roster.left(info)
                client.state = "going"
            case "going":
                del world.there[info.client]
                client.state = "gone"
            case "gone":
                world.tell(self.number, "unannounced" if away else "leave", info)
                client.state = "away"

    def hold(self) -> None:
        self.roster = Roster("room", cast(Hub, self), Clock())

    def release(self) -> None:
        self.roster, self.live, self.stale = None, False, False

    def begin(self) -> None:
        assert self.roster is not None
        self.roster.begin_read()
        self.begun, self.stale = True, False

    def look(self) -> None:
        self.reading = self.world.there.copy()

    def end(self) -> None:
        assert self.roster is not None
        self.roster.end_read(self.reading)
        if not self.live:
            self.view = {*self.roster.members()}
        self.reading, self.begun, self.live = None, False, True

    def gap(self) -> None:
        """What was on its way is lost."""
        for source in NODES:
            self.world.ways[source, self.number].clear()
        self.stale = True

    def check(self) -> None:
        if self.roster is not None and self.live:
            users = {*self.roster.members()}
            assert self.view == users
            assert json.loads(json.loads(self.roster.snapshot()))["presence"]["ids"] == [*self.roster.members()]


class World:
    def __init__(self) -> None:
        self.there: dict[str, ClientInfo] = {}
        """The truth, as presence has it."""
        self.ways: dict[tuple[int, int], deque[tuple[str, ClientInfo]]] = {
            (source, target): deque() for source in NODES for target in NODES
        }
        self.nodes = [Node(self, number) for number in NODES]

    def tell(self, source: int, kind: str, info: ClientInfo) -> None:
        for node in self.nodes:
            if node.roster is not None:
                self.ways[source, node.number].append((kind, info))

    def deliver(self, source: int, target: int) -> None:
        self.nodes[target].receive(*self.ways[source, target].popleft())

    def drain(self) -> None:
        for (source, target), way in self.ways.items():
            while way:
                self.deliver(source, target)

    def kill(self, number: int) -> None:
        """A node dies. Long after what it has told has arrived, another sweeps its members."""
        self.drain()
        node = self.nodes[number]
        node.alive, node.roster, node.live = False, None, False
        for client in node.clients:
            if self.there.pop(client.info.client, None) is not None or client.state == "gone":
                self.tell((number + 1) % len(NODES), "leave", client.info)

    def actions(self) -> list[Action]:
        found = [action for node in self.nodes for action in node.actions()]
        found += [partial(self.deliver, *way) for way, waiting in self.ways.items() if waiting]
        if all(node.alive for node in self.nodes):
            found += [partial(self.kill, number) for number in NODES]
        return found

    def settle(self) -> None:
        """All that has begun ends, all arrives, and what was missed is read."""
        for node in self.nodes:
            for client in node.clients if node.alive else ():
                while client.state not in ("away", "live"):
                    node.step(client)
        self.drain()
        for node in self.nodes:
            if node.roster is None:
                continue
            while node.begun or node.stale or not node.live:
                (node.begin if not node.begun else node.look if node.reading is None else node.end)()
                node.check()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**12), min_size=150, max_size=250))
def test_all_rosters_are_the_truth_in_the_end(choices: list[int]) -> None:
    world = World()
    for choice in choices:
        actions = world.actions()
        actions[choice % len(actions)]()
        for node in world.nodes:
            node.check()
    world.settle()
    there = {info.user or info.client for info in world.there.values()}
    for node in world.nodes:
        if node.roster is not None:
            assert {*node.roster.members()} == node.view == there
