"""The chat, on two instances."""

import httpx
import pytest

from tests.browsing import Browser, Window
from tests.examples.running import Cluster, websocket
from tests.integration.clients.base import CallFailed
from tests.integration.clients.javascript import JavaScriptSDK


async def enter(window: Window, name: str) -> None:
    await window.fill("#username", name)
    await window.click("#enter button")
    await window.wait_text("#people", name)


async def say(window: Window, text: str) -> None:
    await window.fill("#text", text)
    await window.press("#text", "Enter")
    await window.wait_text("#log", text)


async def test_two_people_on_two_instances(cluster: Cluster, browser: Browser, http: httpx.AsyncClient) -> None:
    a, b = cluster("chat")
    async with browser.window(a, cuttable=True) as ann:
        await enter(ann, "Ann")
        await say(ann, "Hello?")
        async with browser.window(b) as bob:
            await enter(bob, "Bob")
            await bob.wait_text("#people", "Ann")
            await bob.wait_text("#log", "Ann Hello?")
            await ann.wait_text("#log", "Bob joined")
            await say(bob, "Hello Ann, <b>here</b> I am.")
            await ann.wait_text("#log", "Bob Hello Ann, <b>here</b> I am.")
            async with browser.window(a) as bobs_other_window:
                await enter(bobs_other_window, "Bob")
                assert await bobs_other_window.text("#count") == "2"
                for url in (a, b):
                    assert (await http.get(f"{url}/rooms/lobby/people")).json() == ["Ann", "Bob"]
                    found = (await http.get(f"{url}/rooms/lobby/messages")).json()
                    said = [(each["username"], each["text"]) for each in found]
                    assert said == [("Ann", "Hello?"), ("Bob", "Hello Ann, <b>here</b> I am.")]
            await ann.cut(3001, "shutdown")
            await bob.wait_no_text("#people", "Ann")
            await bob.wait_text("#log", "Ann left")
            await say(bob, "Where have you gone?")
            await ann.mend()
            await ann.wait_text("#log", "Where have you gone?")
            await say(ann, "I am back.")
            await bob.wait_text("#log", "Ann I am back.")
            await bob.screenshot("chat")
        await ann.wait_no_text("#people", "Bob")
        await ann.wait_text("#log", "Bob left")
        log = await ann.text("#log")
        assert [log.count(each) for each in ("Hello?", "I am back.", "Bob joined", "Bob left")] == [1, 1, 1, 1]
        await ann.screenshot("chat-alone")


async def test_names_and_messages_are_checked(cluster: Cluster, sdk: JavaScriptSDK, http: httpx.AsyncClient) -> None:
    [url] = cluster("chat", instances=1)
    address = websocket(url, "/connection/websocket")
    nobody = await sdk.client(address)
    await nobody.begin()
    await nobody.events.wait("disconnected")
    ann = await (await sdk.client(f"{address}?username=Ann")).connect()
    lobby = await ann.subscribe("chat:lobby")
    for wrong in ({}, {"text": ""}, {"text": "x" * 501}, "text"):
        with pytest.raises(CallFailed) as refused:
            await ann.publish("chat:lobby", wrong)
        assert refused.value.code == 107
    await ann.publish("chat:lobby", {"text": "I am Bob", "username": "Bob"})
    publication = await lobby.events.wait("publication")
    assert publication.data["username"] == "Ann"
    assert (await http.get(f"{url}/rooms/other/messages")).json() == []
    for name in ("a:b", "%23", "x" * 300):
        for what in ("messages", "people"):
            assert (await http.get(f"{url}/rooms/{name}/{what}")).status_code == 422
