"""Streams: latecomers get all, returning clients what they missed, and everybody the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI
from pydantic import BaseModel

from gateway import Client, Error, Gateway
from gateway.errors import SettingsError
from gateway.program.routes.streams import LINGER, Stream
from tests.program.routes.clients import Client as Peer
from tests.program.routes.clients import assert_empty, connected, gateway_with, running, settled
from tests.redis_server import RedisServer
from tests.waiting import until


class Source:
    """Words that come when the test says so."""

    def __init__(self) -> None:
        self.closed = False
        self._words: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, *words: Any) -> None:
        for word in words:
            self._words.put_nowait(word)

    async def __call__(self) -> AsyncIterator[Any]:
        try:
            while (word := await self._words.get()) is not None:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.closed = True


@pytest.fixture
def source() -> Source:
    return Source()


def declare(gateway: Gateway) -> Gateway:
    gateway.channel(
        "answer:{id}",
        history_size=100,
        replay=True,
        allow_subscribe_for_client=True,
        allow_subscribe_for_anonymous=True,
    )
    gateway.channel("bare")
    gateway.channel("silent", history_size=10)
    return gateway


@pytest.fixture
def gateway() -> Gateway:
    return declare(gateway_with())


def ends(client: Peer, channel: str = "answer:1") -> list[str]:
    return [push["pub"]["tags"]["stream"] for push in client.pushes(channel) if "tags" in push.get("pub", {})]


async def test_everybody_gets_the_whole(gateway: Gateway, source: Source) -> None:
    async with running(gateway) as opened:
        early, late, after = opened(), opened(), opened()
        for client in (early, late, after):
            await client.connect()
        await early.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        assert stream.channel == "answer:1"
        source.say("to", {"be": 1})
        await early.hears("to", {"be": 1})
        result = await late.subscribe("answer:1")
        assert [each["data"] for each in result["publications"]] == ["to", {"be": 1}]
        was_running = stream.running
        assert was_running
        source.say("or", None)
        assert await stream.wait() == "done"
        assert await stream.wait() == "done"
        assert not stream.running
        await early.hears("to", {"be": 1}, "or", None)
        await late.hears("or", None)
        assert ends(early) == ends(late) == ["done"]
        assert source.closed
        result = await after.subscribe("answer:1")
        assert [each.get("tags") for each in result["publications"]] == [None, None, None, {"stream": "done"}]


class Shown(BaseModel):
    text: str


class Row(Shown):
    password: str = "hunter2"


@pytest.mark.parametrize("message", [Stream[Shown], Shown])
async def test_pieces_are_cut_to_what_the_channel_says(gateway: Gateway, source: Source, message: Any) -> None:
    gateway.channel("rows", message=message, history_size=10, replay=True, allow_subscribe_for_anonymous=True)
    async with connected(gateway) as client:
        await gateway.subscribe("", "rows", client=client.session.client)
        await until(lambda: client.pushes("rows"))
        stream = await gateway.stream("rows", source())
        source.say(Row(text="a"), {"text": "b", "password": "hunter2"}, None)
        assert await stream.wait() == "done"
        await client.hears({"text": "a"}, {"text": "b"}, None)
        source.say({"text": 1})
        assert await (await gateway.stream("rows", source())).wait() == "failed"


async def test_a_returning_client_gets_what_it_missed(gateway: Gateway, source: Source) -> None:
    async with running(gateway) as opened:
        client = opened()
        await client.connect()
        result = await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        source.say("a")
        await client.hears("a")
        await client.leave()
        source.say("b", "c", None)
        await stream.wait()
        again = opened()
        await again.connect()
        result = await again.subscribe("answer:1", recover=True, epoch=result["epoch"], offset=1)
        assert result["recovered"] is True
        assert [each["data"] for each in result["publications"]] == ["b", "c", None]


async def test_stopping(gateway: Gateway, source: Source) -> None:
    async with connected(gateway) as client:
        await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        source.say("a")
        await client.hears("a")
        await gateway.stop_stream("answer:1")
        assert await stream.wait() == "stopped"
        assert source.closed
        await client.hears("a", None)
        assert ends(client) == ["stopped"]
        await gateway.stop_stream("answer:1")
        stream.stop()
        assert await (await gateway.stream("answer:1", _nothing())).wait() == "done"


async def test_stopping_what_has_hardly_begun(gateway: Gateway, source: Source) -> None:
    async with connected(gateway) as client:
        await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        stream.stop()
        assert await stream.wait() == "stopped"
        await client.hears(None)
        assert ends(client) == ["stopped"]


async def test_a_source_that_never_waits_can_be_stopped_and_holds_up_nobody(gateway: Gateway) -> None:
    async def endless() -> AsyncIterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    async with connected(gateway) as client:
        stream = await gateway.stream("answer:1", endless())
        await client.subscribe("answer:1")
        await until(lambda: len(client.data()) > 10)
        stream.stop()
        assert await stream.wait() == "stopped"


async def test_a_source_that_fails(gateway: Gateway, source: Source, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(gateway) as client:
        await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        source.say("a", RuntimeError("no model"))
        assert await stream.wait() == "failed"
        await client.hears("a", None)
        assert ends(client) == ["failed"]
    assert caplog.text.count("RuntimeError: no model") == 1
    assert "stream answer:1: failed" in caplog.text


async def test_a_piece_that_is_no_data(gateway: Gateway, source: Source, caplog: pytest.LogCaptureFixture) -> None:
    async with running(gateway):
        stream = await gateway.stream("answer:1", source())
        source.say(object())
        assert await stream.wait() == "failed"
        assert source.closed


async def test_a_source_that_fails_to_close(gateway: Gateway) -> None:
    class Bare:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> "Bare":
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            if not self.left:
                raise StopAsyncIteration
            return self.left

    class Stubborn(Bare):
        async def aclose(self) -> None:
            raise RuntimeError("cannot")

    async with running(gateway):
        assert await (await gateway.stream("answer:1", Stubborn())).wait() == "done"
        assert await (await gateway.stream("answer:1", Bare())).wait() == "done"


async def test_a_source_that_takes_no_notice_of_a_stop(gateway: Gateway) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def stubborn() -> AsyncIterator[int]:
        for number in range(10_000):
            begun.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                go_on.set()
            yield number

    async with running(gateway):
        stream = await gateway.stream("answer:1", stubborn())
        await begun.wait()
        stream.stop()
        assert await stream.wait() == "stopped"
        assert len((await gateway.history("answer:1"))[0]) == 2  # a number, and the end


async def test_a_stop_while_the_source_is_closing_takes_the_end_from_nobody(gateway: Gateway) -> None:
    closing = asyncio.Event()

    async def slow() -> AsyncIterator[object]:
        try:
            yield object()  # no data
        finally:
            closing.set()
            await asyncio.Event().wait()

    async with running(gateway):
        stream = await gateway.stream("answer:1", slow())
        await closing.wait()
        stream.stop()
        assert await stream.wait() == "failed"
        assert (await gateway.history("answer:1"))[0][-1].tags == {"stream": "failed"}


async def test_a_source_whose_own_work_was_cancelled_has_failed(gateway: Gateway) -> None:
    async def impatient() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    async with running(gateway):
        assert await (await gateway.stream("answer:1", impatient())).wait() == "failed"


async def test_a_stream_may_be_stopped_from_a_thread(gateway: Gateway, source: Source) -> None:
    async with running(gateway):
        stream = await gateway.stream("answer:1", source())
        await asyncio.to_thread(stream.stop)
        assert await stream.wait() == "stopped"


async def test_one_at_a_time(gateway: Gateway, source: Source) -> None:
    async with running(gateway):
        stream = await gateway.stream("answer:1", source())
        with pytest.raises(Error, match="a stream is being published to answer:1 already") as caught:
            await gateway.stream("answer:1", _nothing())
        assert caught.value.code == 106
        other = await gateway.stream("answer:2", _nothing())
        assert await other.wait() == "done"
        source.say(None)
        await stream.wait()
        again = await gateway.stream("answer:1", _nothing())
        assert await again.wait() == "done"


async def _nothing() -> AsyncIterator[int]:
    for each in range(0):
        yield each


@pytest.mark.parametrize("channel", ["bare", "silent"])
async def test_a_channel_that_keeps_no_stream(gateway: Gateway, channel: str) -> None:
    async with running(gateway):
        with pytest.raises(SettingsError, match="for latecomers would not get its beginning; declare for example"):
            await gateway.stream(channel, _nothing())
        with pytest.raises(Error, match="unknown channel"):
            await gateway.stream("nowhere:x", _nothing())


async def test_what_is_no_asynchronous_iterator(gateway: Gateway) -> None:
    def words() -> Iterator[str]:
        yield "a"

    sources: list[Any] = [["a"], words(), "text", words]
    async with running(gateway):
        for source in sources:
            with pytest.raises(TypeError, match="a stream is made of an asynchronous iterator"):
                await gateway.stream("answer:1", source)


async def test_a_node_that_stops_tells_its_readers(source: Source) -> None:
    gateway = declare(gateway_with())
    async with running(gateway) as opened:
        client = opened()
        await client.connect()
        await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        source.say("a")
        await client.hears("a")
        node = gateway.node
    assert await stream.wait() == "stopped"
    node.hub.flush()
    assert [b'"stopped"' in frame for frame in client.transport.frames] == [True]


# — for one client —


def asking(gateway: Gateway, source: Source, channel: str = "") -> list[Stream]:
    streams: list[Stream] = []

    @gateway.rpc("ask")
    async def ask(client: Client) -> str:
        stream = await client.stream(source(), channel=channel)
        streams.append(stream)
        return stream.channel

    return streams


async def test_a_stream_for_one_client(gateway: Gateway, source: Source) -> None:
    streams = asking(gateway, source)
    async with running(gateway) as opened:
        client, other = opened(), opened()
        await client.connect()
        await other.connect()
        source.say("a", "b")
        channel = await client.call("ask")
        assert channel.startswith("gateway:stream:")
        assert len(channel) > 40
        await until(lambda: client.data(channel) == ["a", "b"])
        assert "subscribe" in client.pushes(channel)[0]
        # whoever knows the name may read it, for instance the client when it returns
        result = await other.subscribe(channel)
        assert [each["data"] for each in result["publications"]] == ["a", "b"]
        source.say("c", None)
        await until(lambda: client.data(channel) == ["a", "b", "c", None])
        assert await streams[0].wait() == "done"
        wheel = gateway.node.wheel
        assert channel in client.session.subscriptions
        later = wheel.clock() + LINGER + 1
        wheel.clock = lambda: later
        await until(lambda: channel not in client.session.subscriptions)
        assert client.pushes(channel)[-1]["unsubscribe"]["code"] == 2000


async def test_a_stream_goes_on_without_its_reader(gateway: Gateway, source: Source) -> None:
    streams = asking(gateway, source)
    async with running(gateway) as opened:
        client = opened()
        await client.connect()
        channel = await client.call("ask")
        await client.leave()
        source.say("a", None)
        assert await streams[0].wait() == "done"
        again = opened()
        await again.connect()
        assert [each["data"] for each in (await again.subscribe(channel))["publications"]] == ["a", None]


async def test_a_stream_to_a_channel_of_the_programs(gateway: Gateway, source: Source) -> None:
    asking(gateway, source, "answer:7")
    async with connected(gateway) as client:
        assert await client.call("ask") == "answer:7"
        source.say("a", None)
        await until(lambda: client.data("answer:7") == ["a", None])
        # who is in it may have come by itself, and the next may have begun
        wheel, lingered = gateway.node.wheel, asyncio.Event()
        wheel.after(LINGER, lingered.set)
        later = wheel.clock() + LINGER + 1
        wheel.clock = lambda: later
        await lingered.wait()
        await gateway.publish("answer:7", "still here")
        await until(lambda: client.data("answer:7") == ["a", None, "still here"])
        assert "answer:7" in client.session.subscriptions


async def test_nobody_is_subscribed_to_what_cannot_be_streamed(gateway: Gateway, source: Source) -> None:
    asking(gateway, source, "bare")
    async with connected(gateway) as client:
        assert (await client.error("rpc", method="ask"))[0] == 100
        await settled(gateway)
        assert client.session.subscriptions == {}
        assert client.pushes() == []
        await client.leave()
        await assert_empty(gateway)


async def test_a_stream_begun_while_the_client_connects(gateway: Gateway, source: Source) -> None:
    @gateway.on_connect
    async def connect(client: Client) -> None:
        await client.stream(source(), channel="answer:1")

    source.say("a")
    async with connected(gateway) as client:
        await until(lambda: client.data("answer:1") == ["a"])


# — on two nodes —


async def test_a_stream_across_nodes(source: Source, server: RedisServer) -> None:
    engine = {"type": "redis", "redis": {"address": server.url}}
    one, other = (declare(gateway_with(engine=engine)) for _ in range(2))

    @one.rpc("ask")
    async def ask(text: Annotated[str, Body()]) -> None: ...

    async with AsyncExitStack() as stack:
        for gateway in (one, other):
            await stack.enter_async_context(gateway.lifespan(FastAPI()))
        client = Peer(one)
        await client.connect()
        await client.subscribe("answer:1")
        stream = await one.stream("answer:1", source())
        source.say("a", "b")
        await client.hears("a", "b")
        returned = Peer(other)
        await returned.connect()
        result = await returned.subscribe("answer:1")
        assert [each["data"] for each in result["publications"]] == ["a", "b"]
        source.say("c")
        await returned.hears("c")
        await other.stop_stream("answer:1")
        assert await stream.wait() == "stopped"
        await returned.hears("c", None)
        assert ends(returned) == ["stopped"]


async def test_a_source_that_does_not_close_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.program.routes.streams.CLOSING", 0.01)
    closing = asyncio.Event()

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closing.set()
            await asyncio.Event().wait()

    async with running(gateway):
        stream = await gateway.stream("answer:1", stubborn())
        await until(lambda: gateway.node.metrics.publications_in)
    await until(lambda: not stream.running)
    assert closing.is_set()


async def test_streams_end_when_the_process_is_told_to_stop(
    gateway: Gateway, source: Source, ask_to_stop: Callable[[], None]
) -> None:
    async with connected(gateway) as client:
        await client.subscribe("answer:1")
        stream = await gateway.stream("answer:1", source())
        source.say("a")
        await client.hears("a")
        ask_to_stop()
        assert await stream.wait() == "stopped"
        assert source.closed
        await client.hears("a", None)
        assert ends(client) == ["stopped"]
        late = await gateway.stream("answer:2", Source()())
        assert await late.wait() == "stopped"
