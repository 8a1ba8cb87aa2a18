"""Delta, filters by tags, cells and versions, as the official SDKs have them: on two gateways that Redis joins."""

from typing import Any

import cent

from tests.integration.cable import Cable
from tests.integration.clients.base import SDK, Subscription
from tests.integration.clients.driven import DrivenSubscription
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.clients.raw import raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster
from tests.integration.tokens import connection_token

PADDING = "the same each time, é 漢 🎉, and long enough for a patch to be worth it. " * 8
EVEN = {"op": "", "key": "kind", "cmp": "eq", "val": "even"}


def state(number: int) -> dict[str, Any]:
    return {"text": PADDING, "é": "🎉" * (number % 3), "n": number, "end": PADDING}


async def forms(sdk: SDK, subscription: Subscription) -> tuple[int, int] | None:
    """As `DrivenSubscription` has them; None of an SDK that does not count."""
    if not isinstance(sdk, JavaScriptSDK):
        return None
    assert isinstance(subscription, DrivenSubscription)
    return await subscription.forms()


async def test_patches_live_and_after_a_return(gateways: Cluster, sdk: SDK, api: ConnectAPI, name: str) -> None:
    channel = f"flow:{name}"
    publisher = await sdk.connected(gateways.b.ws_url, connection_token("publisher"))
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel, delta=True)
        plain = await (await sdk.connected(gateways.a.ws_url, connection_token("plain"))).subscribe(channel)
        for number in range(5):
            await publisher.publish(channel, state(number))
        await subscription.wait_received([state(number) for number in range(5)])
        assert await forms(sdk, subscription) in (None, (1, 4))
        cable.pull()
        await client.events.wait("connecting", 2)
        for number in range(5, 9):
            await publisher.publish(channel, state(number))
        cable.plug(gateways.b.port)
        again = await subscription.events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
        await publisher.publish(channel, state(9))
        await subscription.wait_received([state(number) for number in range(10)])
        assert await forms(sdk, subscription) in (None, (2, 8))
        await plain.wait_received([state(number) for number in range(10)])


async def test_patches_of_what_hardly_changes_and_of_what_shrinks(gateways: Cluster, sdk: SDK, name: str) -> None:
    channel = f"flow:{name}"
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscribe(channel, delta=True)
    items = [PADDING, PADDING, 1, {"n": PADDING}, PADDING[:300], '\n\t"\\ ü' + PADDING, [PADDING[5:]] * 3]
    for item in items:
        await client.publish(channel, item)
    await subscription.wait_received(items)


async def test_filters_live_and_after_a_return(gateways: Cluster, sdk: SDK, api: ConnectAPI, name: str) -> None:
    channel, call = f"picked:{name}", api(gateways.b)

    async def publish(*numbers: int) -> None:
        for number in numbers:
            tags = {"kind": "even" if number % 2 == 0 else "odd"}
            await call.publish(cent.PublishRequest(channel=channel, data=number, tags=tags))

    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel, tags_filter=EVEN)
        await publish(1, 2, 3, 4, 5)
        await subscription.wait_received([2, 4])
        cable.pull()
        await client.events.wait("connecting", 2)
        await publish(6, 7, 8, 9)
        cable.plug(gateways.b.port)
        again = await subscription.events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
        await publish(11, 12)
        await subscription.wait_received([2, 4, 6, 8, 12])
        assert [event.offset for event in subscription.events.named("publication")] == [2, 4, 6, 8, 11]


async def test_a_cell_gives_its_newest_to_whoever_comes(gateways: Cluster, sdk: SDK, name: str) -> None:
    channel = f"cell:{name}"
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    for number in range(3):
        await client.publish(channel, state(number))
    newcomer = await sdk.connected(gateways.b.ws_url, connection_token("newcomer"))
    for delta in (False, True):
        subscription = await newcomer.subscription(channel, delta=delta)
        told = await subscription.subscribe()
        assert (told.was_recovering, told.recovered) == (True, True)
        await client.publish(channel, state(3))
        await subscription.wait_received([state(2 + delta), state(3)])
        await subscription.unsubscribe()
        await newcomer.remove(subscription)


async def test_versions_of_a_state(gateways: Cluster, api: ConnectAPI, name: str) -> None:
    """A publish is taken if it is newer, and a repeat answers as the first did, whichever gateway is asked."""
    channel = f"flow:{name}"
    calls = [api(gateways.a), api(gateways.b)]

    async def publish(version: int, epoch: str = "", key: str = "", by: int = 0) -> int:
        request = cent.PublishRequest(channel=channel, data=version, version=version, version_epoch=epoch)
        request.idempotency_key = key or None
        return (await calls[by].publish(request)).offset

    async with raw(gateways.a.ws_url, connection_token(name)) as client:
        await client.command(subscribe={"channel": channel})
        assert await publish(5, "one", "k") == 1
        assert await publish(9, "one", "k", by=1) == 1, "a repeat"
        assert [await publish(version, "one", by=version % 2) for version in (4, 5, 6)] == [1, 1, 2]
        assert await publish(1, "two", by=1) == 3
        page = (await client.command(history={"channel": channel, "limit": 10}))["history"]
        assert [each["version"] for each in page["publications"]] == [5, 6, 1]
