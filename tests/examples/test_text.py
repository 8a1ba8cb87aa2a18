"""Both browsers write at once, and come to the same text."""

import asyncio
import base64
import json
import subprocess

import httpx
import pytest
from pycrdt import Doc, Text

from tests.browsing import Browser, Window
from tests.examples.running import ROOT, Cluster, websocket
from tests.integration.clients.base import CallFailed
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.processes import program

AREA = "document.querySelector('#text').value"
SAVED = "All changes are with the others."


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    subprocess.run([program("npm", "npm"), "run", "--silent", "build", "--prefix", "examples"], cwd=ROOT, check=True)


async def opened(window: Window) -> None:
    await window.wait_for("!document.querySelector('#text').disabled")


async def write(window: Window, text: str, at: int) -> None:
    """Type key by key, beginning at a place."""
    await window.evaluate(f"document.querySelector('#text').setSelectionRange({at}, {at})")
    await window.call("type", "#text", text)


def update(text: str) -> str:
    document = Doc[Text]()
    document["text"] = Text(text)
    return base64.b64encode(document.get_update()).decode()


async def test_two_write_at_once_and_a_third_comes_late(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("text")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await opened(ann)
        await opened(bob)
        await write(ann, "Once upon a time.\n", 0)
        await bob.wait_for(f"{AREA} === 'Once upon a time.\\n'")
        await asyncio.gather(write(ann, "Of gulls 🐦 and ships. ", 0), write(bob, "THE END, SAYS THE OTHER", 18))
        whole = "Of gulls 🐦 and ships. Once upon a time.\nTHE END, SAYS THE OTHER"
        async with browser.window(b) as late:
            for window in (ann, bob, late):
                await window.wait_for(f"{AREA} === {json.dumps(whole)}")
        await ann.wait_text("#saved", SAVED)
        await ann.screenshot("text")
        async with httpx.AsyncClient(base_url=b) as client:
            assert (await client.get("/texts/draft")).text == whole


async def test_the_cursor_stays_where_it_is_in_the_text(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("text")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await opened(ann)
        await opened(bob)
        await write(ann, "middle", 0)
        await bob.wait_for(f"{AREA} === 'middle'")
        await write(bob, "before ", 0)
        await ann.wait_for(f"{AREA} === 'before middle'")
        await ann.call("type", "#text", "!")  # it stood at the end
        await bob.wait_for(f"{AREA} === 'before middle!'")


async def test_what_is_written_without_a_connection_is_not_lost(cluster: Cluster, browser: Browser) -> None:
    env = {"GATEWAY_CLIENT__RECOVERY_MAX_PUBLICATION_LIMIT": "5"}
    a, b = cluster("text", env=env)
    async with browser.window(a, cuttable=True) as ann, browser.window(b) as bob:
        await opened(ann)
        await opened(bob)
        await ann.cut()
        await ann.wait_text("#state", "connecting")
        await asyncio.gather(write(ann, "offline ", 0), write(bob, "online, key by key", 0))
        await ann.wait_text("#saved", "Some changes are only here yet.")
        await bob.wait_text("#saved", SAVED)
        await ann.mend()
        for window in (ann, bob):
            await window.wait_for(f"{AREA}.includes('offline ') && {AREA}.includes('online, key by key')")
        await ann.wait_text("#saved", SAVED)
        assert await ann.evaluate(AREA) == await bob.evaluate(AREA)


async def test_one_change_in_a_hundred_stands_for_all_before(cluster: Cluster, sdk: JavaScriptSDK) -> None:
    a, b = cluster("text")
    writers = [await sdk.connected(websocket(url, "/connection/websocket")) for url in (a, b)]
    subscriptions = [await writer.subscribe("text:draft") for writer in writers]
    async with httpx.AsyncClient(base_url=a) as client:
        for n in range(130):
            await writers[n % 2].publish("text:draft", {"update": update(f"{n};")})
        text = (await client.get("/texts/draft")).text
        assert sorted(text.rstrip(";").split(";"), key=int) == [str(n) for n in range(130)]
    publications = subscriptions[0].events
    await publications.wait("publication", 131)
    longest = max(publications.named("publication"), key=lambda each: len(each.data["update"]))
    document = Doc[Text]()
    document.apply_update(base64.b64decode(longest.data["update"]))
    assert str(document.get("text", type=Text)).count(";") == 100


async def test_nonsense_is_refused(cluster: Cluster, sdk: JavaScriptSDK, http: httpx.AsyncClient) -> None:
    [a] = cluster("text", instances=1)
    client = await sdk.connected(websocket(a, "/connection/websocket"))
    await client.subscribe("text:draft")
    for nonsense in ("not base64", base64.b64encode(b"no update").decode()):
        with pytest.raises(CallFailed, match="107"):
            await client.publish("text:draft", {"update": nonsense})
    for name in ("a:b", "%23", "x" * 300):
        assert (await http.get(f"{a}/texts/{name}")).status_code == 422
