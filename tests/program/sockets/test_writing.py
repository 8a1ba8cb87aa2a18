"""Writing past the conversation: frames of their own in one buffer, and an end for who reads too slowly."""

from typing import cast

import pytest

from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Payload, Publication
from gateway.program.sockets.inbox import Inbox
from gateway.program.sockets.writing import CALM, PlainDirectTransport, Threshold
from gateway.protocols.objects import Delivery
from gateway.protocols.plain import PlainBytes, PlainText
from gateway.session import Session as GatewaySession
from gateway.transports.conversation import Conversation, ServerConnection
from gateway.transports.deflate import Compression
from gateway.transports.frames import BINARY, TEXT, frame
from gateway.transports.raw import ReadyState
from gateway.transports.single_frames import DirectWire, PortableWire
from gateway.transports.slow_consumer import WriteLimits
from tests.core.test_wheel import Clock
from tests.waiting import until

LIMIT = 4 * CALM
PATIENCE = 10.0


class Raw:
    """A connection whose socket takes nothing."""

    def __init__(self) -> None:
        self.state = ReadyState.OPEN
        self.buffer = b""
        self.closes: list[tuple[int, str]] = []
        self.written = 0

    def unread(self) -> int:
        return len(self.buffer)

    def write(self, data: bytes) -> None:
        self.buffer += data

    def waiting(self) -> int:
        return len(self.buffer)

    def close(self, code: int, reason: str) -> None:
        self.state = ReadyState.CLOSING
        self.closes.append((code, reason))


class Session:
    def __init__(self, transport: PlainDirectTransport) -> None:
        self.transport = transport

    def disconnect(self, reason: Disconnect) -> None:
        self.transport.close(reason)

    reject = disconnect


@pytest.fixture
def raw() -> Raw:
    return Raw()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> Wheel:
    return Wheel(clock)


@pytest.fixture
def transport(raw: Raw, wheel: Wheel) -> PlainDirectTransport:
    transport = PlainDirectTransport(cast(ServerConnection, raw), wheel, WriteLimits(LIMIT, PATIENCE))
    transport.session = cast(GatewaySession, Session(transport))
    return transport


def pass_time(clock: Clock, wheel: Wheel, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        wheel.turn()


def test_messages_are_frames_of_their_own() -> None:
    for wire, opcode in ((DirectWire(PlainText(), None), TEXT), (DirectWire(PlainBytes(), None), BINARY)):
        assert wire.pack([b"a"]) == frame(opcode, b"a")
        assert wire.pack([b"a", b"b"]) == frame(opcode, b"a") + frame(opcode, b"b")
    assert PortableWire(PlainText()).pack([b"a", "ü".encode()]) == ["a", "ü"]
    assert PortableWire(PlainBytes()).pack([b"a", b"\xff"]) == [b"a", b"\xff"]


def test_messages_are_compressed_where_that_was_agreed_on() -> None:
    packed = DirectWire(PlainText(), Compression()).pack([b"x" * 1000, b"y" * 1000])
    assert len(packed) < 100


async def test_writes_while_the_connection_is_open(transport: PlainDirectTransport, raw: Raw) -> None:
    transport.write(b"a")
    raw.state = ReadyState.CLOSING  # the route has closed it
    transport.write(b"b")
    assert raw.buffer == b"a"


async def test_writes_nothing_after_the_end(transport: PlainDirectTransport, raw: Raw) -> None:
    await transport.finish()
    transport.write(b"a")
    assert raw.buffer == b""
    assert raw.closes == []


async def test_over_the_limit_it_is_slow(transport: PlainDirectTransport, raw: Raw, wheel: Wheel) -> None:
    transport.write(b"x" * 3 * LIMIT)  # one message may be as large as it likes
    transport.write(b"x" * LIMIT)
    assert raw.closes == []
    transport.write(b"x")
    assert raw.closes == [], "not under the hands of the fan-out"
    await until(lambda: raw.closes)
    transport.write(b"dropped")
    assert raw.closes == [(DisconnectCode.SLOW, "slow")]
    assert len(raw.buffer) == 4 * LIMIT + 1
    assert not wheel._slots


async def test_patience_ends(transport: PlainDirectTransport, raw: Raw, clock: Clock, wheel: Wheel) -> None:
    transport.write(b"x" * (CALM + 1))
    transport.write(b"x")
    pass_time(clock, wheel, PATIENCE - 0.2)
    assert raw.closes == []
    pass_time(clock, wheel, 0.4)
    assert raw.closes == [(DisconnectCode.SLOW, "slow")]


async def test_who_has_read_meanwhile_is_not_slow(
    transport: PlainDirectTransport, raw: Raw, clock: Clock, wheel: Wheel
) -> None:
    for _ in range(3):
        transport.write(b"x" * (CALM + 1))
        pass_time(clock, wheel, PATIENCE - 0.2)
        raw.buffer = b""
        pass_time(clock, wheel, PATIENCE / 10)
        assert not wheel._slots
    transport.write(b"x" * CALM)
    assert not wheel._slots
    assert raw.closes == []


async def test_patience_begins_anew_with_whatever_is_taken(
    transport: PlainDirectTransport, raw: Raw, clock: Clock, wheel: Wheel
) -> None:
    """What the route sends by itself does not hide it."""
    transport.write(b"x" * 2 * LIMIT)
    for _ in range(10):
        pass_time(clock, wheel, PATIENCE - 0.2)
        raw.buffer = raw.buffer[1:]
        raw.buffer += b"y" * 1000
        raw.written += 1000
    assert raw.closes == []
    raw.buffer += b"y" * 1000
    raw.written += 1000
    pass_time(clock, wheel, 1.1 * PATIENCE)
    assert raw.closes == [(DisconnectCode.SLOW, "slow")]


async def test_the_route_learns_of_our_close_when_it_sends(transport: PlainDirectTransport, raw: Raw) -> None:
    """Before the client has answered: as of any client that has gone."""
    conversation = Conversation(cast(ServerConnection, raw), {"type": "websocket"}, (0, 0))
    transport.close(Disconnect(4000, "bye"))
    for message in ({"type": "websocket.send", "text": "tick"}, {"type": "websocket.close"}):
        with pytest.raises(OSError):  # noqa: PT011  ASGI knows no more of it
            await conversation.send(message)
    assert raw.closes == [(4000, "bye")]


async def test_a_close_ends_the_patience(transport: PlainDirectTransport, raw: Raw, wheel: Wheel) -> None:
    transport.write(b"x" * (CALM + 1))
    transport.close(Disconnect(4000, "bye"))
    assert raw.closes == [(4000, "bye")]
    assert not wheel._slots


async def test_what_waits_is_told_wherever_it_waits(raw: Raw) -> None:
    """Before the WebSocket is open, in the socket, and for a route that takes publications itself."""
    threshold = Threshold(100, lambda: None)
    threshold.send(b"four")
    threshold.send([b"two", b"three"])
    assert (threshold.name, threshold.waiting()) == ("websocket", 12)
    transport = PlainDirectTransport(cast(ServerConnection, raw), Wheel(Clock()), WriteLimits(LIMIT, PATIENCE))
    transport.send(b"seven..")
    inbox = Inbox(transport, 100, lambda: None)
    inbox.send([Delivery.of("news", Publication(Payload(b"1234")), b"1234")])
    assert (inbox.name, inbox.waiting()) == ("websocket", 11)
    inbox.take()
    assert inbox.waiting() == 7
