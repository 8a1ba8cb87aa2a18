"""Echo, on two instances."""

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.browsing import Browser
from tests.examples.running import Cluster, websocket


async def test_each_instance_echoes_each_format(cluster: Cluster) -> None:
    for url in cluster("echo"):
        async with connect(websocket(url, "/ws/text")) as text:
            await text.send("hello")
            assert await text.recv() == "You wrote: hello"
        async with connect(websocket(url, "/ws/json")) as values:
            await values.send('{"a": [1, null]}')
            assert json.loads(await values.recv()) == {"type": "dict", "echo": {"a": [1, None]}}
        async with connect(websocket(url, "/ws/bytes")) as data:
            await data.send(b"\x00\xff")
            assert await data.recv() == b"\x00\xff"


async def test_what_is_no_json_ends_that_socket_alone(cluster: Cluster) -> None:
    [url] = cluster("echo", instances=1)
    async with connect(websocket(url, "/ws/json")) as other, connect(websocket(url, "/ws/json")) as socket:
        await socket.send("{")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
        await other.send("1")
        assert json.loads(await other.recv()) == {"type": "int", "echo": 1}


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("echo")
    async with browser.window(a) as window, browser.window(b) as other:
        for each in (window, other):
            await each.wait_text("#state", "text: open")
            await each.fill("#message", "hello")
            await each.press("#message", "Enter")
            await each.wait_text("#log", "← You wrote: hello")
        await window.call("selectOption", "#format", "json")
        await window.wait_text("#state", "json: open")
        await window.fill("#message", '["a", 1]')
        await window.click("#form button")
        await window.wait_text("#log", '← {"type":"list","echo":["a",1]}')
        await window.fill("#message", "{")
        await window.click("#form button")
        await window.wait_text("#state", "closed: 1007")
        assert await window.call("isDisabled", "#form button")
        await window.wait_text("#state", "json: open")
        await window.call("selectOption", "#format", "bytes")
        await window.evaluate("format.onchange(); document.querySelector('#form button').click()")  # not open yet
        await window.wait_text("#state", "bytes: open")
        await window.fill("#message", "né")
        await window.click("#form button")
        await window.wait_text("#log", "← 3 bytes: 6e c3 a9")
        await window.screenshot("echo")
