"""Who is only watched, or asked about, is not there."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.apps.signatures import sign
from tests.proxies.backend import Backend, backend_running
from tests.proxies.client import gateway_running
from tests.waiting import until
from tests.webhooks.test_served import KEY, SECRET, Client, client, settings
from tests.webhooks.test_webhooks import names, told


@pytest.fixture
async def receiver() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend


async def watch(one: Client, user: str, *others: str) -> dict[str, Any]:
    """Sign in as a user who watches others; answers who of them is online."""
    data = json.dumps({"id": user, "watchlist": others})
    await one.send("pusher:signin", {"auth": f"{KEY}:{sign(SECRET, one.id, '', 'user', '', data)}", "user_data": data})
    while (said := json.loads(await one.socket.recv()))["event"] != "pusher_internal:watchlist_events":
        assert said["event"] == "pusher:signin_success", said
    found: dict[str, Any] = said["data"]
    return found


async def test_the_inbox_of_who_is_watched_is_not_occupied_by_that(receiver: Backend) -> None:
    served = settings(receiver)
    served["pusher"]["apps"][0] |= {"enable_user_authentication": True, "enable_watchlists": True}
    async with gateway_running(served) as gateway, client(gateway) as one:
        await watch(one, "17", "23")
        await one.subscribe("news")
        await until(lambda: "channel_occupied news" in names(receiver))
    assert [each["channel"] for each in told(receiver) if each["name"] == "channel_occupied"] == ["news"]
