"""An application with a caller of its server API."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.serve.app import create_app

KEY = "a key for callers"
SETTINGS: dict[str, Any] = {
    "http_api": {"key": KEY},
    "channel": {
        "namespaces": [
            {"name": "kept", "history_size": 10, "history_ttl": "60s"},
            {"name": "shown", "presence": True},
            {"name": "objects", "publication_data_format": "json_object"},
            {"name": "strict", "publication_data_format": "json"},
        ]
    },
}
BACKEND = {"proxy": {"shared_poll_refresh": {"endpoint": "http://127.0.0.1:1/"}}}
POLLS = {"shared_poll": {"hmac_secret_key": "a secret of more than thirty-two bytes, as all should be"}}
"""What channels need that are polled."""


class API:
    """An application, and a caller with the key."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.app: FastAPI = create_app(Settings.model_validate(settings))
        self.node: Node = self.app.state.node
        transport = httpx.ASGITransport(self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def post(self, path: str, body: str | bytes = b"{}", headers: dict[str, str] | None = None) -> httpx.Response:
        headers = {"X-API-Key": KEY} if headers is None else headers
        return await self.http.post(f"/api/{path}", content=body, headers=headers)

    async def answer(self, method: str, **request: Any) -> dict[str, Any]:
        response = await self.post(method, json.dumps(request))
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        answer: dict[str, Any] = response.json()
        return answer

    async def result(self, method: str, **request: Any) -> Any:
        answer = await self.answer(method, **request)
        assert list(answer) == ["result"], answer
        return answer["result"]

    async def error(self, method: str, **request: Any) -> Any:
        answer = await self.answer(method, **request)
        assert list(answer) == ["error"], answer
        return answer["error"]


@asynccontextmanager
async def running(settings: dict[str, Any]) -> AsyncIterator[API]:
    api = API(settings)
    async with api.app.router.lifespan_context(api.app), api.http:
        yield api


@pytest.fixture
async def api() -> AsyncIterator[API]:
    async with running(SETTINGS) as api:
        yield api


@pytest.fixture
def commands(api: API, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the cluster is told to do."""
    told: list[Any] = []
    monkeypatch.setattr(api.node, "apply", told.append)
    return told
