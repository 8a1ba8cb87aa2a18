"""What runs close to the socket is tested on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.transports.sockets import Running, running

ON_BOTH = {
    "test_conversation",
    "test_raw",
    "test_raw_response",
    "test_unauthenticated",
    "test_uvicorn_bodies",
    "test_uvicorn_dispatch",
    "test_uvicorn_http",
    "test_uvicorn_stopping",
    "test_uvicorn_tls",
    "test_uvicorn_upgrade",
    "test_uvicorn_websocket",
}

ON_UVLOOP = {"test_freed", "test_freed_http", "test_freed_program", "test_freed_pusher", "test_uni_websocket"}
"""Asyncio keeps a timer that is cancelled until its time comes."""

ASYNCIO = {"asyncio": asyncio.new_event_loop}
UVLOOP = {"uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in ON_UVLOOP:
        return UVLOOP
    return ASYNCIO | UVLOOP if item.path.stem in ON_BOTH else ASYNCIO


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    """A server as `running` has it by default."""
    async with running() as run:
        yield run
