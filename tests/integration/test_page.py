"""The page at /, in two browser windows on two gateways."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from contextlib import ExitStack
from pathlib import Path

from tests.integration.processes import program
from tests.integration.servers import GatewayServer
from tests.node import PACKAGES
from tests.redis_server import RedisServer

STEPS = 8


async def test_two_people_chat_across_gateways(redis: RedisServer, tmp_path: Path, name: str) -> None:
    settings = {"engine": {"type": "redis", "redis": {"address": redis.url, "prefix": name}}}
    with ExitStack() as stack:
        left, right = (
            stack.enter_context(GatewayServer(each, tmp_path, settings, flags=["--dev"])) for each in ("left", "right")
        )
        command = [program("node", "nodejs"), str(PACKAGES / "page.mjs"), program("chromium", "chromium")]
        browser = await asyncio.create_subprocess_exec(
            *command, left.url, right.url, str(tmp_path), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        output = (await browser.communicate())[0].decode()
    assert browser.returncode == 0, output
    assert output.count("ok ") == STEPS, output
