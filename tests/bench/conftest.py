"""A gateway to load."""

from collections.abc import Iterator

import pytest

from tests.integration.servers import GatewayServer
from tests.integration.tokens import SECRET

OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_subscriber": True}


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """Known users may subscribe and publish; in ``closed:`` channels nobody may."""
    settings = {
        "client": {"token": {"hmac_secret_key": SECRET}, "ping_interval": "1s", "pong_timeout": "500ms"},
        "channel": {"without_namespace": OPEN, "namespaces": [{"name": "closed"}]},
    }
    with GatewayServer("bench", tmp_path_factory.mktemp("bench"), settings) as server:
        yield server
        server.check_log()
