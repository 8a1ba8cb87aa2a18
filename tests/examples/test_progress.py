from uuid import uuid4

import httpx

from tests.browsing import Browser
from tests.examples.running import Cluster


async def test_a_job_is_watched_from_both_instances(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("progress")
    async with browser.window(a) as one, browser.window() as other:
        await one.fill("#limit", "600000")
        await one.click("#start")
        await one.wait_for("bar.value > 10")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")  # comes in the middle
        await other.wait_text("#state", "running")
        await other.wait_for("bar.value > 20")
        await other.screenshot("progress")
        for percent in (40, 60, 80):  # each has the deadline for itself, on a slow machine too
            await other.wait_for(f"bar.value > {percent}")
        for window in (one, other):
            await window.wait_text("#state", "done")
            assert await window.text("#percent") == "100"
            assert await window.text("#primes") == "49,098"


async def test_who_comes_after_the_end_sees_the_result(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("progress")
    async with browser.window(a) as one, browser.window(f"{b}/#unknown") as other:
        await one.fill("#limit", "100")
        await one.click("#start")
        await one.wait_text("#state", "done")
        await other.wait_text("#state", "nothing yet")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await other.wait_text("#state", "done")
        assert await other.text("#primes") == "25"


async def test_a_job_is_stopped_from_another_instance(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("progress")
    async with browser.window(a) as one, browser.window() as other:
        await one.fill("#limit", "5000000")
        await one.click("#start")
        await one.wait_for("bar.value > 0")
        await other.goto(f"{b}/{await one.evaluate('location.hash')}")
        await other.wait_text("#state", "running")
        await other.click("#stop")
        for window in (one, other):
            await window.wait_text("#state", "stopped")
        async with httpx.AsyncClient() as client:  # nothing holds up the loop of the instance that worked
            assert (await client.get(a)).status_code == 200


async def test_nonsense_is_refused(cluster: Cluster) -> None:
    [url] = cluster("progress", instances=1)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/jobs", json={"limit": 10**9})).status_code == 422
        assert (await client.delete("/jobs/a:b")).status_code == 422
        assert (await client.delete(f"/jobs/{uuid4()}")).status_code == 200
