"""The server API through HTTP clients that offer HTTP/2 with every request in clear, as they come."""

import asyncio
import json
from pathlib import Path
from typing import Any

import cent
import pytest

from tests.integration.conftest import ConnectAPI
from tests.integration.processes import program
from tests.integration.servers import GatewayServer
from tests.integration.tokens import API_KEY

JAVA = Path(__file__).parent / "http" / "Publish.java"


@pytest.fixture
def channel(name: str) -> str:
    return f"closed:{name}"


async def run(*command: str, text: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(text.encode())
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def published(call: cent.AsyncClient, channel: str) -> list[Any]:
    history = await call.history(cent.HistoryRequest(channel=channel, limit=-1))
    return [each.data for each in history.publications]


def offsets(answers: str) -> list[int]:
    return [json.loads(line.removeprefix("200 "))["result"]["offset"] for line in answers.splitlines()]


async def test_javas_own_client(impatient: GatewayServer, api: ConnectAPI, channel: str) -> None:
    """With a length, on one connection, and in chunks."""
    java = program("java", "default-jdk-headless")
    answers = await run(java, str(JAVA), impatient.api_url, API_KEY, channel)
    assert offsets(answers) == [1, 2, 3]
    assert await published(api(impatient), channel) == [{"java": number} for number in range(3)]


@pytest.mark.parametrize("headers", [(), ("--header", "Transfer-Encoding: chunked")], ids=["length", "chunks"])
async def test_curl_with_http2(
    impatient: GatewayServer, api: ConnectAPI, channel: str, headers: tuple[str, ...]
) -> None:
    """Twice on one connection, with a body too large for one segment the second time."""
    url = f"{impatient.api_url}/publish"
    bodies = [json.dumps({"channel": channel, "data": {"curl": text}}) for text in ("small", "large" * 40_000)]
    each = ["--header", f"X-API-Key: {API_KEY}", *headers, "--http2", "--write-out", "\n", "--data-binary"]
    curl = program("curl", "curl")
    answers = await run(curl, "--silent", *each, bodies[0], url, "--next", *each, "@-", url, text=bodies[1])
    assert offsets(answers) == [1, 2]
    assert await published(api(impatient), channel) == [json.loads(body)["data"] for body in bodies]
