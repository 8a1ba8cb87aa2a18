"""Reading a map from outside: all of it is as of one moment, though it is read in parts."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core import map_reading
from gateway.core.map_reading import read_changes, read_entries
from gateway.core.maps import Maps
from gateway.errors import Error, ErrorCode
from gateway.maps.base import MapOptions, MapPage
from gateway.messages import Payload, Position, Publication
from tests.session.rig import Rig

PERSISTENT = {"subscription_type": "map", "map": {"mode": "persistent"}}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "board", **PERSISTENT},
    {"name": "short", "subscription_type": "map", "map": {"mode": "persistent", "stream_size": 1}},
    {"name": "cursors", "subscription_type": "map", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
]

Act = Callable[[], Awaitable[Any]]


class Ground:
    """Maps whose keys are read two at a time, and what happens between two parts."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.maps: Maps = rig.node.maps
        self._channels = rig.node.channels
        self.sizes: list[int] = []
        self.between: list[Act] = []
        """What is done after each part that is read, one by one."""
        store, read_state = self.maps.store, self.maps.store.read_state

        async def read(channel: str, options: MapOptions, limit: int, cursor: str = "") -> MapPage:
            page = await read_state(channel, options, limit, cursor)
            self.sizes.append(len(page.entries))
            if self.between:
                await self.between.pop(0)()
            return page

        monkeypatch.setattr(store, "read_state", read)
        monkeypatch.setattr(map_reading, "AT_A_TIME", 2)

    def channel(self, name: str) -> Channel:
        return self._channels.resolve(name)

    async def put(self, name: str, *keys: str, data: bytes = b"1") -> None:
        for key in keys:
            await self.maps.publish(self.channel(name), Publication(Payload(data), key=key))

    async def remove(self, name: str, *keys: str) -> None:
        for key in keys:
            await self.maps.remove(self.channel(name), key)

    async def all(self, name: str, after: str = "") -> tuple[dict[str, bytes], Position]:
        page = await read_entries(self.maps, self.channel(name), -1, after)
        assert page.cursor == ""
        return {each.key: each.data for each in page.entries}, page.position


@pytest.fixture
async def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    return Ground(await Rig.open(channel={"namespaces": NAMESPACES}), monkeypatch)


@pytest.mark.parametrize("name", ["board:1", "cursors:1"])
async def test_no_part_is_larger_than_may_be(ground: Ground, name: str) -> None:
    await ground.put(name, *"abcde")
    page = await read_entries(ground.maps, ground.channel(name), 100)
    assert ([each.key for each in page.entries], page.cursor) == (["a", "b"], "b")
    found, _ = await ground.all(name)
    assert list(found) == list("abcde")
    assert ground.sizes == [2, 2, 2, 1]
    found, _ = await ground.all(name, "b")
    assert list(found) == list("cde")
    position = await read_entries(ground.maps, ground.channel(name), 0)
    assert (position.entries, position.cursor) == ([], "")


async def test_what_changes_meanwhile_is_as_at_the_end(ground: Ground) -> None:
    await ground.put("board:1", *"bcde")

    async def change() -> None:
        await ground.remove("board:1", "b", "e")
        await ground.put("board:1", "a", "f")
        await ground.put("board:1", "c", "d", data=b"2")

    ground.between.append(change)
    found, position = await ground.all("board:1")
    assert list(found.items()) == [("a", b"1"), ("c", b"2"), ("d", b"2"), ("f", b"1")]
    assert position.offset == 10
    ground.between.append(change)
    found, position = await ground.all("board:1", "a")
    assert list(found) == ["c", "d", "f"], "what stands before the cursor is no part of it"


async def test_where_changes_are_lost_the_position_is_that_of_the_beginning(ground: Ground) -> None:
    await ground.put("short:1", *"abc")
    ground.between.append(lambda: ground.put("short:1", "a", "c", data=b"2"))
    found, position = await ground.all("short:1")
    assert found == {"a": b"1", "b": b"1", "c": b"2"}
    assert position.offset == 3
    with pytest.raises(Error) as failure:
        await read_changes(ground.maps, ground.channel("short:1"), HistoryFilter(-1, position))
    assert failure.value.code == ErrorCode.UNRECOVERABLE_POSITION


async def test_a_map_that_begins_anew_is_read_anew(ground: Ground) -> None:
    await ground.put("board:1", *"abc")

    async def clear() -> None:
        await ground.maps.store.clear("board:1")
        await ground.put("board:1", "z")

    ground.between.append(clear)
    found, position = await ground.all("board:1")
    assert (list(found), position.offset) == (["z"], 1)
