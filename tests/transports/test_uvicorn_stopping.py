"""What becomes of WebSockets when uvicorn stops."""

import asyncio
import struct

import pytest
from starlette.types import Receive, Scope, Send

from gateway.transports import uvicorn_websocket
from tests.transports.sockets import (
    CLOSE,
    MEGABYTES,
    Running,
    accept,
    client_frame,
    closing,
    running,
)
from tests.waiting import until


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Write more than the kernel takes, and return."""
    await accept(receive, send)
    await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})


async def never_accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await receive()


class Spread:
    """Stands in for chance: notes how long a drain may take, and takes no time at all."""

    def __init__(self) -> None:
        self.longest: list[float] = []

    def __call__(self, least: float, most: float) -> float:
        assert least == 0
        self.longest.append(most)
        return 0.0


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Spread:
    spread = Spread()
    monkeypatch.setattr("gateway.transports.uvicorn_websocket.random.uniform", spread)
    return spread


async def test_stopping_closes_1012_and_refuses_who_waits(run: Running, spread: Spread) -> None:
    peer = await run.websocket()
    run.app.websocket = never_accept
    waiting = await run.connect()
    upgrading = asyncio.create_task(waiting.upgrade())
    await until(lambda: len(run.app.scopes) == 2)
    run.stop()
    assert await peer.frame() == closing(1012, b"service restart")
    head = await upgrading
    assert b" 503 " in head
    assert b"retry-after: 1" in head
    assert spread.longest == [1 / uvicorn_websocket.DRAIN_RATE] * 2
    peer.write(client_frame(struct.pack("!H", 1012), CLOSE))
    await run.ended()
    assert run.app.received[-1] == {"type": "websocket.disconnect", "code": 1012, "reason": "service restart"}


@pytest.mark.parametrize(("graceful", "longest"), [(None, 30.0), (10, 8.0), (1000, 30.0)])
async def test_a_drain_has_its_longest_time(
    spread: Spread, monkeypatch: pytest.MonkeyPatch, graceful: int | None, longest: float
) -> None:
    monkeypatch.setattr(uvicorn_websocket, "DRAIN_RATE", 0.001)
    async with running(timeout_graceful_shutdown=graceful) as run:
        peers = [await run.websocket() for _ in range(3)]
        run.stop()
        for peer in peers:
            assert await peer.frame() == closing(1012, b"service restart")
    assert spread.longest == [longest] * 3


async def test_who_is_closing_is_not_closed_again(run: Running, spread: Spread) -> None:
    async def close(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4001})

    run.app.websocket = close
    peer = await run.websocket()
    assert await peer.frame() == closing(4001)
    run.stop()
    assert await peer.rest() == b""
    await run.ended()


async def test_stopping_does_not_wait_for_a_peer_that_never_reads(run: Running, spread: Spread) -> None:
    async def flood_on(scope: Scope, receive: Receive, send: Send) -> None:
        await flood(scope, receive, send)
        await receive()

    run.app.websocket = flood_on
    peer = await run.websocket()
    peer.stop_reading()
    run.stop()
    await run.ended()


async def test_who_has_failed_is_not_waited_for(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ws=uvicorn_websocket.protocol_class(60, None)) as run:
        peer = await run.websocket()
        peer.write(b"\x81\x00")
        assert await peer.frame() == closing(1002, b"frame is not masked")
        run.stop()
        await run.ended()
    assert spread.longest == []
