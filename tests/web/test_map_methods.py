"""The methods of the server API that are about maps."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.web import map_methods
from gateway.web.map_messages import MapReadStreamRequest
from tests.web.conftest import API, KEY, SETTINGS, running

MAPS: list[dict[str, Any]] = [
    {"name": "board", "subscription_type": "map", "map": {"mode": "persistent", "max_key_length": 9}},
    {"name": "short", "subscription_type": "map", "map": {"mode": "persistent", "stream_size": 2}},
    {"name": "cursors", "subscription_type": "map", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
]


@pytest.fixture
async def api() -> AsyncIterator[API]:
    async with running({**SETTINGS, "channel": {"namespaces": [{"name": "plain"}, *MAPS]}}) as api:
        yield api


async def put(api: API, key: str, channel: str = "board:1", **more: Any) -> Any:
    return await api.result("map_publish", channel=channel, key=key, **{"data": 1, **more})


async def test_what_is_published_is_read(api: API) -> None:
    first = await put(api, "a", data={"v": 1}, tags={"t": "x"})
    assert first == {"offset": 1, "epoch": first["epoch"]}
    await put(api, "b", data=None, b64data=base64.b64encode(b"\x00").decode())
    found = await api.result("map_read_state", channel="board:1", limit=-1)
    entry, binary = found["entries"]
    assert entry == {"key": "a", "data": {"v": 1}, "tags": {"t": "x"}, "offset": 1, "time": entry["time"]}
    assert binary["b64data"] == "AA=="
    assert (found["offset"], found["epoch"]) == (2, first["epoch"])
    assert await api.result("map_stats", channel="board:1") == {"num_keys": 2}


async def test_pages_positions_and_single_keys(api: API) -> None:
    for key in "abc":
        epoch = (await put(api, key))["epoch"]
    page = await api.result("map_read_state", channel="board:1", limit=2)
    assert ([each["key"] for each in page["entries"]], page["cursor"]) == (["a", "b"], "b")
    rest = await api.result("map_read_state", channel="board:1", limit=2, cursor="b")
    assert ([each["key"] for each in rest["entries"]], "cursor" in rest) == (["c"], False)
    one = await api.result("map_read_state", channel="board:1", key="b")
    assert [each["key"] for each in one["entries"]] == ["b"]
    assert await api.result("map_read_state", channel="board:1") == {"entries": [], "offset": 3, "epoch": epoch}
    same = await api.result("map_read_state", channel="board:1", revision_epoch=epoch)
    assert same["offset"] == 3
    assert (await api.error("map_read_state", channel="board:1", revision_epoch="x"))["code"] == 112


async def test_writes_that_change_nothing_are_no_errors(api: API) -> None:
    epoch = (await put(api, "a", version=5))["epoch"]
    suppressed = {"offset": 1, "epoch": epoch, "suppressed": True}
    assert await put(api, "a", key_mode="if_new") == {**suppressed, "suppress_reason": "key_exists"}
    assert await put(api, "b", key_mode="if_exists") == {**suppressed, "suppress_reason": "key_not_found"}
    assert await put(api, "a", version=4) == {**suppressed, "suppress_reason": "version"}
    assert api.node.metrics.publications_in == 1
    gone = await api.result("map_remove", channel="board:1", key="a", idempotency_key="k")
    assert api.node.metrics.publications_in == 2
    assert gone == {"offset": 2, "epoch": epoch}
    again = await api.result("map_remove", channel="board:1", key="a", idempotency_key="k")
    assert again == {**gone, "suppressed": True, "suppress_reason": "idempotency"}


async def test_changes_are_read_without_gaps(api: API) -> None:
    for key in "abc":
        epoch = (await put(api, key, "short:1"))["epoch"]
    await api.result("map_remove", channel="short:1", key="a")

    async def changes(**more: Any) -> list[tuple[int, bool]]:
        found = await api.result("map_read_stream", channel="short:1", limit=-1, **more)
        assert (found["offset"], found["epoch"]) == (4, epoch)
        return [(each["offset"], each.get("removed", False)) for each in found["entries"]]

    assert await changes() == [(3, False), (4, True)]
    assert await changes(since_offset=3, since_epoch=epoch) == [(4, True)]
    assert await changes(reverse=True) == [(4, True), (3, False)]
    for since in ({"since_offset": 1}, {"since_offset": 9}, {"since_offset": 3, "since_epoch": "x"}):
        assert (await api.error("map_read_stream", channel="short:1", limit=-1, **since))["code"] == 112


async def test_many_changes_leave_others_their_turn(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_methods, "AT_A_TIME", 1)
    for key in "ab":
        await put(api, key)
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    await map_methods.read_stream(api.node, MapReadStreamRequest(channel="board:1", limit=-1))
    assert others


async def test_clear_forgets_the_map(api: API) -> None:
    before = await put(api, "a")
    assert await api.result("map_clear", channel="board:1") == {}
    after = await put(api, "b")
    assert (after["offset"], after["epoch"] == before["epoch"]) == (1, False)


async def test_ephemeral_maps_have_no_positions(api: API) -> None:
    assert await put(api, "a", "cursors:1") == {}
    found = await api.result("map_read_state", channel="cursors:1", limit=10)
    assert [sorted(each) for each in found["entries"]] == [["data", "key", "time"]]
    assert await api.result("map_read_stream", channel="cursors:1", limit=-1) == {"entries": []}
    assert (await api.error("map_publish", channel="cursors:1", key="a", data=1, version=1))["code"] == 107


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("map_publish", {"channel": "board:1", "data": 1}, 107),
        ("map_publish", {"channel": "board:1", "key": "a"}, 107),
        ("map_publish", {"channel": "board:1", "key": "0123456789", "data": 1}, 107),
        ("map_publish", {"channel": "board:1", "key": "a", "data": 1, "b64data": "?"}, 107),
        ("map_publish", {"channel": "board:1", "key": "a", "data": 1, "key_mode": "never"}, 107),
        ("map_publish", {"channel": "plain:1", "key": "a", "data": 1}, 107),
        ("map_publish", {"channel": "nowhere:1", "key": "a", "data": 1}, 102),
        ("map_publish", {"key": "a", "data": 1}, 107),
        ("map_remove", {"channel": "board:1"}, 107),
        ("map_remove", {"channel": "board:1", "key": "0123456789"}, 107),
        ("map_read_state", {"channel": "plain:1"}, 107),
        ("map_stats", {"channel": "plain:1"}, 107),
        ("publish", {"channel": "board:1", "data": 1}, 107),
        ("subscribe", {"channel": "board:1", "user": "ann"}, 107),
        ("history", {"channel": "board:1"}, 108),
    ],
    ids=str,
)
async def test_what_is_refused(api: API, method: str, request_: dict[str, Any], code: int) -> None:
    assert (await api.error(method, **request_))["code"] == code


async def test_a_map_takes_no_broadcast(api: API) -> None:
    found = await api.result("broadcast", channels=["board:1", "plain:1"], data=1)
    assert [sorted(each) for each in found["responses"]] == [["error"], ["result"]]


async def test_former_clients_call_them_by_number(api: API) -> None:
    commands = [
        {"method": 33, "params": {"channel": "board:1", "key": "a", "data": 1}},
        {"method": 37, "params": {"channel": "board:1"}},
        {"method": 38, "params": {"channel": "board:1"}},
        {"method": 32, "params": {}},
    ]
    body = "\n".join(json.dumps(each) for each in commands)
    response = await api.http.post("/api", content=body, headers={"X-API-Key": KEY})
    first, count, cleared, unknown = [json.loads(line) for line in response.text.split("\n")]
    assert first["result"]["offset"] == 1
    assert (count["result"], cleared["result"]) == ({"num_keys": 1}, {})
    assert unknown["error"]["code"] == 104
