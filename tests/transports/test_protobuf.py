"""Centrifuge Protobuf over WebSockets, beside JSON, on several servers: binary frames with real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import Client, Gateway
from gateway.config.settings import Settings
from gateway.messages import Payload, Publication
from gateway.protocols.protobuf import delimited
from tests.protocols.google import google, messages
from tests.serving import Serve, on_uvicorn
from tests.transports.sockets import CLOSE, PING, TEXT, Peer, client_frame, upgrade_request
from tests.transports.test_websocket import SETTINGS, running, settings
from tests.transports.test_websocket import Gateway as Running
from tests.waiting import until

PATH = "/connection/websocket"
PROTOBUF = "centrifuge-protobuf"
BYTES = bytes(range(256))
PINGED = settings(ping_interval="1s", pong_timeout="800ms")


class ProtobufClient:
    """Speaks by google's runtime."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._waiting: list[Any] = []
        self._last_id = 0

    async def say(self, **command: Any) -> None:
        self._last_id += 1
        await self.connection.send(delimited(google("Command")(id=self._last_id, **command).SerializeToString()))

    async def hear(self) -> Any:
        """The next reply or push."""
        while not self._waiting:
            frame = await asyncio.wait_for(self.connection.recv(), 20)
            assert isinstance(frame, bytes)
            self._waiting += [google("Reply").FromString(each) for each in messages(frame)]
        return self._waiting.pop(0)

    async def ask(self, **command: Any) -> Any:
        """The reply to a command; there are no pushes before it."""
        await self.say(**command)
        reply = await self.hear()
        assert reply.id == self._last_id
        return reply

    async def closed(self) -> tuple[int | None, str | None]:
        with suppress(ConnectionClosed):
            async for _ in self.connection:
                pass
        return self.connection.close_code, self.connection.close_reason


@asynccontextmanager
async def opened(url: str, channel: str = "", **options: Any) -> AsyncIterator[ProtobufClient]:
    """A connected client; with a channel, subscribed to it."""
    options = {"subprotocols": [PROTOBUF], "compression": None, "ping_interval": None} | options
    async with connect(url, **options) as connection:
        client = ProtobufClient(connection)
        assert (await client.ask(connect={})).HasField("connect")
        if channel:
            assert (await client.ask(subscribe={"channel": channel})).HasField("subscribe")
        yield client


@pytest.fixture
async def gateway(serve: Serve) -> AsyncIterator[Running]:
    async with running(serve, SETTINGS) as gateway:
        yield gateway


# — what is spoken —


@pytest.mark.parametrize("query", ["format=protobuf", "cf_protocol=protobuf", "a=b&format=protobuf&format=json"])
async def test_the_address_may_ask_for_it(gateway: Running, query: str) -> None:
    async with opened(f"{gateway.url}?{query}", "room", subprotocols=None) as client:
        assert client.connection.subprotocol is None
        await gateway.publish(1)
        assert (await client.hear()).push.pub.data == b"1"


@pytest.mark.parametrize("query", ["format=json", "cf_protocol=", "format=protobuf2", "format"])
async def test_and_for_nothing_else(gateway: Running, query: str) -> None:
    async with connect(f"{gateway.url}?{query}") as client:
        await client.send('{"id":1,"connect":{}}')
        assert "connect" in json.loads(await client.recv())


async def test_who_speaks_nothing_that_is_spoken_is_refused(gateway: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(gateway.url, subprotocols=["mqtt", "graphql-ws"]):  # type: ignore[list-item]
            pass
    answer = refused.value.response
    if answer.status_code != 403:  # as servers answer that know of no other refusal
        assert answer.status_code == 400
        assert b"'mqtt, graphql-ws'" in (answer.body or b"")
        assert b"centrifuge-json or centrifuge-protobuf" in (answer.body or b"")
    assert gateway.node.metrics.refusals == gateway.node.metrics.refused_connections == {"subprotocol": 1}


# — messages —


async def test_both_hear_what_either_says(gateway: Running) -> None:
    """As the publisher has written it, but for line breaks, which separate messages of JSON."""
    async with gateway.client() as json_client, opened(gateway.url, "room") as client:
        await client.say(publish={"channel": "room", "data": b'{\n "n":  1.50}'})
        heard = json.loads(await json_client.recv())["push"]
        assert heard["pub"]["data"] == {"n": 1.5}
        push, reply = await client.hear(), await client.hear()
        if reply.HasField("push"):
            push, reply = reply, push
        assert reply.HasField("publish")
        assert push.push.pub.data == b'{\n "n":  1.50}'
        assert push.push.pub.info.client == heard["pub"]["info"]["client"]
        await json_client.send('{"id":3,"publish":{"channel":"room","data":{"text": "ü"}}}')
        pub = (await client.hear()).push.pub
        assert (pub.data, pub.offset) == ('{"text": "ü"}'.encode(), 2)


async def test_bytes_are_for_those_alone_who_can_read_them(gateway: Running) -> None:
    async with gateway.client() as json_client, opened(gateway.url, "room") as reader, opened(gateway.url) as writer:
        assert (await writer.ask(publish={"channel": "room", "data": BYTES})).HasField("publish")
        assert (await reader.hear()).push.pub.data == BYTES
        with pytest.raises(ConnectionClosed):
            await json_client.recv()
        assert (json_client.close_code, json_client.close_reason) == (3506, "inappropriate protocol")
        recovered = (await writer.ask(subscribe={"channel": "room", "recover": True})).subscribe
        assert [each.data for each in recovered.publications] == [BYTES]
        history = (await writer.ask(history={"channel": "room", "limit": -1})).history
        assert [each.data for each in history.publications] == [BYTES]
        assert (history.offset, history.epoch) == (1, recovered.epoch)


async def test_a_channel_of_json_takes_no_bytes(serve: Serve) -> None:
    json_only = {"without_namespace": {**SETTINGS["channel"]["without_namespace"], "publication_data_format": "json"}}
    async with running(serve, {**SETTINGS, "channel": json_only}) as gateway, opened(gateway.url) as client:
        for data, taken in ((BYTES, False), (b"", False), (b'{"a":', False), (b'{"a":1}', True)):
            reply = await client.ask(publish={"channel": "room", "data": data})
            assert (reply.HasField("publish"), reply.error.code) == (taken, 0 if taken else 107)


async def test_a_channel_of_bytes_takes_anything(serve: Serve) -> None:
    anything = {"without_namespace": {**SETTINGS["channel"]["without_namespace"], "publication_data_format": "binary"}}
    async with (
        running(serve, {**SETTINGS, "channel": anything}) as gateway,
        opened(gateway.url, "room") as client,
        opened(gateway.url) as writer,
    ):
        for data in (b"", BYTES, b"1"):
            assert (await writer.ask(publish={"channel": "room", "data": data})).HasField("publish")
            assert (await client.hear()).push.pub.data == data


@pytest.mark.parametrize("frame", ["{}", '{"id":2,"presence":{"channel":"room"}}', b"", b"\x05\x08", b"\xff" * 20])
async def test_what_is_no_command_closes(gateway: Running, frame: str | bytes) -> None:
    async with opened(gateway.url) as client, opened(gateway.url, "room") as other:
        await client.connection.send(frame)
        assert await client.closed() == (3501, "bad request")
        await gateway.publish(1)
        assert (await other.hear()).push.pub.data == b"1"


async def test_pings_and_pongs(serve: Serve) -> None:
    async with running(serve, PINGED) as gateway, opened(gateway.url) as good, opened(gateway.url) as bad:
        for _ in range(2):
            assert await good.hear() == google("Reply")()
            await good.connection.send(b"\x00")
        assert await bad.closed() == (3012, "no pong")


async def test_frames_may_be_large(gateway: Running) -> None:
    async with opened(gateway.url, "room", max_size=None) as client:
        data = Payload(b'"%b"' % (b"x" * 1_000_000))
        await gateway.node.publish(gateway.node.channels.resolve("room"), Publication(data))
        assert (await client.hear()).push.pub.data == data


# — control frames in place of pings —

NATIVE = "cf_ws_frame_ping_pong=true"


async def test_control_pings_in_place_of_the_protocols(serve: Serve) -> None:
    """Where the connection is raw. Other servers tell an application of no pong."""
    async with running(serve, PINGED) as gateway, connect(f"{gateway.url}?{NATIVE}", ping_interval=None) as client:
        await client.send('{"id":1,"connect":{}}')
        told = json.loads(await client.recv())["connect"]
        if serve is not on_uvicorn:
            assert (told["ping"], told["pong"]) == (1, True)
            assert await client.recv() == "{}"
            return
        assert told.keys() == {"client", "version"}
        trips = gateway.node.metrics.ping_round_trip
        await until(lambda: sum(trips.counts) >= 2, what="pings that the library has answered by itself")
        await client.pong(b"unasked")
        await client.send('{"id":2,"subscribe":{"channel":"room"}}')
        assert "subscribe" in json.loads(await client.recv()), "it has been told of no ping"


async def test_who_does_not_answer_them_is_closed() -> None:
    async with running(on_uvicorn, PINGED) as gateway, opened(f"{gateway.url}?{NATIVE}", "room") as good:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", gateway.port))
        peer.write(upgrade_request(f"{PATH}?{NATIVE}") + client_frame(b'{"id":1,"connect":{}}'))
        await peer.head()
        assert (await peer.frame())[0] == TEXT
        assert await peer.frame() == (PING, b"")
        assert await peer.frame() == (CLOSE, (3012).to_bytes(2, "big") + b"no pong")
        peer.writer.close()
        await gateway.publish(1)
        assert (await good.hear()).push.pub.data == b"1"


# — compression —


async def test_binary_messages_are_compressed_too() -> None:
    configured = {**SETTINGS, "websocket": {"compression": True}}
    data = Payload(b'"%b"' % (b"x" * 10_000))
    async with running(on_uvicorn, configured) as gateway, opened(gateway.url, "room", compression="deflate") as client:
        assert client.connection.protocol.extensions
        before = gateway.node.metrics.bytes_out
        await gateway.node.publish(gateway.node.channels.resolve("room"), Publication(data))
        assert (await client.hear()).push.pub.data == data
        assert gateway.node.metrics.bytes_out > before
        [wire] = {each.wire for each in gateway.node.hub.connections.values()}
        assert len(wire.pack([wire.protocol.encode_push("room", Publication(data))])) < 200
        reply = await client.ask(publish={"channel": "room", "data": BYTES * 100})
        assert (reply.push.pub.data or (await client.hear()).push.pub.data) == BYTES * 100


# — a program's own handlers —


async def test_what_a_program_is_sent(serve: Serve) -> None:
    """It wants JSON, and says so to whoever sends something else."""
    gateway = Gateway(Settings.model_validate({"client": {"ping_interval": 0}}))
    heard: list[Any] = []

    @gateway.on_connect
    async def let_in(data: dict[str, int] | None = None) -> str:
        heard.append(data)
        return "ann"

    @gateway.rpc("add")
    async def add(data: list[int]) -> int:
        return sum(data)

    checked = gateway.channel("checked:{room}")
    free = gateway.channel("free:{room}")

    @checked.on_subscribe
    async def join_checked(room: str) -> None: ...

    @free.on_subscribe
    async def join_free(room: str) -> None: ...

    @checked.on_publish
    async def say(data: dict[str, int]) -> dict[str, int]:
        return data

    @free.on_publish
    async def pass_on(room: str, client: Client) -> None: ...

    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    options: Any = {"subprotocols": [PROTOBUF], "ping_interval": None}
    async with serve(app, Settings()) as port, connect(f"ws://127.0.0.1:{port}{PATH}", **options) as connection:
        client = ProtobufClient(connection)
        assert (await client.ask(connect={"data": b'{"n": 1}'})).HasField("connect")
        assert heard == [{"n": 1}]
        assert (await client.ask(rpc={"method": "add", "data": b"[1, 2]"})).rpc.data == b"3"
        refused = (await client.ask(rpc={"method": "add", "data": BYTES})).error
        assert (refused.code, refused.message.partition(":")[0]) == (107, "bad request")
        assert "JSON" in refused.message
        for channel in ("checked:1", "free:1"):
            assert (await client.ask(subscribe={"channel": channel})).HasField("subscribe")
        assert (await client.ask(publish={"channel": "checked:1", "data": BYTES})).error.code == 107
        await client.say(publish={"channel": "free:1", "data": BYTES})
        answers = [await client.hear(), await client.hear()]
        assert [each.push.pub.data for each in answers if each.HasField("push")] == [BYTES]
