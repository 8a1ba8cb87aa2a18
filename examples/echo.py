"""Echo: what a client sends comes back to it, as text, as JSON, as bytes.

    uvicorn examples.echo:app

A route of FastAPI's, and a socket that is the gateway's from there on: slow readers, a stop of the server and messages
in the wrong format are seen to.
"""

from fastapi import FastAPI, WebSocket

from examples import pages
from gateway import Gateway

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
pages.mount(app, "echo")


@app.websocket("/ws/text")
async def echo_text(websocket: WebSocket) -> None:
    async with gateway.attach(websocket) as connection:
        async for text in connection:
            await connection.send(f"You wrote: {text}")


@app.websocket("/ws/json")
async def echo_json(websocket: WebSocket) -> None:
    async with gateway.attach(websocket, format="json") as connection:
        async for value in connection:
            await connection.send({"type": type(value).__name__, "echo": value})


@app.websocket("/ws/bytes")
async def echo_bytes(websocket: WebSocket) -> None:
    async with gateway.attach(websocket, format="bytes") as connection:
        async for data in connection:
            await connection.send(data)
