"""A worker's end of the line to its supervisor."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway.serve.line import Job, Socket, read, read_job, write_job
from gateway.serve.listening import Listener, bind
from gateway.serve.server import sides_of
from gateway.serve.worker import WorkerServer
from gateway.transports.uvicorn_dispatch import DispatchProtocol
from tests.serve.processes import make_app, make_settings
from tests.waiting import settle, until


class Worker:
    """A worker's server in this event loop, and its supervisor's end of the line."""

    def __init__(self, listener: socket.socket, line: socket.socket, supervisor: socket.socket, **http: object) -> None:
        settings = make_settings()
        settings = settings.model_copy(update={"http_server": settings.http_server.model_copy(update=http)})
        app = make_app(settings)
        listeners = [Listener(listener.dup(), worker=0)]  # the supervisor keeps its own
        self.server = WorkerServer(sides_of(settings, app, listeners), app, line, listeners)
        self.supervisor = supervisor
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.task = asyncio.create_task(self.server.serve())

    async def answers(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        received = b""
        while len(received) < count:
            received += await asyncio.wait_for(loop.sock_recv(self.supervisor, count - len(received)), 10)


@asynccontextmanager
async def working(**http: object) -> AsyncIterator[Worker]:
    ours, theirs = socket.socketpair()
    with bind("127.0.0.1", 0) as listener, ours, theirs:
        listener.listen()
        ours.setblocking(False)
        worker = Worker(listener, theirs, ours, **http)
        await worker.answers(1)
        yield worker
        worker.server.should_exit = True
        await worker.task


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with working() as worker:
        yield worker


async def status(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.read(12), 10))[-3:]


async def test_a_worker_accepts_what_it_is_told_to(worker: Worker) -> None:
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await settle()
        assert not worker.server.server_state.connections, "it waits in the queue"
        worker.server.order(frozenset({0}))
        assert await status(reader) == b"200"
        writer.close()
        worker.server.order(frozenset())
        await worker.answers(2)
        await until(lambda: not worker.server.server_state.connections)


async def test_who_leaves_finishes_the_handshakes_that_have_begun(worker: Worker) -> None:
    worker.server._drain = cast(Any, asyncio.Event().wait)  # for ever
    worker.server.order(frozenset({0}))
    begun, kept = [await asyncio.open_connection("127.0.0.1", worker.port) for _ in range(2)]
    begun[1].write(b"GET /")
    kept[1].write(b"GET /kept HTTP/1.1\r\n\r\n")
    assert await status(kept[0]) == b"200"
    worker.server.order(None)
    await until(lambda: not worker.server._accepting)
    await settle()
    waiting = [each for each in worker.server.server_state.connections if isinstance(cast(Any, each), DispatchProtocol)]
    assert len(waiting) == 1
    assert not worker.server.should_exit
    begun[1].write(b" HTTP/1.1\r\n\r\n")
    assert await status(begun[0]) == b"200"
    await asyncio.wait_for(kept[0].read(), 10)  # its next request is for the successor
    worker.server.force_exit = True
    await worker.task
    for _, writer in (begun, kept):
        writer.close()


async def test_who_leaves_finishes_what_comes_before_a_handshake_too() -> None:
    async with working(proxy_protocol=True) as worker:
        worker.server.order(frozenset({0}))
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(b"PROXY TCP4 ")
        await until(lambda: worker.server._greeted)
        worker.server.order(None)
        await until(lambda: not worker.server._accepting)
        await settle()
        assert not worker.server.should_exit
        writer.write(b"192.0.2.1 198.51.100.7 1 2\r\nGET / HTTP/1.1\r\n\r\n")
        assert await status(reader) == b"200"
        await worker.task
        writer.close()


@pytest.mark.parametrize("all_stop", [True, False])
async def test_queues_are_left_to_successors_alone(worker: Worker, all_stop: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    worker.server._told_by_service = all_stop
    worker.server.order(None)
    await worker.task
    if all_stop:
        assert await status(reader) == b"200"
    else:
        worker.listener.accept()[0].close()
    writer.close()


async def test_who_stops_answers_until_the_end(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.server.order(frozenset({0}))
    await worker.answers(1)
    end, shut_down = asyncio.Event(), worker.server.lifespan.shutdown

    async def slow() -> None:
        await end.wait()
        await shut_down()

    monkeypatch.setattr(worker.server.lifespan, "shutdown", slow)
    worker.server.should_exit = True
    await until(lambda: worker.server.servers)
    for order in (frozenset[int](), frozenset({0})):
        worker.server.order(order)
        await worker.answers(1)
    assert not any(each.is_serving() for each in worker.server._accepting.values())
    end.set()
    await worker.task


async def test_a_socket_that_cannot_be_had_is_tried_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker.server, "_loop", Failing(asyncio.get_running_loop()))
        worker.server.order(frozenset({0}))
        await worker.answers(1)
        await settle()
        assert not worker.server._accepting
    worker.server.order(frozenset({0}))
    await until(lambda: worker.server._accepting)


class Failing:
    """An event loop that opens no server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_soon_threadsafe = loop.call_soon_threadsafe

    async def create_server(self, *_: object, sock: socket.socket, **__: object) -> None:
        sock.close()
        raise OSError(24, "Too many open files")


async def test_a_supervisor_that_hears_nothing_holds_up_nobody(worker: Worker) -> None:
    for _ in range(2):
        for _ in range(5000):  # more than the line holds
            worker.server.order(frozenset())
        await until(lambda: worker.server._orders.empty())


def test_a_line_that_ends_is_the_end() -> None:
    job = Job((Socket(3, worker=0), Socket(4, internal=True)), make_settings("name"), make_app)
    file = io.BytesIO(write_job(job))
    assert read_job(file) == job
    with pytest.raises(EOFError):
        read(file)
