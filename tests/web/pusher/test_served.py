"""A backend and pages of the same app on the gateway's own server: the library for Python, and WebSockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pusher
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.apps.signatures import sign
from gateway.config.settings import Settings
from gateway.serve.app import create_app
from tests.serving import on_uvicorn
from tests.web.pusher.conftest import KEY, SECRET

APP = {"id": "9001", "key": KEY, "secret": SECRET}
SETTINGS: dict[str, Any] = {
    "pusher": {"enabled": True, "namespace": "shop", "apps": [APP]},
    "channel": {"namespaces": [{"name": "shop"}]},
}


class Page:
    """What pusher-js says and hears."""

    def __init__(self, socket: ClientConnection, socket_id: str) -> None:
        self.socket = socket
        self.socket_id = socket_id

    async def hear(self, event: str) -> dict[str, Any]:
        """The next message, which must be this one."""
        async with asyncio.timeout(10):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["event"] == event, message
        return message

    async def say(self, event: str, **data: Any) -> None:
        await self.socket.send(json.dumps({"event": event, "data": data}))

    async def join(self, channel: str, data: str = "") -> None:
        parts = [self.socket_id, channel, *([data] if data else [])]
        auth = f"{KEY}:{sign(SECRET, *parts)}" if channel.startswith(("private-", "presence-")) else ""
        await self.say("pusher:subscribe", channel=channel, auth=auth, **({"channel_data": data} if data else {}))
        await self.hear("pusher_internal:subscription_succeeded")

    async def sign_in(self, user: str) -> None:
        data = json.dumps({"id": user})
        auth = f"{KEY}:{sign(SECRET, self.socket_id, '', 'user', '', data)}"
        await self.say("pusher:signin", auth=auth, user_data=data)
        await self.hear("pusher:signin_success")


class Site:
    def __init__(self, port: int) -> None:
        self._port = port
        self._library = pusher.Pusher("9001", KEY, SECRET, ssl=False, host="127.0.0.1", port=port)

    async def call(self, method: str, *args: Any) -> Any:
        return await asyncio.to_thread(getattr(self._library, method), *args)

    async def open(self) -> Page:
        socket = await connect(f"ws://127.0.0.1:{self._port}/app/{KEY}?protocol=7")
        established = json.loads(json.loads(await socket.recv())["data"])
        return Page(socket, established["socket_id"])


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    settings = Settings.model_validate(SETTINGS)
    async with on_uvicorn(create_app(settings), settings) as port:
        yield Site(port)


async def test_events_reach_pages_as_they_were_posted(site: Site) -> None:
    ann, bob = await site.open(), await site.open()
    for page in (ann, bob):
        await page.join("private-a")
    for data in ('{"n": 1.00}', "hello", "", "5"):
        await site.call("trigger", ["private-a", "other"], "App\\Events\\Paid", data, ann.socket_id)
        heard = await bob.hear("App\\Events\\Paid")
        assert heard == {"event": "App\\Events\\Paid", "channel": "private-a", "data": data}
    await site.call("trigger", "private-a", "last", "1")
    assert (await ann.hear("last"))["data"] == "1"


async def test_the_state_is_that_of_pages(site: Site) -> None:
    pages = [await site.open() for _ in range(3)]
    for page, user in zip(pages, ("17", "17", "23"), strict=True):
        await page.say("pusher:subscribe", channel="news", auth="")
        await page.hear("pusher_internal:subscription_succeeded")
        await page.join("presence-a", json.dumps({"user_id": user}))
    assert await site.call("channels_info", "presence-", ["user_count"]) == {
        "channels": {"presence-a": {"user_count": 2}}
    }
    assert await site.call("channels_info") == {"channels": {"news": {}, "presence-a": {}}}
    assert await site.call("channel_info", "news", ["subscription_count"]) == {
        "occupied": True,
        "subscription_count": 3,
    }
    assert await site.call("users_info", "presence-a") == {"users": [{"id": "17"}, {"id": "23"}]}


async def test_a_cache_channel_shows_what_a_page_is_given(site: Site) -> None:
    assert await site.call("channel_info", "cache-a", ["cache"]) == {"occupied": False, "cache": None}
    await site.call("trigger", "cache-a", "tick", "1.07")
    page = await site.open()
    await page.join("cache-a")
    assert (await page.hear("tick"))["data"] == "1.07"
    told = await site.call("channel_info", "cache-a", ["cache"])
    assert (told["occupied"], told["cache"]["data"]) == (True, "1.07")


async def test_users_are_sent_to_and_sent_away(site: Site) -> None:
    page, other = await site.open(), await site.open()
    await page.sign_in("17")
    await page.join("#server-to-user-17")
    await site.call("send_to_user", "17", "note", {"n": 1})
    assert (await page.hear("note"))["channel"] == "#server-to-user-17"
    assert await site.call("terminate_user_connections", "17") == {}
    assert (await page.hear("pusher:error"))["data"]["code"] == 4009
    with pytest.raises(ConnectionClosed) as closed:
        await page.socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4009
    await other.join("news")  # who is not signed in as the user stays
