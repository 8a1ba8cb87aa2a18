"""Other settings for a gateway that runs: `Gateway.reload`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import Gateway, Settings
from gateway.errors import SettingsError
from gateway.testing import Disconnected, Kit, Refused, Rejected
from tests.waiting import settle

OLD, NEW = (f"the {name} secret, of more than thirty-two bytes" for name in ("old", "new"))
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}


def settings(secret: str = OLD, namespaces: Any = ({"name": "chat", **OPEN},), **sections: Any) -> Settings:
    client = {"token": {"hmac_secret_key": secret}, **sections.pop("client", {})}
    return Settings.model_validate({"client": client, "channel": {"namespaces": namespaces}, **sections})


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    gateway = Gateway(settings(http_api={"key": "one"}))
    app = FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router)

    @gateway.channel("room:{name}").on_subscribe
    async def enter(name: str) -> None: ...

    async with Kit(app) as kit:
        yield kit


async def test_tokens_of_the_new_key_and_who_is_in_stays(kit: Kit) -> None:
    ann = await kit.connect(token=kit.token("ann"))
    heard = await ann.subscribe("chat:a")
    old = kit.token("ben")
    kit.gateway.reload(settings(NEW))
    with pytest.raises(Disconnected, match="3500"):
        await kit.connect(token=old)
    ben = await kit.connect(token=kit.token("ben"))
    await ben.publish("chat:a", "hi")
    assert (await heard.next()).data == "hi"
    assert ann.connected


async def test_keys_of_the_api(kit: Kit) -> None:
    async def status(key: str) -> int:
        return (await kit.http.post("/api/info", content=b"{}", headers={"X-API-Key": key})).status_code

    assert [await status("one"), await status("two")] == [200, 401]
    kit.gateway.reload(settings(http_api={"keys": {"next": "two"}}))
    assert [await status("one"), await status("two")] == [401, 200]


async def test_origins_and_limits(kit: Kit) -> None:
    page = {"origin": "https://page.example"}
    with pytest.raises(Rejected):
        await kit.connect(token=kit.token("ann"), headers=page)
    kit.gateway.reload(settings(client={"allowed_origins": ["https://page.example"], "channel_limit": 1}))
    ann = await kit.connect(token=kit.token("ann"), headers=page)
    await ann.subscribe("chat:a")
    with pytest.raises(Refused, match="106"):
        await ann.subscribe("chat:b")
    kit.gateway.reload(settings(client={"connection_limit": 1}))
    with pytest.raises(Rejected):
        await kit.connect(token=kit.token("ben"))
    assert ann.connected
    kit.gateway.reload(settings())
    await kit.connect(token=kit.token("ben"))


async def test_a_rate_that_stays_goes_on_counting(kit: Kit) -> None:
    kit.gateway.reload(settings(client={"connection_rate_limit": 1}))
    await kit.connect(token=kit.token("ann"))
    kit.gateway.reload(settings(NEW, client={"connection_rate_limit": 1}))
    with pytest.raises(Rejected):
        await kit.connect(token=kit.token("ann"))


async def test_the_header_that_names_the_user(kit: Kit) -> None:
    kit.gateway.reload(settings(client={"user_id_http_header": "X-User"}))
    ann = await kit.connect(headers={"x-user": "ann"})
    assert [each.user for each in kit.gateway.node.hub.connections.values()] == ["ann"]
    assert ann.connected


async def test_new_namespaces_and_other_options(kit: Kit) -> None:
    ann = await kit.connect(token=kit.token("ann"))
    await ann.subscribe("chat:a")
    with pytest.raises(Refused, match="102"):
        await ann.subscribe("news:a")
    closed = {"name": "chat", "allow_subscribe_for_client": True}
    kept = {"name": "news", **OPEN, "history_size": 5, "history_ttl": "1m"}
    assert kit.gateway.reload(settings(namespaces=(closed, kept))) == ()
    with pytest.raises(Refused, match="103"):
        await ann.publish("chat:a", "who is in may no more than others")
    await ann.subscribe("news:a")
    await ann.publish("news:a", 1)
    publications, _ = await kit.gateway.history("news:a", limit=5)
    assert [each.data for each in publications] == [1]
    await ann.subscribe("room:a")


async def test_a_channel_that_is_in_use_begins_to_keep_history(kit: Kit) -> None:
    ann = await kit.connect(token=kit.token("ann"))
    await ann.subscribe("chat:a")
    await ann.publish("chat:a", 1)
    kit.gateway.reload(settings(namespaces=({"name": "chat", **OPEN, "history_size": 5, "history_ttl": "1m"},)))
    await ann.publish("chat:a", 2)
    publications, _ = await kit.gateway.history("chat:a", limit=5)
    assert [each.data for each in publications] == [2]


async def test_a_namespace_goes_with_a_restart(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    ann = await kit.connect(token=kit.token("ann"))
    heard = await ann.subscribe("chat:a")
    assert kit.gateway.reload(settings(namespaces=())) == ("channel.namespaces.chat (removed)",)
    await ann.publish("chat:a", "still here")
    assert (await heard.next()).data == "still here"
    assert "channel.namespaces.chat (removed) has changed, and waits for a restart" in caplog.messages


async def test_what_waits_is_named_and_the_rest_is_taken(kit: Kit) -> None:
    waiting = kit.gateway.reload(settings(NEW, http_server={"port": 1}, websocket={"compression": True}))
    assert waiting == ("http_server.port", "websocket.compression")
    assert kit.gateway.settings.http_server.port == 8000
    assert kit.gateway.settings.client.token.hmac_secret_key == NEW
    assert kit.gateway.node.settings is kit.gateway.settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"client": {"token": {"rsa_public_key": "garbage"}}},
        {"channel": {"without_namespace": {"channel_regex": "("}}},
    ],
)
async def test_settings_that_cannot_be_change_nothing(kit: Kit, wrong: dict[str, Any]) -> None:
    before = kit.gateway.settings
    with pytest.raises(SettingsError):
        kit.gateway.reload(Settings.model_validate(wrong))
    assert kit.gateway.settings is before
    ann = await kit.connect(token=kit.token("ann"))
    await ann.subscribe("chat:a")


async def test_slow_clients_have_the_limits_of_when_they_came(kit: Kit) -> None:
    kit.gateway.reload(settings(client={"queue_max_size": 2048}, websocket={"write_timeout": "3s"}))
    limits = kit.gateway.running.acceptor.write_limits
    assert (limits.size, limits.timeout) == (2048, 3)


async def test_file_and_environment_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(client={"channel_limit": 5})
    monkeypatch.setenv("GATEWAY_HTTP_API__KEY", "two")
    monkeypatch.setenv("GATEWAY_TIMEOUT", "another program's")
    assert gateway.reload() == ()
    assert (gateway.settings.http_api.key, gateway.settings.client.channel_limit) == ("two", 5)
    monkeypatch.setenv("GATEWAY_HTTP_API__KEY_FILE", "/nowhere")
    monkeypatch.delenv("GATEWAY_HTTP_API__KEY")
    with pytest.raises(SettingsError, match="/nowhere"):
        gateway.reload()
    assert gateway.settings.http_api.key == "two"


async def test_nobody_knows_where_whole_settings_come_from(kit: Kit) -> None:
    with pytest.raises(TypeError, match="give reload"):
        kit.gateway.reload()


async def test_another_thread_may_not(kit: Kit) -> None:
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(kit.gateway.reload, settings(NEW))
    await settle()
    assert kit.gateway.settings.client.token.hmac_secret_key == OLD


async def test_clients_of_an_app_that_is_gone_are_told_so() -> None:
    apps = [{"id": name, "key": name, "secret": "s" * 32, "namespace": name} for name in ("one", "two")]
    namespaces = [{"name": "one"}, {"name": "two"}]
    gateway = Gateway(settings(namespaces=namespaces, pusher={"enabled": True, "apps": apps}))
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    async with Kit(app) as kit:
        one, two = [await kit.websocket(f"/app/{name}") for name in ("one", "two")]
        for each in (one, two):
            assert (await each.receive_json())["event"] == "pusher:connection_established"
        gateway.reload(settings(namespaces=namespaces, pusher={"enabled": True, "apps": apps[:1]}))
        assert (await two.receive_json())["data"]["code"] == 4001
        await one.send_json({"event": "pusher:ping"})
        assert (await one.receive_json())["event"] == "pusher:pong"
