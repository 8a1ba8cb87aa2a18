"""Login and JWT, on two instances."""

import httpx

from tests.browsing import Browser, Window
from tests.examples.running import Cluster, websocket
from tests.integration.clients.javascript import JavaScriptSDK

KEY = {"GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": "of the tests alone, thirty-two bytes"}


async def log_in(window: Window, name: str) -> None:
    await window.fill("#name", name)
    await window.fill("#password", f"password of {name}")
    await window.click("#login button")
    await window.wait_text("#state", "connected")
    await window.wait_for("!document.getElementById('say').disabled")


async def test_passwords_and_sessions_are_checked(cluster: Cluster, http: httpx.AsyncClient) -> None:
    a, b = cluster("jwt_login", env=KEY)
    for name, password in (("ann", "password of bob"), ("eve", "password of eve")):
        assert (await http.post(f"{a}/login", json={"name": name, "password": password})).status_code == 401
    assert (await http.get(f"{a}/token")).status_code == 403
    await http.post(f"{a}/login", json={"name": "ann", "password": "password of ann"})
    token = await http.get(f"{b}/token")
    assert token.status_code == 200
    http.cookies.clear()
    assert (await http.get(f"{b}/token", headers={"Cookie": f"session={token.json()}"})).status_code == 403


async def test_a_session_is_no_connection_token(cluster: Cluster, sdk: JavaScriptSDK, http: httpx.AsyncClient) -> None:
    [url] = cluster("jwt_login", instances=1, env=KEY)
    await http.post(f"{url}/login", json={"name": "ann", "password": "password of ann"})
    for token in (http.cookies["session"], ""):
        client = await sdk.client(websocket(url, "/connection/websocket"), token)
        await client.begin()
        assert (await client.events.wait("disconnected")).code in {3500, 3501, 3507}


async def test_page(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("jwt_login", env=KEY)
    async with browser.window(a) as ann, browser.window(b) as bob:
        await ann.fill("#name", "ann")
        await ann.fill("#password", "guessed")
        await ann.click("#login button")
        await ann.wait_text("#state", "wrong name or password")
        await log_in(ann, "ann")
        await log_in(bob, "bob")
        await ann.fill("#message", "I am in")
        await ann.press("#message", "Enter")
        await bob.wait_text("#log", "ann I am in")
        await bob.screenshot("jwt_login")
        await ann.fill("#name", "bob")
        await ann.fill("#password", "password of bob")
        await ann.click("#login button")
        await ann.wait_text("#tokens", "tokens fetched: 2")
        await ann.wait_text("#state", "connected")
        await ann.fill("#message", "now I am bob")
        await ann.press("#message", "Enter")
        await bob.wait_text("#log", "bob now I am bob")


async def test_the_sdk_refreshes_the_token_in_time(cluster: Cluster, browser: Browser) -> None:
    [url] = cluster("jwt_login", instances=1, env={**KEY, "LIFETIME": "2"})
    async with browser.window(url) as window:
        await log_in(window, "bob")
        await window.wait_text("#tokens", "tokens fetched: 3")
        assert await window.text("#state") == "connected"
        assert cluster.instance(url).log.count('"WebSocket /connection/websocket" [accepted]') == 1
