"""The server API through its official client, on connections of either gateway."""

import time
from functools import partial

import cent
import httpx
import pytest

from tests.integration.clients.base import SDK, Client
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.clients.raw import raw
from tests.integration.conftest import ConnectAPI
from tests.integration.servers import Cluster
from tests.integration.tokens import API_KEY, connection_token, subscription_token
from tests.waiting import until


@pytest.fixture
async def call(gateways: Cluster, api: ConnectAPI) -> cent.AsyncClient:
    """The API of the second gateway; clients connect to the first."""
    return api(gateways.b)


async def refused(request: object) -> tuple[int, str]:
    """The error with which the API answers."""
    with pytest.raises(cent.CentApiResponseError) as error:
        await request  # type: ignore[misc]
    return error.value.code, error.value.message


async def test_publish_stores_and_delivers(gateways: Cluster, sdk: SDK, call: cent.AsyncClient, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("reader"))
    subscription = await client.subscribe(channel)
    first = await call.publish(cent.PublishRequest(channel=channel, data={"n": 1}, tags={"kind": "test"}))
    second = await call.publish(cent.PublishRequest(channel=channel, data=None, b64data="eyJuIjogMn0="))
    passing = await call.publish(cent.PublishRequest(channel=channel, data={"n": 3}, skip_history=True))
    assert (first.offset, second.offset) == (1, 2)
    assert first.epoch == second.epoch != ""
    assert (passing.offset, passing.epoch) == (0, "")
    await subscription.wait_received([{"n": 1}, {"n": 2}, {"n": 3}])
    assert subscription.events.named("publication")[0].tags == {"kind": "test"}


async def test_a_repeated_publish_is_delivered_once(gateways: Cluster, sdk: SDK, api: ConnectAPI, channel: str) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token("reader"))
    subscription = await client.subscribe(channel)
    request = cent.PublishRequest(channel=channel, data="once", idempotency_key="key")
    answers = [await api(server).publish(request) for server in (gateways.a, gateways.b, gateways.a)]
    assert len({(answer.offset, answer.epoch) for answer in answers}) == 1
    await api(gateways.a).publish(cent.PublishRequest(channel=channel, data="next"))
    await subscription.wait_received(["once", "next"])


async def test_broadcast_answers_for_each_channel(call: cent.AsyncClient, channel: str, name: str) -> None:
    request = cent.BroadcastRequest(channels=[channel, f"nowhere:{name}", f"plain:{name}"], data={})
    responses = (await call.broadcast(request)).responses
    assert responses[0].result is not None
    assert (responses[0].result.offset, bool(responses[0].result.epoch)) == (1, True)
    assert responses[1].error is not None
    assert (responses[1].error.code, responses[1].error.message) == (102, "unknown channel")
    assert responses[2].result is not None
    assert responses[2].result.offset == 0


async def test_subscribe_and_unsubscribe_reach_any_node(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, channel: str, name: str
) -> None:
    clients = [await sdk.connected(server.ws_url, connection_token(name)) for server in (gateways.a, gateways.b)]
    await call.subscribe(cent.SubscribeRequest(user=name, channel=channel, data={"why": "admin"}, info={"by": "api"}))
    for client in clients:
        event = await client.events.wait("subscribed")
        assert (event.channel, event.data, event.recoverable) == (channel, {"why": "admin"}, True)
    await call.publish(cent.PublishRequest(channel=channel, data="pushed"))
    for client in clients:
        publication = await client.events.wait("publication")
        assert (publication.channel, publication.data) == (channel, "pushed")
    presence = (await call.presence(cent.PresenceRequest(channel=channel))).presence
    assert {client: info.chan_info for client, info in presence.items()} == {
        client.id: {"by": "api"} for client in clients
    }

    await call.unsubscribe(cent.UnsubscribeRequest(user=name, channel=channel, client=clients[0].id))
    assert (await clients[0].events.wait("unsubscribed")).channel == channel
    await call.publish(cent.PublishRequest(channel=channel, data="for one"))
    await clients[1].events.wait("publication", 2)
    assert len(clients[0].events.named("publication")) == 1
    await call.subscribe(cent.SubscribeRequest(user="nobody", channel=channel))


async def test_disconnect_spares_the_whitelist(gateways: Cluster, sdk: SDK, call: cent.AsyncClient, name: str) -> None:
    stays = await sdk.connected(gateways.a.ws_url, connection_token(name))
    goes = await sdk.connected(gateways.a.ws_url, connection_token(name))
    await call.disconnect(cent.DisconnectRequest(user=name, whitelist=[stays.id]))
    end = await goes.events.wait("disconnected")
    assert (end.code, end.reason) == (3503, "force disconnect")
    assert [event.name for event in stays.events] == ["connecting", "connected"]


@pytest.mark.parametrize("code", [3011, 4000, 4499])
async def test_some_codes_let_clients_return(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, channel: str, name: str, code: int
) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    subscription = await client.subscribe(channel)
    await disconnect(call, name, code)
    lost = await client.events.wait("connecting", 2)
    assert (lost.code, lost.reason) == (code, "because")
    await call.publish(cent.PublishRequest(channel=channel, data="meanwhile"))
    await subscription.events.wait("subscribed", 2)
    await subscription.wait_received(["meanwhile"])


@pytest.mark.parametrize("code", [3500, 3999, 4500, 4999])
async def test_others_keep_them_out(gateways: Cluster, sdk: SDK, call: cent.AsyncClient, name: str, code: int) -> None:
    client = await sdk.connected(gateways.a.ws_url, connection_token(name))
    await disconnect(call, name, code)
    end = await client.events.wait("disconnected")
    assert (end.code, end.reason) == (code, "because")


async def test_blocked_users_stay_away_until_they_are_let_in(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, name: str
) -> None:
    clients = [await sdk.connected(each.ws_url, connection_token(name)) for each in (gateways.a, gateways.b)]
    await call.block_user(cent.BlockUserRequest(user=name))
    for client in clients:
        end = await client.events.wait("disconnected")
        assert (end.code, end.reason) == (3510, "blocked")
        await client.begin()
        end = await client.events.wait("disconnected", 2)
        assert (end.code, end.reason) == (3510, "blocked")
        assert client.events.named("error") == []
    await call.unblock_user(cent.UnblockUserRequest(user=name))

    async def comes_in(url: str) -> bool:
        client = await sdk.client(url, connection_token(name))
        await client.begin()
        await until(lambda: client.events.named("connected") + client.events.named("disconnected"))
        return bool(client.events.named("connected"))

    for each in (gateways.a, gateways.b):
        await until(partial(comes_in, each.ws_url))


async def test_invalidated_state_is_fetched_anew(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, name: str
) -> None:
    channel = f"$chat:{name}"
    fetched = []

    def connection() -> str:
        fetched.append("connection")
        return connection_token(name)

    def subscription() -> str:
        fetched.append("subscription")
        return subscription_token(name, channel)

    client = await sdk.connected(gateways.a.ws_url, get_token=connection)
    subscribed = await client.subscribe(channel, get_token=subscription)
    await call.publish(cent.PublishRequest(channel=channel, data="known"))
    await subscribed.wait_received(["known"])

    await disconnect(call, name, 3014)
    again = await subscribed.events.wait("subscribed", 2)
    assert (again.was_recovering, again.recovered) == (True, False)
    assert sorted(fetched) == ["connection"] * 2 + ["subscription"] * 2


async def disconnect(call: cent.AsyncClient, user: str, code: int) -> None:
    await call.disconnect(cent.DisconnectRequest(user=user, disconnect=cent.Disconnect(code=code, reason="because")))


async def test_refresh_sets_another_end(gateways: Cluster, call: cent.AsyncClient, name: str) -> None:
    async with raw(gateways.a.ws_url, connection_token(name)) as client:
        await call.refresh(cent.RefreshRequest(user=name, expire_at=int(time.time()) + 100))
        await until(lambda: client.pushes)
        refresh = client.pushes[0]["refresh"]
        assert refresh["expires"]
        assert 90 <= refresh["ttl"] <= 100
        await call.refresh(cent.RefreshRequest(user=name, expired=True))
        assert await client.closed() == (3005, "connection expired")


async def test_presence_and_its_absence(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, channel: str, name: str
) -> None:
    clients = [await subscriber(sdk, gateways, name, channel) for _ in range(2)]
    presence = (await call.presence(cent.PresenceRequest(channel=channel))).presence
    assert {client: (info.user, info.conn_info) for client, info in presence.items()} == {
        client.id: (name, {"name": "N"}) for client in clients
    }
    stats = await call.presence_stats(cent.PresenceStatsRequest(channel=channel))
    assert (stats.num_clients, stats.num_users) == (2, 1)
    unavailable = (108, "not available")
    assert await refused(call.presence(cent.PresenceRequest(channel="plain:x"))) == unavailable
    assert await refused(call.presence_stats(cent.PresenceStatsRequest(channel="plain:x"))) == unavailable


async def subscriber(sdk: SDK, gateways: Cluster, user: str, channel: str) -> Client:
    client = await sdk.connected(gateways.a.ws_url, connection_token(user, info={"name": "N"}))
    await client.subscribe(channel)
    return client


async def test_history_and_its_removal(call: cent.AsyncClient, channel: str) -> None:
    for n in range(5):
        await call.publish(cent.PublishRequest(channel=channel, data={"n": n}, tags={"n": str(n)}))
    top = await call.history(cent.HistoryRequest(channel=channel))
    assert (top.publications, top.offset, bool(top.epoch)) == ([], 5, True)
    everything = await call.history(cent.HistoryRequest(channel=channel, limit=-1))
    assert [(each.offset, each.data, each.tags) for each in everything.publications] == [
        (n + 1, {"n": n}, {"n": str(n)}) for n in range(5)
    ]
    since = cent.StreamPosition(offset=4, epoch=top.epoch)
    before = await call.history(cent.HistoryRequest(channel=channel, limit=2, since=since, reverse=True))
    assert [each.offset for each in before.publications] == [3, 2]
    elsewhere = cent.HistoryRequest(channel=channel, limit=1, since=cent.StreamPosition(offset=1, epoch="elsewhere"))
    assert await refused(call.history(elsewhere)) == (112, "unrecoverable position")

    await call.history_remove(cent.HistoryRemoveRequest(channel=channel))
    nothing = await call.history(cent.HistoryRequest(channel=channel, limit=-1))
    assert (nothing.publications, nothing.offset, nothing.epoch) == ([], 5, top.epoch)
    assert await refused(call.history(cent.HistoryRequest(channel="plain:x"))) == (108, "not available")
    assert await refused(call.history_remove(cent.HistoryRemoveRequest(channel="plain:x"))) == (108, "not available")


async def test_channels_and_info_count_both_nodes(
    gateways: Cluster, sdk: SDK, call: cent.AsyncClient, channel: str, name: str
) -> None:
    for server in (gateways.a, gateways.b):
        client = await sdk.connected(server.ws_url, connection_token(name))
        await client.subscribe(channel)
    await client.subscribe(f"{channel}-2")

    found = (await call.channels(cent.ChannelsRequest(pattern=f"{channel}*"))).channels
    assert {each: info.num_clients for each, info in found.items()} == {channel: 2, f"{channel}-2": 1}
    assert channel in (await call.channels(cent.ChannelsRequest())).channels

    async def counted() -> bool:
        nodes = {node.name: node for node in (await call.info(cent.InfoRequest())).nodes}
        assert all(node.uid and node.version for node in nodes.values())
        return all(
            min(node.num_clients, node.num_users, node.num_subs, node.num_channels) >= 1
            for node in (nodes[gateways.a.name], nodes[gateways.b.name])
        )

    await until(counted, what="clients, users, subscriptions and channels on both nodes")


async def test_batch_answers_in_order(call: cent.AsyncClient, channel: str, gateways: Cluster) -> None:
    requests = [
        cent.PublishRequest(channel=channel, data={}),
        cent.PresenceStatsRequest(channel=channel),
        cent.HistoryRequest(channel=channel, limit=1),
    ]
    replies = (await call.batch(cent.BatchRequest(requests=requests, parallel=False))).replies
    assert [type(reply) for reply in replies] == [cent.PublishResult, cent.PresenceStatsResult, cent.HistoryResult]

    commands = [
        {"publish": {"channel": "nowhere:x", "data": {}}},
        {"publish": {"channel": "plain:x", "data": {}}},
        {},
        {"history": {"channel": "plain:x"}},
    ]
    async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}) as http:
        for parallel in (False, True):
            answer = await http.post(f"{gateways.a.api_url}/batch", json={"commands": commands, "parallel": parallel})
            assert answer.status_code == 200
            replies = answer.json()["replies"]
            assert replies[1] == {"publish": {}}
            assert [reply["error"]["code"] for reply in replies if "error" in reply] == [102, 104, 108]


async def test_errors_are_exceptions_of_the_client(call: cent.AsyncClient) -> None:
    unknown = cent.PublishRequest(channel="nowhere:x", data={})
    assert await refused(call.publish(unknown)) == (102, "unknown channel")
    assert (await refused(call.publish(cent.PublishRequest(channel="", data={}))))[0] == 107
    assert (await refused(call.broadcast(cent.BroadcastRequest(channels=[], data={}))))[0] == 107


async def test_callers_without_key_are_turned_away(gateways: Cluster, api: ConnectAPI) -> None:
    with pytest.raises(cent.CentUnauthorizedError):
        await api(gateways.a, key="wrong").info(cent.InfoRequest())


async def test_what_the_api_says_to_bad_requests(gateways: Cluster) -> None:
    url = gateways.a.api_url
    async with httpx.AsyncClient() as http:
        assert (await http.post(f"{url}/info", json={})).status_code == 401
        key = {"Authorization": f"apikey {API_KEY}"}
        assert (await http.post(f"{url}/info", json={}, headers=key)).status_code == 200
        for body in (b"", b"nonsense", b'{"channel":', b"[]", b'{"channel":7,"data":{}}'):
            assert (await http.post(f"{url}/publish", content=body, headers=key)).status_code == 400, body
        missing = await http.post(f"{url}/publish", json={"data": {}}, headers=key)
        assert (missing.status_code, missing.json()["error"]["code"]) == (200, 107)
        assert (await http.get(f"{url}/publish", headers=key)).status_code == 405
        assert (await http.post(f"{url}/revoke_token", json={}, headers=key)).status_code == 404
        page = (await http.get(f"{gateways.a.url}/openapi.json")).json()
        assert {"/api/publish", "/api/batch"} <= set(page["paths"])


async def test_tokens_name_channels_to_subscribe_to(gateways: Cluster, call: cent.AsyncClient, channel: str) -> None:
    async with JavaScriptSDK() as sdk:
        token = connection_token("listed", subs={channel: {"info": {"role": "owner"}, "data": {"from": "token"}}})
        client = await sdk.connected(gateways.a.ws_url, token)
        event = await client.events.wait("subscribed")
        assert (event.channel, event.data) == (channel, {"from": "token"})
        await call.publish(cent.PublishRequest(channel=channel, data="hello"))
        assert (await client.events.wait("publication")).data == "hello"
