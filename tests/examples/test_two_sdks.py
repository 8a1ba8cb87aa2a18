"""Two SDKs in one room, on two instances."""

import httpx
import pytest

from tests.browsing import Browser, Window
from tests.examples.running import Cluster

SECRET = {"SECRET": "of the tests alone, thirty-two bytes"}


async def say(window: Window, where: str, text: str) -> None:
    await window.fill(f"{where} input", text)
    await window.press(f"{where} input", "Enter")


async def people(window: Window, where: str, *names: str) -> None:
    """Wait until these are shown, and no others."""
    shown = f"[...document.querySelectorAll('{where} .people li')].map((each) => each.textContent).join()"
    await window.wait_for(f"{shown} === '{','.join(names)}'")


async def test_they_share_the_conversation_and_the_roster(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("two_sdks", env=SECRET)
    async with browser.window(a, width=1000, height=640) as page:
        for sdk in ("#pusher", "#centrifuge"):
            await people(page, sdk, "cleo", "pia")
        await say(page, "#pusher", "Hello from pusher-js")
        await page.wait_text("#centrifuge .log", "pia Hello from pusher-js")
        await say(page, "#centrifuge", "Hello from centrifuge")
        await page.wait_text("#pusher .log", "cleo Hello from centrifuge")
        async with browser.window(f"{b}/?pusher=piet&centrifuge=cleo") as other:
            for window in (page, other):
                for sdk in ("#pusher", "#centrifuge"):
                    await people(window, sdk, "cleo", "pia", "piet")
            await say(other, "#pusher", "I am on another instance")
            for sdk in ("#pusher", "#centrifuge"):
                await page.wait_text(f"{sdk} .log", "piet I am on another instance")
            await say(other, "#announce", "Lunch is served")
            for window in (page, other):
                for sdk in ("#pusher", "#centrifuge"):
                    await window.wait_text(f"{sdk} .log", "the program Lunch is served")
            await page.screenshot("two_sdks")
        for sdk in ("#pusher", "#centrifuge"):
            await people(page, sdk, "cleo", "pia")
            said = (await page.text(f"{sdk} .log")).splitlines()
            assert said == [
                "pia Hello from pusher-js",
                "cleo Hello from centrifuge",
                "piet I am on another instance",
                "the program Lunch is served",
            ]


@pytest.mark.parametrize("name", ["", "no body", "x" * 21])
async def test_who_has_no_name_is_refused_by_both(cluster: Cluster, http: httpx.AsyncClient, name: str) -> None:
    [a] = cluster("two_sdks", instances=1, env=SECRET)
    asked = {"socket_id": "1.2", "channel_name": "presence-lobby"}
    answer = await http.post(f"{a}/pusher/auth", params={"name": name}, data=asked)
    assert answer.status_code == 400
    good = await http.post(f"{a}/pusher/auth", params={"name": "pia"}, data=asked)
    assert good.json()["channel_data"] == '{"user_id":"pia","user_info":{"name":"pia"}}'
