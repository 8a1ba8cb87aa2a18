"""Subscriptions that get something else than others: patches, what passes a filter, the newest publication unasked."""

import asyncio
import json
from typing import Any

import pytest

from gateway.auth.tokens import Grant
from gateway.brokers.base import HistoryFilter, PublishOptions
from gateway.errors import ErrorCode
from gateway.messages import Exclusion, Payload, Position, Publication
from gateway.protocols import fossil
from gateway.session.application import Admitted
from gateway.session.subscription import Subscription
from tests.session.rig import HISTORY, OPEN, WRITABLE, Client, Rig

FOSSIL: dict[str, Any] = {**OPEN, **WRITABLE, **HISTORY, "force_recovery": True, "allowed_delta_types": ["fossil"]}
FILTERED: dict[str, Any] = {**OPEN, **HISTORY, "force_recovery": True, "allow_tags_filter": True}
CACHE: dict[str, Any] = {"force_recovery_mode": "cache"}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "flow", **FOSSIL, "delta_publish": True}
    | {"allow_history_for_client": True, "allow_history_for_anonymous": True},
    {"name": "asked", **FOSSIL},
    {"name": "plain", **OPEN, "force_recovery": True, **HISTORY},
    {"name": "loose", **OPEN, **HISTORY, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "both", **FOSSIL, "delta_publish": True, "allow_tags_filter": True},
    {"name": "few", **FILTERED, "tags_filter_limit": 2},
    {"name": "picked", **FILTERED},
    {"name": "cell", **FOSSIL, **CACHE, "delta_publish": True, "allow_tags_filter": True},
    {"name": "given", **OPEN, **HISTORY, "force_recovery": True, **CACHE, "auto_cache_recover": True},
]
PADDING = "a text that is the same each time, and long enough for a patch to be shorter than what it makes"
EVEN = {"key": "kind", "cmp": "eq", "val": "even"}


async def opened(**client: Any) -> Rig:
    return await Rig.open(channel={"namespaces": NAMESPACES}, **client)


def text(number: int) -> str:
    return json.dumps({"text": PADDING, "n": number}, indent=1)  # with line breaks, which patches have to keep


async def publish(rig: Rig, channel: str, *numbers: int, **more: Any) -> Position:
    options = more.pop("options", PublishOptions())
    for number in numbers:
        tags = {"kind": "even" if number % 2 == 0 else "odd"}
        publication = Publication(Payload(text(number).encode()), tags=tags, **more)
        position = await rig.node.publish(rig.node.channels.resolve(channel), publication, options)
    return position


class Follower:
    """Reads publications as the SDKs do."""

    def __init__(self) -> None:
        self.base: bytes | None = None
        self.seen: list[tuple[int, str]] = []

    def read(self, publications: list[dict[str, Any]]) -> str:
        """What they were, in letters: w for a whole one, p for a patch."""
        forms = ""
        for each in publications:
            data = each["data"].encode()
            if each.get("delta"):
                assert self.base is not None
                data = fossil.apply(self.base, data)
            self.base = data
            self.seen.append((each.get("offset", 0), data.decode()))
            forms += "p" if each.get("delta") else "w"
        return forms


def pushed(client: Client) -> list[dict[str, Any]]:
    return [push["pub"] for push in client.take()]


# — delta —


@pytest.mark.parametrize(
    ("channel", "delta", "granted"), [("flow:1", "fossil", True), ("flow:1", "", False), ("plain:1", "fossil", False)]
)
async def test_negotiation(channel: str, delta: str, granted: bool) -> None:
    rig = await opened()
    client = await rig.connected()
    result = await client.subscribe(channel, delta=delta)
    assert result.get("delta", False) is granted
    await publish(rig, channel, 1)
    [publication] = pushed(client)
    assert publication["data"] == (text(1) if granted else json.loads(text(1)))


async def test_after_a_whole_one_come_patches() -> None:
    rig = await opened()
    client, other, follower = await rig.connected(), await rig.connected(), Follower()
    await client.subscribe("flow:1", delta="fossil")
    await other.subscribe("flow:1")
    await publish(rig, "flow:1", 1, 2, 3, 3)
    assert follower.read(pushed(client)) == "wppp"
    assert follower.seen == [(1, text(1)), (2, text(2)), (3, text(3)), (4, text(3))]
    assert [each["data"] for each in pushed(other)] == [json.loads(text(number)) for number in (1, 2, 3, 3)]


async def test_who_comes_later_gets_a_whole_one_and_then_what_the_others_get() -> None:
    rig = await opened()
    clients = [await rig.connected() for _ in range(3)]
    followers = [Follower() for _ in clients]
    forms = ["", "", ""]
    for number, client in enumerate(clients):
        await client.subscribe("flow:1", delta="fossil")
        await publish(rig, "flow:1", number)
        for each in range(number + 1):
            forms[each] += followers[each].read(pushed(clients[each]))
    assert forms == ["wpp", "wp", "w"]
    assert len(rig.node.hub.channels["flow:1"].audiences) == 1
    await publish(rig, "flow:1", 7)
    rig.node.hub.flush()
    frames = {client.transport.frames[-1] for client in clients}
    assert len(frames) == 1, "all get the same bytes"
    assert all(each.read(pushed(client)) == "p" for each, client in zip(followers, clients, strict=True))


async def test_only_what_is_published_with_delta() -> None:
    rig = await opened()
    client, follower = await rig.connected(), Follower()
    await client.subscribe("asked:1", delta="fossil")
    await publish(rig, "asked:1", 1, 2)
    await publish(rig, "asked:1", 3, options=PublishOptions(delta=True))
    await publish(rig, "asked:1", 4)
    assert follower.read(pushed(client)) == "wwpw"
    await client.ask("publish", channel="asked:1", data=1)
    assert follower.read(pushed(client)) == "w"


async def test_clients_publish_with_delta_where_the_namespace_says_so() -> None:
    rig = await opened()
    client, follower = await rig.connected(), Follower()
    await client.subscribe("flow:1", delta="fossil")
    for number in (1, 2):
        await client.ask("publish", channel="flow:1", data={"text": PADDING, "n": number})
    assert follower.read(pushed(client)) == "wp"


async def test_a_patch_that_is_no_shorter_is_none() -> None:
    rig = await opened()
    client, follower = await rig.connected(), Follower()
    await client.subscribe("flow:1", delta="fossil")
    await rig.publish("flow:1", PADDING, 1, 2, PADDING + PADDING, PADDING + "!" + PADDING)
    assert follower.read(pushed(client)) == "wwwwp"
    assert [json.loads(each) for _, each in follower.seen][-1] == PADDING + "!" + PADDING


async def test_without_position_all_are_whole() -> None:
    rig = await opened()
    client, follower = await rig.connected(), Follower()
    assert await client.subscribe("loose:1", delta="fossil") == {"delta": True}
    await publish(rig, "loose:1", 1, 2, 3)
    assert follower.read(pushed(client)) == "www"


async def test_what_has_no_offset_is_whole_and_so_is_what_follows() -> None:
    rig = await opened()
    client, follower = await rig.connected(), Follower()
    await client.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 1, 2)
    await publish(rig, "flow:1", 3, options=PublishOptions(skip_history=True))
    await publish(rig, "flow:1", 4, 5)
    assert follower.read(pushed(client)) == "wpwwp"
    assert [each for _, each in follower.seen] == [text(number) for number in (1, 2, 3, 4, 5)]


async def test_who_is_excluded_from_one_gets_the_next_whole() -> None:
    rig = await opened()
    client, other = await rig.connected(), await rig.connected()
    mine, others = Follower(), Follower()
    for each in (client, other):
        await each.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 1, 2)
    await publish(rig, "flow:1", 3, exclude=Exclusion(clients=(client.session.client,)))
    await publish(rig, "flow:1", 4, 5)
    assert mine.read(pushed(client)) == "wpwp"
    assert others.read(pushed(other)) == "wpppp"
    assert [offset for offset, _ in mine.seen] == [1, 2, 4, 5]
    await publish(rig, "flow:1", 6, exclude=Exclusion(clients=(other.session.client,)))
    third = await rig.connected()
    await third.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 7, exclude=Exclusion(clients=(third.session.client,)))
    await publish(rig, "flow:1", 8)
    assert (mine.read(pushed(client)), others.read(pushed(other))) == ("ppp", "wp")
    assert Follower().read(pushed(third)) == "w"
    assert mine.seen[-1] == others.seen[-1] == (8, text(8))


async def returning(rig: Rig, client: Client, channel: str, since: Position, **more: Any) -> dict[str, Any]:
    return await client.subscribe(channel, recover=True, offset=since.offset, epoch=since.epoch, **more)


async def test_what_is_recovered_goes_by_patches_and_so_does_what_follows() -> None:
    rig = await opened()
    since = await publish(rig, "flow:1", 1)
    await publish(rig, "flow:1", 2, 3, 4)
    client, follower = await rig.connected(), Follower()
    result = await returning(rig, client, "flow:1", since, delta="fossil")
    assert (result["delta"], result["recovered"]) == (True, True)
    assert follower.read(result["publications"]) == "wpp"
    await publish(rig, "flow:1", 5, 6)
    assert follower.read(pushed(client)) == "pp"
    assert [each for _, each in follower.seen] == [text(number) for number in range(2, 7)]


async def test_who_recovers_nothing_gets_a_whole_one_first() -> None:
    rig = await opened()
    since = await publish(rig, "flow:1", 1)
    client, follower = await rig.connected(), Follower()
    result = await returning(rig, client, "flow:1", since, delta="fossil")
    assert (result["recovered"], "publications" in result) == (True, False)
    await publish(rig, "flow:1", 2, 3)
    assert follower.read(pushed(client)) == "wp"


async def test_who_comes_back_joins_those_who_stayed() -> None:
    rig = await opened()
    staying, client = await rig.connected(), await rig.connected()
    stayed, follower = Follower(), Follower()
    await staying.subscribe("flow:1", delta="fossil")
    since = await publish(rig, "flow:1", 1)
    await publish(rig, "flow:1", 2)
    result = await returning(rig, client, "flow:1", since, delta="fossil")
    assert follower.read(result["publications"]) == "w"
    await publish(rig, "flow:1", 3)
    assert (stayed.read(pushed(staying)), follower.read(pushed(client))) == ("wpp", "p")
    assert len(rig.node.hub.channels["flow:1"].audiences) == 1


async def test_what_is_published_while_a_client_recovers_is_part_of_the_chain() -> None:
    rig = await opened()
    since = await publish(rig, "flow:1", 1)
    client, follower = await rig.connected(), Follower()
    gate = rig.broker.gate("read", "flow:1")
    request = {"channel": "flow:1", "recover": True, "offset": 1, "epoch": since.epoch, "delta": "fossil"}
    task = asyncio.create_task(client.say({"id": 9, "subscribe": request}))
    await gate.reached()
    await publish(rig, "flow:1", 2, 3)
    gate.open()
    await task
    result = client.reply(9)["subscribe"]
    assert follower.read(result["publications"]) == "wp"
    await publish(rig, "flow:1", 4)
    assert follower.read(pushed(client)) == "p"
    assert follower.seen == [(2, text(2)), (3, text(3)), (4, text(4))]


async def test_history_is_neither_patched_nor_quoted() -> None:
    rig = await opened()
    client = await rig.connected()
    await client.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 1, 2)
    page, _ = await rig.node.history(rig.node.channels.resolve("flow:1"), HistoryFilter(limit=-1))
    assert [each.data.decode() for each in page] == [text(1), text(2)]
    read = await client.ask("history", channel="flow:1", limit=5)
    assert [each["data"] for each in read["history"]["publications"]] == [json.loads(text(1)), json.loads(text(2))]


async def test_a_cell_recovers_the_newest_and_goes_on_with_patches() -> None:
    rig = await opened()
    since = await publish(rig, "cell:1", 1)
    await publish(rig, "cell:1", 2, 3)
    client, follower = await rig.connected(), Follower()
    result = await returning(rig, client, "cell:1", since, delta="fossil")
    assert (follower.read(result["publications"]), result["offset"]) == ("w", 1)
    await publish(rig, "cell:1", 4)
    assert follower.read(pushed(client)) == "p"
    assert follower.seen == [(3, text(3)), (4, text(4))]


async def test_subscriptions_that_come_with_connect_have_patches_too() -> None:
    rig = await opened()
    client, follower = rig.client(), Follower()
    result = await client.connect(subs={"flow:1": {"delta": "fossil"}, "plain:1": {"delta": "fossil"}})
    assert result["subs"]["flow:1"]["delta"] is True
    assert "delta" not in result["subs"]["plain:1"]
    await publish(rig, "flow:1", 1, 2)
    assert follower.read(pushed(client)) == "wp"
    back = rig.client()
    since = await rig.position("flow:1")
    await publish(rig, "flow:1", 3, 4)
    request = {"recover": True, "offset": since.offset, "epoch": since.epoch, "delta": "fossil"}
    made = (await back.connect(subs={"flow:1": request}))["subs"]["flow:1"]
    assert Follower().read(made["publications"]) == "wp"


async def test_a_base_is_kept_as_long_as_somebody_gets_patches() -> None:
    rig = await opened()
    client, other = await rig.connected(), await rig.connected()
    await other.subscribe("flow:1")
    await publish(rig, "flow:1", 1)
    bases = rig.node.hub._variants._bases
    assert "flow:1" not in bases
    await client.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 2)
    assert "flow:1" in bases
    await client.ask("unsubscribe", channel="flow:1")
    assert "flow:1" not in bases
    assert bases._size == 0


async def test_binary_data_sends_them_away_and_leaves_nothing() -> None:
    rig = await opened()
    client = await rig.connected()
    await client.subscribe("flow:1", delta="fossil")
    await publish(rig, "flow:1", 1)
    channel = rig.node.channels.resolve("flow:1")
    await rig.node.publish(channel, Publication(Payload(b"\x00\xff"), binary=True))
    assert client.closed == (3506, "inappropriate protocol")
    await rig.settle()
    assert rig.node.hub._variants._bases._size == 0


# — filters —


async def test_a_filter_lets_some_pass_and_positions_go_on() -> None:
    rig = await opened()
    client, other, plain = [await rig.connected() for _ in range(3)]
    result = await client.subscribe("picked:1", tf=EVEN)
    assert (result["positioned"], result["recoverable"]) == (True, True)
    await other.subscribe("picked:1", tf={"op": "not", "nodes": [EVEN]})
    await plain.subscribe("picked:1")
    await publish(rig, "picked:1", 1, 2, 3, 4)
    assert [each["offset"] for each in pushed(client)] == [2, 4]
    assert [each["offset"] for each in pushed(other)] == [1, 3]
    assert [each["offset"] for each in pushed(plain)] == [1, 2, 3, 4]


async def test_a_filter_is_asked_once_for_all_who_have_it() -> None:
    rig = await opened()
    clients = [await rig.connected() for _ in range(5)]
    for number, client in enumerate(clients):
        await client.subscribe("picked:1", tf=EVEN, join_leave=bool(number % 2))
    asked: list[Any] = []
    [found] = rig.node.hub.channels["picked:1"].filters()
    test = found.test

    def counted(tags: Any) -> bool:
        asked.append(tags)
        return test(tags)

    found.test = counted
    await publish(rig, "picked:1", 1, 2)
    assert len(asked) == 2
    assert [len(pushed(client)) for client in clients] == [1] * 5
    assert len(rig.node.hub.channels["picked:1"].audiences) == 1


BAD_FILTERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "not allowed": ("plain:1", EVEN, ErrorCode.BAD_REQUEST),
    "no filter": ("picked:1", {"op": "and"}, ErrorCode.BAD_REQUEST),
    "empty": ("picked:1", {}, ErrorCode.BAD_REQUEST),
}


@pytest.mark.parametrize(("channel", "tf", "code"), BAD_FILTERS.values(), ids=BAD_FILTERS)
async def test_filters_that_are_refused(channel: str, tf: dict[str, Any], code: int) -> None:
    rig = await opened()
    client = await rig.connected()
    assert await client.refused("subscribe", channel=channel, tf=tf) == code
    assert await client.subscribe(channel)


async def test_a_channel_has_so_many_filters() -> None:
    rig = await opened()
    clients = [await rig.connected() for _ in range(4)]
    odd = {"op": "not", "nodes": [EVEN]}
    await clients[0].subscribe("few:1", tf=EVEN)
    await clients[1].subscribe("few:1", tf=odd)
    assert await clients[2].refused("subscribe", channel="few:1", tf={"key": "a", "cmp": "ex"}) == 106
    await clients[2].subscribe("few:1", tf=EVEN)
    await clients[2].subscribe("few:2", tf={"key": "a", "cmp": "ex"})
    await clients[1].ask("unsubscribe", channel="few:1")
    await clients[3].subscribe("few:1", tf={"key": "a", "cmp": "ex"})


async def test_filters_that_come_at_once_are_as_few() -> None:
    rig = await opened()
    gate = rig.broker.gate("subscribe", "few:1")
    clients = [await rig.connected() for _ in range(4)]
    asked = [
        asyncio.ensure_future(each.ask("subscribe", channel="few:1", tf={"key": f"k{number}", "cmp": "ex"}))
        for number, each in enumerate(clients)
    ]
    await gate.reached()
    gate.open()
    replies = await asyncio.gather(*asked)
    assert sorted(reply.get("error", {}).get("code", 0) for reply in replies) == [0, 0, 106, 106]
    assert len(rig.node.hub.channels["few:1"].filters()) == 2


async def test_recovery_leaves_out_what_does_not_pass_and_misses_nothing() -> None:
    rig = await opened()
    since = await publish(rig, "picked:1", 1)
    await publish(rig, "picked:1", 2, 3, 4, 5)
    client = await rig.connected()
    result = await returning(rig, client, "picked:1", since, tf=EVEN)
    assert result["recovered"]
    assert [each["offset"] for each in result["publications"]] == [2, 4]
    assert result["offset"] == 1
    await publish(rig, "picked:1", 6)
    assert [each["offset"] for each in pushed(client)] == [6], "and it stands at 5, not at 4"


async def test_a_cell_gives_the_newest_that_passes() -> None:
    rig = await opened()
    since = await publish(rig, "cell:1", 1)
    await publish(rig, "cell:1", 2, 4, 5)
    client = await rig.connected()
    result = await returning(rig, client, "cell:1", since, tf=EVEN)
    assert [each["offset"] for each in result["publications"]] == [3]
    none = await rig.connected()
    result = await returning(rig, none, "cell:1", since, tf={"key": "kind", "cmp": "nex"})
    assert (result["was_recovering"], "recovered" in result, "publications" in result) == (True, False, False)


async def test_a_filter_excludes_patches() -> None:
    rig = await opened()
    client = await rig.connected()
    result = await client.subscribe("both:1", tf=EVEN, delta="fossil")
    assert "delta" not in result
    await publish(rig, "both:1", 1, 2)
    assert [each["data"] for each in pushed(client)] == [json.loads(text(2))]


async def test_nothing_is_left_of_filters_and_bases() -> None:
    rig = await opened()
    client, other = await rig.connected(), await rig.connected()
    await client.subscribe("both:1", tf=EVEN)
    await other.subscribe("both:1", delta="fossil")
    await publish(rig, "both:1", 1, 2)
    assert rig.node.hub.filters.size
    for each in (client, other):
        each.take()
        await each.leave()
    del client, other, each
    await rig.assert_empty()
    assert rig.node.hub.filters.size == 0
    assert rig.node.hub._variants._bases._size == 0


# — what is told of recovery —


async def test_the_newest_is_given_unasked() -> None:
    rig = await opened()
    await publish(rig, "given:1", 1, 2)
    result = await (await rig.connected()).subscribe("given:1")
    assert (result["was_recovering"], result["recovered"]) == (True, True)
    assert [each["offset"] for each in result["publications"]] == [2]
    assert "offset" not in result
    made = (await rig.client().connect(subs={"given:1": {}}))["subs"]["given:1"]
    assert [each["offset"] for each in made["publications"]] == [2]
    empty = await (await rig.connected()).subscribe("given:2")
    assert empty == {"recoverable": True, "positioned": True, "was_recovering": True, "epoch": empty["epoch"]}


async def test_a_grant_may_give_the_newest_unasked() -> None:
    rig = await opened()
    await publish(rig, "cell:1", 1, 2)
    client = await rig.connected()
    for cache_recover, forms in ((False, 0), (True, 1)):
        channel = rig.node.channels.resolve("cell:1")
        subscription = Subscription(client.session, channel, server_side=True)
        await subscription.grant(Admitted(Grant(cache_recover=cache_recover))).open()
        result = subscription.result()
        assert (result.was_recovering, len(result.publications)) == (cache_recover, forms)
        subscription.end()
        await subscription.over()


async def test_only_a_stream_can_refuse_to_be_recovered_in_part() -> None:
    rig = await opened()
    lost = {"recover": True, "epoch": "other", "offset": 4, "flag": 2}
    client = await rig.connected()
    assert await client.refused("subscribe", channel="flow:1", **lost) == ErrorCode.UNRECOVERABLE_POSITION
    for channel in ("cell:1", "loose:1"):
        result = await client.subscribe(channel, **lost)
        assert (result["was_recovering"], "recovered" in result) == (True, False)


async def test_versions_are_shown() -> None:
    rig = await opened()
    client = await rig.connected()
    await client.subscribe("flow:1")
    for version in (5, 5, 4, 6):
        await publish(rig, "flow:1", version, options=PublishOptions(version=version))
    assert [each["version"] for each in pushed(client)] == [5, 6]
    again = await rig.connected()
    result = await again.subscribe("flow:1", recover=True)
    assert [each["version"] for each in result["publications"]] == [5, 6]
