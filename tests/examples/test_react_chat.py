import subprocess

import pytest

from tests.browsing import Browser, Window
from tests.examples.running import ROOT, Cluster
from tests.integration.processes import program

LOG = ".log"


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    command = [program("npm", "npm"), "run", "--silent", "build", "--prefix", "examples/react"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


async def come_in(window: Window, name: str) -> None:
    await window.fill("[name=name]", name)
    await window.press("[name=name]", "Enter")
    await window.wait_text("#people", name)


async def say(window: Window, text: str) -> None:
    await window.fill("[name=text]", text)
    await window.press("[name=text]", "Enter")


async def test_two_chat_through_two_instances(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("react_chat")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await come_in(ann, "Ann")
        await come_in(bob, "Bob")
        await ann.wait_text("#people", "Bob")
        await say(ann, "Hello Bob")
        await bob.wait_text(LOG, "Ann Hello Bob")
        await say(ann, " ")
        await ann.wait_text("#failure", "Not sent")
        assert await ann.call("inputValue", "[name=text]") == " "
        await say(ann, "Are you there?")
        await ann.wait_no_text("#failure", "Not sent")
        await ann.wait_for("document.querySelector('[name=text]').value === ''")
        await say(bob, "<b>Hello</b> Ann")
        await ann.wait_text(LOG, "Bob <b>Hello</b> Ann")
        async with browser.window(b) as late:
            await come_in(late, "Cleo")
            await late.wait_text(LOG, "Bob <b>Hello</b> Ann")
            await ann.wait_text("#people", "Cleo")
            await ann.screenshot("react")
        await ann.wait_no_text("#people", "Cleo")
        assert await ann.text(LOG) == await bob.text(LOG)


async def test_each_room_has_its_own_words_and_people(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("react_chat")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await come_in(ann, "Ann")
        await come_in(bob, "Bob")
        await say(ann, "in the lobby")
        await bob.wait_text(LOG, "in the lobby")
        await bob.click("text=kitchen")
        await bob.wait_no_text(LOG, "in the lobby")
        await ann.wait_no_text("#people", "Bob")
        await say(bob, "in the kitchen")
        await bob.wait_text(LOG, "in the kitchen")
        await bob.click("text=lobby")
        await bob.wait_text(LOG, "in the lobby")
        await ann.wait_text("#people", "Bob")
        assert "kitchen" not in await ann.text(LOG)


@pytest.mark.parametrize("limit", [300, 1], ids=["with what it missed", "anew if that is too much"])
async def test_a_page_that_was_away_is_told(cluster: Cluster, browser: Browser, limit: int) -> None:
    a, b = cluster("react_chat", env={"GATEWAY_CLIENT__RECOVERY_MAX_PUBLICATION_LIMIT": str(limit)})
    async with browser.window(a, cuttable=True) as ann, browser.window(b) as bob:
        await come_in(ann, "Ann")
        await come_in(bob, "Bob")
        await ann.cut()
        await ann.wait_text("#state", "connecting")
        for text in ("one", "two", "three"):
            await say(bob, text)
        await bob.wait_text(LOG, "three")
        await ann.mend()
        await ann.wait_text(LOG, "Bob three")
        assert await ann.text(LOG) == await bob.text(LOG)
