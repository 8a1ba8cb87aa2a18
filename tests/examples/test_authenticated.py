"""Authenticated sockets, on two instances."""

import pytest
from starlette.types import Message
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from examples.authenticated import app
from tests.browsing import Browser
from tests.examples.running import Cluster, websocket


async def test_query_token(cluster: Cluster) -> None:
    for url in cluster("authenticated"):
        async with connect(websocket(url, "/ws?token=token-of-ann")) as socket:
            await socket.send("hello")
            assert await socket.recv() == "ann: hello"
        for query in ("", "?token=guessed"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(websocket(url, f"/ws{query}"))
            assert refused.value.response.status_code == 403


async def test_cookie_or_token_meet_at_an_item(cluster: Cluster) -> None:
    a, b = cluster("authenticated")
    with_cookie = connect(
        websocket(a, "/items/foo/ws?q=3"), additional_headers={"Cookie": "session=token-of-ann", "Origin": a}
    )
    async with with_cookie as ann, connect(websocket(b, "/items/foo/ws?token=token-of-bob")) as bob:
        assert await ann.recv() == "Query parameter q is: 3"
        await bob.send("hello")
        for each in (ann, bob):
            assert await each.recv() == "bob wrote: hello, for item ID: foo"
        async with connect(websocket(b, "/items/bar/ws?token=token-of-bob")) as elsewhere:
            await elsewhere.send("another item")
            await bob.send("this one")
            assert await ann.recv() == "bob wrote: this one, for item ID: foo"


async def test_a_foreign_page_has_the_cookie_and_does_not_get_in(cluster: Cluster) -> None:
    [url] = cluster("authenticated", instances=1)
    headers = {"Cookie": "session=token-of-ann", "Origin": "http://evil.example"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(websocket(url, "/items/foo/ws"), additional_headers=headers)
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:  # nor does an item that can have no channel
        await connect(websocket(url, "/items/a:b/ws?token=token-of-ann"))
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/ws", "/ws?token=guessed", "/items/foo/ws?q=3", "/items/foo/ws?token="])
async def test_neither_is_1008(path: str) -> None:
    """A browser sees the handshake refused; this is what the server is told to close with."""
    path, _, query = path.partition("?")
    scope = {"type": "websocket", "path": path, "query_string": query.encode(), "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "no valid token"}]


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("authenticated")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await ann.fill("#token", "guessed")
        await ann.click("#open button")
        assert await ann.call("isDisabled", "#say")
        await ann.wait_text("#state", "refused")
        assert await ann.call("isDisabled", "#say")
        await ann.fill("#token", "token-of-ann")
        await ann.call("selectOption", "#way", "cookie")
        await ann.click("#open button")
        await bob.fill("#token", "token-of-bob")
        await bob.click("#open button")
        for each in (ann, bob):
            await each.wait_text("#state", "open: foo")
            await each.wait_text("#log", "Query parameter q is: 42")
        await bob.fill("#message", "hello")
        await bob.press("#message", "Enter")
        await ann.wait_text("#log", "bob wrote: hello, for item ID: foo")
        await ann.screenshot("authenticated")
