"""A node that is cut off from the others."""

import asyncio
import logging

import pytest

from gateway.core.isolation import Isolation
from gateway.core.wheel import Wheel

NODES = ["a", "b", "c", "d"]


class Cluster:
    """Several nodes with one clock, of which each has a look of its own."""

    def __init__(self, uid: str, company: list[str]) -> None:
        self.uid = uid
        self.group = uid[0]
        self.present = company
        self.silent = 0.0

    def company(self) -> list[str]:
        return self.present

    def silence(self) -> float:
        return self.silent


class Rig:
    def __init__(self, *uids: str, company: list[str] | None = None, after: float = 15.0) -> None:
        self.now = 1000.0
        self.wheel = Wheel(lambda: self.now)
        self.connected = True
        self.moved: list[str] = []
        self.clusters = {uid: Cluster(uid, NODES if company is None else company) for uid in uids}
        self.nodes = {uid: self._node(each, after) for uid, each in self.clusters.items()}

    def _node(self, cluster: Cluster, after: float) -> Isolation:
        isolation = Isolation(cluster, lambda: self.connected, after, self.wheel)

        async def move(within: float) -> None:
            self.moved.append(cluster.uid)
            await asyncio.sleep(within)
            raise AssertionError("nobody waits so long")

        isolation.move = move
        isolation.start()
        return isolation

    async def pass_time(self, seconds: float, *, silent: bool = True) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            for each in self.clusters.values():
                each.silent = each.silent + 0.1 if silent else 0.0
            self.wheel.turn()
        await asyncio.sleep(0)

    @property
    def out(self) -> list[str]:
        return [uid for uid, each in self.nodes.items() if each.out]


async def test_a_node_that_hears_nobody_sends_its_clients_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("a")
    await rig.pass_time(100)
    rig.connected = False
    await rig.pass_time(14)
    assert (rig.out, rig.moved) == ([], []), "it may be back in a moment"
    await rig.pass_time(3)
    assert (rig.out, rig.moved) == (["a"], ["a"])
    condition = rig.nodes["a"].condition()
    assert condition is not None
    assert (condition.reason, condition.status) == ("isolated", "isolated")
    assert "3 others" in condition.detail
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_it_is_ready_as_soon_as_the_broker_is_back() -> None:
    rig = Rig("a")
    rig.connected = False
    await rig.pass_time(20)
    moving = rig.nodes["a"]._moving
    assert moving is not None
    rig.connected = True
    await rig.pass_time(1)
    assert rig.out == []
    assert rig.nodes["a"].condition() is None
    await asyncio.gather(moving, return_exceptions=True)
    assert moving.cancelled(), "the clients that are still here stay"
    rig.connected = False
    await rig.pass_time(10)
    assert rig.out == [], "the next loss is another one"
    await rig.pass_time(10)
    assert rig.moved == ["a", "a"]
    rig.nodes["a"].stop()


async def test_a_node_that_knew_nobody_stays_where_it_is() -> None:
    rig = Rig("a", company=["a"])
    rig.connected = False
    await rig.pass_time(300)
    assert (rig.out, rig.moved) == ([], [])


async def test_a_node_that_hears_another_is_not_cut_off() -> None:
    """As where one of several shards is away."""
    rig = Rig("a")
    rig.connected = False
    await rig.pass_time(60, silent=False)
    assert (rig.out, rig.moved) == ([], [])


async def test_whoever_was_there_counts_though_forgotten_since() -> None:
    rig = Rig("a")
    rig.connected = False
    await rig.pass_time(2)
    rig.clusters["a"].present = ["a"]
    await rig.pass_time(18)
    assert rig.out == ["a"]


async def test_the_settings_may_say_never() -> None:
    rig = Rig("a", after=0)
    rig.connected = False
    await rig.pass_time(300)
    assert (rig.out, rig.moved) == ([], [])
    rig.nodes["a"].stop()


async def test_where_all_have_lost_the_broker_never_more_than_every_other_is_out() -> None:
    rig = Rig(*NODES)
    rig.connected = False
    seen = set()
    for _ in range(300):
        await rig.pass_time(1)
        assert len(rig.out) <= 2
        seen.add(tuple(rig.out))
    assert seen == {(), ("a", "c"), ("b", "d")}, "and each has its turn, for it may be the only one"
    assert sorted(rig.moved) == NODES, "each sends its clients away once"


async def test_those_that_share_a_port_are_out_together() -> None:
    """Else it would be ready now and then, as the kernel chooses."""
    rig = Rig("a1", "a2", "b1", "b2", company=["a", "b"])
    rig.connected = False
    seen = set()
    for _ in range(300):
        await rig.pass_time(1)
        seen.add(tuple(rig.out))
    assert seen == {(), ("a1", "a2"), ("b1", "b2")}
    assert sorted(rig.moved) == ["a1", "a2", "b1", "b2"]


async def test_nobody_is_better_off_by_the_same_port() -> None:
    rig = Rig("a1", "a2", company=["a"])
    rig.connected = False
    await rig.pass_time(300)
    assert (rig.out, rig.moved) == ([], [])


async def test_turns_leave_time_between_them_for_who_notices_late(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(*NODES)
    rig.connected = False
    await rig.pass_time(17)
    assert rig.out == ["a", "c"]
    await rig.pass_time(46)
    assert rig.out == []
    assert ["503 (isolated)" in record.getMessage() for record in caplog.records] == [True, True, False, False]
    await rig.pass_time(15)
    assert rig.out == ["b", "d"]


async def test_a_node_without_clients_of_its_own_only_says_so() -> None:
    rig = Rig("a")
    rig.nodes["a"].move = None
    rig.connected = False
    await rig.pass_time(20)
    assert (rig.out, rig.moved) == (["a"], [])
