"""What a program sends to one connection, by the official SDK for JavaScript."""

from fastapi import FastAPI

from gateway import Gateway
from tests.integration.clients.javascript import JavaScriptSDK
from tests.serving import on_uvicorn


async def test_a_message_is_for_one_connection_alone() -> None:
    gateway = Gateway(client={"allow_anonymous_connect_without_token": True})
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    async with on_uvicorn(app, gateway.settings) as port, JavaScriptSDK() as sdk:
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        one, two = await sdk.connected(url), await sdk.connected(url)
        await gateway.send(one.id, {"for": "one"})
        await gateway.send(two.id, "for two")
        assert (await one.events.wait("message")).data == {"for": "one"}
        assert (await two.events.wait("message")).data == "for two"
        assert len(one.events.named("message")) == len(two.events.named("message")) == 1
