"""The reader, over real sockets: what it counts, and what it notices besides."""

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.bench.dialect import BINARY, MARK, TEXT, message, now
from gateway.bench.latency import Latency
from gateway.bench.reader import NOTHING, Reader, Watch


class Notes:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.passings: list[int] = []
        self.pings: list[tuple[bytes, bool]] = []
        self.data: list[bytes] = []
        self.losses: list[tuple[int, str]] = []
        self.writables: list[int] = []
        self.reader: Reader

    def passed(self, channel: int) -> None:
        self.passings.append(channel)
        self.reader.least[channel] = NOTHING

    def asked(self, fd: int, answer: bytes, *, control: bool) -> None:
        self.pings.append((answer, control))

    def told(self, fd: int, data: bytes) -> None:
        self.data.append(data)

    def lost(self, fd: int, reason: str) -> None:
        self.losses.append((fd, reason))
        self.reader.remove(fd)

    def writable(self, fd: int) -> None:
        self.writables.append(fd)


class Wires:
    """A reader with some connections, and the servers' ends of these."""

    def __init__(self, count: int = 3, ping: bytes = b"{}", first: int = TEXT, mark: bytes = MARK) -> None:
        self.notes = Notes()
        self.reader = self.notes.reader = Reader(2, self.notes, ping, b"pong", first, mark)
        pairs = [socket.socketpair() for _ in range(count)]
        self.servers = [server for server, _ in pairs]
        self.clients = [client for _, client in pairs]
        for client in self.clients:
            client.setblocking(False)
            self.reader.add(client.fileno(), client.recv_into)
            self.reader.count(client.fileno(), 0, client.recv_into)

    def give(self, *chunks: bytes, to: int = 0) -> None:
        """Send, and read each chunk by itself."""
        for chunk in chunks:
            self.servers[to].sendall(chunk)
            self.reader.read(1.0)

    @property
    def count(self) -> int:
        return self.reader.delivered[0]

    def close(self) -> None:
        self.reader.close()
        for end in (*self.servers, *self.clients):
            end.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    found = Wires()
    yield found
    found.close()


def frame(size: int = 60, at: int | None = None) -> bytes:
    data = message(at or now(), size)
    head = bytes((0x81, len(data))) if len(data) < 126 else bytes((0x81, 126)) + len(data).to_bytes(2, "big")
    return head + data


# — counting —


def test_what_comes_is_counted_once_for_each_socket(wires: Wires) -> None:
    data = frame() * 5
    for to in range(3):
        wires.give(data, data, to=to)
    assert wires.count == 30
    assert not wires.notes.data


def test_the_same_length_is_not_the_same_count(wires: Wires) -> None:
    two = frame() * 2
    wires.give(two)
    wires.give(b"\x81\x7a" + b"x" * (len(two) - 2))
    wires.give(two)
    assert wires.count == 4


@pytest.mark.parametrize("cut", range(1, len(frame() * 2)))
def test_a_mark_in_two_reads_is_counted(wires: Wires, cut: int) -> None:
    data = frame() * 2
    wires.give(data[:cut], data[cut:])
    wires.give(data, to=1)
    assert wires.count == 4


def test_bytes_one_by_one(wires: Wires) -> None:
    wires.give(*(bytes((byte,)) for byte in frame() * 3))
    assert wires.count == 3


def test_any_pieces() -> None:
    randomness = random.Random(3)
    wires = Wires()
    stream = frame(40) * 30
    for to in range(3):
        rest = stream
        while rest:
            size = randomness.randrange(1, 60)
            wires.give(rest[:size], to=to)
            rest = rest[size:]
    assert wires.count == 90
    wires.close()


def test_the_end_of_one_socket_is_not_joined_with_another(wires: Wires) -> None:
    wires.give(b'..."t', to=0)
    wires.give(b'":...', to=1)
    assert wires.count == 0
    wires.give(b'":...', to=0)
    assert wires.count == 1


def test_the_rest_of_a_mark_is_seen_in_what_is_known(wires: Wires) -> None:
    rest = b'":1,"x":""}' + frame()
    wires.give(rest, to=1)
    wires.give(b'..."t', rest, to=0)
    assert wires.count == 3


def test_channels_are_counted_apart(wires: Wires) -> None:
    client = wires.clients[1]
    wires.reader.count(client.fileno(), 1, client.recv_into)
    wires.give(frame(), to=0)
    wires.give(frame(), frame(), to=1)
    assert wires.reader.delivered == [1, 2]
    assert wires.reader.channel(client.fileno()) == 1


def test_tells_when_the_last_subscriber_has_got_a_message(wires: Wires) -> None:
    wires.reader.count(wires.clients[1].fileno(), 0, wires.clients[1].recv_into)
    wires.reader.least[0], wires.reader.last[0] = 0, 2
    wires.give(frame() * 2)
    wires.give(frame())
    assert not wires.notes.passings  # three deliveries, and one subscriber without
    wires.give(frame(), to=1)
    assert wires.notes.passings == [0]
    assert [wires.reader.got[client.fileno()] for client in wires.clients[:2]] == [3, 1]


# — what else comes —


def test_a_ping_of_the_dialect_is_found_wherever_it_stands(wires: Wires) -> None:
    ping = b"\x81\x02{}"
    wires.give(ping, frame() + ping, ping + frame() + ping + frame())
    assert wires.notes.pings == [(b"pong", False)] * 4
    assert wires.count == 3
    data = frame() + ping
    wires.give(data, data)  # what holds a ping is never taken for known
    assert len(wires.notes.pings) == 6


def test_without_one_nothing_is_looked_for() -> None:
    wires = Wires(ping=b"")
    wires.give(b"\x81\x02{}")
    assert not wires.notes.pings
    wires.close()


def test_a_ping_may_be_a_binary_frame() -> None:
    wires = Wires(ping=b"\x00", first=BINARY)
    data = b"\x82" + frame()[1:]
    wires.give(data + b"\x82\x01\x00", data)
    assert (wires.notes.pings, wires.count) == ([(b"pong", False)], 2)
    wires.close()


def test_a_mark_may_stand_in_a_string() -> None:
    wires = Wires(mark=rb'"t\":')
    data = b"\x81\x20" + rb'{"data":"{\"t\":1000,\"x\":\"x\"}"}'
    wires.give(data, data, data * 2)
    for cut in range(1, len(data)):
        wires.give(data[:cut], data[cut:])
    assert wires.count == 4 + len(data) - 1
    wires.close()


def test_pings_of_websocket_are_answered_with_what_they_hold(wires: Wires) -> None:
    wires.give(b"\x89\x00", frame() + b"\x89\x03abc", b"\x89\x01z" + frame())
    assert wires.notes.pings == [(b"", True), (b"abc", True), (b"z", True)]
    assert wires.count == 2


@pytest.mark.parametrize("size", [0x88, 0x89, 0x188, 0x289])
def test_a_length_is_no_control_frame(wires: Wires, size: int) -> None:
    wires.give(frame(size), frame(size) * 3)
    assert wires.count == 4
    assert not wires.notes.pings
    assert not wires.notes.losses


@pytest.mark.parametrize("piece", [b"\x89", b"\x89\x05abc", b"\x88\x04\x03", b"\x89\xff", b"\x88\x00more"])
def test_a_part_of_a_control_frame_is_none(wires: Wires, piece: bytes) -> None:
    wires.give(piece)
    assert not wires.notes.pings
    assert not wires.notes.losses


def test_a_farewell_ends_the_connection(wires: Wires) -> None:
    fd = wires.clients[0].fileno()
    wires.give(frame() + b"\x88\x06\x0b\xc0slow")
    assert wires.notes.losses == [(fd, "closed 3008: slow")]
    assert wires.count == 1
    wires.give(frame(), to=1)
    assert wires.count == 2


def test_the_end_of_the_stream_is_told(wires: Wires) -> None:
    fds = [client.fileno() for client in wires.clients]
    wires.servers[0].close()
    wires.reader.read(1.0)
    assert wires.notes.losses == [(fds[0], "connection lost")]


def test_a_broken_socket_is_told(wires: Wires) -> None:
    def broken(_buffer: bytearray) -> int:
        raise ConnectionResetError(104, "Connection reset by peer")

    def idle(_buffer: bytearray) -> int:
        raise BlockingIOError

    first, second = wires.clients[0].fileno(), wires.clients[1].fileno()
    wires.reader.count(first, 0, broken)
    wires.reader.count(second, 0, idle)
    wires.servers[1].sendall(b"x")
    wires.give(b"x")
    assert wires.notes.losses == [(first, "connection lost: Connection reset by peer")]


def test_what_is_no_delivery_is_shown(wires: Wires) -> None:
    reply = b'\x81\x14{"id":3,"publish":{}}'
    wires.give(reply, frame())
    assert wires.notes.data == [reply]
    wires.reader.curious.add(wires.clients[0].fileno())
    wires.give(frame() + reply)
    assert len(wires.notes.data) == 2


def test_a_receiver_may_count_nothing(wires: Wires) -> None:
    asked = []

    def receive(buffer: bytearray) -> int:
        buffer[: len(frame())] = frame()
        asked.append(wires.clients[0].recv(1000))
        return NOTHING

    wires.reader.count(wires.clients[0].fileno(), 0, receive)
    wires.give(b"x")
    assert asked == [b"x"]
    assert wires.count == 0


def test_a_socket_that_takes_more_is_told(wires: Wires) -> None:
    fd = wires.clients[0].fileno()
    wires.reader.wait_for(fd, 4)  # EPOLLOUT
    wires.reader.read(1.0)
    assert wires.notes.writables == [fd]


# — time —


def test_latencies_are_noted_while_they_are_measured(wires: Wires) -> None:
    latency = Latency()
    wires.give(frame())
    wires.reader.measure_latency(latency)
    wires.give(frame(at=now() - 5000) + frame(at=now() - 2_000_000))
    wires.reader.measure_latency(None)
    wires.give(frame())
    assert sum(latency.counts.values()) == 2
    assert 2.0 <= latency.maximum < 10.0
    assert 0.004 <= latency.percentile(0.5) < 2.0


def test_a_sample_stands_for_all(wires: Wires) -> None:
    latency = Latency()
    wires.reader.measure_latency(latency)
    wires.reader.look_at(4)
    wires.give(*([frame()] * 400))
    samples = list(latency.counts.values())
    assert all(weight % 4 == 0 for weight in samples)
    assert 200 < sum(samples) < 800


def test_reads_without_deliveries_are_no_sample(wires: Wires) -> None:
    latency = Latency()
    wires.reader.measure_latency(latency)
    wires.give(frame(), b"\x81\x01x")
    wires.servers[0].close()
    wires.reader.read(1.0)
    assert sum(latency.counts.values()) == 1


def test_the_order_is_watched() -> None:
    streams: Iterator[bytes] = iter([frame(at=10**15 + 5) + frame(at=10**15 + 4), frame(at=10**15 + 6), frame()[:20]])

    def receive(buffer: bytearray) -> int:
        data: Any = next(streams, b"")
        buffer[: len(data)] = data
        return len(data)

    watch, buffer = Watch(receive), bytearray(1000)
    assert [watch(buffer) for _ in range(4)] == [2 * len(frame()), len(frame()), 20, 0]
    assert watch.out_of_order == 1
