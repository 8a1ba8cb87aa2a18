"""Connections of an app: those of this node, and what others have told."""

import asyncio

from gateway.core.cluster import Told
from gateway.session.pusher.quota import QUESTION, Quota
from tests.session.pusher.rig import PusherRig
from tests.session.rig import Rig


class Others:
    """What the other nodes answer."""

    def __init__(self, rig: Rig) -> None:
        self.count = 0
        self.asked: list[tuple[str, str]] = []
        self._uid = rig.node.uid
        rig.node.cluster.ask = self  # type: ignore[assignment]

    async def __call__(self, kind: str, argument: str, **_: object) -> Told:
        self.asked.append((kind, argument))
        return Told({"another": self.count, self._uid: 1000}, [])


async def test_connections_count_until_they_go() -> None:
    rig = await PusherRig.start()
    quota = Quota(rig.node)
    leave = [quota.enter("a", limited=False) for _ in range(2)]
    assert (quota.count("a"), quota.count("b")) == (2, 0)
    assert await rig.node.answers[QUESTION]("a") == b"2"
    for each in leave:
        each()
    assert await rig.node.answers[QUESTION]("a") == b"0"
    assert quota.count("a") == 0


async def test_others_are_asked_while_connections_come_now_and_then() -> None:
    rig = await PusherRig.start()
    others, quota = Others(rig), Quota(rig.node)
    others.count = 5
    leave = [quota.enter("a", limited=True) for _ in range(3)]
    await rig.settle()
    assert (quota.count("a"), others.asked) == (8, [(QUESTION, "a")])
    others.count = 6
    rig.pass_time(2.6)
    leave.append(quota.enter("a", limited=True))
    await rig.settle()
    assert (quota.count("a"), len(others.asked)) == (10, 2)
    for each in leave:
        each()
    assert quota.count("a") == 0


async def test_the_first_asks_before_it_is_let_in_and_whoever_comes_then_shares_the_answer() -> None:
    rig = await PusherRig.start()
    others, quota = Others(rig), Quota(rig.node)
    others.count = 5
    assert quota.is_unknown("a")
    await asyncio.gather(quota.learn("a"), quota.learn("a"))
    assert (quota.count("a"), quota.is_unknown("a"), others.asked) == (5, False, [(QUESTION, "a")])
    rig.pass_time(2.6)
    assert quota.is_unknown("a")  # nobody was let in
    leave = quota.enter("a", limited=True)
    assert not quota.is_unknown("a")
    leave()
    assert quota.is_unknown("a")


async def test_without_a_limit_nobody_is_asked() -> None:
    rig = await PusherRig.start()
    others, quota = Others(rig), Quota(rig.node)
    quota.enter("a", limited=False)
    await rig.settle()
    assert others.asked == []


async def test_an_answer_that_comes_late_is_forgotten() -> None:
    rig = await PusherRig.start()
    others, quota = Others(rig), Quota(rig.node)
    others.count = 5
    quota.enter("a", limited=True)()
    await rig.settle()
    assert quota.count("a") == 0
