"""Two gateways with apps of the Pusher protocol, the application, and the libraries of its pages."""

from collections.abc import AsyncIterator, Iterator

import pusher
import pytest

from tests.integration.pusher import apps
from tests.integration.pusher.application import Application, application
from tests.integration.pusher.clients import CHROMIUM, NODE, Library
from tests.integration.servers import Cluster, cluster
from tests.redis_server import RedisServer

PAGES = {
    "node": (NODE, "ordinary"),
    "chromium": (CHROMIUM, "ordinary"),
    "chromium-with-encryption": (CHROMIUM, "encrypting"),
}
"""Where pusher-js runs, and its build."""


@pytest.fixture(scope="session")
def site() -> Iterator[Application]:
    """The application."""
    with application() as running:
        yield running


@pytest.fixture(scope="session")
def nodes(redis: RedisServer, site: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two gateways on one Redis behind HAProxy."""
    with cluster(tmp_path_factory.mktemp("pusher"), apps.settings(redis.url, f"{site.url}/webhooks")) as running:
        yield running


@pytest.fixture
async def node(site: Application) -> AsyncIterator[Library]:
    """The libraries in Node."""
    async with Library(NODE, "ordinary", site) as library:
        yield library


@pytest.fixture(params=PAGES)
async def page(request: pytest.FixtureRequest, site: Application) -> AsyncIterator[Library]:
    """The same in Node, and both builds in a page of Chromium."""
    async with Library(*PAGES[request.param], site) as library:
        yield library


@pytest.fixture
def backend(nodes: Cluster) -> pusher.Pusher:
    """PyPI ``pusher``, through the balancer."""
    return apps.MAIN.backend(nodes.balancer)
