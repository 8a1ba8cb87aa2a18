"""Plain WebSockets of a program's own routes."""

import pytest

from gateway.testing import Disconnected, Kit, Late, Rejected, Unexpected
from tests.testing.chat import Text, create_app


async def test_text_bytes_and_json() -> None:
    async with Kit(create_app()) as kit:
        socket = await kit.websocket("/echo", subprotocols=("one", "two"))
        assert socket.subprotocol == "one"
        await socket.send_text("hi")
        assert await socket.receive_text() == "hi"
        await socket.send_bytes(b"\x00")
        assert await socket.receive_bytes() == b"\x00"
        await socket.send_json(Text(text="hi"))
        assert await socket.receive_json() == {"text": "hi"}
        await socket.nothing()


async def test_what_is_of_the_other_kind() -> None:
    async with Kit(create_app()) as kit:
        socket = await kit.websocket("/echo")
        await socket.send_text("hi")
        with pytest.raises(TypeError, match="text has come where bytes were expected: 'hi'"):
            await socket.receive_bytes()
        await socket.send_bytes(b"hi")
        with pytest.raises(TypeError, match="bytes have come where text was expected: b'hi'"):
            await socket.receive_text()


async def test_deadlines() -> None:
    async with Kit(create_app()) as kit:
        socket = await kit.websocket("/echo", name="the echo")
        with pytest.raises(Late, match=r"no message within 0.01 s; the echo has received nothing"):
            await socket.receive(within=0.01)
        await socket.send_text("hi")
        with pytest.raises(Unexpected, match=r"but there came \['hi'\]; the echo has received, .*\n  'hi'"):
            await socket.nothing()


async def test_ends() -> None:
    app = create_app()
    async with Kit(app) as kit:
        socket = await kit.websocket("/echo")
        await socket.send_text("close")
        ended = await socket.ended()
        assert (ended.code, ended.reason) == (4000, "as asked")
        with pytest.raises(Disconnected, match="4000 as asked"):
            await socket.receive()
        with pytest.raises(Disconnected, match="4000 as asked"):
            await socket.send_text("hello?")
        socket = await kit.websocket("/echo")
        await socket.send_text("return")
        assert (await socket.ended()).code == 1000
        socket = await kit.websocket("/echo")
        await socket.close(3210)
        assert app.state.gone == [3210]
        await socket.close()


async def test_routes_that_end_with_their_client() -> None:
    async with Kit(create_app()) as kit:
        for query in ({}, {"once": "more"}):
            socket = await kit.websocket("/ticker", query=query)
            await socket.send_text("hi")
            assert await socket.receive() == "hi"
            await socket.close()
            socket.check()


async def test_refusals() -> None:
    async with Kit(create_app()) as kit:
        with pytest.raises(Rejected) as rejected:
            await kit.websocket("/closed")
        assert (rejected.value.status, rejected.value.code, rejected.value.reason) == (403, 1008, "not you")
        with pytest.raises(Rejected) as rejected:
            await kit.websocket("/denied")
        assert (rejected.value.status, rejected.value.code) == (404, 1006)
        assert b"no such thing" in rejected.value.body
        with pytest.raises(Rejected):
            await kit.websocket("/nowhere")


async def test_a_route_that_fails() -> None:
    async def test() -> None:
        async with Kit(create_app()) as kit:
            socket = await kit.websocket("/echo")
            await socket.send_text("fail")
            with pytest.raises(ValueError, match="as asked"):
                await socket.receive()
            assert (await socket.ended()).code == 1011

    with pytest.raises(ValueError, match="as asked"):
        await test()


async def test_attached_sockets_on_two_nodes() -> None:
    async with Kit(create_app, nodes=2) as kit:
        one, two = await kit.websocket("/ws/1"), await kit.websocket("/ws/2?x=%20", node=1)
        await one.send_text("hi")
        assert await two.receive_text() == "1 says: hi"
        assert await one.receive_text() == "1 says: hi"
        await two.nothing()
        await two.send_text("fine")
        with pytest.raises(Unexpected):
            await one.nothing()
        ann = await kit.connect()
        room = await ann.subscribe("plain:lobby")
        await one.send_text("to all")
        assert (await room.next()).data == "1 says: to all"


async def test_a_slow_socket() -> None:
    async with Kit(create_app()) as kit:
        one, two = await kit.websocket("/ws/1"), await kit.websocket("/ws/2")
        one.slow()
        for _ in range(10):
            await two.send_text("x" * 1000)
            await two.receive()
        assert (await one.ended()).code == 3008
        await two.nothing()
