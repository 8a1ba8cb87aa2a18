"""What the SDKs rely on about subscriptions: coming, going, tokens, recovery."""

import asyncio
import itertools
from typing import Any

import cent
import pytest

from tests.integration.cable import Cable
from tests.integration.clients.base import SDK, CallFailed, Event
from tests.integration.clients.driven import DrivenClient
from tests.integration.clients.javascript import IN_NODE, JavaScriptSDK
from tests.integration.clients.raw import raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster
from tests.integration.tokens import connection_token, subscription_token
from tests.waiting import until


async def nobody_left(api: cent.AsyncClient, channel: str) -> None:
    """Wait until presence is empty."""

    async def empty() -> bool:
        return (await api.presence_stats(cent.PresenceStatsRequest(channel=channel))).num_clients == 0

    await until(empty, what=f"nobody in {channel}")


async def test_coming_and_going_many_times(gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("restless"))
    subscription = await client.subscription(channel)
    for _ in range(20):
        await subscription.subscribe()
        await subscription.unsubscribe()
    await nobody_left(api(gateways.b), channel)
    await subscription.subscribe()
    await client.publish(channel, "final")
    await subscription.wait_received(["final"])
    assert client.events.named("error") == []


async def test_leaving_before_having_arrived(gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("hasty"))
    subscription = await client.subscription(channel)
    for _ in range(20):
        await subscription.begin()
        await subscription.unsubscribe()
    await nobody_left(api(gateways.a), channel)
    await subscription.subscribe()
    assert await client.presence_stats(channel) == (1, 1)
    assert await client.state() == "connected"
    assert len(client.events.named("connected")) == 1


async def test_a_subscription_is_removed_and_made_anew(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token("new"))
    first = await client.subscription(channel)
    await first.begin()
    await client.begin()
    await first.unsubscribe()
    await client.remove(first)
    second = await client.subscribe(channel)
    await client.publish(channel, "to the second")
    await second.wait_received(["to the second"])
    assert first.received == []


PAYLOAD: dict[str, Any] = {
    "text": 'naïve ☃ \u2028 </script> \\ "quoted"\n\ttabbed',
    "list": [1, -2.5, None, True, [], {}],
    "": {"nested": {"": ""}},
}


async def test_payloads_come_back_unchanged(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("echo"))
    subscription = await client.subscribe(channel)
    payloads = [PAYLOAD, "text", "", 0, False, None, [], {}]
    await client.publish(channel, *payloads)
    await subscription.wait_received(payloads)
    assert {event.info.client for event in subscription.events.named("publication") if event.info} == {client.id}


async def test_many_subscriptions_each_with_its_token(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.client(gateways.a.ws_url, connection_token(name))
    subscriptions = []
    for number in range(50):
        channel = f"$closed:{name}-{number}"
        subscriptions.append(await client.subscription(channel, token=subscription_token(name, channel)))
        await subscriptions[-1].begin()
    await client.connect()
    await asyncio.gather(*(subscription.events.wait("subscribed") for subscription in subscriptions))


async def test_an_invalid_subscription_token_ends_that_subscription_alone(
    gateways: Cluster, sdk: SDK, channel: str, name: str
) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    closed = f"closed:{name}"
    forged = subscription_token(name, closed, key="another-secret-of-more-than-32-bytes")
    refused = await client.subscription(closed, token=forged)
    await refused.begin()
    assert (await refused.events.wait("unsubscribed")).code == 103

    fine = await client.subscribe(channel)
    await client.publish(channel, "alive")
    await fine.wait_received(["alive"])
    assert len(client.events.named("connected")) == 1


async def test_an_expired_subscription_token_is_fetched_anew(gateways: Cluster, sdk: SDK, name: str) -> None:
    closed = f"closed:{name}"
    tokens = iter([subscription_token(name, closed, ttl=-10), subscription_token(name, closed)])
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscription(closed, get_token=lambda: next(tokens))
    await subscription.begin()
    await subscription.events.wait("subscribed")
    assert [event.code for event in subscription.events.named("error")] == [109]


async def test_an_expired_token_at_refresh_is_fetched_anew(gateways: Cluster, sdk: SDK, name: str) -> None:
    closed = f"closed:{name}"
    tokens = iter([subscription_token(name, closed, ttl=ttl) for ttl in (2, -10, None)])
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscription(closed, get_token=lambda: next(tokens))
    await subscription.begin()
    await subscription.events.wait("subscribed", 2)
    assert [event.code for event in subscription.events.named("subscribing")] == [0, 2501]
    assert {event.code for event in subscription.events.named("error")} == {109}
    assert len(client.events.named("connected")) == 1


def outcome(event: Event) -> tuple[bool, bool]:
    return event.was_recovering, event.recovered


async def test_recovery_after_each_kind_of_absence(
    gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str, name: str
) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscribe(channel)
    call = api(gateways.b)
    numbers = itertools.count()
    expected: list[int] = []

    async def publish(count: int) -> None:
        for number in itertools.islice(numbers, count):
            await call.publish(cent.PublishRequest(channel=channel, data=number))
            expected.append(number)

    await publish(2)
    await subscription.wait_received(expected)

    await client.disconnect()
    await publish(3)
    await client.connect()
    assert outcome(await subscription.events.wait("subscribed", 2)) == (True, True)
    await subscription.wait_received(expected)

    await subscription.unsubscribe()
    await publish(3)
    assert outcome(await subscription.subscribe()) == (True, True)
    await subscription.wait_received(expected)

    await call.unsubscribe(cent.UnsubscribeRequest(user=name, channel=channel))
    ended = await subscription.events.wait("unsubscribed", 2)
    assert (ended.code, ended.reason) == (2000, "server unsubscribe")
    await publish(3)
    assert outcome(await subscription.subscribe()) == (True, True)
    await subscription.wait_received(expected)


async def test_what_history_no_longer_holds_is_not_pretended(
    gateways: Cluster, sdk: SDK, api: ConnectAPI, name: str
) -> None:
    channel = f"short:{name}"
    async with Cable(gateways.a.port) as cable:
        client = await sdk.connected(cable.ws_url, connection_token(name))
        subscription = await client.subscribe(channel)
        for missed, recovered in ((2, True), (3, False)):
            connected = len(client.events.named("connected"))
            cable.pull()
            await client.events.wait("connecting", connected + 1)
            for number in range(missed):
                await api(gateways.b).publish(cent.PublishRequest(channel=channel, data=number))
            cable.plug(gateways.b.port)
            again = await subscription.events.wait("subscribed", connected + 1)
            assert outcome(again) == (True, recovered)
        await client.publish(channel, "after")
        await subscription.wait_received([0, 1, "after"])


@pytest.mark.parametrize("kind", IN_NODE, ids=lambda kind: kind.name)
async def test_the_beginning_of_a_stream_is_a_position(
    gateways: Cluster, kind: type[JavaScriptSDK], channel: str
) -> None:
    """Others have it from what the application keeps, as `test_sdk_compact` has it, too."""
    async with kind() as sdk:
        client = await sdk.connected(gateways.a.ws_url, connection_token("archivist"))
        await client.publish(channel, *range(5))
        assert isinstance(client, DrivenClient)
        subscription = await client.subscription(channel, since=(0, ""))
        assert outcome(await subscription.subscribe()) == (True, True)
        await subscription.wait_received(list(range(5)))


async def test_positions_that_are_lost_may_be_refused(gateways: Cluster, channel: str) -> None:
    lost = {"channel": channel, "recover": True, "epoch": "elsewhere", "offset": 1}
    async with raw(gateways.a.ws_url, connection_token("strict")) as client:
        refused = await client.command(subscribe={**lost, "flag": 2})
        assert refused["error"] == {"code": 112, "message": "unrecoverable position"}
        told = (await client.command(subscribe=lost))["subscribe"]
        assert told["was_recovering"]
        assert "recovered" not in told
        assert "publications" not in told


async def test_history_page_by_page(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("reader"))
    await client.publish(channel, *range(10))

    for reverse, everything in ((False, list(range(10))), (True, list(range(9, -1, -1)))):
        read: list[int] = []
        page = await client.history(channel, limit=4, reverse=reverse)
        while page.publications:
            read += [each.data for each in page.publications]
            since = (page.publications[-1].offset or 0, page.epoch)
            page = await client.history(channel, limit=4, since=since, reverse=reverse)
        assert read == everything


async def test_history_without_end_is_cut(gateways: Cluster, sdk: SDK, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("reader"))
    await client.publish(channel, *range(120))
    page = await client.history(channel, limit=-1)
    assert [each.data for each in page.publications] == list(range(20, 120))
    assert page.offset == 120


async def test_calls_without_right_say_so(gateways: Cluster, sdk: SDK, name: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    for call in (
        client.publish(f"closed:{name}", {}),
        client.presence(f"closed:{name}"),
        client.history(f"closed:{name}"),
    ):
        with pytest.raises(CallFailed) as failed:
            await call
        assert (failed.value.code, failed.value.message) == (103, "permission denied")
