"""Map subscriptions, which the JavaScript SDK alone has."""

import itertools
from typing import Any

import httpx

from tests.integration.clients.base import Client, Event, GetToken
from tests.integration.clients.driven import DrivenClient, DrivenSubscription
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.servers import Server
from tests.integration.tokens import API_KEY

_numbers = itertools.count(1)


class MapSubscription(DrivenSubscription):
    async def set(self, key: str, data: Any) -> None:
        await self._sdk.call(op="mapPublish", subscription=self.key, key=key, data=data)

    async def remove(self, key: str) -> None:
        await self._sdk.call(op="mapRemove", subscription=self.key, key=key)

    async def filter(self, tags_filter: dict[str, Any]) -> None:
        await self._sdk.call(op="setTagsFilter", subscription=self.key, filter=tags_filter)

    async def updated(self, *expected: tuple[str, Any]) -> list[Event]:
        """All updates so far, once there are as many as these, which they must be; None is a removal."""
        await self.events.wait("update", len(expected))
        updates = self.events.named("update")
        assert [(each.key, None if each.removed else each.data) for each in updates] == list(expected)
        return updates

    async def synced(self, count: int = 1) -> dict[str, Any]:
        """The map as it was handed over for the ``count``-th time."""
        sync = await self.events.wait("sync", count)
        assert len(self.events.named("sync")) == count
        assert sync.entries is not None
        return {each["key"]: each["data"] for each in sync.entries}


async def map_of(
    sdk: JavaScriptSDK, client: Client, channel: str, kind: int = 1, get_token: GetToken | None = None, **options: Any
) -> MapSubscription:
    """A map subscription that has not begun."""
    assert isinstance(client, DrivenClient)
    found = MapSubscription(sdk, channel, f"map {next(_numbers)}")
    await sdk.create(
        client.key, channel, found.events, get_token, op="map", subscription=found.key, kind=kind, options=options
    )
    return found


class MapAPI:
    """The server API of maps."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def call(self, method: str, **request: Any) -> Any:
        answer = await self._post(method, request)
        return answer["result"]

    async def set_all(self, channel: str, entries: dict[str, Any]) -> None:
        written = [{"map_publish": {"channel": channel, "key": key, "data": data}} for key, data in entries.items()]
        answer = await self._post("batch", {"commands": written})
        assert not any("error" in each for each in answer["replies"]), answer

    async def _post(self, method: str, request: dict[str, Any]) -> Any:
        async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}, timeout=10) as client:
            answer = await client.post(f"{self._server.api_url}/{method}", json=request)
        return answer.json()

    async def set(self, channel: str, key: str, data: Any, **more: Any) -> Any:
        return await self.call("map_publish", channel=channel, key=key, data=data, **more)

    async def remove(self, channel: str, key: str) -> Any:
        return await self.call("map_remove", channel=channel, key=key)
