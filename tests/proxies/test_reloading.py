"""Settings that are read anew: namespaces say at once what they ask, of the backends of the start."""

from typing import Any

import pytest

from gateway.errors import SettingsError
from tests.proxies.backend import Backend
from tests.proxies.client import gateway_running, settings_of


def settings(backend: Backend, *namespaces: dict[str, Any], **sections: Any) -> dict[str, Any]:
    channel = {"proxy": {"subscribe": {"endpoint": f"{backend.url}/subscribe"}}, "namespaces": [*namespaces]}
    return {"channel": channel, **sections}


async def test_a_namespace_asks_from_now_on(backend: Backend) -> None:
    asking, silent = {"name": "room", "subscribe_proxy_enabled": True}, {"name": "room"}
    async with gateway_running(settings(backend, silent)) as gateway, gateway.connected() as client:
        assert (await client.ask("subscribe", channel="room:1"))["code"] == 103
        assert gateway.app.state.reload(settings_of(settings(backend, asking))) == ()
        assert await client.ask("subscribe", channel="room:1") == {}
        gateway.app.state.reload(settings_of(settings(backend, silent)))
        assert (await client.ask("subscribe", channel="room:2"))["code"] == 103
    assert len(backend.asked) == 1


async def test_backends_wait_for_a_restart(backend: Backend) -> None:
    room = {"name": "room", "subscribe_proxy_enabled": True}
    named = {"proxies": [{"name": "other", "endpoint": f"{backend.url}/other"}]}
    async with gateway_running(settings(backend, room)) as gateway, gateway.connected() as client:
        assert gateway.app.state.reload(settings_of(settings(backend, room, **named))) == ("proxies",)
        with pytest.raises(SettingsError, match=r'no "other" in proxies.*which takes a restart'):
            gateway.app.state.reload(settings_of(settings(backend, {**room, "subscribe_proxy_name": "other"}, **named)))
        assert await client.ask("subscribe", channel="room:1") == {}
    assert [each.path for each in backend.asked] == ["/subscribe"]
