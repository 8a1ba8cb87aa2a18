"""Node programs that serve many tests, and the browser that does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from gateway.config.settings import Settings
from tests.browsing import Browser
from tests.node import Connection, NodeProgram
from tests.serving import on_plain_uvicorn

SCRIPT = """
import { serve } from '%s'
let cleared = 0
serve((tell) => ({
  take: ({ die }) => {
    if (die) throw new Error(die)
    tell({ cleared })
  },
  end: () => cleared++,
}))
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProgram]:
    script = tmp_path / "program.mjs"
    script.write_text(SCRIPT % Path(__file__).with_name("node.mjs"))
    program = NodeProgram(script)
    yield program
    program.end()


async def said(connection: Connection, **message: str) -> list[bytes]:
    """All that it says, from a message to the end of the connection."""
    lines: list[bytes] = []

    async def read() -> None:
        lines.extend([line async for line in connection.lines()])

    connection.tell(message)
    await connection.close(asyncio.create_task(read()))
    return lines


async def test_a_connection_leaves_nothing_behind(node: NodeProgram) -> None:
    for number in range(2):
        assert await said(await node.connect()) == [b'{"cleared":%d}\n' % number]


async def test_what_ends_says_why_and_starts_once_more(node: NodeProgram) -> None:
    for _ in range(2):
        connection = await node.connect()
        assert await said(connection, die="of grief") == []
        assert "program.mjs has ended" in connection.obituary
        assert "of grief" in connection.obituary
        with pytest.raises(AssertionError, match="of grief"):
            connection.tell({})
    with pytest.raises(AssertionError, match="is not started again"):
        await node.connect()


async def test_windows_share_nothing(tmp_path: Path) -> None:
    app = Starlette(routes=[Route("/", lambda _: HTMLResponse("<p>here"))])
    seen = "[document.cookie, localStorage.length, document.querySelector('p').innerText]"
    async with on_plain_uvicorn(app, Settings()) as port:
        for _ in range(2):
            async with Browser(tmp_path) as browser, browser.window(f"http://127.0.0.1:{port}/") as window:
                assert await window.evaluate(seen) == ["", 0, "here"]
                await window.evaluate("document.cookie = 'a=b'; localStorage.setItem('a', 'b')")
                assert await window.evaluate(seen) == ["a=b", 1, "here"]


async def test_an_error_in_a_page_fails_its_test_and_no_other(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="oh dear"):
        async with Browser(tmp_path) as browser, browser.window("data:text/html,<script>throw 'oh dear'</script>"):
            pass
    with pytest.raises(AssertionError, match="nothing"):
        async with Browser(tmp_path) as browser, browser.window("about:blank") as window:
            await window.evaluate("nothing.here")
    async with Browser(tmp_path) as browser, browser.window("about:blank") as window:
        assert await window.evaluate("1 + 1") == 2
