"""The first request of a connection decides who takes it, whatever pieces it comes in."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway import files
from gateway.transports.handshake import HEAD_LIMIT
from gateway.transports.uvicorn_dispatch import DispatchProtocol, Unheard
from gateway.transports.uvicorn_http import HttpProtocol
from gateway.transports.uvicorn_websocket import CompressingWebSocketProtocol, WebSocketProtocol
from tests.transports.sockets import TEXT, Running, client_frame, upgrade_request
from tests.waiting import until


class Timers:
    """An event loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        self.timers.append((self.now + seconds, partial(callback, *arguments)))

    def run(self) -> float:
        """Let it become as late as the next one says."""
        [(self.now, callback)] = self.timers
        self.timers.clear()
        callback()
        return self.now


HTTP = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("line", [b"X: 1", b"Upgrade: h2c", b"upgrade-insecure-requests: websocket"])
async def test_http_in_pieces(run: Running, size: int, line: bytes) -> None:
    peer = await run.connect()
    request = HTTP.replace(b"Host: test", b"Host: test\r\n" + line)
    for start in range(0, len(request), size):
        peer.write(request[start : start + size])
        await asyncio.sleep(0)
    assert b" 200 " in await peer.head()
    assert await peer.reader.readexactly(1) == b"3"


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_websocket_in_pieces_with_frames_behind_it(run: Running, size: int) -> None:
    peer = await run.connect()
    data = upgrade_request().replace(b"Upgrade: websocket", b"UPGRADE:WebSocket") + client_frame(b"hello") * 2
    for start in range(0, len(data), size):
        peer.write(data[start : start + size])
        await asyncio.sleep(0)
    assert b" 101 " in await peer.head()
    assert [await peer.frame(), await peer.frame()] == [(TEXT, b"hello")] * 2


async def test_what_a_body_says_is_no_upgrade(run: Running) -> None:
    peer = await run.connect()
    body = b"\r\nUpgrade: websocket\r\n"
    peer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert b" 200 " in await peer.head()


async def test_a_websocket_after_http(run: Running) -> None:
    peer = await run.connect()
    peer.write(HTTP)
    assert b" 200 " in await peer.head()
    await peer.reader.readexactly(1)
    assert b" 101 " in await peer.upgrade()
    await run.deadline_passes()
    assert await peer.echoes(b"hello")


async def test_a_head_without_end_is_refused(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * HEAD_LIMIT)
    assert b" 400 " in await peer.head()


async def test_who_says_nothing_is_closed(run: Running) -> None:
    assert await (await run.connect()).rest() == b""
    assert run.app.scopes == []


class Silent:
    """A connection that says nothing."""

    def __init__(self, loop: Timers) -> None:
        self.loop = loop
        self.aborted: float | None = None

    def abort(self) -> None:
        self.aborted = self.loop.now


async def test_each_who_says_nothing_has_as_long() -> None:
    """There is one timer for all, and none while nobody is awaited."""
    loop = Timers()
    unheard, silent = Unheard(10.0), [Silent(loop) for _ in range(4)]
    for loop.now, each in enumerate(silent):
        unheard.add(cast(Any, each))
    del unheard[cast(Any, silent[1])]
    assert [loop.run(), loop.run(), loop.run()] == [10, 12, 13]
    assert [each.aborted for each in silent] == [10, None, 12, 13]
    assert not loop.timers
    assert not unheard
    unheard.add(cast(Any, silent[1]))
    assert (loop.run(), silent[1].aborted) == (23, 23)


async def test_a_timer_of_another_loop_is_none() -> None:
    unheard, loops = Unheard(10.0), [Timers(), Timers()]
    for loop in loops:
        unheard.add(cast(Any, Silent(loop)))
    assert [len(loop.timers) for loop in loops] == [1, 1]


async def test_who_says_nothing_is_not_waited_for_when_stopping(run: Running) -> None:
    peer = await run.connect()
    await until(lambda: run.connections() == 1)
    run.stop()
    assert await peer.rest() == b""
    assert run.connections() == 0


async def test_who_comes_when_files_run_out_is_closed_unheard(run: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []

    def exhausted(number: int) -> bool:
        numbers.append(number)
        return True

    monkeypatch.setattr(files, "exhausted", exhausted)
    peer = await run.connect()
    peer.write(upgrade_request())
    assert await peer.rest() == b""
    assert numbers[0] > 2
    await until(lambda: run.connections() == 0)
    monkeypatch.undo()
    assert b" 101 " in await (await run.connect()).upgrade()


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None: ...


def first_of(websocket: "type[asyncio.Protocol] | str") -> asyncio.Protocol:
    """The first protocol of a connection, as uvicorn makes it by its options."""
    config = Config(
        nothing, log_config=None, http="gateway.transports.uvicorn_dispatch:first_protocol", ws=cast(Any, websocket)
    )
    config.load()
    make: Any = config.http_protocol_class
    made: asyncio.Protocol = make(config=config, server_state=ServerState(), app_state={})
    return made


@pytest.mark.parametrize("websocket", [WebSocketProtocol, CompressingWebSocketProtocol])
async def test_for_an_application_of_ones_own_the_chosen_class_is_first(websocket: type[WebSocketProtocol]) -> None:
    first = first_of(websocket)
    assert isinstance(first, DispatchProtocol)
    assert isinstance(first, websocket)
    assert type(first) is type(first_of(websocket))


async def test_with_uvicorns_class_for_websockets_all_is_http_at_first() -> None:
    assert type(first_of("none")) is HttpProtocol
