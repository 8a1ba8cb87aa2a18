import httpx
import pytest

from tests.browsing import Browser, Window
from tests.examples.running import Cluster

KEY = "not to be guessed"


@pytest.fixture
def instances(cluster: Cluster) -> list[str]:
    return cluster("notifications", env={"ADMIN_KEY": KEY})


async def sign_in(window: Window, name: str) -> None:
    await window.fill("#name", name)
    await window.click("#form button")
    await window.wait_text("#state", "connected")


async def test_chosen_users_get_it_wherever_they_are(instances: list[str], browser: Browser) -> None:
    a, b = instances
    async with (
        browser.window(f"{a}/admin") as admin,
        browser.window(a) as alice,
        browser.window(b) as bob,
        browser.window(b) as carol,
    ):
        for window, name in ((alice, "alice"), (bob, "bob"), (carol, "carol")):
            await sign_in(window, name)
        await admin.fill("#key", KEY)
        await admin.click("#door button")
        for name in ("alice", "bob"):
            await admin.click(f'#users input[value="{name}"]')
        await admin.fill("#text", "Your order has left")
        await admin.click("#send")
        await admin.wait_text("#said", "Sent to alice, bob.")
        await alice.wait_text("#list", "Your order has left")
        await bob.wait_text("#list", "Your order has left")

        for name in ("alice", "bob"):
            await admin.click(f'#users input[value="{name}"]')
        await admin.call("selectOption", "#kind", "alert")
        await admin.fill("#text", "We close in ten minutes")
        await admin.click("#send")
        await admin.wait_text("#said", "Sent to everybody who is there.")
        for window in (alice, bob, carol):
            await window.wait_text("#alerts", "We close in ten minutes")
        assert await carol.text("#unread") == "1"
        assert await bob.text("#unread") == "2"
        await admin.screenshot("notifications-admin")
        await bob.screenshot("notifications")


async def test_a_user_who_is_away_gets_it_later(instances: list[str], browser: Browser) -> None:
    a, b = instances
    headers = {"X-Admin-Key": KEY}
    sent = {"kind": "notification", "text": "While you were away", "users": ["dave"]}
    async with httpx.AsyncClient(base_url=a, headers=headers) as client:
        assert (await client.post("/notifications", json=sent)).status_code == 200
    async with browser.window(b) as dave:
        await sign_in(dave, "dave")
        await dave.wait_text("#list", "While you were away")


async def test_nobody_reads_the_inbox_of_another(instances: list[str], browser: Browser) -> None:
    async with browser.window(instances[0]) as mallory:
        await mallory.evaluate(
            """(() => {
                const address = `${location.origin.replace("http", "ws")}/connection/websocket`
                const centrifuge = new Centrifuge(address, { data: { name: "mallory" } })
                globalThis.inbox = centrifuge.newSubscription("inbox:alice")
                inbox.on("unsubscribed", ({ code }) => { globalThis.refused = code })
                inbox.subscribe()
                centrifuge.connect()
            })()"""
        )
        await mallory.wait_for("globalThis.refused === 103")


async def test_only_the_administrator_sends(instances: list[str], browser: Browser) -> None:
    a, _ = instances
    sent = {"kind": "alert", "text": "fire"}
    async with httpx.AsyncClient(base_url=a) as client:
        for headers in ({}, {"X-Admin-Key": "secret"}):
            assert (await client.post("/notifications", json=sent, headers=headers)).status_code == 401
            assert (await client.get("/users", headers=headers)).status_code == 401
    async with browser.window(f"{a}/admin") as admin:
        await admin.fill("#key", "secret")
        await admin.click("#door button")
        await admin.wait_text("#said", "This is not the key.")
