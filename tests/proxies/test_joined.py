"""Backends beside the handlers of a program."""

import logging
from typing import Any

import pytest
from fastapi import FastAPI

from gateway.config.settings import Settings
from gateway.program.gateway import Gateway as Program
from gateway.program.routes.client import Client as Handled
from gateway.program.routes.returns import Credentials
from tests.proxies.backend import Backend
from tests.proxies.client import Gateway, settings_of
from tests.serving import on_uvicorn

PROXIED = {"subscribe_proxy_enabled": True}


def settings(backend: Backend) -> Settings:
    def at(path: str, **more: Any) -> dict[str, Any]:
        return {"endpoint": f"{backend.url}/{path}", "http_headers": ["Cookie"], "timeout": 30, **more}

    proxy = {"connect": at("connect", enabled=True), "refresh": at("refresh", enabled=True)}
    return settings_of(
        {
            "client": {"proxy": proxy},
            "channel": {"proxy": {"subscribe": at("subscribe")}, "namespaces": [{"name": "room", **PROXIED}]},
            "rpc": {
                "proxy": at("rpc"),
                "without_namespace": {"proxy_enabled": True},
                "namespaces": [{"name": "own", "proxy_enabled": True}],
            },
        }
    )


def serving(program: Program) -> FastAPI:
    app = FastAPI(lifespan=program.lifespan)
    app.include_router(program.router)
    app.state.node = program.running.node
    return app


async def test_each_has_what_the_other_leaves_to_it(backend: Backend) -> None:
    program = Program(settings(backend))

    @program.channel("room:own:{name}").on_subscribe
    async def join(name: str, client: Handled) -> None:
        assert client.info == {"name": "Ann"}

    @program.rpc("own:ping")
    async def ping() -> str:
        return "pong"

    backend.answers["/connect"] = [{"result": {"user": "7", "info": {"name": "Ann"}}}]
    backend.answers["/rpc"] = [{"result": {"data": "from the backend"}}]
    async with on_uvicorn(serving(program), program.settings) as port:
        gateway = Gateway(serving(program), port)
        async with gateway.client(Cookie="a=1") as client:
            assert "client" in await client.ask("connect")
            assert await client.ask("subscribe", channel="room:own:x") == {}
            assert await client.ask("subscribe", channel="room:other") == {}
            assert await client.ask("rpc", method="own:ping") == {"data": "pong"}
            assert await client.ask("rpc", method="own:pong") == {"data": "from the backend"}
    assert [each.path for each in backend.asked] == ["/connect", "/subscribe", "/rpc"]
    assert all(each.header("Cookie") == ["a=1"] for each in backend.asked)


async def test_the_program_comes_first(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    program = Program(settings(backend))

    @program.on_connect
    async def connect() -> Credentials[Any]:
        return Credentials("9")

    @program.on_refresh
    async def refresh() -> bool:
        return False

    @program.channel("room:own").on_subscribe
    async def join() -> None:
        return None

    @program.rpc("own:ping")
    async def ping() -> str:
        return "pong"

    with caplog.at_level(logging.WARNING):
        app = serving(program)
    told = [each.getMessage() for each in caplog.records if each.name == "gateway"]
    assert told == [
        "client.proxy.connect is not asked, for the program has an on_connect; take one of them away",
        "client.proxy.refresh is not asked, for the program has an on_refresh; take one of them away",
        'the backends of the namespace "room" are not asked about room:own: these channels are the program\'s, whose '
        "handlers and options decide; take one of them away",
        "rpc.proxy is not asked about the methods own:ping, which the program has",
    ]
    async with on_uvicorn(app, program.settings) as port:
        gateway = Gateway(app, port)
        async with gateway.client() as client:
            answer = await client.ask("connect")
            session = gateway.session(answer["client"])
            assert session.user == "9"
            assert session.application.renew is None
    assert not backend.asked


async def test_nothing_is_told_where_nothing_is_contradicted(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(settings(backend))
    program.channel("other:{name}")
    with caplog.at_level(logging.WARNING):
        serving(program)
    assert not [each for each in caplog.records if each.name == "gateway"]
