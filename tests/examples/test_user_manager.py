"""A manager keyed by user, on two instances."""

import json
from contextlib import AsyncExitStack
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.browsing import Browser
from tests.examples.running import Cluster, websocket


async def heard(socket: ClientConnection) -> Any:
    return json.loads(await socket.recv())


async def test_each_socket_of_a_user_hears_it_and_nobody_else(cluster: Cluster, http: httpx.AsyncClient) -> None:
    a, b = cluster("user_manager")
    async with AsyncExitStack() as stack:
        sockets: list[ClientConnection] = []
        for url, user in ((a, 1), (a, 2), (b, 2)):
            sockets.append(await stack.enter_async_context(connect(websocket(url, f"/ws/{user}"))))
            for each in sockets:
                assert await heard(each) == {"text": f"User {user} is here"}
        one, here, there = sockets
        await one.send('{"to": 2, "text": "hello"}')
        for each in (here, there):
            assert await heard(each) == {"from": 1, "text": "hello"}
        (await http.post(f"{b}/users/2/messages", params={"text": "from the program"})).raise_for_status()
        for each in (here, there):
            assert await heard(each) == {"text": "from the program"}
        await there.send("nonsense")
        assert "Send, for example" in (await heard(there))["text"]
        await there.send('{"to": 1, "text": "the end"}')
        assert await heard(one) == {"from": 2, "text": "the end"}


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("user_manager")
    async with browser.window(f"{a}/?user=1", cuttable=True) as one, browser.window(f"{b}/?user=2") as two:
        for each, text in ((one, "User 1 is here"), (two, "User 2 is here")):
            await each.wait_text("#log", text)
        await one.fill("#message", "hello")
        await one.press("#message", "Enter")
        await two.wait_text("#log", "1: hello")
        await two.fill("#to", "1")
        await two.fill("#message", "hello to you")
        await two.press("#message", "Enter")
        await one.wait_text("#log", "2: hello to you")
        await one.screenshot("user_manager")
        await one.cut()
        await one.wait_text("#state", "offline")
        await one.fill("#message", "kept while offline")
        await one.press("#message", "Enter")
        await one.mend()
        await one.wait_text("#state", "online")
        await one.press("#message", "Enter")
        await two.wait_text("#log", "1: kept while offline")
