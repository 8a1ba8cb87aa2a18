"""Rooms and who is in them, on two instances."""

import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.browsing import Browser
from tests.examples.running import Cluster, websocket


async def heard(socket: ClientConnection) -> Any:
    return json.loads(await socket.recv())


async def test_who_is_here_and_what_they_say(cluster: Cluster) -> None:
    a, b = cluster("rooms")
    async with connect(websocket(a, "/ws/red/ann")) as ann:
        assert await heard(ann) == {"here": ["ann"]}
        async with connect(websocket(b, "/ws/red/bob")) as bob, connect(websocket(b, "/ws/blue/eve")) as eve:
            assert await heard(ann) == await heard(bob) == {"here": ["ann", "bob"]}
            assert await heard(eve) == {"here": ["eve"]}
            for number in range(20):
                await bob.send(str(number))
                assert await heard(bob) == {"sent": str(number)}
                assert await heard(ann) == {"from": "bob", "text": str(number)}
            await eve.send("anybody?")
            assert await heard(eve) == {"sent": "anybody?"}
        assert await heard(ann) == {"here": ["ann"]}


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("rooms")
    async with browser.window(a) as ann, browser.window(f"{b}/?user=bob") as bob:
        for each in (ann, bob):
            await each.wait_text("#here", "ann, bob")
        await ann.fill("#message", "hello")
        await ann.press("#message", "Enter")
        await ann.wait_text("#log", "you: hello")
        await bob.wait_text("#log", "ann: hello")
        await ann.screenshot("rooms")
