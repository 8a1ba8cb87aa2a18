"""Subscriptions where a backend is polled, which the JavaScript SDK alone has."""

import itertools
from typing import Any

from tests.integration.clients.base import Client, Event
from tests.integration.clients.driven import DrivenClient, DrivenSubscription, Sign
from tests.integration.clients.javascript import JavaScriptSDK

_numbers = itertools.count(1)


class PollSubscription(DrivenSubscription):
    def __init__(self, sdk: JavaScriptSDK, channel: str, client: str) -> None:
        super().__init__(sdk, channel, f"poll {next(_numbers)}")
        self._client = client

    async def track(self, keys: list[str]) -> None:
        """Track keys for which the SDK asks for a signature."""
        await self._call("track", client=self._client, batches=[{"keys": keys}])

    async def track_signed(self, *batches: tuple[dict[str, int], str]) -> None:
        """Track keys from these versions on, by these signatures, in one frame."""
        told = [
            {"keys": [{"key": key, "version": version} for key, version in keys.items()], "signature": signature}
            for keys, signature in batches
        ]
        await self._call("track", client=self._client, batches=told)

    async def untrack(self, *keys: str) -> None:
        await self._call("untrack", keys=keys)

    async def tracked(self) -> set[str]:
        return set(await self._call("tracked"))

    async def epoch(self) -> str:
        return str(await self._call("pollEpoch"))

    async def refreshes(self) -> list[dict[str, Any]]:
        """All that its client has said so far of keys, where it speaks JSON."""
        found: list[dict[str, Any]] = await self._sdk.call(op="refreshes", client=self._client)
        return found

    async def _call(self, op: str, **arguments: Any) -> Any:
        return await self._sdk.call(op=op, subscription=self.key, **arguments)

    @property
    def updates(self) -> list[tuple[str, Any, int]]:
        """Key, data and version of each update; of a removal None."""
        return [_shown(each) for each in self.events.named("update")]

    async def updated(self, *expected: tuple[str, Any, int]) -> None:
        """These have come, once there are as many; in any order."""
        await self.events.wait("update", len(expected))
        assert sorted(self.updates, key=str) == sorted(expected, key=str)


def _shown(event: Event) -> tuple[str, Any, int]:
    return event.key, None if event.removed else event.data, event.version


async def poll_of(
    sdk: JavaScriptSDK, client: Client, channel: str, sign: Sign | None = None, *, delta: bool = False
) -> PollSubscription:
    """A subscription that has not begun; ``sign`` is asked where keys are tracked without signature."""
    assert isinstance(client, DrivenClient)
    found = PollSubscription(sdk, channel, client.key)
    if sign is not None:
        sdk.signs(client.key, channel, sign)
    options = {"signs": sign is not None, "delta": "fossil" if delta else None}
    await sdk.create(
        client.key, channel, found.events, None, op="subscription", subscription=found.key, polled=True, **options
    )
    return found
