"""A response that is written past ASGI, and what happens to its connection meanwhile."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.transports.raw_response import RawResponse, chunk, raw_response
from tests.transports.sockets import MEGABYTES, Running
from tests.waiting import until

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Overseer:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pause(self) -> None:
        self.heard.append("pause")

    def resume(self) -> None:
        self.heard.append("resume")

    def lose(self) -> None:
        self.heard.append("lose")


class Streaming:
    """An application that attaches, if it may, and waits for the end."""

    def __init__(self, run: Running, *headers: tuple[bytes, bytes]) -> None:
        run.app.http = self
        self.overseer = Overseer()
        self.ready: list[bool] = []
        self.responses: list[RawResponse] = []
        self.finish = asyncio.Event()
        self._headers = list(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = raw_response(scope)
        assert not response.ready(), "nothing has been sent"
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        self.ready.append(response.ready())
        if self.ready[-1]:
            response.attach(self.overseer)
            response.write(chunk(b"first"))
        self.responses.append(response)
        if not self.finish.is_set():
            waiting = asyncio.ensure_future(self.finish.wait())
            await asyncio.wait([waiting, asyncio.ensure_future(self._gone(receive))], return_when="FIRST_COMPLETED")
            waiting.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


async def rest_of(peer: Any) -> bytes:
    data: bytes = await peer.reader.readuntil(b"0\r\n\r\n")
    return data


def test_chunks() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert raw_response({"type": "http"}) is None


async def test_what_is_written_comes_between_head_and_end(run: Running) -> None:
    app = Streaming(run)
    peer = await run.connect()
    peer.write(GET)
    assert b"transfer-encoding: chunked" in await peer.head()
    await until(lambda: app.responses)
    app.responses[0].write(chunk(b"second"))
    app.finish.set()
    assert await rest_of(peer) == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
    assert app.overseer.heard == []
    peer.write(GET)  # the connection goes on, and its next response is another
    assert b" 200 " in await peer.head()
    assert await rest_of(peer) == b"5\r\nfirst\r\n0\r\n\r\n"
    assert app.ready == [True, True]


@pytest.mark.parametrize("header", [(b"content-encoding", b"gzip"), (b"content-length", b"0")])
async def test_only_a_body_in_chunks_as_it_is(run: Running, header: tuple[bytes, bytes]) -> None:
    app = Streaming(run, header)
    app.finish.set()
    peer = await run.connect()
    peer.write(GET)
    await peer.head()
    assert app.ready == [False]


async def test_not_for_head_nor_behind_another_request(run: Running) -> None:
    app = Streaming(run)
    app.finish.set()
    peer = await run.connect()
    peer.write(GET.replace(b"GET", b"HEAD"))
    await peer.head()
    assert app.ready == [False]
    peer.write(GET * 2)
    await until(lambda: len(app.ready) == 3)
    assert app.ready[1:] == [False, True], "the second of two has nothing behind it"


async def test_who_goes_is_lost_at_once(run: Running) -> None:
    app = Streaming(run)
    peer = await run.connect()
    peer.write(GET)
    await peer.head()
    await until(lambda: app.responses)
    peer.reset()
    await until(lambda: app.overseer.heard == ["lose"])
    await run.ended()


async def test_who_reads_slowly(run: Running) -> None:
    app = Streaming(run)
    peer = await run.connect()
    peer.write(GET)
    await peer.head()
    await until(lambda: app.responses)
    peer.stop_reading()
    [response] = app.responses
    response.write(chunk(b"x" * MEGABYTES))
    assert app.overseer.heard == ["pause"]
    assert response.unread() >= response.waiting() > 0
    late = Overseer()
    response.attach(late)
    assert late.heard == ["pause"]
    response.abort()
    await until(lambda: late.heard == ["pause", "lose"])
