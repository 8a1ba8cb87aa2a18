"""A browser's ``EventSource``, directly and through the balancers as they are deployed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.browsing import Browser
from tests.integration.servers import Balancer, Server, haproxy, nginx
from tests.serving import on_uvicorn
from tests.transports.streams import running
from tests.waiting import until

PAGE = """<!doctype html><script>
let told = Promise.resolve()
const tell = (text) => { told = told.then(() => fetch("/seen", {method: "POST", body: text})) }
const url = new URL("/connection/uni_sse", location)
url.hostname = "localhost"  // another origin than the page's
url.searchParams.set("cf_connect", JSON.stringify({subs: {room: {}}}))
const source = new EventSource(url, {withCredentials: true})
source.onopen = () => tell("open")
source.onmessage = (event) => tell(event.data)
source.onerror = () => tell("lost")
</script>"""


class Page:
    """What a page in the browser has told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/", lambda _: HTMLResponse(PAGE)),
            Route("/seen", self.hear, methods=["POST"]),
            Route("/health/{what}", lambda _: Response()),
        ]

    async def hear(self, request: Request) -> Response:
        self.seen.append((await request.body()).decode())
        return Response()

    async def told(self) -> str:
        """The next that it tells."""
        return (await until(lambda: self.seen, what="the page tells nothing")).pop(0)

    async def event(self) -> Any:
        return json.loads(await self.told())


@asynccontextmanager
async def balanced(balance: Callable[..., Balancer] | None, directory: Path, port: int) -> AsyncIterator[int]:
    """The port at which clients come in."""
    if balance is None:
        yield port
        return
    server = Server("app", directory)
    server.port = port
    balancer = balance(directory, [server])
    try:
        await asyncio.to_thread(balancer.__enter__)  # it waits for the application, which runs in this loop
        yield balancer.port
    finally:
        balancer.__exit__(None, None, None)


@pytest.mark.parametrize("balance", [None, haproxy, nginx], ids=["directly", "haproxy", "nginx"])
async def test_a_page_hears_and_comes_back(
    balance: Callable[..., Balancer] | None, browser: Browser, tmp_path: Path
) -> None:
    page = Page()
    async with (
        running(on_uvicorn, routes=page.routes, allowed_origins=["http://127.0.0.1:*"]) as gateway,
        balanced(balance, tmp_path, gateway.port) as port,
    ):
        async with browser.window(f"http://127.0.0.1:{port}/"):
            for life in ("first", "second"):  # it comes back by itself
                assert await page.told() == "open"
                assert (await page.event())["connect"]["subs"] == {"room": {}}
                for n in range(3):  # each seen before the next is sent: nobody keeps them back
                    await gateway.publish([life, n])
                    assert (await page.event())["pub"]["data"] == [life, n]
                await gateway.acceptor.drain()
                gateway.node.draining = False
                assert await page.event() == {"disconnect": {"code": 3001, "reason": "shutdown"}}
                assert await page.told() == "lost"
        await until(lambda: not gateway.acceptor.sessions)
