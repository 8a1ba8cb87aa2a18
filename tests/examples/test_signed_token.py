"""Signed tokens, on two instances."""

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.browsing import Browser
from tests.examples.running import Cluster, websocket

SECRET = {"SECRET": "of the tests alone"}


def token(url: str, user: str) -> str:
    return str(httpx.get(f"{url}/token", params={"user": user}).json())


async def test_a_token_of_one_instance_holds_at_the_other(cluster: Cluster) -> None:
    a, b = cluster("signed_token", env=SECRET)
    anns, bobs = (f"/ws?token={token(a, user)}" for user in ("ann", "bob"))
    async with connect(websocket(a, anns)) as ann, connect(websocket(b, bobs)) as bob:
        assert await bob.recv() == "Welcome, bob"
        await ann.send("hello")
        assert await bob.recv() == "ann: hello"


async def test_forged_tokens_are_refused(cluster: Cluster) -> None:
    [url] = cluster("signed_token", instances=1, env=SECRET)
    genuine = token(url, "ann")
    user, end, signature = genuine.split(".")
    forged = [
        "",
        "x",
        ".",
        f"bob.{end}.{signature}",
        f"ann.{int(end) + 1}.{signature}",
        genuine[:-1],
        f"{user}.{end}.é",
    ]
    for each in forged:
        with pytest.raises(InvalidStatus) as refused:
            await connect(websocket(url, "/ws?" + str(httpx.QueryParams({"token": each}))))
        assert refused.value.response.status_code == 403, each


async def test_the_connection_ends_with_its_token(cluster: Cluster) -> None:
    [url] = cluster("signed_token", instances=1, env={**SECRET, "LIFETIME": "2"})
    path = f"/ws?token={token(url, 'ann')}"
    for _ in range(2):  # while it lasts, and after its end
        async with connect(websocket(url, path)) as socket:
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (4001, "token expired")


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("signed_token", env=SECRET)
    async with browser.window(a) as ann, browser.window(b) as bob:
        await bob.fill("#user", "bob")
        assert await bob.call("isDisabled", "#say")
        for each in (ann, bob):
            await each.click("#ask button")
            await each.wait_for("document.getElementById('token').value.length > 64")
            await each.click("#open button")
            await each.wait_text("#log", "Welcome, ")
        await bob.fill("#message", "hello")
        await bob.press("#message", "Enter")
        await ann.wait_text("#log", "bob: hello")
        await ann.screenshot("signed_token")
        await ann.fill("#token", "ann.9999999999.0123")
        await ann.click("#open button")
        await ann.wait_text("#state", "refused")
        assert await ann.call("isDisabled", "#say")
