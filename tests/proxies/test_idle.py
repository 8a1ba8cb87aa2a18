"""Where no backend has an address, nothing of proxies is there."""

import subprocess
import sys

import pytest

from gateway.session import NO_APPLICATION
from tests.proxies.client import gateway_running

CODE = """
import sys
from gateway.config.settings import Settings
from gateway.serve.app import create_app
create_app(Settings.model_validate({settings}))
print("aiohttp" in sys.modules)
"""


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [({}, "False"), ({"channel": {"proxy": {"publish": {"endpoint": "http://127.0.0.1/"}}}}, "True")],
)
def test_the_http_client_is_loaded_where_it_is_needed(settings: object, loaded: str) -> None:
    code = CODE.format(settings=settings)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [loaded]


async def test_nobody_is_asked() -> None:
    async with gateway_running({}) as gateway, gateway.connected() as client:
        assert gateway.session().application is NO_APPLICATION
        assert gateway.node.channels.resolve("room").asks is None
        assert (await client.ask("rpc", method="x"))["code"] == 108
