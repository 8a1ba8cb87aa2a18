"""Maps on a node: writes while the broker is away, checks of positions, the sweep of overdue keys."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.base import Claim
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.maps import SWEEP_INTERVAL
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable, Error, ErrorCode, Stored
from gateway.maps.base import MapOptions, MapReceipt, MapWrite
from gateway.messages import Payload, Position, Publication
from gateway.presence.memory import MemoryPresence
from tests.session.rig import HISTORY, OPEN, Rig
from tests.waiting import until

WRITERS = {f"allow_{what}_for_{who}": True for what in ("publish", "remove") for who in ("client", "anonymous")}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "board", "subscription_type": "map", **OPEN, "map": {"mode": "persistent", **WRITERS}},
    {"name": "brief", "subscription_type": "map", **OPEN, "map": {"mode": "ephemeral", "key_ttl": "1s"}},
    {"name": "room", **OPEN, **HISTORY},
]
BRIEF = MapOptions(mode="ephemeral", key_ttl=0.1)


async def opened() -> Rig:
    return await Rig.open(channel={"namespaces": NAMESPACES}, insecure=True)


class Faults:
    """A store whose next writes fail so."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.next: list[Stored] = []
        self.tried: list[str] = []
        publish, remove = rig.maps.publish, rig.maps.remove

        def tell(key: str) -> None:
            self.tried.append(key)
            if self.next:
                raise BrokerUnavailable(stored=self.next.pop(0))

        async def set_(channel: str, publication: Publication, *more: Any) -> MapReceipt:
            tell(publication.key)
            return await publish(channel, publication, *more)

        async def drop(channel: str, key: str, *more: Any) -> MapReceipt:
            tell("-" + key)
            return await remove(channel, key, *more)

        monkeypatch.setattr(rig.maps, "publish", set_)
        monkeypatch.setattr(rig.maps, "remove", drop)


async def held(rig: Rig, channel: str = "board:1") -> dict[str, bytes]:
    options = rig.node.maps.options(rig.node.channels.resolve(channel))
    return {each.key: each.data for each in (await rig.maps.read_state(channel, options, 100)).entries}


# — writes —


async def test_writes_wait_for_the_broker_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await opened()
    faults = Faults(rig, monkeypatch)
    faults.next = ["no", "no"]
    client = await rig.connected()
    bodies: list[dict[str, Any]] = [{"data": 1}, {"removed": True}, {"data": 2}]
    for number, body in enumerate(bodies, 10):
        await client.say({"id": number, "publish": {"channel": "board:1", "type": 1, "key": "a", **body}})

    assert rig.node.publishing.waiting == (3, 5), "bytes of keys and data"

    def answered() -> bool:
        client.look()
        return len(client.inbox) == 3

    await until(answered)
    assert [each["id"] for each in client.inbox] == [10, 11, 12]
    assert all("error" not in each for each in client.inbox)
    assert await held(rig) == {"a": b"2"}
    assert faults.tried[-3:] == ["a", "-a", "a"]
    assert rig.node.publishing.waiting == (0, 0)


@pytest.mark.parametrize(("once", "times"), [("", 1), ("k", 2)])
async def test_what_may_have_been_written_is_written_again_if_that_is_done_once(
    monkeypatch: pytest.MonkeyPatch, once: str, times: int
) -> None:
    rig = await opened()
    faults = Faults(rig, monkeypatch)
    channel = rig.node.channels.resolve("board:1")
    acts: list[Callable[[], Awaitable[MapReceipt]]] = [
        lambda: rig.node.maps.publish(channel, Publication(Payload(b"1"), key="a"), MapWrite(idempotency_key=once)),
        lambda: rig.node.maps.remove(channel, "a", MapWrite(idempotency_key=once and "other")),
    ]
    for act in acts:
        faults.next, faults.tried = ["maybe"], []
        if once:
            assert (await act()).suppressed == ""
        else:
            with pytest.raises(BrokerUnavailable, match="may have been published"):
                await act()
        assert len(faults.tried) == times


# — positions —


async def test_each_position_is_checked_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await opened()
    maps, channels = rig.node.maps, rig.node.channels
    board, room = channels.resolve("board:1"), channels.resolve("room:1")
    for _ in range(2):
        written = await maps.publish(board, Publication(Payload(b"1"), key="a"))
        published = await rig.node.publish(room, Publication(Payload(b"1")))
    claims = [
        Claim(name, Position(offset, epoch), rig.node.stream(channel))
        for name, channel, epoch in (("room:1", room, published.epoch), ("board:1", board, written.epoch))
        for offset in (2, 1)
    ]
    assert await maps.verify(claims) == [True, False, True, False]
    assert await maps.verify(claims[:2]) == [True, False]

    async def away(_claims: Any) -> list[bool]:
        raise BrokerUnavailable

    async def broken(_claims: Any) -> list[bool]:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(rig.maps, "verify", away)
        assert await maps.verify(claims) == [True, False, True, True], "nobody can tell of maps"
        patch.setattr(rig.maps, "verify", broken)
        with pytest.raises(ZeroDivisionError):
            await maps.verify(claims)
    monkeypatch.setattr(rig.broker, "verify", away)
    assert await maps.verify(claims) == [True, True, True, False], "nor of streams"


async def test_an_engine_without_maps_says_so() -> None:
    node = Node(Settings(), MemoryBroker(), MemoryPresence(), blocks=MemoryBlocks(time.time))
    with pytest.raises(Error) as failure:
        node.maps.store  # noqa: B018  that it raises
    assert failure.value.code == ErrorCode.NOT_AVAILABLE
    assert await node.maps.verify([Claim("a", Position(1, "other"), MapOptions())]) == [False], (
        "streams alone are asked"
    )


# — the sweep —


async def pass_time(rig: Rig, seconds: float = SWEEP_INTERVAL) -> None:
    for _ in range(round(10 * seconds) + 1):
        rig.clock.tick()
        rig.wheel.turn()
    await rig.node._work.finish(within=5)


@pytest.mark.parametrize(
    ("failure", "logged"), [(BrokerUnavailable(), []), (ZeroDivisionError(), ["a sweep of maps failed"])]
)
async def test_a_sweep_that_fails_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception, logged: list[str]
) -> None:
    rig = await opened()
    rig.node.maps.start()
    await rig.maps.publish("brief:1", Publication(Payload(b"1"), key="a"), BRIEF)

    async def fail(_options_of: Any) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(rig.maps, "sweep", fail)
        await pass_time(rig)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == logged
    assert await held(rig, "brief:1") == {"a": b"1"}
    await pass_time(rig)
    assert await held(rig, "brief:1") == {}


async def test_maps_of_other_nodes_settings_are_left_to_them() -> None:
    rig = await opened()
    rig.node.maps.start()
    for channel in ("elsewhere:1", "room:1", "brief:1"):
        await rig.maps.publish(channel, Publication(Payload(b"1"), key="a"), BRIEF)
    await pass_time(rig)
    assert [await rig.maps.count(name) for name in ("elsewhere:1", "room:1", "brief:1")] == [1, 1, 0]


async def test_where_no_channel_is_a_map_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.open(channel={"namespaces": [{"name": "room"}]})
    swept = asyncio.Event()

    async def sweep(_options_of: Any) -> None:
        swept.set()

    monkeypatch.setattr(rig.maps, "sweep", sweep)
    rig.node.maps.start()
    await pass_time(rig)
    assert not swept.is_set()
    channel = {"namespaces": NAMESPACES}
    rig.node.reload(rig.node.settings.model_validate({**rig.node.settings.model_dump(), "channel": channel}))
    await pass_time(rig)
    assert swept.is_set()
