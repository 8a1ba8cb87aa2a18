from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import Broker
from tests.brokers.implementations import IMPLEMENTATIONS, Implementation
from tests.brokers.recorder import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda each: each.name)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    found: Implementation = request.param
    return found


@pytest.fixture
async def broker(
    request: pytest.FixtureRequest, implementation: Implementation, recorder: Recorder
) -> AsyncIterator[Broker]:
    """Each implementation, started as node ``n1``."""
    async with implementation.open(request, recorder) as broker:
        yield broker
