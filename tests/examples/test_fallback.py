from tests.browsing import Browser
from tests.examples.running import Cluster


async def test_a_page_without_websockets_hears_the_same(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("fallback")
    async with browser.window(a) as free, browser.window() as blocked:
        await blocked.block_websockets()
        await blocked.goto(b)
        await free.wait_text("#way", "WebSocket")
        await free.wait_text("#state", "connected")
        await blocked.wait_text("#way", "server-sent events")
        await blocked.wait_text("#state", "connected")

        await free.fill("#text", "From a page with WebSockets")
        await free.click("#form button")
        await blocked.wait_text("#log", "From a page with WebSockets")
        await blocked.fill("#text", "From a page without")
        await blocked.click("#form button")
        for window in (free, blocked):
            await window.wait_text("#log", "From a page without")
        await blocked.screenshot("fallback")
        await blocked.evaluate("position.epoch = 'of a Redis that is no more'; byEventSource()")
        await blocked.wait_text("#log", "away for too long")


async def test_it_gets_what_it_missed_when_its_instance_was_away(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("fallback")
    async with browser.window(a) as free, browser.window() as blocked:
        await blocked.block_websockets()
        await blocked.goto(b)
        await blocked.wait_text("#way", "server-sent events")
        await blocked.wait_text("#state", "connected")
        await free.fill("#text", "first")
        await free.click("#form button")
        await blocked.wait_text("#log", "first")

        cluster.instance(b).kill()
        await blocked.wait_text("#state", "connecting")
        await free.fill("#text", "missed")
        await free.click("#form button")
        await free.wait_text("#log", "missed")
        cluster.instance(b).start()
        await blocked.wait_text("#log", "missed")
        await blocked.wait_text("#state", "connected")
        assert (await blocked.text("#log")).split() == ["first", "missed"]
