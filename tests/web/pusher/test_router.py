"""Where the HTTP API is served, and what stands around its methods."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from gateway import Gateway
from gateway.apps.signatures import sign_request
from gateway.config.settings import Settings
from gateway.serve.site import Part
from gateway.web.api import Answer
from gateway.web.pusher import pusher_router
from gateway.web.pusher.router import METHODS
from tests.web.pusher.conftest import SETTINGS, SHOP, SomeApps


@asynccontextmanager
async def served(prefix: str = "", **pusher: Any) -> AsyncIterator[httpx.AsyncClient]:
    gateway, app = Gateway(Settings.model_validate({**SETTINGS, "pusher": pusher})), FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router, prefix=prefix)
    gateway.running.apps = SomeApps()  # type: ignore[assignment]  # those of the suite
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
    async with app.router.lifespan_context(app), http:
        yield http


@pytest.mark.parametrize("prefix", ["", "/gateway"])
async def test_a_program_serves_it_with_the_other_routes(prefix: str) -> None:
    async with served(prefix, enabled=True, namespace="shop") as http:
        query: Any = sign_request(SHOP, "GET", "/apps/9001/channels/news", [], b"", time.time())
        response = await http.get(f"{prefix}/apps/9001/channels/news", params=query)
        assert (response.status_code, response.json()) == (200, {"occupied": False})
        assert (await http.post(f"{prefix}/apps/9001/channels/news")).status_code == 405


async def test_it_is_not_there_unless_it_is_wanted() -> None:
    async with served() as http:
        assert (await http.get("/apps/9001/channels")).status_code == 404
        assert (await http.get("/up")).status_code == 404


async def test_what_stands_around_a_method_is_told_its_name() -> None:
    names: list[str] = []

    def around(name: str, answer: Answer) -> Answer:
        async def noted(call: Any, request: Request) -> Response:
            names.append(name)
            return await answer(call, request)

        return noted

    gateway, app = Gateway(Settings.model_validate(SETTINGS)), FastAPI()
    gateway.run_in(app)
    app.include_router(pusher_router(lambda: gateway.node, SomeApps, around))
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
    async with app.router.lifespan_context(app), http:
        now = gateway.node.clock()
        query: Any = sign_request(SHOP, "GET", "/apps/9001/channels", [], b"", now)
        await http.get("/apps/9001/channels", params=query)
        await http.get("/apps/9001/channels")  # whose, nobody knows
    assert names == ["pusher_channels"]


def test_it_is_for_backends() -> None:
    for path in (*(each.path for each in METHODS), "/up"):
        assert [part.has(path) for part in Part] == [True, False, True], path
