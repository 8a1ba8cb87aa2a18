"""What is told of connections on real sockets: how they have come, and what waits for them."""

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway.config.settings import Settings
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from tests.admin.ground import SETTINGS
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import Peer, client_frame, upgrade_request
from tests.waiting import until

OPEN: dict[str, Any] = {
    **SETTINGS,
    "admin": {"enabled": True, "insecure": True},
    "uni_sse": {"enabled": True},
    "http_stream": {"enabled": True},
    "client": {**SETTINGS["client"], "queue_max_size": 1 << 26},
}


async def listed(http: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    answer = await http.post("/admin/api/connections", json=body)
    found: list[dict[str, Any]] = answer.json()["result"]["connections"]
    return found


@pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn])
async def test_how_they_have_come_and_what_waits(serve: Serve) -> None:
    settings = Settings.model_validate(OPEN)
    app = create_app(settings)
    async with (
        serve(app, settings) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http,
        connect(f"ws://127.0.0.1:{port}/connection/websocket", proxy=None) as websocket,
    ):
        await websocket.send('{"id":1,"connect":{}}')
        await websocket.recv()
        async with (
            http.stream("POST", "/connection/uni_sse", content=b'{"subs":{}}'),
            http.stream("POST", "/connection/http_stream", content=b'{"id":1,"connect":{}}'),
        ):
            await until(lambda: len(app.state.node.hub.connections) == 3)
            found = {(each["transport"], each["protocol"]): each for each in await listed(http)}
            json, uni = "centrifuge-json", "centrifuge-json-uni"
            assert sorted(found) == [("http_stream", json), ("uni_sse", uni), ("websocket", json)]
            assert {each["queued"] for each in found.values()} == {0}
        assert app.state.node.metrics.opened_connections == {"http_stream": 1, "uni_sse": 1, "websocket": 1}
        await until(lambda: len(app.state.node.hub.connections) == 1)
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await _fill(peer, app)
            [slow] = await listed(http, channel="news")
            assert slow["queued"] > 1_000_000
        finally:
            peer.writer.transport.abort()


async def _fill(peer: Peer, app: Any) -> None:
    """One that reads nothing of what it hears."""
    node = app.state.node
    peer.write(upgrade_request("/connection/websocket"))
    await peer.head()
    peer.stop_reading()
    for command in (b'{"id":1,"connect":{}}', b'{"id":2,"subscribe":{"channel":"news"}}'):
        peer.write(client_frame(command))
    await until(lambda: node.hub.subscribers("news"))
    publication = Publication(Payload(b'"%b"' % (b"x" * 2**20)))

    async def waits() -> bool:
        await node.publish(node.channels.resolve("news"), publication)
        node.hub.flush()
        [session] = [each for each in node.hub.connections.values() if "news" in each.subscriptions]
        return bool(session.transport.waiting() > 1_000_000)

    await until(waits)
