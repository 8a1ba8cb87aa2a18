"""Writing to a client: at once where the server lets it, in order where it does not, and to an end."""

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.transports.raw import CLOSE_TIMEOUT
from gateway.transports.slow_consumer import WriteLimits
from gateway.transports.websocket import WebSocketTransport
from tests.core.test_wheel import Clock
from tests.waiting import until

LIMIT = 100
PATIENCE = 10.0
SLOW = Disconnect(DisconnectCode.SLOW)


def text(frame: str) -> Any:
    return frame


class Wire:
    """A server's ``send`` that a test holds up, lets go or breaks."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.gate: asyncio.Future[None] | None = None
        self.steps = 0
        self.error: BaseException | None = None

    async def __call__(self, message: Any) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def hold(self) -> None:
        self.gate = asyncio.get_running_loop().create_future()

    def let_go(self, error: BaseException | None = None) -> None:
        gate, self.gate = self.gate, None
        assert gate is not None
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)

    @property
    def frames(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]

    @property
    def closed(self) -> dict[str, Any] | None:
        return next((message for message in self.sent if message["type"] == "websocket.close"), None)


class Session:
    """Closes its transport when it is told to, as a session does."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self.transport = transport
        self.reasons: list[int] = []

    def disconnect(self, reason: Disconnect) -> None:
        self.reasons.append(reason.code)
        self.transport.close(reason)

    reject = disconnect


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> Wheel:
    return Wheel(clock)


@pytest.fixture
async def transport(wire: Wire, wheel: Wheel) -> WebSocketTransport:
    return make(wire, wheel)


def make(wire: Any, wheel: Wheel) -> WebSocketTransport:
    transport = WebSocketTransport(wire, wheel, WriteLimits(LIMIT, PATIENCE))
    transport.session = Session(transport)  # type: ignore[assignment]
    return transport


async def idle(transport: WebSocketTransport) -> None:
    await until(lambda: transport._pump is None)


def later(clock: Clock, wheel: Wheel, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        clock.now += 0.1
        wheel.turn()


# — sending —


async def test_writes_at_once(transport: WebSocketTransport, wire: Wire) -> None:
    transport.send(text("a"))
    transport.send(text("b"))
    assert wire.frames == ["a", "b"]
    assert transport._pump is None


async def test_writes_text(transport: WebSocketTransport, wire: Wire) -> None:
    transport.send(text("ü"))
    assert wire.sent == [{"type": "websocket.send", "text": "ü"}]


async def test_frames_line_up_behind_one_that_waits(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    for frame in "abc":
        transport.send(text(frame))
    await asyncio.sleep(0)
    assert wire.frames == []
    wire.let_go()
    await idle(transport)
    transport.send(text("d"))
    assert wire.frames == ["a", "b", "c", "d"]


async def test_order_holds_however_often_the_server_waits(transport: WebSocketTransport, wire: Wire) -> None:
    sent = []
    for round_ in range(30):
        wire.steps = round_ % 4
        for number in range(round_ % 3 + 1):
            frame = f"{round_}.{number}"
            transport.send(text(frame))
            sent.append(frame)
        if round_ % 2:
            await asyncio.sleep(0)
        if round_ % 7 == 0:
            await idle(transport)
    await idle(transport)
    assert wire.frames == sent


async def test_a_wait_that_is_over_before_the_task_begins(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("a"))
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["a"]


async def test_takes_any_awaitable(wheel: Wheel, wire: Wire) -> None:
    def send(message: Any) -> Awaitable[None]:
        return asyncio.ensure_future(wire(message))

    transport = make(send, wheel)
    transport.send(text("a"))
    transport.send(text("b"))
    await idle(transport)
    assert wire.frames == ["a", "b"]


# — failures —


async def test_after_a_failure_nothing_is_written(transport: WebSocketTransport, wire: Wire) -> None:
    wire.error = OSError("gone")
    transport.send(text("a"))
    wire.error = None
    transport.send(text("b"))
    assert wire.sent == []


async def test_after_a_failure_while_waiting_nothing_is_written(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("a"))
    transport.send(text("b"))
    await asyncio.sleep(0)
    wire.let_go(OSError("gone"))
    await idle(transport)
    transport.send(text("c"))
    assert wire.sent == []


async def test_after_a_failure_in_the_backlog_nothing_is_written(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    for frame in "ab":
        transport.send(text(frame))
    await asyncio.sleep(0)
    wire.error = OSError("gone")
    wire.let_go()
    await idle(transport)
    assert wire.sent == []


async def test_a_send_that_was_cancelled_inside_the_server_is_a_failure(
    transport: WebSocketTransport, wire: Wire
) -> None:
    wire.hold()
    transport.send(text("a"))
    transport.send(text("b"))
    await asyncio.sleep(0)
    assert wire.gate is not None
    wire.gate.cancel()
    await idle(transport)
    wire.gate = None
    transport.send(text("c"))
    await until(lambda: session(transport).reasons)
    assert wire.sent == []
    assert session(transport).reasons == [DisconnectCode.WRITE_ERROR]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_endpoint_whose_client_cannot_be_written_to_ends(
    wire: Wire, wheel: Wheel, clock: Clock, waits: bool
) -> None:
    """The server may not notice by itself, so the endpoint must not wait for it for ever."""

    async def endpoint() -> None:
        transport = make(wire, wheel)
        transport.send(text("a"))
        await idle(transport)
        transport.close(SLOW)
        await asyncio.Event().wait()

    wire.steps = int(waits)
    wire.error = RuntimeError("not only the client's end")
    task = asyncio.create_task(endpoint())
    await until(lambda: wheel._slots)
    await asyncio.sleep(0)
    clock.now += CLOSE_TIMEOUT - 0.2
    wheel.turn()
    assert not task.cancelling()
    later(clock, wheel, 0.4)
    await asyncio.wait([task])
    assert task.cancelled()


# — a client that reads slowly —


def session(transport: WebSocketTransport) -> Session:
    return cast(Session, transport.session)


async def test_a_backlog_up_to_the_limit_is_kept(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("waits"))
    for _ in range(LIMIT):
        transport.send(text("x"))
    await asyncio.sleep(0)
    assert session(transport).reasons == []
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["waits", *["x"] * LIMIT]


async def test_a_backlog_over_the_limit_ends_the_connection(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("waits"))
    transport.send(text("x" * LIMIT))
    transport.send(text("y"))
    await until(lambda: session(transport).reasons)
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["waits"]
    assert wire.closed == {"type": "websocket.close", "code": 3008, "reason": "slow"}


async def test_nothing_follows_what_was_dropped(transport: WebSocketTransport, wire: Wire) -> None:
    """Otherwise the client believes to stand further on, and what was dropped is lost for ever."""
    sent = ["waits", "x" * LIMIT, "dropped", "later", "later still"]
    wire.hold()
    for frame in sent:
        transport.send(text(frame))
    await until(lambda: session(transport).reasons)
    transport.send(text("last"))
    wire.let_go()
    await idle(transport)
    assert wire.frames == sent[: len(wire.frames)]
    assert wire.closed is not None


async def test_the_limit_counts_bytes(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("waits"))
    transport.send(text("€" * (LIMIT // 3 + 1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert session(transport).reasons == [3008]
    transport.closed()


async def test_patience_with_one_who_does_not_read_ends(
    transport: WebSocketTransport, wire: Wire, wheel: Wheel, clock: Clock
) -> None:
    wire.hold()
    transport.send(text("waits"))
    transport.send(text("dropped"))
    later(clock, wheel, PATIENCE - 0.2)
    await asyncio.sleep(0)
    assert session(transport).reasons == []
    later(clock, wheel, 0.4)
    await until(lambda: session(transport).reasons)
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["waits"]
    assert wire.closed == {"type": "websocket.close", "code": 3008, "reason": "slow"}


async def test_who_has_read_in_time_is_waited_for_as_long_again(
    transport: WebSocketTransport, wire: Wire, wheel: Wheel, clock: Clock
) -> None:
    for _ in range(2):
        wire.hold()
        transport.send(text("waits"))
        later(clock, wheel, PATIENCE - 0.2)
        wire.let_go()
        await idle(transport)
        assert not wheel._slots
    assert session(transport).reasons == []


async def test_patience_begins_anew_with_every_frame_that_is_taken(
    transport: WebSocketTransport, wire: Wire, wheel: Wheel, clock: Clock
) -> None:
    wire.hold()
    for number in range(10):
        transport.send(text(str(number)))
    for number in range(9):
        later(clock, wheel, PATIENCE - 0.2)
        gate = wire.gate
        wire.hold()
        assert gate is not None
        gate.set_result(None)
        await until(lambda: len(wire.frames) == number + 1)  # noqa: B023
    assert session(transport).reasons == []
    assert transport.behind()
    later(clock, wheel, 1.1 * PATIENCE)
    assert session(transport).reasons == [DisconnectCode.SLOW]
    assert not transport.behind()
    transport.closed()


@pytest.mark.parametrize("waits", [True, False], ids=["waits itself", "has the next one wait"])
async def test_a_frame_larger_than_the_limit_has_more_time(
    transport: WebSocketTransport, wire: Wire, wheel: Wheel, clock: Clock, waits: bool
) -> None:
    """No server tells how much of a frame is gone. Some wait until most of it is, some do so before the next."""
    if not waits:
        transport.send(text("x" * 3 * LIMIT))
    wire.hold()
    transport.send(text("x" * (3 * LIMIT if waits else 1)))
    later(clock, wheel, 3 * PATIENCE - 0.2)
    assert session(transport).reasons == []
    later(clock, wheel, 0.4)
    assert session(transport).reasons == [DisconnectCode.SLOW]
    transport.closed()


async def test_patience_does_not_end_with_the_time_to_close(
    transport: WebSocketTransport, wire: Wire, wheel: Wheel, clock: Clock
) -> None:
    wire.hold()
    transport.send(text("waits"))
    transport.close(Disconnect(4001, "lunch"))
    assert len(wheel._slots) == 1, "one deadline at a time"
    wire.let_go()
    await idle(transport)
    assert wheel._slots, "that of closing stays"
    transport.closed()


async def test_a_transport_without_session_only_drops(wire: Wire, wheel: Wheel) -> None:
    transport = make(wire, wheel)
    transport.session = None
    wire.hold()
    transport.send(text("waits"))
    transport.send(text("x" * (LIMIT + 1)))
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["waits"]


# — the end —


async def test_closes_after_what_was_sent(transport: WebSocketTransport, wire: Wire) -> None:
    wire.hold()
    transport.send(text("a"))
    transport.send(text("b"))
    transport.close(Disconnect(4001, "lunch"))
    transport.close(SLOW)
    transport.send(text("c"))
    wire.let_go()
    await idle(transport)
    assert wire.frames == ["a", "b"]
    assert wire.sent[-1] == {"type": "websocket.close", "code": 4001, "reason": "lunch"}
    assert len(wire.sent) == 3


async def test_an_endpoint_whose_client_does_not_close_ends(wire: Wire, wheel: Wheel, clock: Clock) -> None:
    async def endpoint() -> None:
        make(wire, wheel).close(SLOW)
        await asyncio.Event().wait()

    task = asyncio.create_task(endpoint())
    await until(lambda: wire.closed)
    clock.now += CLOSE_TIMEOUT - 0.2
    wheel.turn()
    assert not task.cancelling()
    later(clock, wheel, 0.4)
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_endpoint_that_has_ended_is_left_alone(wire: Wire, wheel: Wheel, clock: Clock) -> None:
    transport = make(wire, wheel)
    transport.close(SLOW)
    await idle(transport)
    transport.closed()
    assert not wheel._slots
    transport._abort()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("begun", [False, True])
async def test_the_end_stops_a_write_that_waits(transport: WebSocketTransport, wire: Wire, begun: bool) -> None:
    wire.hold()
    transport.send(text("a"))
    transport.send(text("b"))
    pump = transport._pump
    assert pump is not None
    if begun:
        await asyncio.sleep(0)
    transport.closed()
    await asyncio.wait([pump])
    assert pump.cancelled()
    transport.send(text("c"))
    transport.close(SLOW)
    assert wire.sent == []
