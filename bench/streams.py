"""What a delivery costs over each transport: ``bench/streams`` asks the kernel for the server's processor time.

As many subscribers of one channel as are wanted, one way after the other, in turns. A message is published when all
have got those before it, but for as many as are in flight.
"""

import argparse
import json
import select
import signal
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from os import sched_setaffinity
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from bench.__main__ import say
from bench.environment import Missing, machine
from bench.report import grid
from bench.servers import Failed, Server, cores, free_port

SUBSCRIBERS, MESSAGES, ROUNDS = 1_000, 400, 5
MARK = b'"t":"mark"'
DATA = json.dumps({"t": "mark", "x": "x" * 80}, separators=(",", ":"))

COMMANDS = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}'
REQUEST = '{"subs":{"room":{}}}'

UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22
UPGRADE += "==\r\n\r\n"


class Way(Struct, frozen=True):
    """One transport: how to open a stream of it that is subscribed, and what then has come."""

    name: str
    request: bytes
    ready: bytes


def _get(path: str, query: str = "", rest: str = "\r\n") -> bytes:
    query = f"?cf_connect={quote(query)}" if query else ""
    return f"GET /connection/{path}{query} HTTP/1.1\r\nHost: bench\r\n{rest}".encode()


def _post(path: str, body: str) -> bytes:
    return f"POST /connection/{path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _text(payload: str) -> bytes:
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload.encode()


WAYS = (
    Way("websocket", _get("websocket", rest=UPGRADE) + _text(COMMANDS), b'"subscribe":{'),
    Way("http_stream", _post("http_stream", COMMANDS), b'"subscribe":{'),
    Way("sse", _get("sse", COMMANDS), b'"subscribe":{'),
    Way("uni_websocket", _get("uni_websocket", REQUEST, UPGRADE), b'"room":{'),
    Way("uni_http_stream", _post("uni_http_stream", REQUEST), b'"room":{'),
    Way("uni_sse", _get("uni_sse", REQUEST), b'"room":{'),
)


class Crowd:
    """Subscribers by one way."""

    def __init__(self, server: Server, way: Way, count: int) -> None:
        self._server = server
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(count):
            opened = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            opened.sendall(way.request)
            heard = b""
            while way.ready not in heard:
                part = opened.recv(65536)
                if not part:
                    raise Failed(f"{way.name}: not taken: {heard!r}")
                heard += part
            opened.setblocking(False)
            self._sockets[opened.fileno()] = opened
            self._epoll.register(opened.fileno(), select.EPOLLIN)

    def hear(self, messages: int) -> None:
        """Wait until everybody has got so many more."""
        missing, buffer, until = messages * len(self._sockets), bytearray(1 << 16), time.monotonic() + 30
        while missing > 0:
            events = self._epoll.poll(1)
            if not events and time.monotonic() > until:
                raise Failed(f"{missing} deliveries are missing")
            for fd, _ in events:
                size = self._sockets[fd].recv_into(buffer)
                if not size:
                    raise Failed("a subscriber was cut off")
                missing -= buffer.count(MARK, 0, size)

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._epoll.close()


class Publisher:
    """One client that publishes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(_get("websocket", rest=UPGRADE) + _text('{"id":1,"connect":{}}'))
        heard = b""
        while b'"connect":{' not in heard:
            heard += self._socket.recv(65536)
        publish = f'{{"id":2,"publish":{{"channel":"room","data":{DATA}}}}}'.encode()
        self._frame = bytes((0x81, 0x80 | 126)) + len(publish).to_bytes(2, "big") + bytes(4) + publish

    def publish(self, count: int) -> None:
        self._socket.sendall(self._frame * count)
        replies = 0
        while replies < count:
            replies += self._socket.recv(65536).count(b'"publish":{')

    def close(self) -> None:
        self._socket.close()


def measure(server: Server, way: Way, subscribers: int, messages: int, inflight: int) -> float:
    """Microseconds of the server's processor time for a delivery."""
    crowd, publisher = Crowd(server, way, subscribers), Publisher(server.port)
    try:
        rounds = max(1, messages // inflight)
        for count in (max(1, rounds // 10), rounds):  # the first to warm up
            before = server.cpu()
            for _ in range(count):
                publisher.publish(inflight)
                crowd.hear(inflight)
            used = server.cpu() - before
        return used * 1e6 / (rounds * inflight * subscribers)
    finally:
        publisher.close()
        crowd.close()


def page(found: dict[str, dict[int, list[float]]], about: str) -> str:
    flights = list(next(iter(found.values())))
    head = ["transport", *(f"µs, {each} in flight" for each in flights), *(f"× websocket, {each}" for each in flights)]
    medians = {name: [statistics.median(by[each]) for each in flights] for name, by in found.items()}
    base = medians["websocket"]
    rows = [
        [name, *(f"{each:.2f}" for each in of), *(_ratio(each, other) for each, other in zip(of, base, strict=True))]
        for name, of in medians.items()
    ]
    return f"{about}\n\n{grid(head, rows, left=1)}\n"


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else ""  # too little for the kernel to count


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/streams", description="Says what a delivery costs the server over each transport."
    )
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS, help=f"default: {SUBSCRIBERS}")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"of each round; default: {MESSAGES}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--inflight", type=int, nargs="+", default=[1, 16], help="default: 1 and 16")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> dict[str, dict[int, list[float]]]:
    core, ours = cores()
    port = free_port()
    environment = {
        "GATEWAY_CLIENT__INSECURE": "true",
        "GATEWAY_CLIENT__PING_INTERVAL": "0",
        "GATEWAY_CLIENT__ADDRESS_CONNECTION_LIMIT": "0",
        "GATEWAY_SHUTDOWN__GRACE": "0",
        **{f"GATEWAY_{way.name.upper()}__ENABLED": "true" for way in WAYS[1:]},
    }
    sched_setaffinity(0, {ours})
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(port)]
    found: dict[str, dict[int, list[float]]] = {way.name: {each: [] for each in given.inflight} for way in WAYS}
    with Server("gateway", command, core, port, "ready", **environment) as server:
        for _ in range(given.rounds):
            for way in WAYS:
                for inflight in given.inflight:
                    cost = measure(server, way, given.subscribers, given.messages, inflight)
                    found[way.name][inflight].append(cost)
    return found


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parse(sys.argv[1:])
    try:
        found = run(given)
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, Missing, OSError) as failure:
        say(f"bench/streams: {failure}")
        return 1
    text = page(
        found,
        f"Measured by `bench/streams` on {time.strftime('%Y-%m-%d')}: {machine()}. {given.subscribers:,} subscribers "
        f"of one channel, messages of {len(DATA)} bytes, processor time of the server for a delivery; medians of "
        f"{given.rounds} rounds.",
    )
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
