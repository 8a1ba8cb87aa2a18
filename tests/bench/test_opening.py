"""Openings, step by step."""

import select
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.bench.opening import Decrypting, Opening, Refused, Target, upgrade_request
from gateway.bench.plan import Plan
from gateway.bench.reader import NOTHING
from tests.bench.servers import ECHO


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def proceed(opening: Opening) -> int:
    """Go on once there is something to read."""
    assert select.select([opening.socket], (), (), 5)[0]
    return opening.proceed()


def test_bytes_may_come_in_any_pieces(listener: socket.socket) -> None:
    plan = Plan(port=listener.getsockname()[1], dialect=ECHO)
    opening = Opening(plan, Target.of(plan), upgrade_request(plan), 0)
    buffer = bytearray(100)
    while opening.proceed() != select.EPOLLIN:
        select.select((), [opening.socket], (), 5)
    server, _ = listener.accept()
    with server, opening.socket:
        assert server.recv(1000).startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
        answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x07welcome"
        for byte in answer[:-1]:
            server.send(bytes((byte,)))
            assert proceed(opening) == select.EPOLLIN
        server.send(answer[-1:])
        assert proceed(opening) == 0
        assert opening.rest(buffer) == NOTHING


def test_what_follows_the_confirmation_is_kept(listener: socket.socket) -> None:
    plan = Plan(port=listener.getsockname()[1], dialect=ECHO)
    opening = Opening(plan, Target.of(plan), upgrade_request(plan), 0)
    while opening.proceed() != select.EPOLLIN:
        select.select((), [opening.socket], (), 5)
    server, _ = listener.accept()
    with server, opening.socket:
        server.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x07welcome\x81\x02{}")
        assert proceed(opening) == 0
        buffer = bytearray(100)
        assert opening.rest(buffer) == 4
        assert buffer[:4] == b"\x81\x02{}"


def test_a_reset_is_a_refusal(listener: socket.socket) -> None:
    plan = Plan(port=listener.getsockname()[1], dialect=ECHO)
    opening = Opening(plan, Target.of(plan), upgrade_request(plan), 0)
    while opening.proceed() != select.EPOLLIN:
        select.select((), [opening.socket], (), 5)
    server, _ = listener.accept()
    server.close()  # with the request unread
    with pytest.raises(Refused, match="connection reset by peer"):
        proceed(opening)
    assert opening.socket.fileno() < 0


class Records:
    """A TLS socket with these records decrypted."""

    def __init__(self, *records: bytes) -> None:
        self._records = list(records)

    def recv_into(self, buffer: memoryview) -> int:
        if not self._records:
            raise ssl.SSLWantReadError
        record = self._records.pop(0)
        buffer[: len(record)] = record
        return len(record)


@pytest.mark.parametrize(
    ("records", "sizes"), [((b"ab", b"c"), [3]), ((b"ab", b"", b""), [2, 0]), ((b"x" * 9000,) * 4, [18000, 18000])]
)
def test_all_that_is_decrypted_is_received(records: tuple[bytes, ...], sizes: list[int]) -> None:
    buffer = bytearray(30_000)
    socket: Any = Records(*records)
    receive = Decrypting(socket)
    assert [receive(buffer) for _ in sizes] == sizes


def test_a_record_without_data_is_nothing() -> None:
    socket: Any = Records()
    with pytest.raises(BlockingIOError):
        Decrypting(socket)(bytearray(30_000))


def test_ipv6_hosts_are_named_in_brackets() -> None:
    assert b"\r\nHost: [::1]:8000\r\n" in upgrade_request(Plan(host="::1"))
