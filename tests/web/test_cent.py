"""The server API through the official client for backends in Python, blocking and not, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import cent
import pytest

from gateway.config.settings import Settings
from gateway.core.cluster import DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.core.node import Node
from gateway.core.survey import Page
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload, Position
from gateway.serve.app import create_app
from tests.serving import on_uvicorn
from tests.web.conftest import KEY, SETTINGS

Call = Callable[..., Awaitable[Any]]


@dataclass
class Backend:
    """Calls methods of a running gateway."""

    node: Node
    url: str
    call: Call
    commands: list[Any]


@pytest.fixture(params=["blocking", "asynchronous"])
async def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backend]:
    settings = Settings.model_validate(SETTINGS)
    app = create_app(settings)
    node: Node = app.state.node
    commands: list[Any] = []
    monkeypatch.setattr(node, "apply", commands.append)
    async with on_uvicorn(app, settings) as port:
        url = f"http://127.0.0.1:{port}/api"
        if request.param == "asynchronous":
            client = cent.AsyncClient(url, KEY)
            yield Backend(node, url, lambda method, *args: getattr(client, method)(*args), commands)
            await client.close()
        else:
            blocking = cent.Client(url, KEY)
            in_thread = asyncio.to_thread
            yield Backend(node, url, lambda method, *args: in_thread(getattr(blocking, method), *args), commands)
            blocking.close()


async def refused(work: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(cent.CentApiResponseError) as error:
        await work
    return error.value.code, error.value.message


async def test_publish_history_and_its_removal(backend: Backend) -> None:
    for n in range(3):
        request = cent.PublishRequest(channel="kept:a", data={"n": n}, tags={"n": str(n)})
        assert (await backend.call("publish", request)).offset == n + 1
    history = await backend.call("history", cent.HistoryRequest(channel="kept:a", limit=-1))
    assert [(each.offset, each.data, each.tags) for each in history.publications] == [
        (n + 1, {"n": n}, {"n": str(n)}) for n in range(3)
    ]
    await backend.call("history_remove", cent.HistoryRemoveRequest(channel="kept:a"))
    empty = await backend.call("history", cent.HistoryRequest(channel="kept:a", limit=-1))
    assert (empty.publications, empty.offset, empty.epoch) == ([], 3, history.epoch)


async def test_broadcast(backend: Backend) -> None:
    request = cent.BroadcastRequest(channels=["kept:a", "nowhere:a"], data=1)
    stored, unknown = (await backend.call("broadcast", request)).responses
    assert (stored.result.offset, stored.error) == (1, None)
    assert (unknown.error.code, unknown.error.message) == (102, "unknown channel")


async def test_commands_for_connections(backend: Backend) -> None:
    since = cent.StreamPosition(offset=4, epoch="abcd")
    await backend.call(
        "subscribe", cent.SubscribeRequest(user="ann", channel="kept:a", info={"a": 1}, recover_since=since)
    )
    await backend.call("unsubscribe", cent.UnsubscribeRequest(user="ann", channel="kept:a"))
    reason = cent.Disconnect(code=4001, reason="lunch")
    await backend.call("disconnect", cent.DisconnectRequest(user="ann", whitelist=["c1"], disconnect=reason))
    await backend.call("refresh", cent.RefreshRequest(user="ann", expire_at=2_000_000_000))
    assert backend.commands == [
        SubscribeUser(user="ann", channel="kept:a", info=Payload(b'{"a": 1}'), since=Position(4, "abcd")),
        UnsubscribeUser(user="ann", channel="kept:a", code=2000, reason="server unsubscribe"),
        DisconnectUser(user="ann", code=4001, reason="lunch", whitelist=["c1"]),
        RefreshUser(user="ann", expire_at=2_000_000_000),
    ]


async def test_presence(backend: Backend) -> None:
    await backend.node.presence_store.add("shown:a", ClientInfo("ann", "c1", Payload(b'{"n":1}')))
    [member] = (await backend.call("presence", cent.PresenceRequest(channel="shown:a"))).presence.values()
    assert (member.user, member.client, member.conn_info, member.chan_info) == ("ann", "c1", {"n": 1}, None)
    stats = await backend.call("presence_stats", cent.PresenceStatsRequest(channel="shown:a"))
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def test_channels_and_info(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(*_: object) -> Page:
        return Page({"room": 2})

    monkeypatch.setattr(backend.node, "answer", answer)
    channels = (await backend.call("channels", cent.ChannelsRequest(pattern="r*"))).channels
    assert {name: info.num_clients for name, info in channels.items()} == {"room": 2}
    [node] = (await backend.call("info", cent.InfoRequest())).nodes
    assert (node.uid, node.num_clients) == (backend.node.uid, 0)


async def test_blocks(backend: Backend) -> None:
    await backend.call("block_user", cent.BlockUserRequest(user="bob"))
    assert "bob" in backend.node.blocked
    await backend.call("unblock_user", cent.UnblockUserRequest(user="bob"))
    assert "bob" not in backend.node.blocked


async def test_batch(backend: Backend) -> None:
    requests = [cent.PublishRequest(channel="kept:a", data=1), cent.HistoryRequest(channel="kept:a", limit=1)]
    for parallel in (False, True):
        published, history = (
            await backend.call("batch", cent.BatchRequest(requests=requests, parallel=parallel))
        ).replies
        assert isinstance(published, cent.PublishResult)
        assert isinstance(history, cent.HistoryResult)


async def test_errors_are_exceptions(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    history = cent.HistoryRequest(channel="room")
    assert await refused(backend.call("history", history)) == (108, "not available")

    async def away(*_: object) -> Position:
        raise BrokerUnavailable

    monkeypatch.setattr(backend.node.broker, "publish", away)
    code, _ = await refused(backend.call("publish", cent.PublishRequest(channel="room", data=1)))
    assert code == 100


async def test_a_wrong_key_has_an_exception_of_its_own(backend: Backend) -> None:
    with pytest.raises(cent.CentUnauthorizedError):
        await asyncio.to_thread(cent.Client(backend.url, "wrong").info, cent.InfoRequest())
