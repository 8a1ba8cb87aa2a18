"""Signals that also others wait for."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import pytest
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config
from hypercorn.utils import wrap_app
from starlette.applications import Starlette

from gateway.program.stopping import SIGNALS, on_stop
from tests.waiting import settle, until


class Server:
    """Handles signals as a server does."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.heard.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = [signal.signal(number, server.handle) for number in SIGNALS]
    yield server
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_server_and_program_are_told(server: Server, number: int) -> None:
    told: list[object] = []
    with on_stop(lambda: told.append(asyncio.get_running_loop())):
        signal.raise_signal(number)
        assert server.heard == [number]
        await until(lambda: told == [asyncio.get_running_loop()])
    signal.raise_signal(number)
    assert server.heard == [number] * 2
    await settle()
    assert len(told) == 1
    assert signal.getsignal(number) == server.handle


async def test_several_are_told_and_may_leave_in_any_order(server: Server) -> None:
    told: list[str] = []
    first, second = on_stop(lambda: told.append("first")), on_stop(lambda: told.append("second"))
    first.__enter__()
    second.__enter__()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: sorted(told) == ["first", "second"])
    first.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: len(told) == 3)
    assert told[2] == "second"
    second.__exit__(None, None, None)
    signal.raise_signal(signal.SIGTERM)
    assert server.heard == [signal.SIGTERM] * 3
    await settle()
    assert len(told) == 3


@pytest.mark.usefixtures("server")  # puts back what was there
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
async def test_where_no_server_listens_nothing_is_changed(handler: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
    with on_stop(pytest.fail):
        assert [signal.getsignal(number) for number in SIGNALS] == [handler] * 2


def test_outside_the_main_thread_nothing_is_changed(server: Server) -> None:
    seen: list[bool] = []

    async def look() -> None:
        with on_stop(pytest.fail):
            seen.extend(signal.getsignal(number) == server.handle for number in SIGNALS)

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    thread.join()
    assert seen == [True, True]


async def test_a_worker_of_hypercorn_is_told_without_a_signal() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with on_stop(lambda: told.append("stopping")):
            told.append("started")
            yield
            told.append("stopped")

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    stop = asyncio.Event()
    app: Any = Starlette(lifespan=lifespan)
    served = wrap_app(app, config.wsgi_max_body_size, "asgi")
    worker = asyncio.create_task(worker_serve(served, config, shutdown_trigger=stop.wait))
    await until(lambda: told == ["started"])
    stop.set()
    await worker
    assert told == ["started", "stopping", "stopped"]
