"""What holds for every test."""

import faulthandler
import gc
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from pathlib import Path
from types import FrameType

import fastapi.dependencies.models as fastapi_models
import httpx
import httpx._transports.default as httpx_transports
import pytest
from hypothesis import HealthCheck, settings

from gateway.core import tasks
from tests.browsing import Browser
from tests.integration.table import Table
from tests.kafka_server import KafkaServer
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.serving import Serve, on_hypercorn, on_plain_uvicorn, on_uvicorn

DEADLINE = 120
"""Seconds after which a test that hangs fails instead of holding up everything."""

TESTS = Path(__file__).parent
LONG = (
    "chaos/test_faults.py",
    "deploy/test_image.py",
    "integration/test_embedded.py",
    "chaos/test_rollout.py",
    "chaos/test_fuzz.py",
    "chaos/test_webhooks.py",
    "test_redis_topologies.py",
    "transports/test_autobahn.py",
    "integration/test_features.py",
)
"""What takes longest, in an order in which one of three workers gets all of ``chaos``."""

tasks.check_begin()

# How long an example takes, or making it, says how busy the machine is
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Each client, and so each look whether a server answers, would read all the authorities of the world: 40 ms
httpx_transports.create_ssl_context = cache(httpx.create_ssl_context)  # type: ignore[attr-defined]

# A shell ignores Ctrl-C in what it starts in the background, and the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write what tests/integration/test_features.py shows")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table(config.option.write_table))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones begin: at the end of a run side by side nobody is to wait for them."""
    rank = {TESTS / file: number for number, file in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the suite itself, more than half a million objects, out of every look for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def no_former_apps() -> Iterator[None]:
    """FastAPI keeps what it has found out about functions, and so a hundred apps of 5,000 objects each.

    Whoever looks for garbage, or counts objects, would look at each of them.
    """
    yield
    for each in vars(fastapi_models).values():
        if hasattr(each, "cache_clear"):
            each.cache_clear()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for the tests that leave it in peace."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the tests that leave it in peace, each with tables of its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """The same, emptied."""
    with shared_server.client() as client:
        client.flushall()
        client.script_flush()
    return shared_server


@pytest.fixture(scope="session")
def second_server() -> Iterator[RedisServer]:
    """Another one, for what needs two."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_group() -> Iterator[SentinelTopology]:
    """A server that a sentinel knows, for the tests that leave them in peace."""
    with SentinelTopology(replicas=0, sentinels=1) as topology:
        yield topology


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterTopology]:
    """Three servers, for the tests that leave them in peace."""
    with ClusterTopology(replicas=0) as topology:
        yield topology


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """One broker for the tests that leave it in peace."""
    with KafkaServer() as server:
        yield server


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """``async with browser.window(url) as window: ...``"""
    async with Browser(tmp_path) as running:
        yield running


@pytest.fixture(params=[on_uvicorn, on_plain_uvicorn, on_hypercorn], ids=["ours", "uvicorn", "hypercorn"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Each ASGI server in turn."""
    found: Serve = request.param
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test, fixtures included, a deadline."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback()
        raise TimeoutError(f"the test took longer than {DEADLINE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was captured may hold half characters, which cannot be told to the process that reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
