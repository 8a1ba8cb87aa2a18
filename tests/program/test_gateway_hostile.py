"""Hostile clients, and programs with mistakes in them, on live servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, Request, WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from gateway import Client, Credentials, Disconnect, Error, Gateway, Settings
from gateway.auth.tokens import sign_connection
from gateway.messages import Position
from gateway.session import State
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.waiting import until


@pytest.fixture(params=[on_uvicorn, on_plain_uvicorn])
def serve(request: pytest.FixtureRequest) -> Serve:
    found: Serve = request.param
    return found


def gateway_with(**client: Any) -> Gateway:
    return Gateway(Settings(client={"allow_anonymous_connect_without_token": True, **client}))


@asynccontextmanager
async def served(gateway: Gateway, serve: Serve = on_uvicorn, app: FastAPI | None = None) -> AsyncIterator[str]:
    app = app or FastAPI()
    app.include_router(gateway.router)
    async with serve(app, gateway.settings) as port:
        yield f"ws://127.0.0.1:{port}"


class Peer:
    """A client that knows the protocol and no manners."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.inbox: list[dict[str, Any]] = []
        self.result: dict[str, Any] = {}
        self._last_id = 0

    async def send(self, kind: str, **body: Any) -> int:
        self._last_id += 1
        await self.websocket.send(json.dumps({"id": self._last_id, kind: body}))
        return self._last_id

    async def next(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The next message that is wanted; others stay."""
        async with asyncio.timeout(10):
            while True:
                for each in self.inbox:
                    if wanted(each):
                        self.inbox.remove(each)
                        return each
                self.inbox += [json.loads(line) for line in (await self.websocket.recv(decode=False)).split(b"\n")]

    async def reply(self, command_id: int) -> dict[str, Any]:
        return await self.next(lambda message: message.get("id") == command_id)

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        return await self.reply(await self.send(kind, **body))

    async def heard(self) -> Any:
        return (await self.next(lambda message: "pub" in message.get("push", {})))["push"]["pub"].get("data")

    async def closed(self) -> tuple[int, str]:
        """Code and reason, as the other side said them; ``ConnectionClosed.rcvd`` is None if it said nothing."""
        with suppress(ConnectionClosed):
            await self.next(lambda _: False)
        return self.websocket.close_code or 0, self.websocket.close_reason or ""


@asynccontextmanager
async def peer(url: str, query: str = "", **request: Any) -> AsyncIterator[Peer]:
    """A client that has connected."""
    async with open_websocket(f"{url}/connection/websocket{query}", close_timeout=0.1) as websocket:
        found = Peer(websocket)
        found.result = (await found.ask("connect", **request))["connect"]
        yield found


# — whose is it —


async def test_a_dependency_that_changes_a_parameter_changes_it_for_itself(serve: Serve) -> None:
    gateway = gateway_with()
    rooms = gateway.channel("room:{name}")

    @rooms.on_subscribe
    async def join(request: Request) -> None:
        request.path_params["name"] = "of another"

    @rooms.on_publish
    async def say(name: str) -> str:
        return name

    async with served(gateway, serve) as url, peer(url) as mallory, peer(url) as alice:
        await mallory.ask("subscribe", channel="room:1")
        await alice.ask("subscribe", channel="room:1")
        await alice.ask("publish", channel="room:1", data=0)
        assert await alice.heard() == "1"


async def test_nobody_is_no_user_called_none(serve: Serve) -> None:
    gateway = gateway_with(subscribe_to_user_personal_channel={"enabled": True})
    app = FastAPI()

    @gateway.on_connect
    async def connect(client: Client) -> Credentials:
        return Credentials(client.query_params.get("user"))

    @app.websocket("/plain")
    async def plain(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, user=websocket.query_params.get("user")) as connection:
            async for _ in connection:
                pass

    async with served(gateway, serve, app) as url, peer(url), peer(url, "?user=bob"), open_websocket(f"{url}/plain"):
        await until(lambda: len(gateway.node.hub.connections) == 3)
        assert {each.user for each in gateway.node.hub.connections.values()} == {"", "bob"}


@pytest.mark.parametrize(
    "name", ["VIP:1", "$vip:1", " vip:1", "vip:1\n", "vip:1\x00", "vip%3A1", "vip：1", "vip:", "vip:a:b", "vip:a/b"]
)
async def test_no_spelling_of_a_name_goes_past_its_handlers(name: str) -> None:
    gateway = gateway_with()
    vip = gateway.channel("vip:{name}", history_size=5, presence=True)

    @vip.on_subscribe
    @vip.on_publish
    @vip.on_presence
    @vip.on_history
    async def refuse() -> bool:
        return False

    async with served(gateway) as url, peer(url) as client:
        for asked in ("vip:1", name):
            assert (await client.ask("subscribe", channel=asked))["error"]["code"] in (102, 103, 107)
            assert (await client.ask("publish", channel=asked, data=1))["error"]["code"] in (102, 103, 107)
            assert "error" in await client.ask("presence", channel=asked)
            assert "error" in await client.ask("presence_stats", channel=asked)
            assert "error" in await client.ask("history", channel=asked, limit=10)


async def test_a_stream_without_name_is_nothing_for_a_pattern_of_everything() -> None:
    gateway = gateway_with()

    @gateway.channel("{name:path}").on_subscribe
    async def join(name: str) -> None: ...

    @gateway.rpc("ask")
    async def ask(client: Client) -> str:
        async def answer() -> AsyncIterator[str]:
            yield "42"

        return (await client.stream(answer())).channel

    async with served(gateway) as url, peer(url) as client:
        assert "rpc" in await client.ask("rpc", method="ask")
        assert await client.heard() == "42"


# — too much —


async def test_side_by_side_channels_count_to_the_limit(serve: Serve) -> None:
    gateway = gateway_with(channel_limit=3)
    go_on = asyncio.Event()

    @gateway.channel("room:{name}").on_subscribe
    async def join(name: str) -> None:
        await go_on.wait()

    async with served(gateway, serve) as url, peer(url) as client:
        asked = [await client.send("subscribe", channel=f"room:{number}") for number in range(30)]
        assert "rpc" not in await client.ask("rpc", method="none")  # by now all the others are under way
        go_on.set()
        replies = [await client.reply(each) for each in asked]
        assert sorted(each.get("error", {}).get("code", 0) for each in replies) == [0] * 3 + [106] * 27


async def test_lanes_that_wait_for_the_broker_all_go_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """More publishes than may be under way, from several channels at once, while the broker is slow."""
    gateway = gateway_with()
    go_on = asyncio.Event()
    decided = 0

    @gateway.channel("room:{name}", publish="anyone").on_publish
    async def say(name: str) -> None:
        nonlocal decided
        decided += 1

    async with served(gateway, serve) as url, peer(url) as client:
        at_once = gateway.node.broker.publish

        async def slowly(*args: Any) -> Position:
            await go_on.wait()
            return await at_once(*args)

        monkeypatch.setattr(gateway.node.broker, "publish", slowly)
        asked = [await client.send("publish", channel="room:0", data=number) for number in range(64)]
        await until(lambda: decided == 64)
        asked += [await client.send("publish", channel=f"room:{number}", data=0) for number in range(1, 6)]
        await until(lambda: decided == 69)
        go_on.set()
        for each in asked:
            assert "publish" in await client.reply(each)
        for number in range(6):  # each of the lanes is free again
            assert "publish" in await client.ask("publish", channel=f"room:{number}", data=1)


async def test_what_a_client_sent_does_not_wait_for_slow_code_when_it_has_left() -> None:
    gateway = gateway_with()
    go_on = asyncio.Event()
    heard: list[int] = []

    @gateway.channel("room", publish="anyone").on_publish
    async def say(message: Annotated[int, Body()]) -> None:
        heard.append(message)
        await go_on.wait()

    async with served(gateway) as url:
        async with peer(url) as client:
            for number in range(50):
                await client.send("publish", channel="room", data=number)
            [session] = gateway.running.acceptor.sessions
            await until(lambda: session.lanes)
            lanes = session.lanes
            assert lanes is not None
            await until(lambda: lanes._count == 50)
        await until(lambda: session.state is State.ENDED)
        assert lanes._count == 1
        go_on.set()
        await until(lambda: not lanes._lanes)
        assert heard == [0]


async def test_a_source_that_does_not_close_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.program.routes.streams.CLOSING", 0.1)
    gateway = gateway_with()
    gateway.channel("answer", history_size=10, replay=True)
    begun, ends = asyncio.Event(), []

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
            begun.set()
            await asyncio.Event().wait()
        finally:
            ends.append("asked to close")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            ends.append("closed")

    async with served(gateway):
        await gateway.stream("answer", stubborn())
        await begun.wait()
    assert ends == ["asked to close", "closed"]


# — mistakes of the program —


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (4500, "é" * 100, (4500, "é" * 61)),
        (1008, "no", (3507, "no")),
        (1005, "x", (3004, "x")),
        (70000, "x", (3004, "x")),
        (-1, "x", (3004, "x")),
    ],
)
@pytest.mark.parametrize("way", ["raised", "called"])
async def test_a_disconnect_arrives_whatever_its_code_and_reason(
    serve: Serve, way: str, code: int, reason: str, said: tuple[int, str]
) -> None:
    gateway = gateway_with()

    @gateway.rpc("raised")
    async def raised() -> None:
        raise Disconnect(code, reason)

    @gateway.rpc("called")
    async def called(client: Client) -> None:
        client.disconnect(code, reason)

    async with served(gateway, serve) as url, peer(url) as client:
        await client.send("rpc", method=way)
        assert await client.closed() == said
        await until(lambda: not gateway.running.acceptor.sessions)


async def test_an_error_that_cannot_be_told_ends_the_connection(serve: Serve) -> None:
    """Better than a client that waits for its answer for ever."""
    gateway = gateway_with()

    @gateway.rpc("half")
    async def half() -> None:
        raise Error(400, "half a character: \ud83d")

    async with served(gateway, serve) as url, peer(url) as client:
        await client.send("rpc", method="half")
        assert await client.closed() == (3004, "internal server error")


async def test_what_is_published_instead_must_be_what_the_channel_takes(serve: Serve) -> None:
    gateway = gateway_with()
    objects = gateway.channel("objects", publication_data_format="json_object", publish="anyone")

    @objects.on_publish
    async def say(message: Annotated[dict[str, Any], Body()]) -> Any:
        return message.get("instead", message)

    async with served(gateway, serve) as url, peer(url) as client:
        assert "publish" in await client.ask("publish", channel="objects", data={"instead": {}})
        assert (await client.ask("publish", channel="objects", data={"instead": "text"}))["error"]["code"] == 107


async def test_filling_a_cache_does_not_undo_what_was_published_meanwhile(serve: Serve) -> None:
    gateway = gateway_with()
    go_on = asyncio.Event()
    asked = 0
    cache = gateway.channel(
        "price",
        history_size=1,
        force_recovery_mode="cache",
        replay=True,
        allow_subscribe_for_client=True,
        allow_subscribe_for_anonymous=True,
    )

    @cache.on_cache_empty
    async def fill() -> str:
        nonlocal asked
        asked += 1
        await go_on.wait()
        return "old"

    async with served(gateway, serve) as url, peer(url) as alice, peer(url) as bob:
        waiting = [(each, await each.send("subscribe", channel="price")) for each in (alice, bob)]
        await until(lambda: asked == 2)
        await gateway.publish("price", "new")
        go_on.set()
        for each, command_id in waiting:
            result = (await each.reply(command_id))["subscribe"]
            assert [publication["data"] for publication in result["publications"]] == ["new"]
        assert (await gateway.history("price"))[1].offset == 1


async def test_stopping_a_stream_twice_tells_its_readers_all_the_same() -> None:
    gateway = gateway_with()
    closing, go_on = asyncio.Event(), asyncio.Event()
    gateway.channel(
        "answer", history_size=10, replay=True, allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True
    )

    class Source:
        """Pieces without end; closing takes its time."""

        def __aiter__(self) -> "Source":
            return self

        async def __anext__(self) -> int:
            return 1

        async def aclose(self) -> None:
            closing.set()
            await go_on.wait()

    async with served(gateway) as url, peer(url) as client:
        stream = await gateway.stream("answer", Source())
        await client.ask("subscribe", channel="answer")
        stream.stop()
        await closing.wait()
        stream.stop()
        await gateway.stop_stream("answer")
        go_on.set()
        assert await stream.wait() == "stopped"
        last = await client.next(lambda message: "tags" in message.get("push", {}).get("pub", {}))
        assert last["push"]["pub"]["tags"] == {"stream": "stopped"}


async def test_a_token_ends_though_the_program_names_the_user() -> None:
    secret = "a secret that is long enough for SHA-256"
    gateway = gateway_with(token={"hmac_secret_key": secret})

    @gateway.on_connect
    async def connect(client: Client) -> Credentials:
        return Credentials(client.user, info={"seen": True}, channels=["mine"])

    async with served(gateway) as url:
        token = sign_connection(secret, "ann", 3600, channels=["#ann"])
        async with peer(url, token=token) as client:
            assert client.result["expires"]
            assert sorted(client.result["subs"]) == ["#ann", "mine"]
            assert (await client.ask("refresh", token=token))["refresh"]["expires"]


async def test_a_handler_opens_no_channel_that_its_name_limits() -> None:
    gateway = gateway_with()
    limited = gateway.channel("dm:{rest}", allow_user_limited_channels=True)

    @limited.on_subscribe
    async def enter(rest: str) -> None: ...

    async with served(gateway) as url, peer(url, subs={"dm:x#alice": {}, "dm:x": {}}) as client:
        assert list(client.result["subs"]) == ["dm:x"]
        assert (await client.ask("subscribe", channel="dm:y#alice"))["error"]["code"] == 103


async def test_no_command_goes_to_all_anonymous_clients_by_mistake() -> None:
    gateway = gateway_with()
    async with served(gateway) as url, peer(url):
        missing: Any = None  # such as the id of a user that the database has not
        for nobody in ("", missing):
            for command in (gateway.disconnect, gateway.block, gateway.unblock, gateway.expire):
                with pytest.raises(ValueError, match="name a user"):
                    await command(nobody)
        with pytest.raises(TypeError, match="a list of names"):
            Credentials("ann", channels="lobby").admission()
