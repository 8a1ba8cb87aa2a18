"""The page's nodes."""

from collections.abc import AsyncIterator

import pytest

from gateway.testing import Kit
from tests.admin.ground import Ground, create_app


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Kit(create_app, nodes=2) as kit:
        ground = Ground(kit)
        await ground.log_in()
        yield ground
