"""Headless Chromium for tests: one for all of this process, windows for each of them."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.processes import program
from tests.node import PACKAGES, NodeProgram


@cache
def chromium() -> NodeProgram:
    """It ends with this process."""
    return NodeProgram(Path(__file__).with_name("browser.mjs"), program("chromium", "chromium"), str(PACKAGES))


class Browser:
    """The windows of one test. With the first of all tests Chromium starts."""

    def __init__(self, screenshots: Path) -> None:
        self.screenshots = Path(os.environ.get("EXAMPLES_SCREENSHOTS", screenshots))
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}

    @asynccontextmanager
    async def window(
        self, url: str = "", *, width: int = 900, height: int = 700, cuttable: bool = False
    ) -> AsyncIterator["Window"]:
        """A window with cookies of its own; with ``url``, it goes there. An error in the page fails the test.

        A ``cuttable`` window's WebSockets can be closed by `Window.cut`.
        """
        window = Window(self, next(self._ids))
        await window.call("open", {"viewport": {"width": width, "height": height}, "cuttable": cuttable})
        if url:
            await window.goto(url)
        yield window
        problems = await window.call("close")
        assert problems == [], problems

    async def script(self, path: Path, *arguments: object) -> Any:
        """What the default export of a module gives, called with ``open(options)``, which gives pages, and these."""
        return await self.call(next(self._ids), "script", (str(path), *map(str, arguments)))

    async def call(self, window: int, call: str, args: tuple[Any, ...]) -> Any:
        number = next(self._ids)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        self._connection.tell({"id": number, "window": window, "call": call, "args": args})
        return await future

    async def _read(self) -> None:
        async for line in self._connection.lines():
            message = json.loads(line)
            future = self._calls.pop(message["id"])
            if "error" in message:
                future.set_exception(AssertionError(message["error"]))
            else:
                future.set_result(message["result"])
        for future in self._calls.values():
            future.set_exception(AssertionError(self._connection.obituary))

    async def __aenter__(self) -> Self:
        self._connection = await chromium().connect()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close(self._reading)


class Window:
    """One page. Selectors are CSS or playwright's own (``text=Send``); each call waits until it can be done."""

    def __init__(self, browser: Browser, number: int) -> None:
        self._browser = browser
        self._number = number

    async def call(self, call: str, *args: Any) -> Any:
        """Any method of playwright's page whose arguments and result are JSON."""
        return await self._browser.call(self._number, call, args)

    async def goto(self, url: str) -> None:
        await self.call("goto", url)

    async def fill(self, selector: str, text: str) -> None:
        await self.call("fill", selector, text)

    async def click(self, selector: str) -> None:
        await self.call("click", selector)

    async def press(self, selector: str, key: str) -> None:
        """A key, such as ``Enter``, in an element."""
        await self.call("press", selector, key)

    async def text(self, selector: str) -> str:
        """What the element shows."""
        return str(await self.call("innerText", selector))

    async def wait_text(self, selector: str, text: str) -> None:
        """Wait until the first such element shows this text among other."""
        await self.call("waitText", selector, text)

    async def wait_no_text(self, selector: str, text: str) -> None:
        await self.call("waitNoText", selector, text)

    async def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        await self.call("waitFor", expression)

    async def evaluate(self, expression: str) -> Any:
        return await self.call("evaluate", expression)

    async def drag(self, selector: str, *points: tuple[float, float]) -> None:
        """Draw along points, in pixels from the element's corner."""
        await self.call("drag", selector, points)

    async def move(self, selector: str, x: float, y: float) -> None:
        """Move the mouse to a point, in pixels from the element's corner."""
        await self.call("move", selector, x, y)

    async def block_websockets(self) -> None:
        """Let every WebSocket of pages to come fail. Call it before `goto`."""
        await self.call("blockWebSockets")

    async def cut(self, code: int = 3001, reason: str = "cut") -> None:
        """Close the page's WebSockets, and each new one, until `mend`."""
        await self.call("cut", code, reason)

    async def mend(self) -> None:
        await self.call("mend")

    async def screenshot(self, name: str) -> Path:
        """Save the whole page as ``<name>.png``."""
        path = self._browser.screenshots / f"{name}.png"
        await self.call("screenshot", str(path))
        return path
