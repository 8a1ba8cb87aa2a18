"""The page at /, in two browser windows on two gateways."""

from contextlib import ExitStack
from pathlib import Path

from tests.browsing import Browser
from tests.integration.servers import GatewayServer
from tests.node import PACKAGES
from tests.redis_server import RedisServer

STEPS = 8


async def test_two_people_chat_across_gateways(redis: RedisServer, tmp_path: Path, name: str, browser: Browser) -> None:
    settings = {"engine": {"type": "redis", "redis": {"address": redis.url, "prefix": name}}}
    with ExitStack() as stack:
        left, right = (
            stack.enter_context(GatewayServer(each, tmp_path, settings, flags=["--dev"])) for each in ("left", "right")
        )
        steps = await browser.script(PACKAGES / "page.mjs", left.url, right.url, tmp_path)
    assert len(steps) == STEPS
