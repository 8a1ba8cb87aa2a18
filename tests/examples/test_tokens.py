import pytest

from tests.browsing import Browser
from tests.examples.running import Cluster
from tests.waiting import until

WORDS = "Number(document.querySelector('#words').textContent)"
BEGINNING = "You ask: “Why?” Let me think aloud."


async def test_an_answer_grows_and_is_whole_on_the_other_instance_too(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("tokens", env={"SECONDS_PER_WORD": "0.03"})
    async with browser.window(a) as one, browser.window(f"{b}/#unknown") as other:
        await one.fill("#question", "Why?")
        await one.press("#question", "Enter")
        await one.wait_for(f"{WORDS} > 10")
        assert await one.text("#end") == ""
        await other.wait_text("#end", "nothing yet")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await other.wait_text("#answer", BEGINNING)
        await other.wait_for(f"{WORDS} > 40")
        await other.screenshot("tokens")
        for window in (one, other):
            await window.wait_text("#end", "done")
            await window.wait_text("#answer", "I will fall silent at once, wherever I happen to run.")
        assert await one.text("#answer") == await other.text("#answer")


@pytest.mark.parametrize("limit", [300, 5], ids=["with what it missed", "anew if that is too much"])
async def test_a_page_that_was_away_resumes(cluster: Cluster, browser: Browser, limit: int) -> None:
    limits = {"GATEWAY_CLIENT__RECOVERY_MAX_PUBLICATION_LIMIT": str(limit)}
    a, b = cluster("tokens", env={"SECONDS_PER_WORD": "0.03", **limits})
    async with browser.window(a, cuttable=True) as one, browser.window() as other:
        await one.fill("#question", "Why?")
        await one.press("#question", "Enter")
        await one.wait_for(f"{WORDS} > 5")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await one.cut()
        await one.wait_text("#state", "connecting")
        await other.wait_for(f"{WORDS} > 40")
        await one.mend()
        await one.wait_text("#end", "done")
        await other.wait_text("#end", "done")
        assert await one.text("#answer") == await other.text("#answer")


async def test_the_other_instance_stops_it(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("tokens")
    async with browser.window(a) as one, browser.window() as other:
        await one.fill("#question", "Why?")
        await one.press("#question", "Enter")
        await one.wait_for(f"{WORDS} > 2")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await other.click("#stop")
        for window in (one, other):
            await window.wait_text("#end", "stopped")
        await until(lambda: "no longer thinking" in cluster.instance(a).log)
        said = await one.text("#answer")
        await one.call("reload")
        await one.wait_text("#end", "stopped")
        assert await one.text("#answer") == said


async def test_the_instance_that_thinks_goes_away(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("tokens")
    async with browser.window(a) as one, browser.window() as other:
        await one.fill("#question", "Why?")
        await one.press("#question", "Enter")
        await one.wait_for(f"{WORDS} > 2")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await other.wait_text("#answer", BEGINNING)
        cluster.instance(a).terminate()
        await other.wait_text("#end", "stopped")
