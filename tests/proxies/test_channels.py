"""What happens in channels, decided by a backend."""

import base64
import time
from typing import Any

import pytest

from gateway.messages import Payload, Publication
from tests.proxies.backend import Backend, Raw
from tests.proxies.client import Gateway, channel_token, gateway_running, token
from tests.waiting import until

TEMPORARY = {"code": 100, "message": "internal server error", "temporary": True}
HISTORY = {"history_size": 10, "history_ttl": "60s"}
PROXIED = {f"{event}_proxy_enabled": True for event in ("subscribe", "publish", "sub_refresh")}
ERROR = {"code": 1403, "message": "not a member"}


def settings(backend: Backend, **proxy: Any) -> dict[str, Any]:
    def at(path: str) -> dict[str, Any]:
        return {"endpoint": f"{backend.url}/{path}", "timeout": 30, **proxy}

    cache = {"force_recovery": True, "force_recovery_mode": "cache", "cache_empty_proxy_enabled": True, **HISTORY}
    open_to_all = {"allow_subscribe_for_client": True}
    return {
        "channel": {
            "proxy": {event: at(event) for event in ("subscribe", "publish", "sub_refresh", "cache_empty")},
            "namespaces": [
                {"name": "room", **PROXIED, **HISTORY, "allow_recovery": True, "presence": True, "join_leave": True},
                {"name": "dm", "subscribe_proxy_enabled": True, "allow_user_limited_channels": True},
                {"name": "cell", **cache, **open_to_all},
                {"name": "objects", "publish_proxy_enabled": True, "publication_data_format": "json_object"},
                {"name": "named", "subscribe_proxy_enabled": True, "subscribe_proxy_name": "other"},
                {"name": "word", "subscribe_proxy_enabled": True, "channel_regex": "^[a-zä]+$"},
                {"name": "free", **open_to_all},
            ],
            "without_namespace": {"subscribe_proxy_enabled": True},
        },
        "proxies": [{"name": "other", **at("other")}],
    }


# — subscribe —


async def test_who_may_subscribe(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        answer = await client.ask("subscribe", channel="room:42", data={"a": 1}, recoverable=True, join_leave=True)
        assert answer == {}, "flags of the request count for nothing here"
        session = gateway.session()
    assert backend.of("/subscribe") == [
        {
            "client": session.client,
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "7",
            "channel": "room:42",
            "data": {"a": 1},
        }
    ]


async def test_what_a_subscription_has(backend: Backend) -> None:
    override = {"force_recovery": {"value": True}, "force_push_join_leave": {"value": True}, "presence": None}
    later = int(time.time()) + 3600
    result = {"info": {"seat": 3}, "data": {"topic": "x"}, "expire_at": later, "override": override}
    backend.answers["/subscribe"] = [{"result": result}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        answer = await client.ask("subscribe", channel="room:42")
        assert (answer["recoverable"], answer["positioned"], answer["data"]) == (True, True, {"topic": "x"})
        assert "expires" not in answer, "a backend renews it"
        (subscription,) = gateway.session().subscriptions.values()
        assert subscription.expire_at == later
        assert (await client.push())["join"]["info"]["chan_info"] == {"seat": 3}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, {}),
        ({"result": {}}, {}),
        ({"result": {"data": 1}}, {"data": 1}),
        ({"error": ERROR}, ERROR),
        ({"disconnect": {"code": 4500, "reason": "out"}}, (4500, "out")),
        ({"result": {"expire_at": 1}}, {"code": 110, "message": "expired"}),
        ({"result": {"b64data": "/w=="}}, TEMPORARY),
        ({"result": {"override": {"presence": 1}}}, TEMPORARY),
        (Raw(503), TEMPORARY),
        (Raw(body=None), TEMPORARY),
    ],
)
async def test_what_a_subscriber_gets_for_an_answer(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/subscribe"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("subscribe", channel="room:1") == expected
        assert gateway.node.hub.subscriptions == (1 if "code" not in expected and expected != (4500, "out") else 0)


@pytest.mark.parametrize(
    ("channel", "path"), [("named:1", "/other"), ("word:wä", "/subscribe"), ("news", "/subscribe"), ("free:1", "")]
)
async def test_which_backend_is_asked(backend: Backend, channel: str, path: str) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("subscribe", channel=channel) == {}
    assert [(each.path, each.body["channel"]) for each in backend.asked] == ([(path, channel)] if path else [])


@pytest.mark.parametrize(
    ("channel", "code"),
    [("$room:1", 103), ("dm:a#8,9", 103), ("nope:1", 102), ("word:w1", 107), ("named:ä", 107)],
)
async def test_who_is_refused_unasked(backend: Backend, channel: str, code: int) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert (await client.ask("subscribe", channel=channel))["code"] == code
    assert not backend.asked


async def test_who_is_let_in_unasked(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("subscribe", channel="dm:a#7,9") == {}
        for channel in ("$room:1", "room:2"):
            assert "code" not in await client.ask("subscribe", channel=channel, token=channel_token("7", channel))
    assert not backend.asked


async def test_a_connect_command_subscribes_to_none_that_a_backend_decides(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.client() as client:
        answer = await client.ask("connect", token=token("7"), subs={"room:1": {}, "free:1": {}})
        assert answer["subs"] == {"free:1": {}}
    assert not backend.asked


async def test_meta_and_headers_of_the_connection_go_along(backend: Backend) -> None:
    values = settings(backend, include_connection_meta=True, http_headers=["Cookie"], emulated_headers=["X-Device"])
    async with gateway_running(values) as gateway, gateway.client(Cookie="a=1") as client:
        await client.ask(
            "connect", token=token("7", meta={"plan": "free"}), headers={"x-device": "phone", "Other": "x"}
        )
        await client.ask("subscribe", channel="room:1")
        session = gateway.session()
        assert session.headers == {"x-device": "phone"}, "of others nothing is kept"
    (asked,) = backend.asked
    assert asked.body["meta"] == {"plan": "free"}
    assert (asked.header("Cookie"), asked.header("X-Device")) == (["a=1"], ["phone"])


async def test_meta_is_not_told_unless_it_is_wanted(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected(meta={"plan": "free"}) as client:
        await client.ask("subscribe", channel="room:1")
    assert "meta" not in backend.of("/subscribe")[0]


# — publish —


async def listening(gateway: Gateway, channel: str) -> Any:
    """All that is published there from now on."""
    heard: list[Publication] = []
    deliver = gateway.node.deliver

    def hear(name: str, publication: Publication) -> None:
        if name == channel:
            heard.append(publication)
        deliver(name, publication)

    gateway.node.deliver = hear
    await gateway.node.broker.subscribe(channel)
    return heard


async def test_a_publication_as_it_is(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        assert await client.ask("publish", channel="room:1", data={"text": "hi"}) == {}, "without a subscription, too"
        (publication,) = heard
        assert (publication.data, publication.info.user, publication.offset) == (b'{"text": "hi"}', "7", 1)
        session = gateway.session()
    assert backend.of("/publish") == [
        {
            "client": session.client,
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "7",
            "channel": "room:1",
            "data": {"text": "hi"},
        }
    ]


async def test_another_publication(backend: Backend) -> None:
    result = {"data": {"text": "[cut]"}, "tags": {"lang": "en"}, "idempotency_key": "k"}
    backend.answers["/publish"] = [{"result": result}, {"result": result}, {"result": {"skip_history": True}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        for _ in range(3):
            assert await client.ask("publish", channel="room:1", data="x") == {}
        first, last = heard
        assert (first.data, first.tags, first.info.user) == (b'{"text":"[cut]"}', {"lang": "en"}, "7")
        assert (first.offset, last.offset, last.data) == (1, 0, b'"x"')


async def test_versions(backend: Backend) -> None:
    backend.answers["/publish"] = [{"result": {"version": each, "version_epoch": "e"}} for each in (2, 1)]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        for _ in range(2):
            assert await client.ask("publish", channel="room:1", data="x") == {}
        assert len(heard) == 1


@pytest.mark.parametrize("delta_publish", [True, False])
async def test_patches_are_for_the_backend_to_allow(backend: Backend, delta_publish: bool) -> None:
    """Whatever delta_publish says, as in Centrifugo; that is for what clients publish unasked."""
    results: list[Any] = [{"delta": True}, {"delta": False}, {}, None]
    backend.answers["/publish"] = [{"result": result} for result in results]
    given = settings(backend)
    given["channel"]["namespaces"][0] |= {"allowed_delta_types": ["fossil"], "delta_publish": delta_publish}
    async with gateway_running(given) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        for _ in results:
            assert await client.ask("publish", channel="room:1", data="x") == {}
        assert [each.patchable for each in heard] == [True, False, False, False]


async def test_bytes_in_place_of_json(backend: Backend) -> None:
    backend.answers["/publish"] = [{"result": {"b64data": base64.b64encode(b"\xff\x00").decode()}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        assert await client.ask("publish", channel="room:1", data="x") == {}
        assert (heard[0].data, heard[0].binary) == (b"\xff\x00", True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": ERROR}, ERROR),
        ({"disconnect": {"code": 4500, "reason": "spam"}}, (4500, "spam")),
        ({"result": {"data": [1]}}, {"code": 107, "message": "bad request"}),
        ({"result": {"b64data": "/w=="}}, {"code": 107, "message": "bad request"}),
        ({"result": {"b64data": "?"}}, TEMPORARY),
        ({"result": {"version": -1}}, TEMPORARY),
        (Raw(500), TEMPORARY),
        (Raw(body=None), TEMPORARY),
    ],
)
async def test_what_a_publisher_gets_for_an_answer(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/publish"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "objects:1")
        assert await client.ask("publish", channel="objects:1", data={}) == expected
        assert not heard
    assert len(backend.asked) == 1, "what may have been done is not asked for twice"


async def test_what_is_not_to_be_published_is_not_asked_about(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert (await client.ask("publish", channel="objects:1", data=[1]))["code"] == 107
        assert (await client.ask("publish", channel="free:1", data=[1]))["code"] == 103
    assert not backend.asked


async def test_publications_keep_their_order(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        heard = await listening(gateway, "room:1")
        numbers = [await client.send("publish", channel="room:1", data=n) for n in range(20)]
        for number in numbers:
            assert await client.reply(number, "publish") == {}
        assert [int(each.data) for each in heard] == [*range(20)]
    assert backend.most == 1


async def test_base64(backend: Backend) -> None:
    async with gateway_running(settings(backend, binary_encoding=True)) as gateway, gateway.connected() as client:
        assert await client.ask("publish", channel="room:1", data={"a": 1}) == {}
        assert await client.ask("subscribe", channel="room:2") == {}
    published, subscribed = (each.body for each in backend.asked)
    assert (published["encoding"], base64.b64decode(published["b64data"])) == ("binary", b'{"a": 1}')
    assert (subscribed["encoding"], "b64data" in subscribed) == ("binary", False)


# — sub_refresh —


async def expiring(gateway: Gateway, client: Any) -> Any:
    """A subscription whose time is over as soon as it is there."""
    assert "expires" not in await client.ask("subscribe", channel="room:1")
    session = gateway.session()
    subscription = session.subscriptions["room:1"]
    subscription.expire(int(time.time()))
    return subscription


@pytest.mark.parametrize("later", [int(time.time()) + 3600, 0], ids=["later", "never"])
async def test_a_subscription_is_renewed(backend: Backend, later: int) -> None:
    backend.answers["/sub_refresh"] = [{"result": {"expire_at": later, "info": {"seat": 4}}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        subscription = await expiring(gateway, client)
        await until(lambda: subscription.expire_at == later)
        members = await gateway.node.presence_store.members("room:1")
        assert [each.chan_info for each in members.values()] == [b'{"seat":4}']
        known = channel_token("7", "room:1")
        assert await client.ask("sub_refresh", channel="room:1", token=known) == (3501, "bad request")
    (asked,) = backend.of("/sub_refresh")
    assert (asked["user"], asked["channel"]) == ("7", "room:1")


@pytest.mark.parametrize(
    "answer", [{}, {"result": {"expired": True}}, {"result": {"expire_at": 1}}, {"error": ERROR}, {"disconnect": {}}]
)
async def test_a_subscription_is_not_renewed(backend: Backend, answer: Any) -> None:
    backend.answers["/sub_refresh"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        await expiring(gateway, client)
        push = await client.push()
        assert push == {"channel": "room:1", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}


async def test_while_the_backend_is_away_subscriptions_go_on(backend: Backend) -> None:
    backend.answers["/sub_refresh"] = [Raw(500)]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        now = int(time.time())
        subscription = await expiring(gateway, client)
        await until(lambda: now + 60 <= subscription.expire_at <= now + 120)


async def test_a_subscription_that_ends_meanwhile_stays_ended(backend: Backend) -> None:
    backend.answers["/sub_refresh"] = [{"result": {"expire_at": int(time.time()) + 3600}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        await client.ask("subscribe", channel="room:1")
        session = gateway.session()
        subscription = session.subscriptions["room:1"]
        backend.hold()
        subscription.expire(int(time.time()))
        await until(lambda: backend.under_way)
        assert await client.ask("unsubscribe", channel="room:1") == {}
        backend.release()
        await until(lambda: not gateway.node.metrics.proxy_calls["sub_refresh", "default"])
        assert not subscription.live
        assert subscription.expire_at < time.time() + 10
        assert not gateway.node.hub.subscriptions


# — cache_empty —


async def test_a_backend_publishes_what_a_cache_begins_with(backend: Backend) -> None:
    backend.answers["/cache_empty"] = [{"result": {"populated": True}}]
    backend.hold()
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        number = await client.send("subscribe", channel="cell:1", recover=True)
        await until(lambda: backend.under_way)
        channel = gateway.node.channels.resolve("cell:1")
        await gateway.node.publish(channel, Publication(Payload(b'{"n":1}')))
        backend.release()
        answer = await client.reply(number, "subscribe")
        assert [each["data"] for each in answer["publications"]] == [{"n": 1}]
    assert backend.of("/cache_empty") == [{"channel": "cell:1"}]


async def test_or_says_it(backend: Backend) -> None:
    backend.answers["/cache_empty"] = [{"result": {"data": {"n": 1}}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        for _ in range(2):
            answer = await client.ask("subscribe", channel="cell:1", recover=True)
            assert [each["data"] for each in answer["publications"]] == [{"n": 1}]
            await client.ask("unsubscribe", channel="cell:1")
    assert backend.of("/cache_empty") == [{"channel": "cell:1"}]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [({}, {}), ({"result": {}}, {}), (Raw(500), TEMPORARY), ({"error": ERROR}, ERROR), (Raw(body=None), TEMPORARY)],
)
async def test_what_a_subscriber_of_an_empty_cache_gets(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/cache_empty"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        given = await client.ask("subscribe", channel="cell:1")
        assert {**given, **expected} == given
        assert ("code" in given) == ("code" in expected)


async def test_all_who_come_to_an_empty_cache_ask_once(backend: Backend) -> None:
    backend.answers["/cache_empty"] = [{"result": {"populated": True}}]
    backend.hold()
    async with (
        gateway_running(settings(backend)) as gateway,
        gateway.connected() as first,
        gateway.connected() as second,
        gateway.connected() as third,
    ):
        numbers = [(each, await each.send("subscribe", channel="cell:1")) for each in (first, second, third)]
        await until(lambda: gateway.node.metrics.commands["SubscribeRequest"] == 3)
        backend.release()
        for each, number in numbers:
            assert "code" not in await each.reply(number, "subscribe")
    assert len(backend.asked) <= 2, "whoever comes while one is asked waits for the next, together"


async def test_a_token_that_no_key_verifies_is_for_the_backend(backend: Backend) -> None:
    """But for private channels: what guards these must be known here."""
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    values = settings(backend)
    connect = {"enabled": True, "endpoint": f"{backend.url}/connect", "timeout": 30}
    values["client"] = {"token": {}, "proxy": {"connect": connect}}
    async with gateway_running(values) as gateway, gateway.client() as client:
        await client.ask("connect")
        assert await client.ask("subscribe", channel="room:1", token="its own") == {}
        assert (await client.ask("subscribe", channel="$room:1", token="its own"))["code"] == 103
    assert [each["token"] for each in backend.of("/subscribe")] == ["its own"]
