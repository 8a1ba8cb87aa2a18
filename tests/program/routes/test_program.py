"""Who may connect, who has gone, and what clients call."""

import asyncio
import time
from collections import ChainMap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, HTTPException
from pydantic import BaseModel

from gateway import Client, Credentials, Gateway, Grant
from gateway.auth.tokens import sign_connection
from gateway.errors import SettingsError
from gateway.program.routes.client import kept
from tests.program.routes.clients import SECRET, assert_empty, connected, gateway_with, running, settled
from tests.waiting import until

KEYED: dict[str, Any] = {"token": {"hmac_secret_key": SECRET}}


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with({})


# — connect —


@pytest.mark.parametrize(
    ("answer", "user"),
    [("alice", "alice"), ("", ""), (None, ""), (True, ""), (Credentials("bob"), "bob"), (Credentials(), "")],
)
async def test_on_connect_says_who_it_is(gateway: Gateway, answer: Any, user: str) -> None:
    @gateway.on_connect
    async def connect() -> Any:
        return answer

    async with connected(gateway) as client:
        assert client.session.user == user
        assert [each.client for each in gateway.node.hub.of_user(user)] == [client.session.client]


async def test_the_time_of_handlers_is_measured(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect() -> bool:
        return True

    @gateway.rpc("fail")
    async def fail() -> None:
        raise HTTPException(404)

    async with connected(gateway) as client:
        await client.error("rpc", method="fail", data={})
        times = gateway.node.metrics.handler_time
        assert {name: sum(each.counts) for name, each in times.items()} == {"on_connect": 1, "rpc": 1}


async def test_a_route_is_counted_by_its_pattern() -> None:
    gateway = gateway_with(prometheus={"namespaces": ["room:{name}"]})
    gateway.channel("room:{name}")
    gateway.channel("hall:{name}")
    async with running(gateway):
        for channel in ("room:a", "room:b", "hall:a"):
            await gateway.publish(channel, 1)
        [(name, counts)] = gateway.node.metrics.namespaces.items()
        assert (name, counts.publications_in) == ("room:{name}", 2)


async def test_on_connect_refuses(gateway: Gateway) -> None:
    @gateway.on_connect
    def connect() -> bool:
        return False

    async with running(gateway) as opened:
        client = opened()
        assert await client.disconnected("connect") == (3507, "permission denied")
        await client.leave()
        await assert_empty(gateway)


@pytest.mark.parametrize("answer", [5, {"user": "alice"}, Grant()])
async def test_on_connect_returns_nothing_else(gateway: Gateway, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    @gateway.on_connect
    async def connect() -> Any:
        return answer

    async with running(gateway) as opened:
        assert await opened().error("connect") == (100, "internal server error")
    assert "on_connect must return Credentials, a user's id, None or a bool" in caplog.text


async def test_without_on_connect_nobody_comes_in(gateway: Gateway) -> None:
    @gateway.rpc("it")
    async def it() -> None: ...

    async with running(gateway) as opened:
        assert (await opened().disconnected("connect"))[0] == 3501


async def test_credentials_say_all_that_a_token_could(gateway: Gateway) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    gateway.channel("news", presence=True, history_size=5)
    gateway.channel("room:{name}")

    @gateway.on_connect
    async def connect() -> Credentials:
        channels = {"news": Grant(info={"role": "reader"}, data="welcome"), "room:a": Grant()}
        return Credentials("7", info={"name": "Alice"}, data={"theme": "dark"}, channels=channels, expires=moment)

    async with running(gateway) as opened:
        client = opened()
        result = await client.connect()
        assert result["data"] == {"theme": "dark"}
        assert "expires" not in result  # no token of the client can move it
        assert client.session.expire_at == int(moment.timestamp())
        assert set(result["subs"]) == {"news", "room:a"}
        assert result["subs"]["news"]["data"] == "welcome"
        assert result["subs"]["news"]["recoverable"] is True
        member = (await gateway.presence("news"))[client.session.client]
        assert (member.user, member.conn_info, member.chan_info) == ("7", {"name": "Alice"}, {"role": "reader"})
        await gateway.publish("room:a", 1)
        await client.hears(1, channel="room:a")
        assert await client.disconnected("refresh", token="x") == (3501, "bad request")
        await client.leave()
        await assert_empty(gateway)


async def test_channels_may_be_mere_names(gateway: Gateway) -> None:
    gateway.channel("a")
    gateway.channel("b")

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("alice", channels=(name for name in "ab"), expires=time.time() + 60)

    async with running(gateway) as opened:
        assert set((await opened().connect())["subs"]) == {"a", "b"}


async def test_a_channel_that_there_is_not_fails_connect(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("alice", channels=["nowhere:x"])

    async with running(gateway) as opened:
        client = opened()
        assert await client.error("connect") == (102, "unknown channel")
        await client.leave()
        await assert_empty(gateway)


@pytest.mark.parametrize("moment", [1e9, datetime.fromtimestamp(1_500_000_000, UTC)])
async def test_credentials_that_have_ended(gateway: Gateway, moment: Any) -> None:
    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("alice", expires=moment)

    async with running(gateway) as opened:
        client = opened()
        await client.send("connect")
        assert (await client.is_closed())[0] == 3005
        client.look()
        assert client.inbox == [], "it has not been let in"


async def test_on_connect_takes_data_and_the_token_of_its_own(gateway: Gateway) -> None:
    class Hello(BaseModel):
        name: str

    @gateway.on_connect
    async def connect(hello: Hello, client: Client) -> str:
        if client.token != "a token of another kind":
            raise HTTPException(401)
        return hello.name

    async with running(gateway) as opened:
        client = opened()
        await client.connect(token="a token of another kind", data={"name": "alice"})
        assert client.session.user == "alice"
        assert (await opened().error("connect", token="x", data={"name": "alice"}))[0] == 101
        assert (await opened().error("connect", token="a token of another kind"))[0] == 107


@pytest.mark.parametrize("answer", [None, True])
async def test_a_verified_token_is_known_before(answer: Any) -> None:
    gateway = gateway_with(KEYED)
    seen: list[Any] = []

    @gateway.on_connect
    async def connect(client: Client) -> Any:
        seen.append((client.user, client.info, client.connected))
        return answer

    async with running(gateway) as opened:
        client = opened()
        result = await client.connect(token=sign_connection(SECRET, "alice", 60, info={"name": "A"}))
        assert (client.session.user, result["expires"]) == ("alice", True)
        assert seen == [("alice", {"name": "A"}, True)]
        # not forged, not out of date
        assert (await opened().disconnected("connect", token=sign_connection("x" * 32, "alice", 60)))[0] == 3500
        assert (await opened().error("connect", token=sign_connection(SECRET, "alice", -60)))[0] == 109
        assert len(seen) == 1
        anonymous = opened()
        await anonymous.connect()
        assert seen[1] == ("", None, True)
        assert anonymous.session.user == ""


async def test_the_handler_has_the_last_word_on_a_token() -> None:
    gateway = gateway_with(KEYED)

    @gateway.on_connect
    async def connect(client: Client) -> Any:
        return Credentials("somebody else") if client.user == "alice" else False

    async with running(gateway) as opened:
        client = opened()
        result = await client.connect(token=sign_connection(SECRET, "alice", 60))
        assert client.session.user == "somebody else"
        assert result["expires"], "the token's end holds"
        assert (await opened().disconnected("connect"))[0] == 3507
        assert (await opened().disconnected("connect", token=sign_connection(SECRET, "bob", 60)))[0] == 3507


async def test_nothing_overtakes_connect(gateway: Gateway) -> None:
    go_on, called = asyncio.Event(), asyncio.Event()

    @gateway.on_connect
    async def connect() -> str:
        called.set()
        await go_on.wait()
        return "alice"

    @gateway.rpc("who")
    async def who(client: Client) -> str:
        return client.user

    async with running(gateway) as opened:
        client = opened()
        frame = b'{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"who"}}'
        receiving = asyncio.create_task(client.session.receive(frame))
        await called.wait()
        assert client._take_reply(2) is None
        go_on.set()
        await receiving
        assert "connect" in await client.reply(1)
        assert (await client.reply(2))["rpc"]["data"] == "alice"


@pytest.mark.parametrize("outcome", ["admits", "refuses", "fails"])
async def test_leaving_while_on_connect_decides(gateway: Gateway, outcome: str) -> None:
    go_on, called, gone = asyncio.Event(), asyncio.Event(), []
    gateway.channel("news", presence=True)

    @gateway.on_connect
    async def connect() -> Any:
        called.set()
        await go_on.wait()
        if outcome == "fails":
            raise HTTPException(401)
        return Credentials("alice", channels=["news"]) if outcome == "admits" else False

    @gateway.on_disconnect
    async def disconnect() -> None:
        gone.append("")

    async with running(gateway) as opened:
        client = opened()
        receiving = client.begin("connect")
        await called.wait()
        gateway.running.acceptor.close(client.session)
        await until(lambda: client.session.closed)
        go_on.set()
        await receiving
        await assert_empty(gateway)
    assert gone == ([""] if outcome == "admits" else [])


@pytest.mark.parametrize("admits", [True, False])
async def test_leaving_while_on_subscribe_decides_about_a_channel_of_connect(admits: bool) -> None:
    """It has been let in by then, and has a user."""
    gateway = gateway_with()
    go_on, called, gone = asyncio.Event(), asyncio.Event(), []

    @gateway.channel("news", presence=True).on_subscribe
    async def join() -> bool:
        called.set()
        await go_on.wait()
        return admits

    @gateway.on_disconnect
    async def disconnect() -> None:
        gone.append("")

    async with running(gateway) as opened:
        client = opened()
        receiving = client.begin("connect", subs={"news": {}})
        await called.wait()
        gateway.running.acceptor.close(client.session)
        await until(lambda: client.session.closed)
        assert gone == []
        go_on.set()
        await receiving
        await assert_empty(gateway)
    assert gone == [""]


async def test_channels_asked_for_with_connect_are_for_on_subscribe_to_decide(gateway: Gateway) -> None:
    room = gateway.channel("room:{name}", history_size=5)
    asked: list[tuple[str, str]] = []

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("alice", channels=["room:given"])

    @room.on_subscribe
    async def join(name: str, client: Client) -> Grant:
        asked.append((name, client.user))
        if name == "closed":
            raise HTTPException(403)
        return Grant(data=name)

    async with running(gateway) as opened:
        subs: dict[str, Any] = {"room:given": {}, "room:open": {}, "room:closed": {}, "bad\nname": {}}
        result = await opened().connect(subs=subs)
        assert set(result["subs"]) == {"room:given", "room:open"}
        assert result["subs"]["room:open"]["data"] == "open"
        assert asked == [("open", "alice"), ("closed", "alice")]


async def test_personal_channels(gateway: Gateway) -> None:
    gateway = gateway_with({"subscribe_to_user_personal_channel": {"enabled": True}})

    @gateway.on_connect
    async def connect(client: Client) -> str | None:
        return client.query_params.get("user")

    async with running(gateway) as opened:
        alice, bob, nobody = opened("user=alice"), opened("user=bob"), opened()
        assert list((await alice.connect())["subs"]) == ["#alice"]
        await bob.connect()
        assert "subs" not in await nobody.connect()
        await gateway.publish_to_user("alice", {"hello": "alice"}, tags={"a": "b"})
        await alice.hears({"hello": "alice"})
        assert bob.data() == []
        missing: Any = None
        for user in ("", missing):
            with pytest.raises(ValueError, match="anonymous users have no personal channel"):
                await gateway.publish_to_user(user, 1)


async def test_personal_channels_that_are_off() -> None:
    gateway = gateway_with()
    async with running(gateway):
        with pytest.raises(SettingsError, match="PERSONAL_CHANNEL__ENABLED=true"):
            await gateway.publish_to_user("alice", 1)


# — disconnect —


async def test_each_connection_that_was_let_in_ends_once(gateway: Gateway) -> None:
    gone: list[tuple[str, bool, list[str]]] = []

    @gateway.on_connect
    async def connect(client: Client) -> Any:
        return client.query_params.get("user") or False

    @gateway.on_disconnect
    async def disconnect(client: Client) -> None:
        gone.append((client.user, client.connected, client.channels))

    async with running(gateway) as opened:
        alice, bob, carol, nobody = opened("user=alice"), opened("user=bob"), opened("user=carol"), opened()
        for client in (alice, bob, carol):
            await client.connect()
        await nobody.disconnected("connect")
        await alice.leave()
        await gateway.disconnect("bob")
        await bob.leave()
        await carol.disconnected("connect")
        await carol.leave()
        await nobody.leave()
        await opened().leave()
        await assert_empty(gateway)
    assert gone == [("alice", False, []), ("bob", False, []), ("carol", False, [])]


async def test_on_disconnect_is_told_how_it_was_closed() -> None:
    gateway = gateway_with()
    told: list[tuple[int, str]] = []

    @gateway.on_disconnect
    async def disconnect(code: int, reason: str) -> None:
        told.append((code, reason))

    @gateway.rpc("out")
    async def out(client: Client) -> None:
        client.disconnect(4500, "no more")

    async with running(gateway) as opened:
        for farewell in ((1001, "going away"), (1006, ""), ()):
            client = opened()
            await client.connect()
            await client.leave(*farewell)
        client = opened()
        await client.connect()
        await client.send("rpc", method="out")
        await settled(gateway)
        counted = gateway.node.metrics.disconnects
        assert (counted[3000], counted[4500], counted[1001]) == (3, 1, 0), "no client makes up what is counted"
    assert told == [(1001, "going away"), (1006, ""), (3000, "connection closed"), (4500, "no more")]


async def test_on_disconnect_that_fails_is_logged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    @gateway.on_connect
    async def connect() -> None: ...

    @gateway.on_disconnect
    def disconnect() -> None:
        raise RuntimeError("no database")

    async with connected(gateway) as client:
        await client.leave()
        await assert_empty(gateway)
    assert caplog.text.count("RuntimeError: no database") == 1


# — rpc —


async def test_calls_run_side_by_side() -> None:
    gateway = gateway_with()
    go_on = asyncio.Event()

    @gateway.rpc("slow")
    async def slow() -> str:
        await go_on.wait()
        return "slow"

    @gateway.rpc("fast")
    async def fast() -> str:
        return "fast"

    async with connected(gateway) as client:
        command = await client.send("rpc", method="slow")
        assert await client.call("fast") == "fast"
        go_on.set()
        assert (await client.reply(command))["rpc"]["data"] == "slow"


async def test_a_method_may_have_its_functions_name() -> None:
    gateway = gateway_with()

    @gateway.rpc
    async def rooms() -> list[str]:
        return ["lobby"]

    async with connected(gateway) as client:
        assert await client.call("rooms") == await rooms() == ["lobby"]


def test_what_has_no_name_needs_one() -> None:
    gateway = gateway_with()
    for nameless in (lambda: None, partial(print)):
        with pytest.raises(TypeError, match=r'has no name; write @gateway\.rpc\("rooms"\)'):
            gateway.rpc(nameless)
    with pytest.raises(SettingsError, match="stands there twice"):
        gateway.rpc("abs")(gateway.rpc("abs")(lambda: None))


async def test_methods_that_there_are_not() -> None:
    gateway = gateway_with()

    @gateway.rpc("one")
    async def one() -> None: ...

    with pytest.raises(
        SettingsError, match=r'gateway\.rpc\("one"\) stands there twice: .*test_program.py:\d+, and before .*'
    ):
        gateway.rpc("one")(one)
    async with connected(gateway) as client:
        assert await client.error("rpc", method="two") == (104, "method not found")
        assert await client.result("rpc", method="one") == {}
    other = gateway_with()
    other.channel("x").on_subscribe(one)
    async with connected(other) as client:
        assert await client.error("rpc", method="one") == (104, "method not found")


async def test_where_the_program_says_nothing_there_is_no_trace_of_it() -> None:
    """No copy of the handshake is kept for handlers that there are not."""
    gateway = gateway_with()
    gateway.channel("chat", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)
    async with connected(gateway) as client:
        assert client.session.handshake.scope == {}
        await client.subscribe("chat")
        assert client.session.lanes is None


# — declared too late, or twice —


async def test_nothing_is_declared_once_it_runs(gateway: Gateway) -> None:
    chat = gateway.channel("chat")

    async def handler() -> None: ...

    async with running(gateway):
        for declare in (
            gateway.on_connect,
            gateway.on_disconnect,
            gateway.rpc("x"),
            chat.on_subscribe,
            chat.on_publish,
        ):
            with pytest.raises(RuntimeError, match="the gateway has started: declare channels and handlers before"):
                declare(handler)
        with pytest.raises(RuntimeError, match="the gateway has started"):
            gateway.channel("more")
    with pytest.raises(RuntimeError, match="the gateway has started"):
        gateway.channel("more")


def test_there_is_one_of_each(gateway: Gateway) -> None:
    @gateway.on_connect
    @gateway.on_disconnect
    async def handler() -> None: ...

    with pytest.raises(SettingsError, match=r"there is an on_connect already: .*test_program.py:"):
        gateway.on_connect(handler)
    with pytest.raises(SettingsError, match="there is an on_disconnect already"):
        gateway.on_disconnect(handler)


# — the handshake that handlers see —


async def test_state_lasts_as_long_as_the_connection() -> None:
    gateway = gateway_with()

    @gateway.on_connect
    async def connect(client: Client) -> None:
        client.state.seen = ["connect"]

    @gateway.rpc("look")
    async def look(client: Client, more: Annotated[str, Body()]) -> list[str]:
        client.state.seen.append(more)
        seen: list[str] = client.state.seen
        return seen

    async with running(gateway) as opened:
        client, other = opened(), opened()
        await client.connect()
        await other.connect()
        await client.call("look", "a")
        assert await client.call("look", "b") == ["connect", "a", "b"]
        assert await other.call("look", "c") == ["connect", "c"]


async def test_only_what_is_of_the_handshake_is_kept() -> None:
    gateway = gateway_with()

    @gateway.rpc("look")
    async def look(client: Client) -> list[Any]:
        return [client.client, client.app is app, "endpoint" in client.scope, client.url.path]

    app = FastAPI()
    async with running(gateway, app) as opened:
        client = opened()
        await client.connect()
        assert await client.call("look") == [["203.0.113.7", 50000], True, False, "/connection/websocket"]
        assert not {key for key in client.session.handshake.scope if key.startswith("fastapi")}


@pytest.mark.parametrize("kind", [dict, ChainMap])
def test_so_it_is_of_whatever_class_a_middleware_makes_the_scope(kind: Callable[..., Any]) -> None:
    scope = kind({"headers": [], "path": "/", "extensions": {"a": "connection"}, "fastapi_inner_astack": "a stack"})
    assert dict(kept(scope)) == {"headers": [], "path": "/", "state": {}}
