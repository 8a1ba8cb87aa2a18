"""Tokens of FastAPI's tutorial that expire, on two instances, in Chromium with the official SDK."""

import httpx

from tests.browsing import Browser, Window
from tests.examples.running import Cluster, websocket
from tests.integration.clients.javascript import JavaScriptSDK
from tests.waiting import until

SECRET = {"SECRET": "of the tests alone, thirty-two bytes"}
SHORT = {**SECRET, "LIFETIME": "3"}
IMPATIENT = {**SHORT, "GATEWAY_CLIENT__EXPIRED_CLOSE_DELAY": "500ms"}
IMPATIENT_ROOM = {**SHORT, "GATEWAY_CLIENT__EXPIRED_SUB_CLOSE_DELAY": "500ms"}

OFFLINE = """window.there = window.fetch;
window.fetch = async (path, options) => {
  if (path.startsWith('%s')) throw new Error('offline');
  return there(path, options);
};
document.getElementById('log').textContent = ''"""
"""As it is while a laptop sleeps: the page gets no token from there. What was before, on a slow machine more than one
connection, does not count."""


async def log_in(window: Window, name: str) -> None:
    await window.fill("#name", name)
    await window.fill("#password", f"password of {name}")
    await window.click("#login button")
    await window.wait_text("#state", "connected")
    await window.wait_text("#log", "back room: entered")


async def token_of(name: str, url: str, http: httpx.AsyncClient) -> str:
    return str((await http.post(f"{url}/login", json={"name": name, "password": f"password of {name}"})).json())


def connections(cluster: Cluster, url: str) -> int:
    return cluster.instance(url).log.count('"WebSocket /connection/websocket" [accepted]')


async def say(text: str, token: str, url: str, http: httpx.AsyncClient) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return await http.post(f"{url}/say", json={"text": text}, headers=headers)


async def test_one_dependency_for_routes_and_sockets(
    cluster: Cluster, sdk: JavaScriptSDK, http: httpx.AsyncClient
) -> None:
    a, b = cluster("oauth2", env=SECRET)
    assert (await http.post(f"{a}/login", json={"name": "ann", "password": "guessed"})).status_code == 401
    token = await token_of("ann", a, http)
    client = await sdk.connected(websocket(a, "/connection/websocket"), token)
    lobby = await client.subscription("lobby")
    await lobby.begin()
    await lobby.events.wait("subscribed")
    assert (await say("hello", token, b, http)).status_code == 204
    assert (await lobby.events.wait("publication")).data == "ann: hello"
    for wrong in ("x", token[:-1]):
        assert (await say("hello", wrong, b, http)).status_code == 401
        refused = await sdk.client(websocket(b, "/connection/websocket"), wrong)
        await refused.begin()
        assert (await refused.events.wait("disconnected")).code == 101


async def test_an_invitation_opens_its_room_alone(
    cluster: Cluster, sdk: JavaScriptSDK, http: httpx.AsyncClient
) -> None:
    [url] = cluster("oauth2", instances=1, env=SECRET)
    token = await token_of("ann", url, http)
    answer = await http.post(f"{url}/invitations/back", headers={"Authorization": f"Bearer {token}"})
    client = await sdk.connected(websocket(url, "/connection/websocket"), token)
    for channel, invitation in (("room:other", answer.json()), ("room:back", token), ("room:back", "")):
        room = await client.subscription(channel, token=invitation)
        await room.begin()
        assert (await room.events.wait("unsubscribed")).code == 103
        await client.remove(room)
    stranger = await sdk.client(websocket(url, "/connection/websocket"), answer.json())
    await stranger.begin()
    assert (await stranger.events.wait("disconnected")).code == 101


async def test_the_sdk_refreshes_connection_and_subscription_in_time(cluster: Cluster, browser: Browser) -> None:
    [url] = cluster("oauth2", instances=1, env=SHORT)
    async with browser.window(url) as window:
        await log_in(window, "bob")
        log, accepted = await window.text("#log"), connections(cluster, url)
        await window.evaluate("window.before = { ...fetched }")
        await window.wait_for("fetched.token >= before.token + 2 && fetched.invitation >= before.invitation + 2")
        assert await window.text("#state") == "connected"
        assert await window.text("#log") == log, "neither has come again"
        assert connections(cluster, url) == accepted


async def test_an_expired_connection_comes_back_with_another_token(
    cluster: Cluster, browser: Browser, http: httpx.AsyncClient
) -> None:
    [url] = cluster("oauth2", instances=1, env=IMPATIENT)
    async with browser.window(url) as window:
        await log_in(window, "ann")
        await window.evaluate(OFFLINE % "/login")
        await window.wait_text("#log", "connecting: 3005 connection expired")
        await window.wait_text("#log", "error 109: token expired")

        async def said() -> bool:
            return (await say("are you there?", await token_of("bob", url, http), url, http)).status_code == 204

        await until(said)
        assert "recovered" not in await window.text("#log")
        before = await window.evaluate("fetched.token")
        await window.evaluate("window.fetch = window.there")
        await window.wait_text("#log", "recovered")
        await window.wait_text("#log", "bob: are you there?")
        assert await window.evaluate("fetched.token") > before
        assert await window.text("#state") == "connected"
        await window.screenshot("oauth2")


async def test_an_expired_subscription_comes_back_with_another_token(cluster: Cluster, browser: Browser) -> None:
    [url] = cluster("oauth2", instances=1, env=IMPATIENT_ROOM)
    async with browser.window(url) as window:
        await log_in(window, "ann")
        await window.evaluate(OFFLINE % "/invitations")
        await window.wait_text("#log", "back room: subscribing, 2501 subscription expired")
        before = await window.evaluate("fetched.invitation")
        await window.evaluate("window.fetch = window.there")
        await window.wait_for(f"fetched.invitation > {before}")
        await window.wait_text("#log", "back room: entered")
        assert await window.text("#state") == "connected"
        assert "3005" not in await window.text("#log")
