"""Two nodes side by side, with clients of all kinds, and an operator who asks one of them."""

from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import FastAPI, WebSocket

from gateway import Gateway
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.testing import Kit

SECRET = "a secret of more than thirty-two bytes, as all should be"
PASSWORD = "correct horse battery staple"
SETTINGS: dict[str, Any] = {
    "admin": {"enabled": True, "password": PASSWORD},
    "client": {"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True},
    "channel": {
        "without_namespace": {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True},
        "namespaces": [
            {
                "name": "kept",
                "history_size": 10,
                "history_ttl": "60s",
                "force_recovery": True,
                "allow_subscribe_for_client": True,
                "allow_subscribe_for_anonymous": True,
            }
        ],
    },
}


def create_app(sections: Mapping[str, Any] = {}) -> FastAPI:
    gateway = Gateway(Settings.model_validate({**SETTINGS, **sections}))
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    app.state.gateway = gateway
    gateway.channel("game:{room}", allow_subscribe_for_client=True)

    @app.websocket("/plain")
    async def plain(websocket: WebSocket, user: str) -> None:
        async with gateway.attach(websocket, user=user, channels=["news"]) as connection:
            async for _ in connection:
                """It only listens."""

    return app


class Ground:
    """A kit, and an operator who has logged in to the first node."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.token = ""

    @property
    def nodes(self) -> list[Node]:
        return [each.gateway.node for each in self.kit.nodes]

    async def post(self, method: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.kit.http.post(f"/admin/api/{method}", json=body, headers=headers)

    async def result(self, method: str, **body: Any) -> Any:
        answer = await self.post(method, **body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert list(found) == ["result"], found
        return found["result"]

    async def error(self, method: str, **body: Any) -> dict[str, Any]:
        answer = await self.post(method, **body)
        assert answer.status_code == 200, answer.text
        error: dict[str, Any] = answer.json()["error"]
        return error

    async def log_in(self) -> None:
        answer = await self.kit.http.post("/admin/auth", json={"password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["token"]
