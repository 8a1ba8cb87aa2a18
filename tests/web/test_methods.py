"""The methods of the server API: what each takes, does and answers."""

import base64
import json
from typing import Any

import pytest

from gateway.brokers.base import HistoryFilter
from gateway.core.cluster import DisconnectUser, NodeInfo, RefreshUser, SubscribeUser, UnsubscribeUser, seal
from gateway.core.survey import Roll
from gateway.messages import ClientInfo, Payload, Position
from gateway.web import methods
from tests.web.conftest import API, KEY, running

NOT_AVAILABLE = {"code": 108, "message": "not available"}

# — publish and broadcast —


async def test_publish_answers_the_position(api: API) -> None:
    assert await api.result("publish", channel="room", data={}) == {}
    first = await api.result("publish", channel="kept:a", data={})
    assert first == {"offset": 1, "epoch": first["epoch"]}
    assert len(first["epoch"]) > 3
    assert await api.result("publish", channel="kept:a", data={}, skip_history=True) == {}


async def test_a_repeat_with_the_same_key_publishes_nothing(api: API) -> None:
    answers = [await api.result("publish", channel="kept:a", data=n, idempotency_key="k") for n in range(3)]
    assert answers == [answers[0]] * 3
    assert (await api.result("publish", channel="kept:a", data=9))["offset"] == 2


async def test_an_older_version_is_dropped(api: API) -> None:
    for version, offset in ((5, 1), (5, 1), (4, 1), (6, 2)):
        assert (await api.result("publish", channel="kept:a", data=0, version=version))["offset"] == offset
    other = await api.result("publish", channel="kept:a", data=0, version=1, version_epoch="next")
    assert other["offset"] == 3


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"data": {}},
        {"channel": "room"},
        {"channel": "", "data": {}},
        {"channel": "objects:a", "data": [1]},
        {"channel": "objects:a", "b64data": base64.b64encode(b"{broken").decode()},
        {"channel": "strict:a", "b64data": base64.b64encode(b"\xff").decode()},
        {"channel": "room", "b64data": "not base64!"},
        {"channel": "a\nb", "data": {}},
    ],
)
async def test_what_cannot_be_published(api: API, request_: dict[str, Any]) -> None:
    error = await api.error("publish", **request_)
    assert error["code"] == 107
    assert error["message"].startswith("bad request")


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"channel": "kept:a"}, "data must be given"),
        ({"channel": "objects:a", "data": 1}, "data must be a JSON object"),
        ({"channel": "strict:a", "b64data": "eA=="}, "data must be JSON"),
    ],
)
async def test_a_backend_is_told_what_is_wrong_with_its_data(api: API, request_: dict[str, Any], problem: str) -> None:
    assert await api.error("publish", **request_) == {"code": 107, "message": f"bad request: {problem}"}


@pytest.mark.parametrize("name", ["kept:" + "x" * 256, "kept:größe", "kept:李 ,#"])
async def test_the_server_names_what_clients_may_not(api: API, name: str) -> None:
    """The limits of names are for clients' commands."""
    assert (await api.result("publish", channel=name, data={}))["offset"] == 1
    assert (await api.result("history", channel=name, limit=1))["offset"] == 1
    assert await api.result("unsubscribe", user="ann", channel=name) == {}


@pytest.mark.parametrize("user", ["ann", "müller", "a:b", "7,8", "a#b", "ann\n", "x" * 300])
async def test_a_backend_names_a_personal_channel_by_the_id_as_it_is(user: str) -> None:
    settings = {
        "http_api": {"key": KEY},
        "client": {"subscribe_to_user_personal_channel": {"enabled": True}},
        "channel": {"without_namespace": {"history_size": 1, "history_ttl": 60}},
    }
    async with running(settings) as api:
        assert (await api.result("publish", channel=f"#{user}", data=1))["offset"] == 1
        assert (await api.result("history", channel=api.node.channels.personal(user)))["offset"] == 1


async def test_payloads_keep_their_bytes(api: API) -> None:
    data = '{"big":123456789012345678901234567890,"float":1.10,"e":1E400,"ü":"\\u00fc", "again":1,"again":2}'
    await api.post("publish", f'{{"channel":"kept:a","data": {data} }}'.encode())
    [stored], _ = await api.node.history(api.node.channels.resolve("kept:a"), HistoryFilter(-1))
    assert stored.data == data.encode()
    assert data in (await api.post("history", '{"channel":"kept:a","limit":-1}')).text


async def test_data_may_come_as_base64(api: API) -> None:
    for data in (b'{"a":  1}', b"\xff\x00"):
        await api.result("publish", channel="kept:a", data="ignored", b64data=base64.b64encode(data).decode())
    history = await api.result("history", channel="kept:a", limit=-1)
    assert history["publications"] == [
        {"data": {"a": 1}, "offset": 1},
        {"data": None, "b64data": base64.b64encode(b"\xff\x00").decode(), "offset": 2},
    ]


async def test_broadcast_answers_for_each_channel_in_order(api: API) -> None:
    channels = ["kept:a", "nowhere:a", "room", "kept:b", "", "objects:a"]
    result = await api.result("broadcast", channels=channels, data=[1])
    kept, unknown, plain, other, nameless, no_object = result["responses"]
    assert kept["result"]["offset"] == other["result"]["offset"] == 1
    assert plain == {"result": {}}
    assert unknown == {"error": {"code": 102, "message": "unknown channel"}}
    assert (nameless["error"]["code"], no_object["error"]["code"]) == (107, 107)
    assert (await api.error("broadcast", data=1))["code"] == 107
    assert (await api.error("broadcast", channels=[], data=1))["code"] == 107


# — commands for connections —


async def test_subscribe(api: API, commands: list[Any]) -> None:
    assert await api.result("subscribe", user="ann", channel="room") == {}
    override = {"presence": {"value": True}, "force_recovery": {"value": False}}
    await api.result(
        "subscribe",
        user="ann",
        channel="kept:a",
        expire_at=2_000_000_000,
        info={"a": 1},
        b64data=base64.b64encode(b"[1]").decode(),
        client="c",
        session="s",
        recover_since={"offset": 4, "epoch": "abcd"},
        override=override,
    )
    assert commands == [
        SubscribeUser(user="ann", channel="room"),
        SubscribeUser(
            user="ann",
            client="c",
            session="s",
            channel="kept:a",
            info=Payload(b'{"a": 1}'),
            data=Payload(b"[1]"),
            override={"presence": True, "force_recovery": False},
            expire_at=2_000_000_000,
            since=Position(4, "abcd"),
        ),
    ]
    for broken in ("!", base64.b64encode(b"\xff").decode()):
        assert (await api.error("subscribe", user="ann", channel="room", b64info=broken))["code"] == 107
    assert (await api.error("subscribe", user="ann"))["code"] == 107
    assert (await api.error("subscribe", user="ann", channel="nowhere:a"))["code"] == 102
    assert len(commands) == 2


async def test_unsubscribe(api: API, commands: list[Any]) -> None:
    assert await api.result("unsubscribe", user="ann", channel="room", client="c") == {}
    assert commands == [UnsubscribeUser(user="ann", client="c", channel="room", code=2000, reason="server unsubscribe")]
    assert (await api.error("unsubscribe", user="ann"))["code"] == 107


async def test_disconnect(api: API, commands: list[Any]) -> None:
    assert await api.result("disconnect", user="") == {}
    await api.result("disconnect", user="ann", whitelist=["a"], disconnect={"code": 4001, "reason": "lunch"})
    await api.result("disconnect", user="ann", disconnect={"code": 4001})
    assert commands == [
        DisconnectUser(user="", code=3503, reason="force disconnect"),
        DisconnectUser(user="ann", code=4001, reason="lunch", whitelist=["a"]),
        DisconnectUser(user="ann", code=4001, reason="disconnected"),
    ]
    for wrong in ({"code": 1000}, {"code": 2999}, {"code": 5000}, {"code": -1}, {"reason": "ü" * 62}):
        assert (await api.error("disconnect", user="ann", disconnect=wrong))["code"] == 107
    assert len(commands) == 3


async def test_blocks(api: API) -> None:
    now = int(api.node.clock())
    assert await api.result("block_user", user="ann") == {}
    assert await api.result("block_user", user="bob", expire_at=now + 600) == {}
    assert await api.result("block_user", user="dan", expire_at=now + 60) == {}
    assert await api.result("unblock_user", user="dan") == {}
    listed = [{"user": "ann"}, {"user": "bob", "expire_at": now + 600}]
    assert await api.result("blocked_users") == {"users": listed}
    assert await api.result("blocked_users", limit=1) == {"users": listed[:1], "cursor": "ann"}
    assert await api.result("blocked_users", limit=1, cursor="ann") == {"users": listed[1:]}


@pytest.mark.parametrize(
    ("method", "request_", "problem"),
    [
        ("block_user", {}, "user must be given"),
        ("block_user", {"user": "ann", "expire_at": 1}, "expire_at must be in the future"),
        ("block_user", {"user": "ann", "expire_at": -1}, "expire_at must be in the future"),
        ("unblock_user", {"user": ""}, "user must be given"),
    ],
)
async def test_what_cannot_be_blocked(api: API, method: str, request_: dict[str, Any], problem: str) -> None:
    error = await api.error(method, **request_)
    assert (error["code"], problem in error["message"]) == (107, True)


async def test_a_subscription_that_has_expired_is_refused(api: API, commands: list[Any]) -> None:
    now = int(api.node.clock())
    for expire_at in (1, now - 1, now):
        error = await api.error("subscribe", user="ann", channel="room", expire_at=expire_at)
        assert (error["code"], "expire_at must be in the future" in error["message"]) == (107, True)
    for expire_at in (0, -1, now + 100):
        assert await api.result("subscribe", user="ann", channel="room", expire_at=expire_at) == {}
    assert [each.expire_at for each in commands] == [0, 0, now + 100]


@pytest.mark.parametrize("name", ["re:UPPER", "re:größe", "re:" + "x" * 300])
async def test_the_server_subscribes_to_names_that_clients_may_not_use(name: str) -> None:
    kept = {"name": "re", "channel_regex": "^[a-z]+$", "history_size": 1, "history_ttl": "60s", "presence": True}
    async with running({"http_api": {"key": KEY}, "channel": {"namespaces": [kept]}}) as api:
        for method in ("subscribe", "unsubscribe"):
            assert await api.result(method, user="ann", channel=name) == {}
        for method in ("history", "history_remove", "presence", "presence_stats"):
            await api.result(method, channel=name)
        assert (await api.result("broadcast", channels=[name], data=1))["responses"][0]["result"]["offset"] == 1


async def test_refresh(api: API, commands: list[Any]) -> None:
    assert await api.result("refresh", user="ann", expired=True) == {}
    await api.result("refresh", user="ann", expire_at=99, info={})
    assert commands == [
        RefreshUser(user="ann", expired=True),
        RefreshUser(user="ann", expire_at=99, info=Payload(b"{}")),
    ]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("refresh", {"user": "ann", "expire_at": 10**30}),
        ("subscribe", {"user": "ann", "channel": "room", "expire_at": 10**30}),
        ("history", {"channel": "kept:a", "limit": 10**30}),
        ("publish", {"channel": "kept:a", "data": 1, "version": 10**30}),
    ],
)
async def test_numbers_beyond_all_bounds_are_no_internal_error(api: API, method: str, request_: dict[str, Any]) -> None:
    response = await api.post(method, json.dumps(request_))
    assert response.status_code in (200, 400)


# — what is known —


async def test_presence_in_pages(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "MEMBERS", 3)
    for number in range(10):
        await api.node.presence_store.add("shown:a", ClientInfo("ann", f"c{number}"))
    everybody = (await api.result("presence", channel="shown:a"))["presence"]
    assert sorted(everybody) == [f"c{number}" for number in range(10)]
    first = await api.result("presence", channel="shown:a", limit=2)
    assert len(first["presence"]) == 2
    rest = await api.result("presence", channel="shown:a", cursor=first["cursor"])
    assert first["presence"] | rest["presence"] == everybody
    assert len(rest["presence"]) == 8
    assert "cursor" not in rest
    assert await api.result("presence", channel="shown:empty") == {"presence": {}}
    assert (await api.error("presence", channel="shown:a", limit=2, cursor="?"))["code"] == 107


async def test_presence(api: API) -> None:
    await api.node.presence_store.add("shown:a", ClientInfo("ann", "c1", Payload(b'{"n": 1}'), Payload(b"[]")))
    await api.node.presence_store.add("shown:a", ClientInfo("ann", "c2"))
    assert await api.result("presence", channel="shown:a") == {
        "presence": {
            "c1": {"user": "ann", "client": "c1", "conn_info": {"n": 1}, "chan_info": []},
            "c2": {"user": "ann", "client": "c2"},
        }
    }
    assert await api.result("presence_stats", channel="shown:a") == {"num_clients": 2, "num_users": 1}
    assert await api.result("presence_stats", channel="shown:b") == {"num_clients": 0, "num_users": 0}
    for method in ("presence", "presence_stats"):
        assert await api.error(method, channel="kept:a") == NOT_AVAILABLE
        assert (await api.error(method))["code"] == 107


async def test_history(api: API) -> None:
    assert (await api.result("history", channel="kept:a"))["publications"] == []
    for n in range(5):
        await api.result("publish", channel="kept:a", data=n, tags={"n": str(n)})
    top = await api.result("history", channel="kept:a")
    assert top == {"publications": [], "offset": 5, "epoch": top["epoch"]}
    newest = await api.result("history", channel="kept:a", limit=1, reverse=True)
    assert newest == {**top, "publications": [{"data": 4, "offset": 5, "tags": {"n": "4"}}]}

    async def offsets(**request: Any) -> list[int]:
        result = await api.result("history", channel="kept:a", **request)
        return [each["offset"] for each in result["publications"]]

    since = {"offset": 3, "epoch": top["epoch"]}
    assert await offsets(limit=-1) == [1, 2, 3, 4, 5]
    assert await offsets(limit=2) == [1, 2]
    assert await offsets(limit=-1, since=since) == [4, 5]
    assert await offsets(limit=-1, since=since, reverse=True) == [2, 1]
    assert (await api.error("history", channel="kept:a", since={"epoch": "other"}))["code"] == 112
    assert (await api.error("history", channel="kept:a", since={"offset": 0}, reverse=True))["code"] == 107

    assert await api.result("history_remove", channel="kept:a") == {}
    assert await api.result("history", channel="kept:a", limit=-1) == top
    assert await api.error("history", channel="room") == NOT_AVAILABLE
    assert await api.error("history_remove", channel="room") == NOT_AVAILABLE


async def test_channels(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await api.result("channels") == {"channels": {}}
    counts = {f"{letter}:{number}": 2 for letter in "ab" for number in range(3)}

    monkeypatch.setattr(api.node, "answer", Roll(counts, counts.__getitem__, api.node.wheel).page)
    monkeypatch.setattr("gateway.web.methods.FAIR", 2)
    everything = {name: {"num_clients": 2} for name in counts}
    assert await api.result("channels") == {"channels": everything}
    assert await api.result("channels", pattern="b*", limit=3) == {"channels": dict(list(everything.items())[3:])}
    first = await api.result("channels", limit=4)
    assert (len(first["channels"]), first["cursor"]) == (4, "b:0")
    rest = await api.result("channels", limit=4, cursor="b:0")
    assert rest == {"channels": dict(list(everything.items())[4:])}
    assert (await api.error("channels", cursor="x" * 256))["code"] == 107
    assert (await api.post("channels", '{"limit":-1}')).status_code == 400


async def test_channels_says_which_nodes_have_not_answered(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.cluster.SURVEY_TIMEOUT", 0.01)
    api.node.cluster.receive(seal("uid", NodeInfo("uid", "node b", "1")))
    assert await api.result("channels") == {"channels": {}, "partial": True, "missing": ["node b"]}


async def test_info(api: API) -> None:
    [node] = (await api.result("info"))["nodes"]
    assert node == {
        "uid": api.node.uid,
        "name": api.node.describe().name,
        "version": api.node.describe().version,
        "num_clients": 0,
        "num_users": 0,
        "num_subs": 0,
        "num_channels": 0,
        "uptime": node["uptime"],
    }


async def test_rpc_without_extensions_is_not_found(api: API) -> None:
    response = await api.post("rpc", '{"method":"weather","params":{}}')
    assert (response.status_code, response.json()) == (200, {"error": {"code": 104, "message": "not found"}})


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "disconnect", "refresh"])
async def test_a_user_that_is_missing_is_not_everybody_without_name(api: API, method: str) -> None:
    assert (await api.error(method, channel="news"))["code"] == 107
    assert await api.result(method, channel="news", user="") == {}


async def test_a_pattern_is_no_longer_than_a_name(api: API) -> None:
    """Translating it takes quadratic time."""
    assert await api.result("channels", pattern="[" * 255) == {"channels": {}}
    assert (await api.error("channels", pattern="[" * 256))["code"] == 107


@pytest.mark.parametrize("parallel", [False, True])
async def test_many_items_are_worked_on_in_chunks(api: API, monkeypatch: pytest.MonkeyPatch, parallel: bool) -> None:
    monkeypatch.setattr("gateway.core.tasks.CHUNK", 2)
    monkeypatch.setattr("gateway.web.api.CHUNK", 2)
    answer = await api.result("broadcast", channels=[f"kept:{n}" for n in range(5)], data=1)
    assert [each["result"]["offset"] for each in answer["responses"]] == [1] * 5
    commands = [{"presence_stats": {"channel": f"shown:{n}"}} for n in range(5)]
    replies = (await api.answer("batch", commands=commands, parallel=parallel))["replies"]
    assert replies == [{"presence_stats": {"num_clients": 0, "num_users": 0}}] * 5


async def test_a_caller_that_leaves_amid_its_body_is_no_failure_of_ours(
    api: API, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/info", "query_string": b"", "http_version": "1.1"}
    await api.app({**scope, "headers": [(b"x-api-key", KEY.encode())]}, receive, send)
    assert sent[0]["status"] == 400
    assert not caplog.records
