"""Fixtures for pytest: ``pytest_plugins = ["gateway.testing.plugin"]``, and a fixture ``gateway_app`` of your own."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.testing.apps import Source
from gateway.testing.kit import Kit
from gateway.testing.redis import fake_redis

try:
    import pytest_asyncio
except ImportError:  # the plugin of anyio takes pytest's own
    async_fixture: Callable[..., Any] = pytest.fixture
else:
    async_fixture = pytest_asyncio.fixture


@pytest.fixture
def gateway_app() -> Source:
    """What is tested: an application, a function that makes one, or ``"module:app"``. To be written by you."""
    raise pytest.UsageError(
        "the fixture `kit` needs a fixture of yours that says what to test; for example, in conftest.py:\n\n"
        "@pytest.fixture\n"
        "def gateway_app():\n"
        "    return app\n"
    )


@pytest.fixture
def kit_options() -> dict[str, Any]:
    """Options of the kit, such as ``{"nodes": 2}``. To be overridden."""
    return {}


@async_fixture
async def kit(gateway_app: Source, kit_options: dict[str, Any]) -> AsyncIterator[Kit]:
    """A kit that runs ``gateway_app`` for the length of the test."""
    async with Kit(gateway_app, **kit_options) as running:
        yield running


@pytest.fixture
def fake_redis_url() -> Iterator[str]:
    """The URL of a fakeredis, new for each test."""
    with fake_redis() as url:
        yield url
