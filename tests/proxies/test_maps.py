"""What clients write into maps, decided by a backend."""

import base64
from typing import Any

import pytest

from tests.proxies.backend import Backend
from tests.proxies.client import Gateway, gateway_running
from tests.waiting import settle, until

ERROR = {"code": 1403, "message": "not yours"}
BAD_REQUEST = {"code": 107, "message": "bad request"}
DENIED = {"code": 103, "message": "permission denied"}
ASKED = {"publish_proxy_enabled": True, "remove_proxy_enabled": True}


def settings(backend: Backend) -> dict[str, Any]:
    def at(path: str) -> dict[str, Any]:
        return {"endpoint": f"{backend.url}/{path}", "timeout": 30}

    kind = {"subscription_type": "map", "allow_subscribe_for_client": True}
    named = {"publish_proxy_enabled": True, "publish_proxy_name": "other"}
    return {
        "channel": {
            "proxy": {"map_publish": at("set"), "map_remove": at("remove")},
            "namespaces": [
                {"name": "board", **kind, "map": {"mode": "persistent", "max_key_length": 9, **ASKED}},
                {"name": "cursors", **kind, "map": {"mode": "ephemeral", "key_ttl": "60s", **ASKED}},
                {"name": "named", **kind, "map": {"mode": "persistent", **named}},
            ],
        },
        "proxies": [{"name": "other", **at("other")}],
    }


async def entries(gateway: Gateway, channel: str = "board:1") -> list[Any]:
    maps = gateway.node.maps
    options = maps.options(gateway.node.channels.resolve(channel))
    return (await maps.store.read_state(channel, options, 100)).entries


async def set_key(client: Any, key: str = "a", data: Any = 1, channel: str = "board:1") -> Any:
    return await client.ask("publish", channel=channel, type=1, key=key, data=data)


async def remove_key(client: Any, key: str = "a", channel: str = "board:1") -> Any:
    return await client.ask("publish", channel=channel, type=1, key=key, removed=True)


async def test_what_a_backend_is_asked(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await set_key(client, data={"x": 1}) == {}
        [entry] = await entries(gateway)
        assert (entry.key, entry.data, entry.info.user) == ("a", b'{"x": 1}', "7")
        assert await remove_key(client) == {}
        assert await entries(gateway) == []
        common = {
            "client": gateway.session().client,
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "7",
            "channel": "board:1",
            "key": "a",
        }
    assert backend.of("/set") == [{**common, "data": {"x": 1}}]
    assert backend.of("/remove") == [common]


async def test_another_entry(backend: Backend) -> None:
    backend.answers["/set"] = [{"result": {"key": "b", "data": {"n": 2}, "tags": {"t": "x"}}}]
    backend.answers["/remove"] = [{"result": {"key": "b"}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await set_key(client) == {}
        [entry] = await entries(gateway)
        assert (entry.key, entry.data, entry.tags, entry.info.user) == ("b", b'{"n":2}', {"t": "x"}, "7")
        assert await remove_key(client) == {}
        assert await entries(gateway) == []


@pytest.mark.parametrize(
    ("extras", "kept"),
    [
        ({"key_mode": "if_new"}, [b"1"]),
        ({"key_mode": "if_exists"}, []),
        ({"idempotency_key": "once"}, [b"1"]),
        ({"version": 7, "version_epoch": "v"}, [b"1"]),
        ({}, [b"2"]),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else "",
)
async def test_what_a_write_may_depend_on(backend: Backend, extras: Any, kept: list[bytes]) -> None:
    backend.answers["/set"] = [{"result": extras}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await set_key(client, data=1) == {}
        assert await set_key(client, data=2) == {}, "it is a success, too, if it changes nothing"
        assert [each.data for each in await entries(gateway)] == kept


async def test_a_removal_is_done_once(backend: Backend) -> None:
    backend.answers["/remove"] = [{"result": {"idempotency_key": "once"}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        for _ in range(2):
            await set_key(client)
            assert await remove_key(client) == {}
        assert len(await entries(gateway)) == 1


async def test_bytes_in_place_of_json(backend: Backend) -> None:
    backend.answers["/set"] = [{"result": {"b64data": base64.b64encode(b"\x00\xff").decode()}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await set_key(client) == {}
        [entry] = await entries(gateway)
        assert (entry.data, entry.binary) == (b"\x00\xff", True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": ERROR}, ERROR),
        ({"disconnect": {"code": 4501, "reason": "banned"}}, (4501, "banned")),
        ({"result": {"key": "longer than nine"}}, BAD_REQUEST["code"]),
        ({"result": {"key_mode": "other"}}, 100),
        ({"result": {"version": -1}}, 100),
    ],
    ids=["error", "disconnect", "key", "mode", "version"],
)
async def test_what_a_writer_gets_for_an_answer(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/set"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        found = await set_key(client)
        assert expected in (found, isinstance(found, dict) and found["code"])
        assert await entries(gateway) == []


async def test_a_refused_removal_removes_nothing(backend: Backend) -> None:
    backend.answers["/remove"] = [{"error": ERROR}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        await set_key(client)
        assert await remove_key(client) == ERROR
        assert len(await entries(gateway)) == 1


async def test_what_is_not_to_be_written_is_not_asked_about(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        for key in ("", "longer than nine"):
            assert (await set_key(client, key))["code"] == 107
            assert (await remove_key(client, key))["code"] == 107
        assert (await client.ask("publish", channel="board:1", type=1, key="a"))["code"] == 107
    assert backend.asked == []


async def test_which_backend_is_asked_and_what_nobody_is(backend: Backend) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await set_key(client, channel="named:1") == {}
        assert await remove_key(client, channel="named:1") == DENIED, "the options do not let it"
        assert len(await entries(gateway, "named:1")) == 1
    assert [each.path for each in backend.asked] == ["/other"]


async def test_writes_keep_their_order(backend: Backend) -> None:
    backend.hold()
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        numbers = [
            await client.send("publish", channel="cursors:1", type=1, key="a", data=1),
            await client.send("publish", channel="cursors:1", type=1, key="a", removed=True),
            await client.send("publish", channel="cursors:1", type=1, key="a", data=2),
        ]
        await until(lambda: backend.under_way)
        await settle()
        assert len(backend.asked) == 1, "the next is asked about when this is decided"
        backend.release()
        for number in numbers:
            assert await client.reply(number, "publish") == {}
        assert [each.data for each in await entries(gateway, "cursors:1")] == [b"2"]
