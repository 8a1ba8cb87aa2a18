"""Nothing is left of a closed connection where a backend decides."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.callers import Caller, calling
from tests.leftovers import MANY, assert_freed
from tests.proxies.backend import Backend, Raw
from tests.proxies.client import gateway_running
from tests.waiting import until_blocking

ROOM = {"channel": "room:1"}
PATH = "/connection/websocket"
PROXIED = {f"{event}_proxy_enabled": True for event in ("subscribe", "publish", "sub_refresh")}

Clients = Callable[[list[Caller], Backend], None]


def settings(backend: Backend) -> dict[str, Any]:
    def at(path: str, **more: Any) -> dict[str, Any]:
        headers = {"http_headers": ["Cookie"], "emulated_headers": ["X-Device"]}
        return {"endpoint": f"{backend.url}/{path}", "timeout": 30, "concurrency": MANY, **headers, **more}

    return {
        "client": {"proxy": {event: at(event, enabled=True) for event in ("connect", "refresh")}},
        "channel": {
            "proxy": {event: at(event) for event in ("subscribe", "publish", "sub_refresh")},
            "namespaces": [{"name": "room", **PROXIED}],
        },
        "rpc": {"proxy": at("rpc"), "without_namespace": {"proxy_enabled": True}},
    }


def all_of_it(callers: list[Caller], backend: Backend) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7", "info": {"a": 1}, "meta": {"b": 2}}}]
    backend.answers["/subscribe"] = backend.answers["/publish"] = backend.answers["/rpc"] = [{}]
    for each in callers:
        assert "connect" in each.ask(connect={"headers": {"X-Device": "phone"}})
        assert "subscribe" in each.ask(subscribe=ROOM)
        assert "publish" in each.ask(publish={**ROOM, "data": 1})
        assert "rpc" in each.ask(rpc={"method": "x"})
        each.leave()


def failures(callers: list[Caller], backend: Backend) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    backend.answers["/subscribe"] = [Raw(500)]
    backend.answers["/publish"] = [{"error": {"code": 1403, "message": "no"}}]
    backend.answers["/rpc"] = [Raw(body=b"nonsense")]
    for each in callers:
        each.ask(connect={})
        assert "error" in each.ask(subscribe=ROOM)
        assert "error" in each.ask(publish={**ROOM, "data": 1})
        assert "error" in each.ask(rpc={"method": "x"})
        each.leave()


def refused(callers: list[Caller], backend: Backend) -> None:
    backend.answers["/connect"] = [{"disconnect": {"code": 4501, "reason": "no"}}]
    for each in callers:
        each.say(connect={})
        assert each.code() == 4501


def reset_meanwhile(callers: list[Caller], backend: Backend) -> None:
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    backend.hold()
    for each in callers:
        each.say(connect={})
    until_blocking(lambda: backend.under_way == MANY)
    for each in callers:
        each.reset()


@pytest.mark.parametrize("clients", [all_of_it, failures, refused, reset_meanwhile])
async def test_nothing_is_left(backend: Backend, clients: Clients) -> None:
    async with gateway_running(settings(backend)) as gateway:

        def call() -> None:
            with calling(MANY, gateway.port, PATH, b"Cookie: a=1") as callers:
                clients(callers, backend)

        async def come_and_go() -> None:
            await asyncio.to_thread(call)
            backend.release()
            backend.asked.clear()

        await assert_freed(come_and_go)
