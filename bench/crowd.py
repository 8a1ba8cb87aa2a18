"""Subscribers of one channel by one way, and who publishes there: what a delivery costs the server in that way."""

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from urllib.parse import quote

from msgspec import Struct

from bench.servers import Failed, Server
from gateway.bench.dialect import TEXT, client_frame

CONNECT = '{"id":1,"connect":{}}'
SUBSCRIBED = b'"subscribe":{'

UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22
UPGRADE += "==\r\n"

_PATIENCE = 30.0
"""Seconds within which deliveries must come."""


class Way(Struct, frozen=True, kw_only=True):
    """How subscribers open a stream that is subscribed, and what is published for them."""

    name: str
    request: Callable[[int], bytes]
    """By the subscriber's number."""
    ready: bytes = SUBSCRIBED
    publication: Callable[[int], str]
    """What is published, as the server API and a client's command have it, by its number."""
    mark: bytes = b'"t":"mark"'
    """Stands once in each delivery, and nowhere else."""
    share: float = 1.0
    """Part of the subscribers that gets each publication."""
    api: bool = False
    """Whether the server API publishes, and no client."""


def get(path: str, query: str = "", rest: str = "") -> bytes:
    query = f"?cf_connect={quote(query)}" if query else ""
    return f"GET /connection/{path}{query} HTTP/1.1\r\nHost: bench\r\n{rest}\r\n".encode()


def post(path: str, body: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def websocket(commands: str) -> bytes:
    return get("websocket", rest=UPGRADE) + client_frame(commands.encode(), TEXT)


class Crowd:
    """Subscribers by one way."""

    def __init__(self, port: int, way: Way, size: int) -> None:
        self._way = way
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for number in range(size):
            opened = socket.create_connection(("127.0.0.1", port), timeout=10)
            opened.sendall(way.request(number))
            heard = b""
            while way.ready not in heard:
                part = opened.recv(65536)
                if not part or b'"error":{' in heard:
                    raise Failed(f"{way.name}: not taken: {heard!r}")
                heard += part
            opened.setblocking(False)
            self._sockets[opened.fileno()] = opened
            self._epoll.register(opened.fileno(), select.EPOLLIN)

    def hear(self, publications: int) -> int:
        """Wait until all have got what they are to get of so many more. Answers how many deliveries that were."""
        due = missing = round(publications * len(self._sockets) * self._way.share)
        buffer, cut, until = bytearray(1 << 18), len(self._way.mark) - 1, time.monotonic() + _PATIENCE
        ends: dict[int, bytes] = {}
        while missing > 0:
            events = self._epoll.poll(1)
            if not events and time.monotonic() > until:
                raise Failed(f"{self._way.name}: {missing} deliveries are missing")
            for fd, _ in events:
                size = self._sockets[fd].recv_into(buffer)
                if not size:
                    raise Failed(f"{self._way.name}: a subscriber was cut off")
                missing -= buffer.count(self._way.mark, 0, size)
                if end := ends.get(fd):  # a mark may come in two pieces
                    missing -= (end + buffer[: min(cut, size)]).count(self._way.mark)
                ends[fd] = bytes(buffer[max(0, size - cut) : size])
        return due

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._epoll.close()


class Publisher:
    """One client that publishes, or one that calls the server API."""

    def __init__(self, port: int, way: Way) -> None:
        self._way = way
        self._numbers = count()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        if not way.api:
            self._socket.sendall(websocket(CONNECT))
            self._wait(b'"connect":{', 1)

    def publish(self, publications: int) -> None:
        """Publish so many together; returns once all are accepted."""
        told = [self._way.publication(next(self._numbers)) for _ in range(publications)]
        if self._way.api:
            commands = ",".join(f'{{"publish":{each}}}' for each in told)
            self._socket.sendall(post("/api/batch", f'{{"parallel":true,"commands":[{commands}]}}'))
        else:
            frames = [client_frame(f'{{"id":2,"publish":{each}}}'.encode(), TEXT) for each in told]
            self._socket.sendall(b"".join(frames))
        self._wait(b'"publish":{', publications)

    def _wait(self, mark: bytes, times: int) -> None:
        heard = b""
        while heard.count(mark) < times:
            part = self._socket.recv(1 << 18)
            if not part or b'"error":{' in heard:
                raise Failed(f"{self._way.name}: not published: {heard!r}")
            heard += part

    def close(self) -> None:
        self._socket.close()


def measure(
    server: Server, way: Way, subscribers: int, inflight: int, warm_up: Iterable[object], rounds: Iterable[object]
) -> float:
    """Microseconds of the server's processor time for a delivery."""
    crowd, publisher = Crowd(server.port, way, subscribers), Publisher(server.port, way)
    try:
        for _ in warm_up:
            publisher.publish(inflight)
            crowd.hear(inflight)
        before, deliveries = server.cpu(), 0
        for _ in rounds:
            publisher.publish(inflight)
            deliveries += crowd.hear(inflight)
        return (server.cpu() - before) * 1e6 / deliveries
    finally:
        publisher.close()
        crowd.close()


def lasting(seconds: float) -> Iterator[None]:
    """Rounds, as many as begin in this time, and one at least."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        yield
