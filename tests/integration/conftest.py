"""Servers and SDKs for the integration tests."""

import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import cent
import pytest

from tests.integration.clients.base import SDK
from tests.integration.clients.every import OUTSIDE_PAGES
from tests.integration.clients.javascript import SSESDK, HTTPStreamSDK, JavaScriptSDK
from tests.integration.clients.python import PythonProtobufSDK, PythonSDK
from tests.integration.processes import Process
from tests.integration.servers import Cluster, GatewayServer, Server, cluster, cluster_of_one
from tests.integration.settings import IMPATIENT, PINGING, SETTINGS, on_redis
from tests.integration.tokens import API_KEY
from tests.redis_server import RedisServer

SDKS: list[type[SDK]] = [JavaScriptSDK, PythonSDK]
WAYS: list[type[SDK]] = [*SDKS, HTTPStreamSDK, SSESDK]
"""Each over every transport that it has."""
IN_MEMORY: list[type[SDK]] = [JavaScriptSDK, PythonProtobufSDK]
"""What else holds in memory is shown by `test_features`."""
ON_ALL = {
    "test_api",
    "test_messages",
    "test_sdk_compact",
    "test_sdk_connection",
    "test_sdk_subscription",
    "test_sdk_varied",
}
"""What is about the SDKs themselves, and so in both encodings, in memory, too."""
TAIL = 8000
"""How much of each log a failing test shows, in characters."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the output of the servers beside a failure."""
    report = yield
    if report.failed:
        for process in Process.running:
            report.sections.append((f"log of {process.name}", process.log[-TAIL:]))
    return report


@pytest.fixture(autouse=True)
def clean_logs() -> Iterator[None]:
    """Whatever a test does, no gateway may log a traceback or an unhandled error."""
    yield
    for process in Process.running:
        if isinstance(process, GatewayServer):
            process.check_log()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis that stays up."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def on_one_redis(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("gateways"), on_redis(redis.url)) as running:
        yield running


@pytest.fixture(scope="session")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of_one(tmp_path_factory.mktemp("memory"), SETTINGS) as running:
        yield running


@pytest.fixture
def gateways(request: pytest.FixtureRequest) -> Cluster:
    """Two gateways on one Redis behind HAProxy, or one in memory in place of both, for tests that let them live."""
    found: Cluster = request.getfixturevalue(getattr(request, "param", "on_one_redis"))
    return found


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """One gateway with short deadlines and a memory broker."""
    with GatewayServer("impatient", tmp_path_factory.mktemp("impatient"), IMPATIENT) as server:
        yield server


@pytest.fixture(scope="session")
def pinging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """One gateway with pings each second."""
    with GatewayServer("pinging", tmp_path_factory.mktemp("pinging"), PINGING) as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sdk" not in metafunc.fixturenames:
        return
    everywhere = metafunc.definition.path.stem in ON_ALL
    kinds = OUTSIDE_PAGES if everywhere else WAYS
    cases = [pytest.param("on_one_redis", kind, id=kind.name) for kind in kinds]
    if "gateways" not in metafunc.fixturenames:
        metafunc.parametrize("sdk", kinds, ids=[kind.name for kind in kinds], indirect=True)
        return
    if everywhere:
        cases += [pytest.param("in_memory", kind, id=f"{kind.name}-memory") for kind in IN_MEMORY]
    metafunc.parametrize(("gateways", "sdk"), cases, indirect=True)


@pytest.fixture
async def sdk(request: pytest.FixtureRequest) -> AsyncIterator[SDK]:
    """Each official SDK in turn, over each of its transports."""
    async with request.param() as running:
        yield running


@pytest.fixture
async def sdks() -> AsyncIterator[list[SDK]]:
    """Both official SDKs at once."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(sdk()) for sdk in SDKS]


class ConnectAPI(Protocol):
    def __call__(self, server: Server, key: str = API_KEY, timeout: float = 10.0) -> cent.AsyncClient: ...


@pytest.fixture
async def api() -> AsyncIterator[ConnectAPI]:
    """The official client of the server API, for any server."""
    async with AsyncExitStack() as stack:

        def connect(server: Server, key: str = API_KEY, timeout: float = 10.0) -> cent.AsyncClient:
            client = cent.AsyncClient(server.api_url, key, timeout)
            stack.push_async_callback(client.close)
            return client

        yield connect


@pytest.fixture
def name() -> str:
    """A word that no other test uses, for channels and users."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def channel(name: str) -> str:
    """A channel with everything on."""
    return f"chat:{name}"
