"""The client of an event, as handlers and dependencies see it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, Request, WebSocket
from starlette.requests import HTTPConnection

from gateway import Client, Credentials, Error, Gateway
from gateway.auth.tokens import sign_connection
from tests.program.routes.clients import SECRET, assert_empty, connected, gateway_with, running, settled
from tests.waiting import until

Do = Callable[[Client], Any]


@pytest.fixture
def gateway() -> Gateway:
    gateway = gateway_with()
    gateway.channel("room:{name}", presence=True, history_size=5, replay=True)
    return gateway


def doing(gateway: Gateway, do: Do) -> None:
    """Let the program do this with the client that calls."""

    @gateway.rpc("do")
    async def handler(client: Client) -> Any:
        result = do(client)
        return await result if isinstance(result, Awaitable) else result


async def test_who_it_is(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("alice", info={"name": "Alice"}, channels=["room:a"])

    doing(
        gateway, lambda client: [client.id, client.user, client.info, client.connected, client.channels, client.token]
    )
    async with connected(gateway, token="opaque") as client:
        assert await client.call("do") == [
            client.session.client,
            "alice",
            {"name": "Alice"},
            True,
            ["room:a"],
            "opaque",
        ]


async def test_its_state_outlasts_its_tokens_whatever_the_server_gives() -> None:
    gateway = gateway_with({})

    @gateway.on_connect
    async def connect(client: Client) -> Credentials:
        client.state.name = "Ann"
        return Credentials("ann", expires=gateway.node.clock() + 60)

    @gateway.on_refresh
    async def refresh(client: Client) -> Credentials:
        return Credentials("ann" if client.state.name else "", expires=gateway.node.clock() + 60)

    doing(gateway, lambda client: client.state.name)
    async with connected(gateway, token="a") as client:
        await client.result("refresh", token="b")
        assert await client.call("do") == "Ann"


async def test_one_connection_is_one_client(gateway: Gateway) -> None:
    seen: list[Client] = []
    doing(gateway, seen.append)
    async with running(gateway) as opened:
        for client in (opened(), opened()):
            await client.connect()
            await client.call("do")
            await client.call("do")
    assert seen[0] == seen[1]
    assert seen[0] is not seen[1]
    assert seen[0] != seen[2]
    assert seen[0] != "alice"
    assert len(set(seen)) == 2
    assert repr(seen[0]) == f"<Client {seen[0].id} user=''>"


async def test_subscribes_and_unsubscribes(gateway: Gateway) -> None:
    doing(gateway, lambda client: client.subscribe("room:a", info={"by": "server"}, data="welcome"))
    gateway.rpc("undo")(_unsubscribe)
    async with connected(gateway) as client:
        await gateway.publish("room:a", "before")
        await client.call("do")
        await client.call("do")
        [subscribed, before] = client.pushes("room:a")
        assert subscribed["subscribe"]["data"] == "welcome"
        assert before["pub"]["data"] == "before"
        assert (await gateway.presence("room:a"))[client.session.client].chan_info == {"by": "server"}
        await client.call("undo")
        await client.call("undo")
        assert client.pushes("room:a")[2:] == [
            {"channel": "room:a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        ]
        await client.leave()
        await assert_empty(gateway)


async def _unsubscribe(client: Client) -> None:
    client.unsubscribe("room:a")


async def test_a_channel_that_there_is_not(gateway: Gateway) -> None:
    doing(gateway, lambda client: client.subscribe("nowhere:a"))
    async with connected(gateway) as client:
        assert await client.error("rpc", method="do") == (102, "unknown channel")


async def test_subscribed_while_it_connects_it_is_told_after_the_answer(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect(client: Client) -> None:
        await client.subscribe("room:a")
        await client.subscribe("room:b")

    async with connected(gateway) as client:
        await until(lambda: len(client.pushes()) == 2)
        assert [set(each) for each in client.pushes()] == [{"channel", "subscribe"}] * 2
        assert set(client.session.subscriptions) == {"room:a", "room:b"}


async def test_what_is_given_while_it_connects_holds_in_its_order(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect(client: Client) -> None:
        await client.subscribe("room:a")
        client.unsubscribe("room:a")
        client.unsubscribe("room:b")
        await client.subscribe("room:b")

    async with connected(gateway) as client:
        await settled(gateway)
        assert list(client.session.subscriptions) == ["room:b"]
        assert [set(each) - {"channel"} for each in client.pushes("room:b")] == [{"subscribe"}]


async def test_taken_back_while_it_connects_it_is_never_told(gateway: Gateway) -> None:
    asked = gateway.channel("asked")

    @asked.on_subscribe
    async def subscribe(client: Client) -> None:
        client.unsubscribe("asked")

    async with running(gateway) as opened:
        client = opened()
        assert "subs" not in await client.connect(subs={"asked": {}})
        await settled(gateway)
        assert client.session.subscriptions == {}
        assert client.pushes() == []


async def test_nothing_is_given_to_whom_connect_was_refused() -> None:
    """As when it was not decided in time, while the handler goes on."""
    gateway = gateway_with({"connect_timeout": 0.1, "allow_anonymous_connect_without_token": True})
    gateway.channel("room", presence=True)
    go_on, given, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @gateway.on_connect
    async def connect(client: Client) -> str:
        await go_on.wait()
        await client.subscribe("room")
        given.set()
        await end.wait()
        return "alice"

    async with running(gateway) as opened:
        client = opened()
        connecting = client.begin("connect")
        assert (await client.reply(1))["error"]["code"] == 100
        go_on.set()
        await given.wait()
        assert (gateway.node.hub.channels, client.pushes()) == ({}, [])
        end.set()
        await connecting
        await client.leave()
        await assert_empty(gateway)


async def test_closed_for_what_it_cannot_be_told_though_the_program_takes_no_notice(gateway: Gateway) -> None:
    doing(gateway, lambda client: _quietly(client.subscribe("room:a")))
    async with connected(gateway) as client:
        await gateway.publish("room:a", b"\xff binary, for a client that speaks JSON")
        await client.send("rpc", method="do")
        assert (await client.is_closed())[0] == 3506
        await client.leave()
        await assert_empty(gateway)


async def _quietly(work: Awaitable[Any]) -> None:
    with suppress(Exception):
        await work


async def test_disconnects(gateway: Gateway) -> None:
    doing(gateway, lambda client: client.disconnect(4000, "enough"))
    async with connected(gateway) as client:
        assert await client.disconnected("rpc", method="do") == (4000, "enough")
        await client.leave()
        await assert_empty(gateway)


@pytest.mark.parametrize("event", ["on_connect", "on_subscribe"])
async def test_disconnected_by_the_handler_that_decides(gateway: Gateway, event: str) -> None:
    room = gateway.channel("one", presence=True)

    async def handler(client: Client) -> None:
        client.disconnect(4000, "enough")

    gateway.on_connect(handler) if event == "on_connect" else room.on_subscribe(handler)
    async with running(gateway) as opened:
        client = opened()
        if event == "on_connect":
            await client.disconnected("connect")
        else:
            await client.connect()
            await client.disconnected("subscribe", channel="one")
        await settled(gateway)
        assert client.closed == (4000, "enough")
        await client.leave()
        await assert_empty(gateway)


async def test_what_is_done_to_a_client_that_has_left_does_nothing(gateway: Gateway) -> None:
    kept: list[Client] = []
    doing(gateway, kept.append)
    async with connected(gateway) as client:
        await client.call("do")
        await client.leave()
        [gone] = kept
        assert not gone.connected
        assert gone.channels == []
        await gone.subscribe("room:a")
        gone.unsubscribe("room:a")
        gone.disconnect()
        with pytest.raises(Error, match="unknown channel"):
            await gone.subscribe("nowhere:a")
        await assert_empty(gateway)


async def test_leaving_while_it_is_subscribed(gateway: Gateway) -> None:
    go_on, called = asyncio.Event(), asyncio.Event()

    @gateway.rpc("slow")
    async def slow(client: Client) -> None:
        called.set()
        await go_on.wait()
        await client.subscribe("room:a")

    async with connected(gateway) as client:
        await client.send("rpc", method="slow")
        await called.wait()
        gateway.running.acceptor.close(client.session)
        go_on.set()
        await assert_empty(gateway)


async def test_only_the_handshake_can_be_read(gateway: Gateway) -> None:
    def of_request(request: Request) -> Request:
        return request

    def of_socket(socket: WebSocket) -> WebSocket:
        return socket

    @gateway.rpc("try")
    async def attempt(
        what: Annotated[str, Body()],
        request: Annotated[Request, Depends(of_request)],
        socket: Annotated[WebSocket, Depends(of_socket)],
    ) -> str:
        calls: dict[str, Callable[[], Any]] = {
            "body": request.body,
            "json": request.json,
            "form": request.form,
            "is_disconnected": request.is_disconnected,
            "accept": socket.accept,
            "receive_text": socket.receive_text,
            "send_json": lambda: socket.send_json({}),
            "close": socket.close,
        }
        with pytest.raises(RuntimeError, match="the gateway itself speaks with the client"):
            await calls[what]()
        return "refused"

    async with connected(gateway) as client:
        for what in ("body", "json", "form", "is_disconnected", "accept", "receive_text", "send_json", "close"):
            assert await client.call("try", what) == "refused", what


async def test_an_event_without_a_client(gateway: Gateway) -> None:
    """Dependencies that want a connection get one that nobody has opened."""
    seen: list[Client] = []

    def look(connection: HTTPConnection) -> None:
        assert isinstance(connection, Client)
        seen.append(connection)

    @gateway.channel("one", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True).on_occupied
    async def occupied(_: Annotated[None, Depends(look)]) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("one")
        [nobody] = await until(lambda: seen)
        assert nobody.user == ""
        assert dict(nobody.headers) == {}
        assert repr(nobody) == "<Client of nobody>"
        assert nobody != Client(client.session, dict(nobody.scope))
        with pytest.raises(RuntimeError, match="no single client causes this event"):
            _ = nobody.id


async def test_to_subscribe_a_client_that_leaves_meanwhile_does_nothing() -> None:
    gateway = gateway_with()
    gateway.channel("news")
    go_on, raised = asyncio.Event(), []

    @gateway.rpc("follow")
    async def follow(client: Client) -> None:
        try:
            await client.subscribe("news")
        except Error as error:
            raised.append(error)

    async with connected(gateway) as client:
        subscribe = gateway.node.broker.subscribe

        async def slowly(channel: str) -> None:
            await go_on.wait()
            await subscribe(channel)

        gateway.node.broker.subscribe = slowly  # type: ignore[method-assign]
        await client.send("rpc", method="follow")
        await until(lambda: "news" in client.session.subscriptions)
        gateway.running.acceptor.close(client.session)
        go_on.set()
        await assert_empty(gateway)
        assert raised == []


async def test_an_empty_cache_is_filled_in_a_task_and_does_not_wait_for_itself() -> None:
    """Also where connect has no task; and a program that takes the subscription back there is not to hang."""
    gateway = gateway_with({"token": {"hmac_secret_key": SECRET}})
    cell = gateway.channel("cell", history_size=1, force_recovery_mode="cache")
    tasks, refused, gone = [], [], []

    @cell.on_cache_empty
    async def fill(client: Client) -> None:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        client._session.subscriptions["cell"].end()
        try:
            await client.subscribe("cell")
        except Error as error:
            refused.append(error.code)

    @gateway.on_disconnect
    async def disconnect() -> None:
        gone.append("")

    async with running(gateway) as opened:
        client = opened()
        await client.send("connect", token=sign_connection(SECRET, "alice", channels=["cell"]))
        await until(lambda: refused)
        gateway.running.acceptor.close(client.session)
        await assert_empty(gateway)
        # with connect, which puts the subscription off, and then for that
        assert (len(tasks), refused, gone) == (2, [103], [""])
