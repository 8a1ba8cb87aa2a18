"""A gateway as `gateway serve` runs it, whose keys an issuer publishes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.config.settings import Settings
from gateway.serve.app import create_app
from tests.auth.issuer import ED25519, P256, RSA, Issuer, issuing, jwk, signed
from tests.integration.clients.base import SDK
from tests.serving import on_uvicorn
from tests.waiting import until


def settings(issuer: Issuer, **token: Any) -> Settings:
    client = {"token": {"jwks_public_endpoint": issuer.url, **token}}
    served = {section: {"enabled": True} for section in ("http_stream", "sse", "prometheus")}
    return Settings.model_validate({"client": client, **served})


class Place:
    def __init__(self, app: FastAPI, port: int) -> None:
        self.app = app
        self.port = port

    async def connect(self, token: str) -> str:
        """What becomes of a client with this token."""
        url = f"ws://127.0.0.1:{self.port}/connection/websocket"
        async with connect(url, compression=None, proxy=None) as client:
            await client.send(json.dumps({"id": 1, "connect": {"token": token}}))
            try:
                reply = json.loads(await client.recv())
            except ConnectionClosed:
                return f"closed {client.close_code}"
            return f"error {reply['error']['code']}" if "error" in reply else "connected"

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as http:
            return await http.get(f"http://127.0.0.1:{self.port}{path}")


@asynccontextmanager
async def serving(configured: Settings) -> AsyncIterator[Place]:
    app = create_app(configured)
    async with on_uvicorn(app, configured) as port:
        yield Place(app, port)


async def test_keys_of_all_kinds_from_the_start_to_their_end() -> None:
    async with issuing(jwk(RSA, "r"), jwk(P256, "e"), jwk(ED25519, "d")) as issuer, serving(settings(issuer)) as place:
        await until(lambda: issuer.paths, what="it asks at its start")
        tokens = {name: signed(*pair, name) for name, pair in _KINDS.items()}
        assert await asyncio.gather(*map(place.connect, tokens.values())) == ["connected"] * 3
        assert len(issuer.paths) == 1
        issuer.publish(jwk(P256, "e"))
        place.app.state.reload(settings(issuer))
        await until(lambda: len(issuer.paths) == 2)
        assert [await place.connect(token) for token in tokens.values()] == ["closed 3500", "connected", "closed 3500"]


_KINDS: dict[str, tuple[Any, str]] = {"r": (RSA, "RS256"), "e": (P256, "ES256"), "d": (ED25519, "EdDSA")}


async def test_an_issuer_that_is_away_is_told_and_comes_back() -> None:
    issuer = Issuer()
    async with issuing() as other:
        issuer.port = other.port  # of one that is gone by now
    issuer.publish(jwk(RSA, "k"))
    async with serving(settings(issuer)) as place:
        assert await place.connect(signed(RSA, "RS256")) == "error 100"
        ready = await place.get("/health/ready")
        told = f"client.token: {issuer.url}: All connection attempts failed"
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["reasons"] == [{"reason": "jwks_away", "detail": told, "status": "degraded"}]
        async with issuer.serve():
            assert await place.connect(signed(RSA, "RS256")) == "connected"
            assert (await place.get("/health/ready?strict")).status_code == 200
            metrics = (await place.get("/metrics")).text
        assert 'ok="false"' in metrics
        assert 'ok="true"} 1' in "".join(
            each for each in metrics.splitlines(True) if "gateway_jwks_fetches_total" in each
        )


async def test_each_tenant_has_keys_of_its_own() -> None:
    async with issuing(jwk(RSA, "k")) as issuer:
        pattern = r"^https://(?P<tenant>one|two)\.example\.com$"
        configured = settings(issuer, jwks_public_endpoint=issuer.url + "/{{tenant}}", issuer_regex=pattern)
        async with serving(configured) as place:
            assert await place.connect(signed(RSA, "RS256", iss="https://two.example.com")) == "connected"
            assert await place.connect(signed(RSA, "RS256", iss="https://six.example.com")) == "closed 3500"
        assert issuer.paths == ["/jwks/two"]


async def test_sdks_come_again_while_the_issuer_is_away(sdk: SDK) -> None:
    """Away for connect, then for a subscription: neither is the end of anything."""
    async with issuing() as issuer, serving(settings(issuer)) as place:
        issuer.fail()
        client = await sdk.client(f"ws://127.0.0.1:{place.port}/connection/websocket", signed(RSA, "RS256", "r"))
        await client.begin()
        await client.events.wait("error")
        issuer.publish(jwk(RSA, "r"))
        await client.events.wait("connected")
        assert {event.code for event in client.events.named("error")} == {100}
        issuer.fail()
        token = signed(P256, "ES256", "e", channel="$private")
        subscription = await client.subscription("$private", get_token=lambda: token)
        await subscription.begin()
        await subscription.events.wait("error")
        issuer.publish(jwk(P256, "e"))
        await subscription.events.wait("subscribed")
        assert client.events.named("disconnected") == []
