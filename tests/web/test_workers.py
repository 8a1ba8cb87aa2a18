"""One process answers for all: those that are there, those that are silent, those that have died."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import SettingsError
from gateway.presence.memory import MemoryPresence
from gateway.web import workers
from gateway.web.workers import read_all, telling


def make_node() -> Node:
    return Node(Settings(), MemoryBroker(), MemoryPresence(), blocks=MemoryBlocks())


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    """Three that tell their metrics in one directory."""
    async with AsyncExitStack() as stack:
        made = [make_node() for _ in range(3)]
        for node in made:
            await stack.enter_async_context(telling(node, str(tmp_path)))
        yield made


async def told(node: Node, directory: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What of the host is told, and publications in by node."""
    families: dict[str, list[Any]] = {}
    for family in await read_all(node, str(directory)):
        families.setdefault(family.name, []).extend(family.samples)
    host = {name: families[name][0][2] for name in ("gateway_workers", "gateway_workers_silent")}
    counts = {labels["node"]: value for _, labels, value in families["gateway_publications_in"]}
    return host, counts


async def test_whoever_is_asked_tells_the_same(nodes: list[Node], tmp_path: Path) -> None:
    for number, node in enumerate(nodes):
        node.metrics.publications_in = number
    for node in nodes:
        host, counts = await told(node, tmp_path)
        assert host == {"gateway_workers": 3, "gateway_workers_silent": 0}
        assert counts == {each.uid: number for number, each in enumerate(nodes)}


async def test_without_a_directory_each_answers_for_itself() -> None:
    node = make_node()
    names = [family.name for family in await read_all(node)]
    assert names.count("gateway_connections") == 1


async def test_who_leaves_is_gone_at_once(nodes: list[Node], tmp_path: Path) -> None:
    async with telling(fourth := make_node(), str(tmp_path)):
        host, counts = await told(nodes[0], tmp_path)
        assert (host["gateway_workers"], fourth.uid in counts) == (4, True)
    host, counts = await told(nodes[0], tmp_path)
    assert host == {"gateway_workers": 3, "gateway_workers_silent": 0}
    assert fourth.uid not in counts


async def test_who_was_killed_is_forgotten(nodes: list[Node], tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))  # its process ends, and the file stays
    host, _ = await told(nodes[0], tmp_path)
    assert host == {"gateway_workers": 3, "gateway_workers_silent": 0}
    assert not dead.exists()
    dead.symlink_to(tmp_path / "nowhere")
    assert (await told(nodes[0], tmp_path))[0]["gateway_workers"] == 3


async def test_who_hangs_is_counted_and_waited_for_briefly(
    nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(tmp_path / "hangs.sock"))
        hangs.listen()
        host, counts = await told(nodes[0], tmp_path)
    assert host == {"gateway_workers": 4, "gateway_workers_silent": 1}
    assert counts.keys() == {node.uid for node in nodes}


@pytest.mark.parametrize("answer", [b"", b"\x93", msgspec.msgpack.encode({"a": 1})])
async def test_who_dies_amid_its_answer_is_silent(answer: bytes, nodes: list[Node], tmp_path: Path) -> None:
    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(tell, tmp_path / "broken.sock"):
        host, counts = await told(nodes[0], tmp_path)
    assert host == {"gateway_workers": 4, "gateway_workers_silent": 1}
    assert len(counts) == 3


async def test_who_asks_and_goes_disturbs_nobody(nodes: list[Node], tmp_path: Path) -> None:
    for name in os.listdir(tmp_path):
        for _ in range(3):
            _, writer = await asyncio.open_unix_connection(tmp_path / name)
            writer.transport.abort()
    assert (await told(nodes[0], tmp_path))[0] == {"gateway_workers": 3, "gateway_workers_silent": 0}


async def test_the_directory_is_made_for_one_user(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "here"
    async with telling(make_node(), str(directory)):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert len(list(directory.iterdir())) == 1
    assert list(directory.iterdir()) == []


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 30)):
        with pytest.raises(SettingsError, match=r"prometheus\.directory = .* cannot be used: .+; name one"):
            async with telling(make_node(), str(directory)):
                raise AssertionError("it cannot be")


async def test_a_program_whose_threads_all_wait_is_seen_all_the_same() -> None:
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    most = min(32, (os.cpu_count() or 1) + 4)
    waiting: list[Any] = [loop.run_in_executor(None, os.read, read, 1) for _ in range(most)]
    try:
        assert await asyncio.wait_for(read_all(make_node()), 10)
    finally:
        os.write(write, b"." * most)
        await asyncio.gather(*waiting)
        os.close(read)
        os.close(write)
