import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.proxies.backend import Backend, backend_running

ON_UVLOOP = {"test_freed"}
"""Asyncio keeps a timer that is cancelled until its time comes."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend
