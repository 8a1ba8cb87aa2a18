"""Connect and refresh, decided by a backend."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import pytest

from gateway.messages import Payload, Publication
from tests.proxies.backend import Backend, Raw
from tests.proxies.client import Gateway, gateway_running, token
from tests.waiting import until

TEMPORARY = {"code": 100, "message": "internal server error", "temporary": True}
NAMESPACES = [
    {"name": "room", "presence": True},
    {"name": "cell", "history_size": 10, "history_ttl": "60s", "force_recovery": True, "force_recovery_mode": "cache"},
    {"name": "open", "allow_subscribe_for_client": True},
]


def settings(backend: Backend, *, client: dict[str, Any] | None = None, **proxy: Any) -> dict[str, Any]:
    connect = {"enabled": True, "endpoint": f"{backend.url}/connect", "timeout": 30, **proxy}
    return {
        "client": {"proxy": {"connect": connect}, **(client or {})},
        "channel": {"namespaces": NAMESPACES},
    }


async def test_who_it_is_and_what_it_gets(backend: Backend) -> None:
    subs = {"room:1": {"info": {"seat": 1}, "data": {"topic": "x"}, "override": {"presence": {"value": False}}}}
    result = {"user": "7", "info": {"name": "Ann"}, "data": [1], "channels": ["room:2", "room:1"], "subs": subs}
    backend.answers["/connect"] = [{"result": result}]
    async with gateway_running(settings(backend)) as gateway, gateway.client() as client:
        answer = await client.ask("connect", data={"key": "abc"}, name="js", version="1", subs={"open:1": {}})
        assert answer["data"] == [1]
        assert answer["subs"] == {"room:1": {"data": {"topic": "x"}}, "room:2": {}}, (
            "what it asks for is for the backend"
        )
        assert "expires" not in answer
        session = gateway.session(answer["client"])
        assert (session.user, session.info) == ("7", b'{"name":"Ann"}')
        members = await gateway.node.presence_store.members("room:2")
        assert [each.conn_info for each in members.values()] == [b'{"name":"Ann"}']
        assert not await gateway.node.presence_store.members("room:1")
    (asked,) = backend.asked
    assert asked.body == {
        "client": answer["client"],
        "transport": "websocket",
        "protocol": "json",
        "encoding": "json",
        "data": {"key": "abc"},
        "name": "js",
        "version": "1",
        "channels": ["open:1"],
    }
    assert asked.header("Content-Type") == ["application/json"]
    assert asked.header("User-Agent")[0].startswith("gateway/")


async def test_base64(backend: Backend) -> None:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    subs = {"room:1": {"b64info": encoded('"i"'), "b64data": encoded("[ 2 ]")}}
    result = {"user": "7", "b64info": encoded('{"a": 1}'), "b64data": encoded("[ 1 ]"), "subs": subs}
    backend.answers["/connect"] = [{"result": result}]
    async with gateway_running(settings(backend, binary_encoding=True)) as gateway, gateway.client() as client:
        answer = await client.ask("connect", data={"key": 1})
        assert (answer["data"], answer["subs"]) == ([1], {"room:1": {"data": [2]}})
        session = gateway.session(answer["client"])
        assert session.info == b'{"a":1}'
        (member,) = (await gateway.node.presence_store.members("room:1")).values()
        assert member.chan_info == b'"i"'
    (asked,) = backend.asked
    assert asked.body["encoding"] == "binary"
    assert "data" not in asked.body
    assert base64.b64decode(asked.body["b64data"]) == b'{"key": 1}'


DISCONNECT = {"code": 4501, "reason": "go away"}
ERROR = {"code": 1403, "message": "not you"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"result": {"user": ""}}, ""),
        ({"result": {}}, ""),
        ({"result": {"user": "7", "info": None, "channels": None, "subs": None, "b64data": None}, "error": None}, "7"),
        ({"result": {"user": "7"}, "unknown": 1}, "7"),
        ({}, (3501, "bad request")),
        ({"error": ERROR}, ERROR),
        ({"error": {"code": 109, "message": "again", "temporary": True}}, {"code": 109, "message": "again"}),
        ({"error": {"message": "no code"}}, {"code": 100, "message": "no code", "temporary": True}),
        ({"disconnect": DISCONNECT}, (4501, "go away")),
        ({"disconnect": DISCONNECT, "error": ERROR, "result": {"user": "7"}}, (4501, "go away")),
        ({"error": ERROR, "result": {"user": "7"}}, ERROR),
        ({"disconnect": {"code": 1000, "reason": "x" * 200}}, (3004, "x" * 123)),
        ({"result": {"user": "7", "channels": ["nope:1"]}}, {"code": 102, "message": "unknown channel"}),
        ({"result": {"user": "7", "subs": {"nope:1": {"cache_recover": True}}}}, {"code": 102}),
        ({"result": {"user": "7", "expire_at": 1}}, {"code": 110, "message": "expired"}),
        ({"result": {"user": 7}}, TEMPORARY),
        ({"result": {"user": "7", "b64info": "?"}}, TEMPORARY),
        ({"result": {"user": "7", "b64info": "AAEC"}}, TEMPORARY),
        ({"result": {"user": "7", "meta": [1]}}, TEMPORARY),
        ([], TEMPORARY),
        (Raw(body=b"<html>"), TEMPORARY),
        (Raw(body=b'{"result":{"user":"\xff"}}'), TEMPORARY),
        (Raw(body=b""), TEMPORARY),
        (Raw(500), TEMPORARY),
        (Raw(302, headers={"Location": "/elsewhere"}), TEMPORARY),
        (Raw(body=None), TEMPORARY),
        (Raw(403), {"code": 403, "message": "forbidden"}),
        (Raw(401), (4001, "log in")),
        (Raw(body=b'{"result":{"user":"%b"}}' % (b"x" * 5000)), TEMPORARY),
        (Raw(body=b'{"result":{"user":"%b"}}' % (b"x" * 5000), chunked=True), TEMPORARY),
        (Raw(body=b'{"result":{"user":"7"}}', chunked=True), "7"),
    ],
)
async def test_what_the_client_gets_for_an_answer(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/connect"] = [answer]
    meanings = [
        {"status_code": 403, "to_error": {"code": 403, "message": "forbidden"}},
        {"status_code": 401, "to_disconnect": {"code": 4001, "reason": "log in"}},
    ]
    values = settings(backend, http={"status_to_code_transforms": meanings}, response_size_limit=4000)
    async with gateway_running(values) as gateway, gateway.client() as client:
        given = await client.ask("connect")
        if isinstance(expected, str):
            assert gateway.session(given["client"]).user == expected
        elif isinstance(expected, dict):
            assert {**given, **expected} == given
        else:
            assert given == expected
    assert {each.path for each in backend.asked} == {"/connect"}


async def test_a_token_decides_alone(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway:
        async with gateway.client() as client:
            assert "client" in await client.ask("connect", token=token("7"))
        async with gateway.client() as client:
            assert await client.ask("connect", token="nonsense") == (3500, "invalid token")
    assert not backend.asked


@pytest.mark.parametrize(
    ("client", "user"),
    [({"allow_anonymous_connect_without_token": True}, ""), ({"user_id_http_header": "X-User"}, "9")],
)
async def test_who_the_backend_does_not_know_may_come_otherwise(
    backend: Backend, client: dict[str, Any], user: str
) -> None:
    backend.answers["/connect"] = [{}, {"result": {"user": "7"}}]
    async with gateway_running(settings(backend, client=client)) as gateway:
        for expected in (user, "7"):
            async with gateway.client(**{"X-User": "9"}) as peer:
                answer = await peer.ask("connect")
                assert gateway.session(answer["client"]).user == expected
    assert len(backend.asked) == 2


async def test_headers(backend: Backend) -> None:
    """The client's own come before what it calls so, and these before ours; of all only those listed."""
    values = settings(
        backend,
        http_headers=["Cookie", "Authorization"],
        emulated_headers=["authorization", "X-Device", "X-Broken"],
        http={"static_headers": {"X-Api-Key": "ours", "X-Device": "none", "Authorization": "none"}},
    )
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    named = {"AUTHORIZATION": "emulated", "x-device": "phone", "Cookie": "forged", "X-Broken": "a\r\nX-Evil: 1"}
    async with gateway_running(values) as gateway:
        async with gateway.client(Cookie="a=1", Authorization="own", Other="x") as client:
            answer = await client.ask("connect", headers=named)
            kept = gateway.session(answer["client"]).handshake.scope
            assert {name for name, _ in kept["headers"]} == {b"cookie", b"authorization"}
        async with gateway.client(Cookie="a=2") as client:
            await client.ask("connect", headers=named)
        async with gateway.client() as client:
            await client.ask("connect")
    first, second, third = backend.asked
    assert [each.header("Cookie") for each in backend.asked] == [["a=1"], ["a=2"], []]
    assert [each.header("Authorization") for each in backend.asked] == [["own"], ["emulated"], ["none"]]
    assert [each.header("X-Device") for each in backend.asked] == [["phone"], ["phone"], ["none"]]
    for each in (first, second, third):
        assert each.header("X-Api-Key") == ["ours"]
        assert not each.header("Other") + each.header("X-Broken") + each.header("X-Evil")
        assert not each.header("Sec-WebSocket-Key")


async def test_what_an_answer_sets_is_no_part_of_the_next_request(backend: Backend) -> None:
    cookie = Raw(body=b'{"result":{"user":"7"}}', headers={"Set-Cookie": "session=7; Path=/"})
    backend.answers["/connect"] = [cookie]
    async with gateway_running(settings(backend)) as gateway:
        for _ in range(2):
            async with gateway.client() as client:
                assert "client" in await client.ask("connect")
    assert not any(each.header("Cookie") for each in backend.asked)
    assert backend.connections == 1  # which is kept


async def test_nobody_there(backend: Backend) -> None:
    values = settings(backend)
    await backend.stop()
    async with gateway_running(values) as gateway, gateway.client() as client:
        assert await client.ask("connect") == TEMPORARY
        assert gateway.node.metrics.proxy_errors == {("connect", "default", "connection"): 1}
    await backend.start()


async def test_no_answer_in_time(backend: Backend) -> None:
    backend.hold()
    async with gateway_running(settings(backend, timeout=0.05)) as gateway, gateway.client() as client:
        assert await client.ask("connect") == TEMPORARY
        metrics = gateway.node.metrics
        assert metrics.proxy_errors == {("connect", "default", "timeout"): 1}
        assert sum(metrics.proxy_time["connect", "default"].counts) == 1
        assert metrics.proxy_calls == {("connect", "default"): 0}


async def test_a_cache_is_recovered_unasked(backend: Backend) -> None:
    answers = [{"result": {"user": "7", "subs": {"cell:1": {"cache_recover": each}}}} for each in (True, False)]
    backend.answers["/connect"] = list(answers)
    async with gateway_running(settings(backend)) as gateway:
        channel = gateway.node.channels.resolve("cell:1")
        await gateway.node.publish(channel, Publication(Payload(b"1")))
        for recovered in ([{"data": 1, "offset": 1}], None):
            async with gateway.client() as client:
                assert (await client.ask("connect"))["subs"]["cell:1"].get("publications") == recovered


# — refresh —


def refreshed(backend: Backend, **client: Any) -> dict[str, Any]:
    values = settings(backend, client=client)
    refresh = {"enabled": True, "endpoint": f"{backend.url}/refresh", "include_connection_meta": True, "timeout": 30}
    values["client"]["proxy"]["refresh"] = refresh
    return values


async def expiring(gateway: Gateway, peer: Any, **answer: Any) -> Any:
    """A session whose time is over as soon as it is let in."""
    given = await peer.ask("connect")
    assert "expires" not in given, "the client need not know"
    session = gateway.session(given["client"])
    session.expire(int(time.time()))
    return session


async def test_a_connection_is_renewed(backend: Backend) -> None:
    later = int(time.time()) + 3600
    backend.answers["/connect"] = [{"result": {"user": "7", "expire_at": later, "meta": {"plan": "free"}}}]
    backend.answers["/refresh"] = [{"result": {"expire_at": later + 10, "info": {"a": 1}, "meta": {"plan": "paid"}}}]
    async with gateway_running(refreshed(backend)) as gateway, gateway.client() as client:
        session = await expiring(gateway, client)
        await until(lambda: session.expire_at == later + 10)
        assert (session.info, session.meta) == (b'{"a":1}', b'{"plan":"paid"}')
        assert backend.of("/refresh") == [
            {
                "client": session.client,
                "transport": "websocket",
                "protocol": "json",
                "encoding": "json",
                "user": "7",
                "meta": {"plan": "free"},
            }
        ]
        assert await client.ask("refresh", token=token("7")) == (3501, "bad request")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"result": {}},
        {"result": {"expired": True, "expire_at": 2**31}},
        {"result": {"expire_at": 1}},
        {"error": {"code": 1000, "message": "x"}},
        {"disconnect": {"code": 4501, "reason": "x"}},
    ],
)
async def test_a_connection_is_not_renewed(backend: Backend, answer: Any) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7", "expire_at": int(time.time()) + 3600}}]
    backend.answers["/refresh"] = [answer]
    async with gateway_running(refreshed(backend)) as gateway, gateway.client() as client:
        await expiring(gateway, client)
        assert await client.push() == {"closed": 3005}


@pytest.mark.parametrize("answer", [Raw(500), Raw(body=None), Raw(body=b"nonsense"), "held"])
async def test_while_the_backend_is_away_connections_go_on(backend: Backend, answer: Any) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7", "expire_at": int(time.time()) + 3600}}]
    backend.answers["/refresh"] = [answer]
    values = refreshed(backend)
    if answer == "held":
        values["client"]["proxy"]["refresh"]["timeout"] = 0.1
    async with gateway_running(values) as gateway, gateway.client() as client:
        given = await client.ask("connect")
        if answer == "held":
            backend.hold()
        session = gateway.session(given["client"])
        now = int(time.time())
        session.expire(now)
        await until(lambda: now + 60 <= session.expire_at <= now + 120)


async def test_whoever_has_a_token_is_renewed_too(backend: Backend) -> None:
    later = int(time.time()) + 3600
    backend.answers["/refresh"] = [{"result": {"expire_at": later}}]
    async with gateway_running(refreshed(backend)) as gateway, gateway.client() as client:
        given = await client.ask("connect", token=token("7", ttl=100, meta={"a": 1}))
        assert "expires" not in given
        session = gateway.session(given["client"])
        session.expire(int(time.time()))
        await until(lambda: session.expire_at == later)
        assert backend.of("/refresh")[0]["meta"] == {"a": 1}


async def test_what_the_server_says_meanwhile_counts(backend: Backend) -> None:
    later = int(time.time()) + 3600
    backend.answers["/connect"] = [{"result": {"user": "7", "expire_at": later}}]
    backend.answers["/refresh"] = [{"result": {"expired": True}}]
    async with gateway_running(refreshed(backend)) as gateway, gateway.client() as client:
        given = await client.ask("connect")
        backend.hold()
        session = gateway.session(given["client"])
        session.expire(int(time.time()))
        await until(lambda: backend.under_way)
        session.expire(later + 5)
        backend.release()
        await until(lambda: not gateway.node.metrics.proxy_calls["refresh", "default"])
        assert session.expire_at == later + 5
        assert not session.closed


async def test_without_refresh_the_client_is_told_when_it_ends(backend: Backend) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7", "expire_at": int(time.time()) + 100}}]
    async with gateway_running(settings(backend)) as gateway, gateway.client() as client:
        given = await client.ask("connect")
        assert given["expires"]
        assert 90 < given["ttl"] <= 100
        assert (await client.ask("refresh", token=token("7", ttl=500)))["ttl"] > 400


async def test_who_leaves_before_its_turn_costs_no_call(backend: Backend) -> None:
    backend.hold()
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    async with gateway_running(settings(backend, concurrency=1)) as gateway:
        async with gateway.client() as first:
            number = await first.send("connect")
            await until(lambda: backend.under_way == 1)
            async with gateway.client() as second:
                await second.send("connect")
                await until(
                    lambda: (
                        len(gateway.node.metrics.proxy_calls) and gateway.node.metrics.commands["ConnectRequest"] == 2
                    )
                )
            await until(lambda: gateway.node.metrics.disconnects.total() == 1)
            backend.release()
            assert "client" in await first.reply(number, "connect")
        await asyncio.sleep(0)
    assert len(backend.asked) == 1


async def test_a_client_that_only_listens(backend: Backend) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7", "channels": ["room:1"]}}]
    values = settings(backend, http_headers=["Cookie"]) | {"uni_sse": {"enabled": True}}
    async with gateway_running(values) as gateway, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{gateway.port}/connection/uni_sse"
        async with http.stream("GET", url, headers={"Cookie": "a=1"}) as stream:
            line = await anext(each async for each in stream.aiter_lines() if each.startswith("data: "))
            assert json.loads(line.removeprefix("data: "))["connect"]["subs"] == {"room:1": {}}
    (asked,) = backend.asked
    assert (asked.body["transport"], asked.header("Cookie")) == ("uni_sse", ["a=1"])
