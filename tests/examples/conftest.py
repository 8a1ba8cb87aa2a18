"""Instances and browser windows for the tests of the examples."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.examples.running import Cluster
from tests.integration.clients.javascript import JavaScriptSDK
from tests.integration.conftest import pytest_runtest_makereport as pytest_runtest_makereport  # logs beside failures
from tests.redis_server import RedisServer


@pytest.fixture
def cluster(server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """``a, b = cluster("chat")``: base URLs of an example's instances, which share one Redis."""
    with Cluster(server, tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def sdk() -> AsyncIterator[JavaScriptSDK]:
    """The official SDK without a page: ``client = await sdk.client(websocket(a, "/connection/websocket"))``."""
    async with JavaScriptSDK() as running:
        yield running
