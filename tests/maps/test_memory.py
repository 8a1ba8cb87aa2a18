"""What the maps of a single node keep, and for how long, by a clock of the test's own."""

import pytest

from gateway.maps import memory
from gateway.maps.base import MapOptions, MapWrite
from gateway.maps.memory import MemoryMaps
from gateway.messages import Payload, Publication

RECOVERABLE = MapOptions(
    mode="recoverable", history_size=100, history_ttl=60.0, history_meta_ttl=600.0, key_ttl=10.0, unpublished_ttl=30.0
)
EPHEMERAL = MapOptions(mode="ephemeral", key_ttl=10.0)
ONCE = MapWrite(idempotency_key="k", idempotency_ttl=5.0)


class Ground:
    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Publication] = []
        self.maps = MemoryMaps(lambda _channel, publication: self.told.append(publication), lambda: self.now)

    async def put(self, channel: str, key: str, options: MapOptions, write: MapWrite = ONCE) -> str:
        publication = Publication(Payload(b"1"), key=key)
        return (await self.maps.publish(channel, publication, options, write)).suppressed

    async def later(self, seconds: float) -> None:
        self.now += seconds
        await self.maps.sweep(lambda channel: EPHEMERAL if channel == "cursors" else RECOVERABLE)


@pytest.fixture
def ground() -> Ground:
    return Ground()


async def test_a_map_that_nobody_uses_goes_and_begins_anew(ground: Ground) -> None:
    await ground.put("board", "a", RECOVERABLE)
    epoch = (await ground.maps.read_state("board", RECOVERABLE, 0)).position.epoch
    await ground.later(11)
    assert [each.removed for each in ground.told] == [False, True]
    await ground.later(598)
    page = await ground.maps.read_state("board", RECOVERABLE, 1)
    assert (page.position.offset, page.position.epoch) == (2, epoch), "it lasts longer for being read"
    await ground.later(599)
    assert "board" in ground.maps._maps
    await ground.later(2)
    assert "board" not in ground.maps._maps
    assert (await ground.maps.read_state("board", RECOVERABLE, 0)).position.epoch != epoch


async def test_one_that_was_only_read_goes_sooner(ground: Ground) -> None:
    await ground.maps.read_state("unpublished", RECOVERABLE, 1)
    await ground.later(29)
    assert "unpublished" in ground.maps._maps
    await ground.later(2)
    assert ground.maps._maps == {}


async def test_results_are_kept_for_their_time(ground: Ground) -> None:
    assert await ground.put("board", "a", RECOVERABLE) == ""
    await ground.later(4)
    assert await ground.put("board", "a", RECOVERABLE) == "idempotency"
    ground.now += 2
    assert await ground.put("board", "a", RECOVERABLE) == "", "and no longer, though nothing has swept"
    await ground.later(1)
    assert await ground.put("board", "a", RECOVERABLE) == "idempotency", "the former time has passed, and not this one"
    await ground.later(5)
    assert ground.maps._results == {}


async def test_nothing_is_kept_of_an_ephemeral_map_without_keys(ground: Ground) -> None:
    await ground.put("cursors", "a", EPHEMERAL)
    await ground.maps.read_state("cursors", EPHEMERAL, 1)
    await ground.later(11)
    assert ground.maps._maps == {}


async def test_a_long_sweep_lets_others_have_their_turn(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FAIR", 2)
    for key in "abcde":
        await ground.put("cursors", key, EPHEMERAL, MapWrite())
    await ground.later(11)
    assert [each.key for each in ground.told if each.removed] == [*"abcde"]
