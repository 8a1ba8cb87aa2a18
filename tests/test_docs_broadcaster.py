"""The page for whoever comes from `broadcaster`: both of its programs run, on the same server."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from broadcaster import Broadcast
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.processes import Process
from tests.ports import free_port
from tests.postgres_server import PostgresServer
from tests.test_docs import ROOT, block
from tests.waiting import until

PAGE = "broadcaster.md"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("before.py", "after.py"):
        (tmp_path / name).write_text(block(PAGE, name))
    return tmp_path


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def ws(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws/chat"


async def joined(stack: AsyncExitStack, port: int) -> ClientConnection:
    """A client of the chat, once its server is there."""

    async def connected() -> ClientConnection | None:
        try:
            return await stack.enter_async_context(connect(ws(port), proxy=None))
        except OSError:
            return None

    found = await until(connected, deadline=60, what="the server is there")
    assert found is not None
    return found


async def two_of(
    name: str, directory: Path, stack: AsyncExitStack, postgres_server: PostgresServer
) -> tuple[ClientConnection, ClientConnection]:
    """Clients of two processes of the program, which share a database."""
    environment = {**os.environ, "BROADCAST_URL": postgres_server.create_database(name), "PYTHONPATH": str(ROOT)}
    ports = [free_port(), free_port()]
    for port in ports:
        process = stack.enter_context(Process(f"{name}-{port}", directory))
        process.run_module("uvicorn", [f"{name}:app", f"--port={port}"], environment)
    return await joined(stack, ports[0]), await joined(stack, ports[1])


async def test_the_chat_before(directory: Path, stack: AsyncExitStack, postgres_server: PostgresServer) -> None:
    ann, bob = await two_of("before", directory, stack, postgres_server)
    # it accepts a socket before it hears, and fails if it is to publish and to subscribe at a time
    await until(lambda: len(postgres_server.backends("LISTEN%", "before")) == 2)
    await ann.send("hi")
    assert await ann.recv() == await bob.recv() == "hi"


async def test_the_chat_after(directory: Path, stack: AsyncExitStack, postgres_server: PostgresServer) -> None:
    ann, bob = await two_of("after", directory, stack, postgres_server)
    await ann.send("hi")
    await bob.send("hello")
    assert {await ann.recv(), await ann.recv()} == {await bob.recv(), await bob.recv()} == {"hi", "hello"}
    postgres_server.terminate_backends(database="after")

    async def heard() -> bool:
        with suppress(TimeoutError, ConnectionClosed):  # closed is who speaks while nobody can be told
            async with connect(ws(bob.remote_address[1]), proxy=None) as eve, asyncio.timeout(0.5):
                await eve.send("again")
                return await ann.recv() == "again"
        return False

    await until(heard, deadline=30)


async def test_what_is_said_of_two_first_subscribers(postgres_server: PostgresServer) -> None:
    """Should `broadcaster` lose none of them any more, the page has to say so."""
    async with Broadcast(postgres_server.create_database("first")) as broadcast, AsyncExitStack() as stack:
        subscribing = (stack.enter_async_context(broadcast.subscribe("news")) for _ in range(2))
        first, second = await asyncio.gather(*subscribing, return_exceptions=True)
        assert isinstance(first, KeyError) != isinstance(second, KeyError)
