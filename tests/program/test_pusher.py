"""The Pusher protocol in the hands of the program."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import Client, Error, Gateway, Publication, PusherApp, Receipt
from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.errors import SettingsError
from gateway.messages import Exclusion
from gateway.messages import Publication as Stored
from gateway.program.routes.signatures import SignatureError
from gateway.testing import Kit, Socket
from tests.program.test_pusher_auth import APP, gateway_with
from tests.waiting import until


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = gateway_with({**APP, "namespace": "shop"}, channel={"namespaces": [{"name": "shop"}]})
    async with gateway.lifespan(FastAPI()):
        yield gateway


async def heard(gateway: Gateway, channel: str, act: Callable[[], Any]) -> Publication[Any]:
    async with gateway.listen(channel) as publications:
        await act()
        async for each in publications:
            return each
    raise AssertionError("nothing was published")


async def test_events_are_publications_with_a_name(gateway: Gateway) -> None:
    trigger = gateway.pusher.trigger
    got = await heard(gateway, "shop:private-orders.7", lambda: trigger("private-orders.7", "order.paid", {"id": 7}))
    assert (got.data, got.tags) == ({"id": 7}, {"event": "order.paid"})


async def test_one_event_goes_to_several_channels(gateway: Gateway) -> None:
    async with gateway.listen("shop:news") as news, gateway.listen("shop:private-orders.7") as orders:
        await gateway.pusher.trigger(["news", "private-orders.7"], "App\\Events\\Paid", "text")
        for heard in (news, orders):
            got = await anext(aiter(heard))
            assert (got.data, got.tags) == ("text", {"event": "App\\Events\\Paid"})


async def test_the_one_who_caused_it_is_left_out(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []
    publish = gateway.node.publish

    async def watched(channel: Channel, publication: Stored, extras: PublishOptions) -> Receipt:
        published.append(publication.exclude)
        return await publish(channel, publication, extras)

    monkeypatch.setattr(gateway.node, "publish", watched)
    await gateway.pusher.trigger("news", "a", 1, socket_id="1.2")
    await gateway.pusher.trigger("news", "a", 1)
    assert published == [Exclusion(("1.2",)), None]


async def test_users_have_a_channel(gateway: Gateway) -> None:
    got = await heard(gateway, "shop:#7", lambda: gateway.pusher.send_to_user(7, "hello", None))
    assert (got.data, got.tags) == (None, {"event": "hello"})


@pytest.mark.parametrize("event", ["", "pusher:ping", "pusher_internal:member_added"])
async def test_events_of_the_protocol_are_its_own(gateway: Gateway, event: str) -> None:
    with pytest.raises(Error, match="107 bad request: name"):
        await gateway.pusher.trigger("news", event, 1)


@pytest.mark.parametrize("channel", ["", "with space", "shop:news", "#7", "x" * 201])
async def test_channels_have_names(gateway: Gateway, channel: str) -> None:
    with pytest.raises(Error, match="is no channel"):
        await gateway.pusher.trigger(["news", channel], "a", 1)


@pytest.mark.parametrize("data", ["{}", {"nonce": "a"}, {"nonce": "a", "ciphertext": "b", "more": "c"}, 1])
async def test_what_is_to_be_encrypted_is(gateway: Gateway, data: object) -> None:
    with pytest.raises(ValueError, match="is encrypted, and this is not"):
        await gateway.pusher.trigger("private-encrypted-a", "a", data)
    await gateway.pusher.trigger("private-encrypted-a", "a", {"nonce": "a", "ciphertext": "b"})


async def test_terminating_is_told_to_all_nodes(gateway: Gateway) -> None:
    told: list[str] = []
    gateway.node.cluster.listeners["pusher_terminate"] = told.append
    await gateway.pusher.terminate(7)
    await until(lambda: told, what="the order")
    assert told == ['{"app":"9001","user":"7"}']


async def test_one_of_several_apps_is_named() -> None:
    gateway = gateway_with(
        {**APP, "namespace": "shop"},
        {**APP, "id": "2", "key": "other"},
        channel={"namespaces": [{"name": "shop"}]},
    )
    async with gateway.lifespan(FastAPI()):
        with pytest.raises(LookupError, match='as app="'):
            await gateway.pusher.trigger("news", "a", 1)
        with pytest.raises(LookupError, match="no app has the key 'nobody'"):
            await gateway.pusher.trigger("news", "a", 1, app="nobody")
        got = await heard(gateway, "news", lambda: gateway.pusher.trigger("news", "a", 1, app="other"))
        assert got.data == 1


async def test_where_it_is_off_it_says_so() -> None:
    gateway = Gateway()
    async with gateway.lifespan(FastAPI()):
        with pytest.raises(RuntimeError, match=r"set pusher\.enabled"):
            await gateway.pusher.trigger("news", "a", 1)


# — handlers —


def test_a_loader_takes_the_key() -> None:
    gateway = gateway_with()
    with pytest.raises(
        SignatureError, match=r"async def app\(key: str, db: Session = Depends\(get_db\)\) -> PusherApp"
    ):

        @gateway.pusher.app
        async def app(name: str) -> PusherApp | None: ...

    with pytest.raises(SignatureError, match="no single client causes this"):

        @gateway.pusher.app
        async def of_client(key: str, client: Client) -> PusherApp | None: ...


def test_there_is_one_of_each() -> None:
    gateway = gateway_with()
    gateway.pusher.app(lambda key: None)
    gateway.pusher.user(lambda: None)
    with pytest.raises(SettingsError, match=r"there is a pusher\.app already"):
        gateway.pusher.app(lambda key: None)
    with pytest.raises(SettingsError, match=r"there is a pusher\.user already"):
        gateway.pusher.user(lambda: None)


async def test_handlers_come_before_the_start(gateway: Gateway) -> None:
    with pytest.raises(RuntimeError, match="has started"):
        gateway.pusher.user(lambda: None)


# — with clients —


async def said(socket: Socket) -> tuple[str, Any]:
    """The next message: its event, and its data, which may be JSON within JSON."""
    message = await socket.receive_json()
    data = message["data"]
    return message["event"], json.loads(data) if isinstance(data, str) else data


async def test_a_client_of_the_programs_own_app_signs_in_and_is_sent_away() -> None:
    gateway = gateway_with(pusher={"apps": [], "namespace": "tenants"}, channel={"namespaces": [{"name": "tenants"}]})
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    app.include_router(gateway.pusher.auth)
    gateway.pusher.user(lambda: "ann")
    gateway.channel("tenants:42:presence-{room}").on_subscribe(lambda room: room == "lobby")

    @gateway.pusher.app
    async def tenant(key: str) -> PusherApp | None:
        return PusherApp(id="42", key=key, secret="s" * 32, namespace="tenants:42") if key == "t42" else None

    async with Kit(app) as kit:
        nobody = await kit.websocket("/app/nobody")
        assert (await said(nobody))[1]["code"] == 4001
        ann = await kit.websocket("/app/t42?protocol=7")
        _, established = await said(ann)
        asked = {"socket_id": established["socket_id"], "app_key": "t42"}
        answer = (await kit.http.post("/pusher/user-auth", data=asked)).json()
        await ann.send_json({"event": "pusher:signin", "data": answer})
        assert (await said(ann))[0] == "pusher:signin_success"
        answer = (await kit.http.post("/pusher/auth", data={**asked, "channel_name": "presence-lobby"})).json()
        await ann.send_json({"event": "pusher:subscribe", "data": {**answer, "channel": "presence-lobby"}})
        event, data = await said(ann)
        assert (event, data["presence"]["ids"]) == ("pusher_internal:subscription_succeeded", ["ann"])
        await gateway.pusher.trigger("presence-lobby", "hello", {"n": 1}, socket_id=asked["socket_id"], app="t42")
        await gateway.pusher.trigger("presence-lobby", "hello", {"n": 2}, app="t42")
        assert await said(ann) == ("hello", {"n": 2})
        await gateway.pusher.terminate("ann", app="t42")
        assert await said(ann) == ("pusher:error", {"code": 4009, "message": "ended by the application"})
