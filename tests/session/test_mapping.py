"""Subscribing to maps, their life, and writing into them."""

import asyncio
import json
from typing import Any

import pytest

from gateway.core import hub
from gateway.core.cluster import SubscribeUser
from gateway.errors import BrokerUnavailable, DisconnectCode, ErrorCode
from gateway.maps.base import MapPage, MapReceipt, MapWrite
from gateway.messages import Payload, Publication
from gateway.protocols import fossil
from tests.session.rig import OPEN, Client, Gate, Rig
from tests.waiting import until

MAP = {"subscription_type": "map", **OPEN}
SMALL = {"min_page_size": 2, "default_page_size": 2}
WRITERS = {f"allow_{what}_for_{who}": True for what in ("publish", "remove") for who in ("client", "anonymous")}
PERSISTENT = {"mode": "persistent"}
EPHEMERAL = {"mode": "ephemeral", "key_ttl": "60s"}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "board", **MAP, "map": {**PERSISTENT, **WRITERS}},
    {"name": "page", **MAP, "map": {**PERSISTENT, **SMALL}, "allow_tags_filter": True},
    {"name": "short", **MAP, "map": {**PERSISTENT, "stream_size": 2}},
    {"name": "cursors", **MAP, "map": {**EPHEMERAL, **WRITERS}},
    {"name": "pages", **MAP, "map": {**EPHEMERAL, **SMALL}, "allow_tags_filter": True},
    {"name": "brief", **MAP, "map": {"mode": "recoverable", "key_ttl": "3s"}},
    {"name": "diff", **MAP, "map": PERSISTENT, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "own", **MAP, "map": {**EPHEMERAL, **WRITERS, "client_key": "client_id"}},
    {"name": "mine", **MAP, "map": {**EPHEMERAL, **WRITERS, "client_key": "user_id", "max_key_length": 8}},
    {
        "name": "within",
        **MAP,
        "map": {**EPHEMERAL, "allow_publish_for_subscriber": True, "allow_publish_for_anonymous": 1},
    },
    {"name": "token", "subscription_type": "map", "map": PERSISTENT},
    {"name": "stream", **OPEN},
    {"name": "polled", **OPEN, "subscription_type": "shared_poll"},
    {"name": "debounced", **MAP, "map": EPHEMERAL, "client_publish_debounce_interval": "300ms"},
]
PADDING = "a text that is the same each time, and long enough for a patch to be shorter than what it makes"


async def opened(**client: Any) -> Rig:
    return await Rig.open(channel={"namespaces": NAMESPACES}, **client)


async def put(rig: Rig, channel: str, key: str, value: Any = 1, **tags: str) -> MapReceipt:
    options = rig.node.maps.options(rig.node.channels.resolve(channel))
    publication = Publication(Payload(json.dumps(value).encode()), key=key, tags=tags or None)
    return await rig.maps.publish(channel, publication, options, MapWrite())


async def remove(rig: Rig, channel: str, key: str) -> MapReceipt:
    options = rig.node.maps.options(rig.node.channels.resolve(channel))
    return await rig.maps.remove(channel, key, options)


async def load(client: Client, channel: str, **more: Any) -> dict[str, Any]:
    return await client.subscribe(channel, type=1, phase=2, **more)


def changes(client: Client) -> list[dict[str, Any]]:
    return [push["pub"] for push in client.take()]


def keys(entries: list[dict[str, Any]]) -> list[str]:
    return [("-" if each.get("removed") else "") + each["key"] for each in entries]


async def test_a_small_map_takes_one_request() -> None:
    rig = await opened()
    await put(rig, "board:1", "a", {"v": 1})
    epoch = (await put(rig, "board:1", "b", {"v": 2}, t="x")).epoch
    client = await rig.connected()
    entries = [
        {"data": {"v": 1}, "offset": 1, "key": "a"},
        {"data": {"v": 2}, "offset": 2, "tags": {"t": "x"}, "key": "b"},
    ]
    expected = {"recoverable": True, "epoch": epoch, "offset": 2, "type": 1, "state": entries}
    assert await load(client, "board:1") == expected
    await put(rig, "board:1", "a", {"v": 9})
    await remove(rig, "board:1", "b")
    assert changes(client) == [
        {"data": {"v": 9}, "offset": 3, "key": "a"},
        {"offset": 4, "tags": {"t": "x"}, "key": "b", "removed": True},
    ]


async def test_the_first_change_of_an_empty_map_tells_its_epoch() -> None:
    rig = await opened()
    client = await rig.connected()
    loaded = await load(client, "board:1")
    assert loaded == {"recoverable": True, "epoch": loaded["epoch"], "type": 1}
    await put(rig, "board:1", "a")
    assert changes(client) == [{"data": 1, "offset": 1, "key": "a", "epoch": loaded["epoch"]}]


async def test_an_ephemeral_map_has_no_positions() -> None:
    rig = await opened()
    client = await rig.connected()
    assert await load(client, "cursors:1") == {"type": 1}
    assert await client.ask("publish", channel="cursors:1", type=1, key="me", data={"x": 4}) == {"publish": {}}
    info = {"user": "", "client": client.session.client}
    assert changes(client) == [{"data": {"x": 4}, "info": info, "key": "me"}]
    other = await rig.connected()
    assert await load(other, "cursors:1") == {"type": 1, "state": [{"data": {"x": 4}, "info": info, "key": "me"}]}
    assert await client.ask("publish", channel="cursors:1", type=1, key="me", removed=True) == {"publish": {}}
    assert changes(other) == [{"key": "me", "removed": True}]
    assert await load(await rig.connected(), "debounced:1") == {"type": 1, "publish_debounce": 300}


async def test_pages_are_of_one_moment_and_what_changes_meanwhile_comes_after() -> None:
    rig = await opened()
    for number in range(1, 6):
        epoch = (await put(rig, "page:1", f"k{number}", number)).epoch
    client = await rig.connected()
    first = await load(client, "page:1", limit=1)  # less than there may be
    assert (first["phase"], first["cursor"], first["offset"], first["epoch"]) == (2, "k2", 5, epoch)
    assert "recoverable" not in first
    await put(rig, "page:1", "k1", 100)
    await put(rig, "page:1", "k4", 400)
    second = await load(client, "page:1", limit=2, cursor="k2", offset=5, epoch=epoch)
    assert (keys(second["state"]), second["cursor"], second["offset"]) == (["k3"], "k4", 5)
    last = await load(client, "page:1", limit=2, cursor="k4", offset=5, epoch=epoch)
    assert (keys(last["state"]), keys(last["publications"]), last["offset"]) == (["k5"], ["k1", "k4"], 7)
    assert last["recoverable"]
    assert not {"phase", "cursor", "recovered"} & last.keys()
    await put(rig, "page:1", "k2", 5)
    assert keys(changes(client)) == ["k2"]


async def test_an_old_position_with_the_first_page_loses_nothing() -> None:
    rig = await opened()
    for key in "abc":
        epoch = (await put(rig, "page:1", key)).epoch
    client = await rig.connected()
    first = await load(client, "page:1", offset=1, epoch=epoch)
    assert (keys(first["state"]), first["offset"]) == (["a", "b"], 3)


async def test_who_is_far_behind_is_given_changes_in_parts() -> None:
    rig = await opened()
    for number in range(3):
        epoch = (await put(rig, "page:1", f"k{number}")).epoch
    client = await rig.connected()
    await load(client, "page:1")
    for number in range(5):
        await put(rig, "page:1", f"n{number}")
    seen, cursor = [], "k1"
    while cursor:
        page = await load(client, "page:1", cursor=cursor, offset=3, epoch=epoch)
        assert (page["phase"], page["offset"]) == (2, 3)
        seen += keys(page.get("state", []))
        cursor = page.get("cursor", "")
    assert seen == ["k2"]
    part = await client.subscribe("page:1", type=1, phase=1, offset=3, epoch=epoch)
    assert (part["phase"], part["offset"], keys(part["publications"])) == (1, 5, ["n0", "n1"])
    await put(rig, "page:1", "n9")  # the end is that of when changes were first asked for
    part = await client.subscribe("page:1", type=1, phase=1, offset=5, epoch=epoch)
    assert (part["phase"], part["offset"], keys(part["publications"])) == (1, 7, ["n2", "n3"])
    last = await client.subscribe("page:1", type=1, phase=1, offset=7, epoch=epoch)
    assert (last["offset"], last["recoverable"], keys(last["publications"])) == (9, True, ["n4", "n9"])
    assert "phase" not in last


async def test_who_comes_back_is_given_what_it_missed() -> None:
    rig = await opened()
    epoch = (await put(rig, "board:1", "a")).epoch
    await put(rig, "board:1", "b")
    await remove(rig, "board:1", "a")
    client = await rig.connected()
    found = await client.subscribe("board:1", type=1, phase=1, recover=True, offset=1, epoch=epoch)
    assert (found["recovered"], found["was_recovering"], found["recoverable"], found["offset"]) == (True, True, True, 3)
    assert keys(found["publications"]) == ["b", "-a"]
    assert "state" not in found
    await put(rig, "board:1", "c")
    assert keys(changes(client)) == ["c"]
    other = await rig.connected()
    at_once = await other.subscribe("board:1", type=1, recover=True, offset=4, epoch=epoch)
    assert (at_once["recovered"], at_once["offset"], at_once.get("publications")) == (True, 4, None)


@pytest.mark.parametrize(
    ("offset", "wrong"),
    [(0, False), (2, False), (5, False), (9, True), (1, True)],
    ids=["trimmed", "gap", "beyond", "foreign", "both"],
)
async def test_what_cannot_be_made_good_is_never_called_recovered(offset: int, wrong: bool) -> None:
    rig = await opened()
    for key in "abcde":
        epoch = (await put(rig, "short:1", key)).epoch
    client = await rig.connected()
    offset = 9 if offset == 5 else offset
    request = {"type": 1, "phase": 1, "recover": True, "offset": offset, "epoch": "other" if wrong else epoch}
    assert await client.refused("subscribe", channel="short:1", **request) == ErrorCode.UNRECOVERABLE_POSITION
    loaded = await load(client, "short:1")  # nothing is left of it
    assert keys(loaded["state"]) == list("abcde")


async def test_a_stream_that_has_run_out_cannot_be_recovered() -> None:
    rig = await opened()
    epoch = (await put(rig, "board:1", "a")).epoch
    await put(rig, "board:1", "b")
    for _ in range(601):
        rig.clock.tick()
    client = await rig.connected()
    request = {"type": 1, "phase": 1, "recover": True, "offset": 1, "epoch": epoch}
    assert await client.refused("subscribe", channel="board:1", **request) == ErrorCode.UNRECOVERABLE_POSITION
    assert await client.subscribe("board:1", **{**request, "offset": 2})


@pytest.mark.parametrize(
    ("channel", "request_", "code"),
    [
        ("board:3", {"type": 1, "phase": 2, "cursor": "x"}, ErrorCode.PERMISSION_DENIED),
        ("board:3", {"type": 1, "phase": 1}, ErrorCode.PERMISSION_DENIED),
        ("board:3", {"type": 1, "phase": 3}, ErrorCode.BAD_REQUEST),
        ("board:3", {"type": 1, "phase": 2, "tf": {"key": "a", "cmp": "ex"}}, ErrorCode.BAD_REQUEST),
        ("cursors:3", {"type": 1, "phase": 1, "recover": True, "offset": 1, "epoch": "x"}, ErrorCode.BAD_REQUEST),
        ("board:3", {}, ErrorCode.PERMISSION_DENIED),
        ("board:3", {"type": 2, "phase": 2}, ErrorCode.PERMISSION_DENIED),
        ("board:3", {"type": 4}, ErrorCode.NOT_AVAILABLE),
        ("stream:3", {"type": 1, "phase": 2}, ErrorCode.PERMISSION_DENIED),
        ("token:3", {"type": 1, "phase": 2}, ErrorCode.PERMISSION_DENIED),
        ("board:3", {"type": 1, "phase": 2, "epoch": "x", "offset": 1}, ErrorCode.UNRECOVERABLE_POSITION),
        ("nowhere:3", {"type": 1, "phase": 2}, ErrorCode.UNKNOWN_CHANNEL),
    ],
    ids=str,
)
async def test_requests_that_are_refused(channel: str, request_: dict[str, Any], code: ErrorCode) -> None:
    rig = await opened()
    client = await rig.connected()
    assert await client.refused("subscribe", channel=channel, **request_) == code
    assert not client.session.subscriptions
    assert not client.session.ending


async def test_requests_out_of_turn() -> None:
    rig = await opened()
    for key in "abc":
        epoch = (await put(rig, "page:1", key)).epoch
    client = await rig.connected()
    await load(client, "page:1")
    request = {"channel": "page:1", "type": 1}
    assert await client.refused("subscribe", **request, phase=2) == ErrorCode.ALREADY_SUBSCRIBED
    await load(client, "page:1", cursor="b", offset=3, epoch=epoch)
    assert await client.refused("subscribe", **request, phase=2, cursor="b") == ErrorCode.ALREADY_SUBSCRIBED
    assert await client.ask("unsubscribe", channel="page:1") == {"unsubscribe": {}}
    await load(client, "page:1")
    assert await client.ask("unsubscribe", channel="page:1") == {"unsubscribe": {}}  # at once, amid a load
    await load(client, "page:1")
    await rig.maps.clear("page:1")
    late = {**request, "phase": 2, "cursor": "b", "offset": 3, "epoch": epoch}
    assert await client.refused("subscribe", **late) == ErrorCode.UNRECOVERABLE_POSITION
    assert not client.session.subscriptions


async def test_a_load_must_not_take_long() -> None:
    rig = await opened()
    for key in "abc":
        epoch = (await put(rig, "page:1", key)).epoch
    client, other = await rig.connected(), await rig.connected()
    await load(client, "page:1")
    await load(other, "page:1")
    for _ in range(51):
        rig.clock.tick()
    await load(other, "board:1")
    assert set(other.session.subscriptions) == {"board:1"}
    request = {"channel": "page:1", "type": 1, "phase": 2, "cursor": "b", "offset": 3, "epoch": epoch}
    await client.say({"id": 9, "subscribe": request})
    assert client.closed == (DisconnectCode.SLOW, DisconnectCode.SLOW.reason)


async def test_what_changes_while_an_ephemeral_map_is_loaded_comes_with_the_last_page() -> None:
    rig = await opened()
    for key in "abc":
        await put(rig, "pages:1", key)
    client = await rig.connected()
    first = await load(client, "pages:1")
    assert (keys(first["state"]), first["cursor"], first.get("offset")) == (["a", "b"], "b", None)
    await put(rig, "pages:1", "a", 2)
    await remove(rig, "pages:1", "b")
    await put(rig, "pages:1", "a", 3)
    assert client.take() == []
    last = await load(client, "pages:1", cursor="b")
    assert keys(last["state"]) == ["c"]
    assert last["publications"] == [{"key": "b", "removed": True}, {"data": 3, "key": "a"}]
    await put(rig, "pages:1", "d")
    assert keys(changes(client)) == ["d"]


async def test_an_ephemeral_map_that_changes_too_much_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HELD", 2)
    monkeypatch.setattr("gateway.session.mapping.HELD", 2)
    rig = await opened()
    for key in "abc":
        await put(rig, "pages:1", key)
    client = await rig.connected()
    await load(client, "pages:1")
    for number in range(3):
        await put(rig, "pages:1", "a", number)
    request = {"channel": "pages:1", "type": 1, "phase": 2, "cursor": "b"}
    assert await client.refused("subscribe", **request) == ErrorCode.UNRECOVERABLE_POSITION
    assert not client.session.subscriptions


async def test_nothing_is_kept_for_who_does_not_go_on_loading() -> None:
    rig = await opened(ping_interval=0)
    for key in "abc":
        await put(rig, "pages:1", key)
    client = await rig.connected()
    await load(client, "pages:1")
    for _ in range(61):
        rig.clock.tick()
        rig.wheel.turn()
    assert rig.node.hub.everybody("pages:1") == []
    await client.say({"id": 9, "subscribe": {"channel": "pages:1", "type": 1, "phase": 2, "cursor": "b"}})
    assert client.closed == (DisconnectCode.SLOW, DisconnectCode.SLOW.reason)


async def test_nor_for_whom_the_store_keeps_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await opened(ping_interval=0)
    for key in "abc":
        await put(rig, "pages:1", key)
    client = await rig.connected()
    await load(client, "pages:1")
    gate, read = Gate(), rig.maps.read_state

    async def slowly(*args: Any) -> MapPage:
        await gate.pass_through()
        return await read(*args)

    monkeypatch.setattr(rig.maps, "read_state", slowly)
    request = {"channel": "pages:1", "type": 1, "phase": 2, "cursor": "b"}
    asking = asyncio.create_task(client.say({"id": 9, "subscribe": request}))
    await gate.reached()
    await put(rig, "pages:1", "d")
    for _ in range(61):
        rig.clock.tick()
        rig.wheel.turn()
    gate.open()
    await asking
    assert client.take() == []
    assert client.closed == (DisconnectCode.SLOW, DisconnectCode.SLOW.reason)


async def test_nobody_is_live_who_is_not_heard() -> None:
    """Whatever took its place in the hub: it has been answered, and must know."""
    rig = await opened()
    client = await rig.connected()
    gate = rig.broker.gate("subscribe", "cursors:1")
    asking = asyncio.create_task(load(client, "cursors:1"))
    await gate.reached()
    rig.node.hub.join = lambda subscriber: None  # type: ignore[method-assign]
    gate.open()
    assert await asking == {"type": 1}
    ended = {"channel": "cursors:1", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    assert client.take() == [ended]
    assert not client.session.subscriptions


async def test_a_load_that_fails_leaves_nothing() -> None:
    rig = await opened()
    for key in "abc":
        epoch = (await put(rig, "page:1", key)).epoch
    client = await rig.connected()
    await load(client, "page:1")
    assert await client.refused("subscribe", channel="page:1", type=1, phase=5) == ErrorCode.BAD_REQUEST
    await load(client, "page:1")
    rig.broker.faults = {"subscribe": BrokerUnavailable()}
    request = {"channel": "page:1", "type": 1, "phase": 2, "cursor": "b", "offset": 3, "epoch": epoch}
    assert await client.refused("subscribe", **request) == ErrorCode.INTERNAL
    rig.broker.faults = {}
    assert not client.session.subscriptions
    await load(client, "page:1")


async def test_changes_that_come_while_it_goes_live_are_neither_lost_nor_told_twice() -> None:
    rig = await opened()
    await put(rig, "board:1", "a")
    client = await rig.connected()
    gate = rig.broker.gate("subscribe", "board:1")
    asking = asyncio.create_task(load(client, "board:1"))
    await gate.reached()
    await put(rig, "board:1", "b")
    gate.open()
    loaded = await asking
    assert (keys(loaded["state"]), keys(loaded["publications"]), loaded["offset"]) == (["a"], ["b"], 2)
    await put(rig, "board:1", "c")
    assert keys(changes(client)) == ["c"]


@pytest.mark.parametrize("channel", ["page:1", "pages:1"])
async def test_a_filter_holds_for_entries_changes_and_removals(channel: str) -> None:
    rig = await opened()
    await put(rig, channel, "a", t="x")
    await put(rig, channel, "b", t="y")
    client = await rig.connected()
    loaded = await load(client, channel, tf={"key": "t", "cmp": "eq", "val": "x"})
    assert keys(loaded["state"]) == ["a"]
    await put(rig, channel, "c", t="y")
    await put(rig, channel, "d", t="x")
    await remove(rig, channel, "b")
    await remove(rig, channel, "a")
    assert keys(changes(client)) == ["d", "-a"]


async def test_a_cleared_map_is_loaded_anew() -> None:
    rig = await opened()
    clients = [await rig.connected() for _ in range(2)]
    for channel in ("board:1", "cursors:1"):
        for client in clients:
            await load(client, channel)
        await put(rig, channel, "a")
        for client in clients:
            client.take()
        await rig.maps.clear(channel)
        rig.node.maps.cleared(channel)
        ended = {"channel": channel, "unsubscribe": {"code": 2502, "reason": "state invalidated"}}
        assert [client.take() for client in clients] == [[ended], [ended]]
        assert await load(clients[0], channel)


async def test_a_position_that_is_no_more_is_found_out() -> None:
    rig = await opened()
    client = await rig.connected()
    await put(rig, "board:1", "a")
    await load(client, "board:1")
    await rig.maps.clear("board:1")
    await put(rig, "board:1", "b")
    assert client.take() == [{"channel": "board:1", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}]


async def test_keys_end_by_themselves() -> None:
    rig = await opened()
    rig.node.maps.start()
    client = await rig.connected()
    await put(rig, "brief:1", "a")
    await load(client, "brief:1")

    def gone() -> bool:
        rig.clock.tick()
        rig.wheel.turn()
        client.look()
        return bool(client.inbox)

    await until(gone)
    assert keys(changes(client)) == ["-a"]


# — patches —


class Follower:
    """Reads entries and changes as the SDK does."""

    def __init__(self, *loaded: dict[str, Any]) -> None:
        self.bases = {each["key"]: each["data"].encode() for each in loaded}
        self.forms = ""

    def read(self, each: dict[str, Any]) -> Any:
        key, data = each["key"], each["data"].encode()
        if each.get("removed"):
            self.bases.pop(key, None)
            assert json.loads(data) is None
            return None
        self.forms += "p" if each.get("delta") else "w"
        self.bases[key] = fossil.apply(self.bases[key], data) if each.get("delta") else data
        return json.loads(self.bases[key])


def text(number: int) -> dict[str, Any]:
    return {"text": PADDING, "n": number}


async def test_patches_are_on_what_the_same_key_had() -> None:
    rig = await opened()
    await put(rig, "diff:1", "a", text(0))
    client = await rig.connected()
    loaded = await load(client, "diff:1", delta="fossil")
    assert loaded["delta"] is True
    follower = Follower(*loaded["state"])
    for key, number in (("a", 1), ("b", 2), ("a", 3), ("b", 4)):
        await put(rig, "diff:1", key, text(number))
    assert [follower.read(each)["n"] for each in changes(client)] == [1, 2, 3, 4]
    assert follower.forms == "pwpp"
    await remove(rig, "diff:1", "a")
    await put(rig, "diff:1", "a", text(5))
    assert [follower.read(each) for each in changes(client)] == [None, text(5)]
    assert follower.forms == "pwppw"


async def test_who_comes_back_is_sent_patches_only_of_what_it_is_known_to_have() -> None:
    rig = await opened()
    for key in "ca":
        epoch = (await put(rig, "diff:1", key, text(0))).epoch
    for key, number in (("b", 1), ("a", 2), ("a", 3)):
        await put(rig, "diff:1", key, text(number))
    await remove(rig, "diff:1", "b")
    client = await rig.connected()
    request = {"type": 1, "phase": 1, "recover": True, "offset": 2, "epoch": epoch, "delta": "fossil"}
    found = await client.subscribe("diff:1", **request)
    follower = Follower()
    read = [follower.read(each) for each in found["publications"]]
    assert [each and each["n"] for each in read] == [1, 2, 3, None]
    assert follower.forms == "wwp"
    for key, number in (("c", 4), ("a", 5), ("c", 6), ("a", 7)):
        await put(rig, "diff:1", key, text(number))
    assert [follower.read(each)["n"] for each in changes(client)] == [4, 5, 6, 7]
    assert follower.forms == "wwp" + "wppp", "a key that it has not been given since is sent whole first"
    await remove(rig, "diff:1", "c")
    await put(rig, "diff:1", "c", text(8))
    await put(rig, "diff:1", "c", text(9))
    assert [follower.read(each) for each in changes(client)] == [None, text(8), text(9)]
    assert follower.forms.endswith("pwp")


async def test_several_who_come_back_are_sent_patches_of_what_all_of_them_have() -> None:
    rig = await opened()
    for key in "abc":
        epoch = (await put(rig, "diff:1", key, text(0))).epoch
    for key in "ab":
        await put(rig, "diff:1", key, text(1))

    async def back(offset: int) -> tuple[Client, Follower]:
        client = await rig.connected()
        request = {"type": 1, "phase": 1, "recover": True, "offset": offset, "epoch": epoch, "delta": "fossil"}
        found = await client.subscribe("diff:1", **request)
        follower = Follower()
        for each in found.get("publications", ()):
            follower.read(each)
        follower.forms = ""
        return client, follower

    both = [await back(3), await back(4)]  # the one is given a and b, the other b
    fresh = await rig.connected()
    loaded = await load(fresh, "diff:1", delta="fossil")
    everything = fresh, Follower(*loaded["state"])
    for key, number in (("b", 2), ("a", 3), ("a", 4)):
        await put(rig, "diff:1", key, text(number))
    for client, follower in (*both, everything):
        assert [follower.read(each)["n"] for each in changes(client)] == [2, 3, 4]
    assert [follower.forms for _, follower in (*both, everything)] == ["pwp", "pwp", "ppp"]
    third = await back(8)  # which is given nothing
    for number in (5, 6):
        await put(rig, "diff:1", "a", text(number))
    for client, follower in (*both, third):
        assert [follower.read(each)["n"] for each in changes(client)] == [5, 6]
        assert follower.forms.endswith("wp")
    for client, _ in (*both, third):
        await client.session.end()
    assert rig.node.hub._variants._known == {}, "what those have known who have left is forgotten with them"


# — writing —


@pytest.mark.parametrize(
    ("channel", "request_", "code"),
    [
        ("board:1", {"data": {}}, ErrorCode.BAD_REQUEST),
        ("board:1", {"data": {}, "key": "k" * 256}, ErrorCode.BAD_REQUEST),
        ("board:1", {"key": "k"}, ErrorCode.BAD_REQUEST),
        ("stream:1", {"key": "k", "data": 1}, ErrorCode.BAD_REQUEST),
        ("page:1", {"key": "k", "data": 1}, ErrorCode.PERMISSION_DENIED),
        ("page:1", {"key": "k", "removed": True}, ErrorCode.PERMISSION_DENIED),
        ("mine:1", {"key": "k", "data": 1}, ErrorCode.PERMISSION_DENIED),
        ("within:1", {"key": "k", "data": 1}, ErrorCode.PERMISSION_DENIED),
    ],
    ids=str,
)
async def test_writes_that_are_refused(channel: str, request_: dict[str, Any], code: ErrorCode) -> None:
    rig = await opened()
    client = await rig.connected()
    assert await client.refused("publish", channel=channel, type=1, **request_) == code


async def test_a_map_takes_no_publications_of_streams() -> None:
    rig = await opened()
    client = await rig.connected()
    assert await client.refused("publish", channel="board:1", data=1) == ErrorCode.PERMISSION_DENIED
    assert await client.refused("history", channel="board:1", limit=1) == ErrorCode.NOT_AVAILABLE
    assert await client.refused("presence", channel="board:1") == ErrorCode.NOT_AVAILABLE


async def test_the_namespace_may_say_which_key_is_written() -> None:
    rig = await opened()
    client = await rig.connected("alice")
    for channel, key in (("own:1", client.session.client), ("mine:1", "alice")):
        await load(client, channel)
        await client.ask("publish", channel=channel, type=1, key="whatever", data=1)
        assert keys(changes(client)) == [key]
        await client.ask("publish", channel=channel, type=1, removed=True)
        assert keys(changes(client)) == ["-" + key]


async def test_subscribers_may_write_where_others_may_not_and_removing_nothing_is_no_error() -> None:
    rig = await opened()
    client = await rig.connected()
    await load(client, "within:1")
    assert await client.ask("publish", channel="within:1", type=1, key="k", data=1) == {"publish": {}}
    assert await client.ask("publish", channel="board:1", type=1, key="none", removed=True) == {"publish": {}}


# — tokens —


async def test_a_token_that_has_run_out_is_no_end_for_who_comes_back() -> None:
    rig = await opened()
    client = await rig.connected("alice")
    old = rig.channel_token("token:1", ttl=-10)
    recovering = {"channel": "token:1", "type": 1, "phase": 1, "recover": True, "token": old}
    assert await client.refused("subscribe", **recovering) == ErrorCode.UNRECOVERABLE_POSITION
    fresh = {"channel": "token:1", "type": 1, "phase": 2, "token": old}
    assert await client.refused("subscribe", **fresh) == ErrorCode.TOKEN_EXPIRED
    good = rig.channel_token("token:1", ttl=100)
    loaded = await load(client, "token:1", token=good)
    assert (loaded["expires"], loaded["ttl"]) == (True, 100)


async def test_the_server_makes_subscriptions_to_streams_alone() -> None:
    rig = await opened()
    token = rig.token("alice", subs={"board:1": {}, "polled:1": {}, "stream:1": {}})
    client = rig.client()
    reply = await client.connect(token=token, subs={"board:2": {}, "polled:2": {}, "stream:2": {}})
    assert set(reply["subs"]) == {"stream:1", "stream:2"}
    for name in ("board:3", "polled:3", "stream:3"):
        await rig.node.cluster.command(SubscribeUser(user="alice", channel=name))
    await until(lambda: "stream:3" in client.session.subscriptions)
    assert set(client.session.subscriptions) == {"stream:1", "stream:2", "stream:3"}
