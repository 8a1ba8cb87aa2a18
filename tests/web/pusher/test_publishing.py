"""Events over HTTP: what is taken, what of it is published, and what is answered."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable, Error
from gateway.messages import Exclusion, Payload, Publication
from gateway.web.pusher import publish_event
from tests.web.pusher.conftest import MAP, OBJECTS, PLAIN, SHOP, SMALL, Backend, done

Sent = list[tuple[str, Publication]]

BIG = "x" * 10_240


async def test_an_event_goes_to_each_channel_once(backend: Backend, sent: Sent) -> None:
    client = await backend.join("shop:news", "shop:#7")
    assert await backend.event(["news", "private-a", "news", "#server-to-user-7"], '{"id": 7}') == {}
    assert [(name, each.data, each.tags) for name, each in sent] == [
        (name, b'{"id": 7}', {"event": "order.paid"}) for name in ("shop:news", "shop:private-a", "shop:#7")
    ]
    for channel in ("shop:news", "shop:#7"):
        assert (await (await client.subscription(channel)).next()).data == {"id": 7}


async def test_one_channel_may_stand_alone(backend: Backend, sent: Sent) -> None:
    await backend.post("events", {"name": "a", "channel": "news", "data": "1", "socket_id": None, "info": None})
    assert [name for name, _ in sent] == ["shop:news"]


@pytest.mark.parametrize(
    ("posted", "data", "is_text"),
    [
        ("5", b"5", False),
        ("null", b"null", False),
        ('  {"a": 1.00, "big": 123456789012345678901}\n', b'  {"a": 1.00, "big": 123456789012345678901}\n', False),
        ('"\\ud83d\\ude00"', b'"\\ud83d\\ude00"', False),
        ("hello", b'"hello"', True),
        ("", b'""', True),
        ("NaN", b'"NaN"', True),
        ("größer\n", '"größer\\n"'.encode(), True),
        ({"a": [1, "x"]}, b'{"a": [1, "x"]}', False),
        (7, b"7", False),
        (None, b"null", False),
        (BIG, f'"{BIG}"'.encode(), True),
    ],
)
async def test_data_is_the_posted_string_byte_for_byte(
    backend: Backend, sent: Sent, posted: Any, data: bytes, is_text: bool
) -> None:
    await backend.event(["news"], posted)
    [(_, publication)] = sent
    assert publication.data == data
    assert publication.tags == {"event": "order.paid", **({"format": "text"} if is_text else {})}


@pytest.mark.parametrize("name", ["App\\Events\\OrderPaid", "pusherish", "client-a", "größer als\n", "x" * 200])
async def test_a_name_may_be_any_text(backend: Backend, sent: Sent, name: str) -> None:
    await backend.post("events", {"name": name, "channel": "news", "data": "1"})
    assert sent[0][1].tags == {"event": name}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"name": ""}, "name must be given"),
        ({"name": "x" * 201}, "name must be given, with at most 200 characters"),
        ({"name": "pusher:ping"}, "name begins as"),
        ({"name": "pusher_internal:member_added"}, "name begins as"),
        ({"name": None}, "name must be given"),
        ({"channel": ""}, "channels must be a list of 1 to 100"),
        ({"channel": "no channel"}, "'no channel' is no channel"),
        ({"channel": "x" * 201}, "is no channel"),
        ({"channel": "shop:news"}, "is no channel"),
        ({"channel": "#news"}, "is no channel"),
        ({"channel": "#server-to-user-"}, "is no channel"),
        ({"channels": []}, None),
        ({"channels": ["news"] * 2 + [f"c{n}" for n in range(100)]}, "channels must be a list of 1 to 100"),
        ({"channels": ["news", "private-encrypted-a"]}, "each encrypted channel has a key of its own"),
        ({"channels": ["news", "private-encrypted-cache-a"]}, "each encrypted channel has a key of its own"),
        ({"channels": ["private-encrypted-a"] * 2}, None),
        ({"socket_id": "x"}, "socket_id must be"),
        ({"socket_id": "1.2\n"}, "socket_id must be"),
        ({"socket_id": "1.٢"}, "socket_id must be"),
        ({"socket_id": "48213.907714"}, None),
    ],
)
async def test_what_is_no_event_is_refused(
    backend: Backend, sent: Sent, changed: dict[str, Any], wrong: str | None
) -> None:
    body = {"name": "a", "channel": "news", "data": "1", **changed}
    if wrong is None:
        assert await backend.post("events", body) == {}
        return
    status, message = await backend.refused("POST", "events", body)
    assert (status, wrong in message) == (400, True), message
    assert sent == []


async def test_data_must_be_there_and_be_text_that_can_be(backend: Backend, sent: Sent) -> None:
    for data in (b"", rb',"data":"\ud800"', rb',"data":{"a":"\ud800"}', b',"data":1e999', b',"data":[NaN]'):
        status, _ = await backend.refused("POST", "events", b'{"name":"a","channel":"news"%b}' % data)
        assert status == 400, data
    assert sent == []


async def test_too_much_data_is_told_from_what_is_bad(backend: Backend, sent: Sent) -> None:
    for data in (BIG + "x", "é" * 5121, {"a": BIG}):
        status, message = await backend.refused("POST", "events", {"name": "a", "channel": "news", "data": data})
        assert (status, "and may have 10240" in message) == (413, True), message
    small = {"name": "a", "channels": ["a", "b"], "data": "x" * 10}
    assert await backend.post("events", small, SMALL) == {}
    assert (await backend.refused("POST", "events", {**small, "data": "x" * 11}, SMALL))[0] == 413
    assert (await backend.refused("POST", "events", {**small, "channels": ["a", "b", "c"]}, SMALL))[0] == 400
    assert len(sent) == 2


async def test_the_connection_that_knows_already_is_left_out(backend: Backend, sent: Sent) -> None:
    await backend.event(["news"], socket_id="48213.907714")
    assert sent[0][1].exclude == Exclusion(clients=("48213.907714",))
    await backend.event(["news"])
    assert sent[1][1].exclude is None


async def test_what_a_cache_channel_keeps_says_since_when(backend: Backend, sent: Sent) -> None:
    await backend.event(["cache-a", "news"])
    moment = str(int(backend.kit.clock() * 1000))
    assert [each.tags for _, each in sent] == [{"event": "order.paid", "time": moment}, {"event": "order.paid"}]


async def test_channels_that_take_no_events(backend: Backend) -> None:
    body = {"name": "a", "channel": "news", "data": "1"}
    assert "is a map, or polled" in (await backend.refused("POST", "events", body, MAP))[1]
    assert await backend.refused("POST", "events", body, OBJECTS) == (
        400,
        "bad request: data for news must be a JSON object",
    )
    assert await backend.post("events", {**body, "data": "{}"}, OBJECTS) == {}


async def test_info_tells_what_each_channel_has(backend: Backend) -> None:
    await backend.join("shop:presence-a", "shop:news", user="17")
    await backend.join("shop:presence-a", user="17", node=0)
    told = await backend.event(["presence-a", "news", "empty"], info="user_count, subscription_count,cache,nothing")
    assert told == {
        "channels": {
            "presence-a": {"user_count": 1, "subscription_count": 2},
            "news": {"subscription_count": 1},
            "empty": {"subscription_count": 0},
        }
    }
    await backend.join("plain:news", node=0)
    await backend.join("plain:news", node=1)
    told = await backend.event(["news", "empty"], app=PLAIN, info="subscription_count")
    assert told == {"channels": {"news": {"subscription_count": 2}, "empty": {"subscription_count": 0}}}
    assert await backend.event(["news"], info="user_count") == {"channels": {"news": {}}}


async def test_who_asks_and_cannot_be_told_has_published_all_the_same(
    backend: Backend, sent: Sent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> Any:
        raise BrokerUnavailable

    monkeypatch.setattr(backend.kit.gateway.node, "presence_stats", away)
    assert await backend.event(["news"], info="subscription_count") == {"channels": {"news": {}}}
    assert len(sent) == 1
    assert "published, without the info that was asked for" in caplog.text


# — batches —


def item(channel: str = "news", **more: Any) -> dict[str, Any]:
    return {"name": "a", "channel": channel, "data": "1", **more}


async def test_a_batch_keeps_the_order_of_each_channel(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await backend.join("shop:a", "shop:b")
    node = backend.kit.gateway.node
    publish = node.publish

    async def slower_at_first(channel: Any, publication: Publication, *extras: Any) -> Any:
        for _ in range(10 - int(publication.data)):
            await asyncio.sleep(0)
        return await publish(channel, publication, *extras)

    monkeypatch.setattr(node, "publish", slower_at_first)
    batch = [item("ab"[number % 2], data=str(number)) for number in range(10)]
    assert await backend.post("batch_events", {"batch": batch}) == {}
    for channel, numbers in (("shop:a", [0, 2, 4, 6, 8]), ("shop:b", [1, 3, 5, 7, 9])):
        heard = await client.subscription(channel)
        assert [(await heard.next()).data for _ in numbers] == numbers


async def test_info_of_a_batch_stands_where_its_event_does(backend: Backend) -> None:
    await backend.join("shop:news", "shop:presence-a", user="17")
    batch = [item(info="subscription_count"), item("private-a", socket_id="1.2"), item("presence-a", info="user_count")]
    assert await backend.post("batch_events", {"batch": batch}) == {
        "batch": [{"subscription_count": 1}, {}, {"user_count": 1}]
    }
    assert await backend.post("batch_events", {"batch": []}) == {}
    assert await backend.post("batch_events", {"batch": [item(more={"keys": 1})]}) == {}


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (item("no channel"), 400),
        (item(name="pusher:a"), 400),
        (item(data=BIG + "x"), 413),
        (item(channels=["a", "b"]), 400),
        ({}, 400),
        (1, 400),
        (None, 400),
    ],
)
async def test_nothing_of_a_batch_is_sent_unless_all_of_it_may_be(
    backend: Backend, sent: Sent, last: Any, status: int
) -> None:
    assert (await backend.refused("POST", "batch_events", {"batch": [item(), item("b"), last]}))[0] == status
    assert sent == []


async def test_a_batch_has_so_many_events_at_most(backend: Backend, sent: Sent) -> None:
    assert (await backend.refused("POST", "batch_events", {"batch": [item()] * 11}))[0] == 400
    assert (await backend.refused("POST", "batch_events", {"batch": [item()] * 3}, SMALL))[0] == 400
    assert (await backend.refused("POST", "batch_events", {}))[0] == 400
    assert sent == []


# — repeats —


async def test_a_repeat_with_the_same_key_is_published_once(backend: Backend) -> None:
    heard = await (await backend.join("shop:news")).subscription("shop:news")
    body = json.dumps({"batch": [item(), item(data="2")]}).encode()
    for key in ("one", "one", "two"):
        signed = backend.sign("POST", "/apps/9001/batch_events", body)
        headers = {"X-Idempotency-Key": key}
        assert done(await backend.raw("POST", "/apps/9001/batch_events", body, signed, headers)) == {}
    assert [(await heard.next()).data for _ in range(4)] == [1, 2, 1, 2]
    await heard.nothing()


# — for programs —


async def test_a_program_publishes_by_the_same_rules(backend: Backend, sent: Sent) -> None:
    node = backend.kit.gateway.node
    await publish_event(node, SHOP, "order.paid", "5", ["news", "private-a"], "1.2")
    exclude = Exclusion(clients=("1.2",))
    expected = Publication(Payload(b"5"), tags={"event": "order.paid"}, exclude=exclude)
    assert sent == [("shop:news", expected), ("shop:private-a", expected)]
    for name, data in (("a", "\ud800"), ("\ud800", "1")):
        with pytest.raises(Error, match="half a character"):
            await publish_event(node, SHOP, name, data, ["news"])
