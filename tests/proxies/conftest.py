from collections.abc import AsyncIterator

import pytest

from tests.proxies.backend import Backend, backend_running


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend
