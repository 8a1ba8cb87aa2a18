"""Channels by number, and recovery from where the application itself stands."""

from tests.integration.cable import Cable, Tapped
from tests.integration.clients.base import SDK, Unauthorized
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.servers import Cluster
from tests.integration.tokens import connection_token
from tests.waiting import until


async def test_channels_by_number_live_and_after_a_return(gateways: Cluster, sdk: SDK, name: str) -> None:
    channels = [f"chat:{name}", f"flow:{name}"]
    publisher = await sdk.connected(gateways.b.ws_url, connection_token("publisher"))
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscriptions = [await client.subscribe(channel, join_leave=True) for channel in channels]
        for number in range(3):
            for channel in channels:
                await publisher.publish(channel, {"n": number, "in": channel})
        for each in subscriptions:
            await each.wait_received([{"n": number, "in": each.channel} for number in range(3)])
        visitor = await (await sdk.connected(gateways.b.ws_url, connection_token("visitor"))).subscribe(channels[0])
        await until(lambda: any(e.info.user == "visitor" for e in subscriptions[0].events.named("join") if e.info))
        await visitor.unsubscribe()
        left = await subscriptions[0].events.wait("leave")
        assert left.info is not None
        assert left.info.user == "visitor"
        cable.pull()
        await client.events.wait("connecting", 2)
        await publisher.publish(channels[0], "missed")
        cable.plug(gateways.b.port)
        await subscriptions[0].events.wait("subscribed", 2)
        await publisher.publish(channels[0], "live")
        await until(lambda: subscriptions[0].received[-2:] == ["missed", "live"])
        await subscriptions[1].unsubscribe()
        await subscriptions[1].subscribe()
        await publisher.publish(channels[1], "again")
        await subscriptions[1].wait_last("again")


async def test_the_sdk_asks_by_itself(gateways: Cluster, name: str) -> None:
    channel = f"chat:{name}"
    async with JavaScriptSDK() as sdk, Tapped(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel)
        await client.publish(channel, "by number")
        await subscription.wait_received(["by number"])
        assert b'{"push":{"id":' in cable.seen
        assert b'"channel"' not in cable.seen


# — getState —


class Application:
    """Has its own store of a channel, which it says it has loaded up to a position."""

    def __init__(self, *positions: tuple[int, str] | Exception) -> None:
        self.positions = list(positions)
        self.calls = 0

    def __call__(self) -> tuple[int, str]:
        self.calls += 1
        position = self.positions[min(self.calls, len(self.positions)) - 1]
        if isinstance(position, Exception):
            raise position
        return position


async def test_state_is_loaded_once_and_not_where_recovery_does(gateways: Cluster, sdk: SDK, name: str) -> None:
    channel, load = f"chat:{name}", Application((0, ""))
    publisher = await sdk.connected(gateways.b.ws_url, connection_token("publisher"))
    await publisher.publish(channel, 1, 2)
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel, get_state=load)
        await publisher.publish(channel, 3)
        await subscription.wait_received([1, 2, 3])
        cable.pull()
        await client.events.wait("connecting", 2)
        await publisher.publish(channel, 4)
        cable.plug(gateways.b.port)
        again = await subscription.events.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
        await publisher.publish(channel, 5)
        await subscription.wait_received([1, 2, 3, 4, 5])
    assert load.calls == 1


async def test_from_a_position_on(gateways: Cluster, sdk: SDK, name: str) -> None:
    channel = f"chat:{name}"
    publisher = await sdk.connected(gateways.b.ws_url, connection_token("publisher"))
    await publisher.publish(channel, 1, 2, 3, 4)
    epoch = (await publisher.history(channel)).epoch
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscribe(channel, get_state=Application((2, epoch)))
    await publisher.publish(channel, 5)
    await subscription.wait_received([3, 4, 5])


async def test_state_is_loaded_again_where_too_much_was_missed(gateways: Cluster, sdk: SDK, name: str) -> None:
    """Of ``short`` two publications are kept, and five were missed."""
    channel = f"short:{name}"
    publisher = await sdk.connected(gateways.b.ws_url, connection_token("publisher"))
    await publisher.publish(channel, 1)
    epoch = (await publisher.history(channel)).epoch
    load = Application((1, epoch), (6, epoch))
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel, get_state=load)
        cable.pull()
        await client.events.wait("connecting", 2)
        await publisher.publish(channel, 2, 3, 4, 5, 6)
        cable.plug(gateways.b.port)
        again = await subscription.events.wait("subscribed", 2)
        assert (load.calls, again.recovered) == (2, True)
        await publisher.publish(channel, 7)
        await subscription.wait_received([7])


async def test_loading_is_tried_until_it_succeeds(gateways: Cluster, sdk: SDK, name: str) -> None:
    channel, load = f"chat:{name}", Application(Unauthorized(), ValueError("the database is away"), (0, ""))
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscribe(channel, get_state=load)
    assert load.calls == 3
    await client.publish(channel, 1)
    await subscription.wait_received([1])
