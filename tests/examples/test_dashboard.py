import httpx

from tests.browsing import Browser
from tests.examples.running import Cluster
from tests.waiting import until

SEEN = "Number(document.querySelector('#count').textContent)"


async def measuring(*urls: str) -> list[str]:
    """The instances that measure."""
    async with httpx.AsyncClient() as client:
        return [url for url in urls if (await client.get(f"{url}/measuring")).json()]


async def test_figures_are_made_once_for_everybody_who_watches(cluster: Cluster, browser: Browser) -> None:
    urls = cluster("dashboard")
    assert await measuring(*urls) == []
    async with browser.window(urls[0]) as one, browser.window(urls[1]) as other:
        for window in (one, other):
            await window.wait_for(f"{SEEN} >= 2")
            await window.wait_text("#users", "2")
        [measures] = await measuring(*urls)
        assert await one.text("#instance") == await other.text("#instance") == cluster.instance(measures).name
        assert {await window.text("#memory strong") for window in (one, other)} != {"…"}
        async with browser.window(urls[1]) as late:
            await late.wait_for(f"{SEEN} >= 2")  # at once, from the history
        await one.screenshot("dashboard")

    async def nobody_measures() -> bool:
        return await measuring(*urls) == []

    await until(nobody_measures)


async def test_another_instance_goes_on(cluster: Cluster, browser: Browser) -> None:
    urls = cluster("dashboard")
    async with browser.window(urls[0]) as one, browser.window(urls[1]) as other:
        await one.wait_for(f"{SEEN} >= 1")
        [measures] = await measuring(*urls)
        [left] = {*urls} - {measures}
        cluster.instance(measures).terminate()
        window = one if left == urls[0] else other
        await window.wait_text("#instance", cluster.instance(left).name)
