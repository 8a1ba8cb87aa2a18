"""A session on a raw connection: frames in order, slow clients judged, the end told once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from gateway.core.tasks import begin
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import FAIR, State
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.direct import DirectTransport
from gateway.transports.direct_writing import CALM
from gateway.transports.frames import TEXT, TOO_BIG
from gateway.transports.raw import MESSAGE_COST, QUEUED, RawConnection, discard
from gateway.transports.slow_consumer import WriteLimits
from tests.core.test_wheel import Clock
from tests.waiting import settle, until

LIMIT = 1000
PATIENCE = 10.0
LARGEST = 4 * UNAUTHENTICATED
LIMITS = WriteLimits(LIMIT, PATIENCE)


class Connection:
    """Writes down what is asked of it."""

    compression = None

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.written: list[bytes] = []
        self.waits = 0
        self.kernel = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def waiting(self) -> int:
        return self.waits

    def unread(self) -> int:
        return self.waits + self.kernel

    def limit(self, size: int) -> None:
        self.calls.append(size)

    def sip(self) -> None:
        self.calls.append("sip")

    def hold(self) -> None:
        self.calls.append("hold")

    def go_on(self) -> None:
        self.calls.append("go on")

    def close(self, code: int, reason: str) -> None:
        self.calls.append((code, reason))


class Session:
    """Carries out frames as its ``work`` does, and closes its transport as a session does."""

    client = "a-client"

    def __init__(self, transport: DirectTransport) -> None:
        self.transport = transport
        self.received: list[bytes] = []
        self.reasons: list[int] = []
        self.work: Callable[[bytes], Any] | None = None
        self.routes: list[Any] = []
        self.state = State.CONNECTED

    def reroute(self) -> None:
        self.routes.append(self.transport.write)

    def take(self, frame: bytes) -> Awaitable[None] | None:
        return begin(self.receive(frame))

    async def receive(self, frame: bytes) -> None:
        if self.reasons:
            return
        if self.work is not None:
            await self.work(frame)
        self.received.append(frame)

    def disconnect(self, reason: Disconnect) -> None:
        if not self.reasons:
            self.reasons.append(reason.code)
            self.transport.close(reason)

    reject = disconnect


class Doorkeeper:
    def __init__(self) -> None:
        self.closed: list[Any] = []

    def close(self, session: Any, code: int, reason: str) -> None:
        self.closed.append((session, code, reason))


class Gate:
    """Work that waits for the test at the frames it names."""

    def __init__(self, *frames: bytes) -> None:
        self.waiting = {frame: asyncio.get_running_loop().create_future() for frame in frames}

    async def __call__(self, frame: bytes) -> None:
        if frame in self.waiting:
            await self.waiting[frame]

    def open(self, frame: bytes) -> None:
        self.waiting[frame].set_result(None)


class Scene:
    """A transport and all around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.connection = Connection()
        self.doorkeeper = Doorkeeper()
        self.transport = DirectTransport(
            cast(RawConnection, self.connection), cast(Acceptor, self.doorkeeper), self.wheel, LIMITS, LARGEST
        )
        self.session = Session(self.transport)
        self.transport.session = self.session  # type: ignore[assignment]

    def take(self, *frames: bytes) -> None:
        self.transport.take([(TEXT, frame) for frame in frames])

    async def idle(self) -> None:
        await until(lambda: self.transport._pump is None)

    def later(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            self.wheel.turn()


@pytest.fixture
async def scene() -> Scene:
    return Scene()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# — frames —


async def test_frames_are_carried_out_on_the_spot(scene: Scene) -> None:
    scene.take(*numbered(FAIR))
    assert scene.session.received == numbered(FAIR)
    assert scene.transport._pump is None
    assert scene.connection.calls == [LARGEST]


async def test_frames_behind_one_that_waits_keep_their_order(scene: Scene) -> None:
    gate = scene.session.work = Gate(b"1", b"3")
    scene.take(b"0", b"1", b"2")
    assert scene.session.received == [b"0"]
    scene.take(b"3", b"4")
    await asyncio.sleep(0)
    scene.take(b"5")
    assert scene.session.received == [b"0"]
    gate.open(b"1")
    await until(lambda: scene.session.received == [b"0", b"1", b"2"])
    scene.take(b"6")
    gate.open(b"3")
    await scene.idle()
    assert scene.session.received == numbered(7)
    scene.take(b"7")
    assert scene.session.received == numbered(8), "on the spot again"


async def test_many_frames_in_one_read_give_others_their_turn(scene: Scene) -> None:
    scene.take(*numbered(3 * FAIR))
    assert scene.session.received == []
    turns = 0
    while scene.transport._pump is not None:
        before = len(scene.session.received)
        await asyncio.sleep(0)
        assert len(scene.session.received) - before <= FAIR
        turns += 1
    assert turns >= 3
    assert scene.session.received == numbered(3 * FAIR)


@pytest.mark.parametrize("size", [0, 1000, QUEUED // 2])
async def test_no_more_is_read_than_can_wait(scene: Scene, size: int) -> None:
    """In bytes, of which an empty frame takes some too."""
    fitting = QUEUED // (size + MESSAGE_COST)
    frames = [bytes(size)] * fitting
    gate = scene.session.work = Gate(b"first")
    scene.take(b"first")
    scene.take(*frames)
    assert "hold" not in scene.connection.calls
    scene.take(bytes(size))
    assert scene.connection.calls.count("hold") == 1
    gate.open(b"first")
    await scene.idle()
    assert scene.connection.calls[-1] == "go on"
    assert scene.session.received == [b"first", *frames, bytes(size)]
    scene.connection.calls.clear()
    gate.waiting[b"again"] = asyncio.get_running_loop().create_future()
    scene.take(b"again")
    scene.take(*frames)
    assert "hold" not in scene.connection.calls, "what has been carried out does not count"
    gate.open(b"again")
    await scene.idle()


# — clients that have not been let in —


async def test_while_connect_is_decided_little_is_read_at_a_time(scene: Scene) -> None:
    scene.session.state = State.NEW
    gate = scene.session.work = Gate(b"connect")
    scene.take(b"connect")
    await until(lambda: scene.connection.calls == ["sip"])
    scene.take(b"1")
    scene.take(b"2")
    assert set(scene.connection.calls) == {"sip"}
    scene.session.state = State.CONNECTED
    gate.open(b"connect")
    await scene.idle()
    assert scene.connection.calls[-2:] == [LARGEST, "go on"]
    assert scene.session.received == [b"connect", b"1", b"2"]


async def test_who_is_let_in_shortly_is_read_as_ever(scene: Scene) -> None:
    scene.session.state = State.NEW

    async def let_in(_frame: bytes) -> None:
        await asyncio.sleep(0)
        scene.session.state = State.CONNECTED

    scene.session.work = let_in
    scene.take(b"connect")
    await scene.idle()
    await settle()
    assert "sip" not in scene.connection.calls


async def test_what_comes_with_connect_in_one_read_is_bounded(scene: Scene) -> None:
    scene.session.state = State.NEW
    gate = scene.session.work = Gate(b"connect")
    scene.take(b"connect", bytes(QUEUED), bytes(QUEUED // 2))
    assert scene.connection.calls == ["sip", "hold"]
    assert scene.session.reasons == []
    scene.take(bytes(QUEUED))
    assert scene.session.reasons == [TOO_BIG]
    assert not scene.transport._waiting
    gate.open(b"connect")
    await scene.idle()
    assert scene.session.received == [b"connect"]


async def test_larger_messages_are_for_those_who_have_been_let_in(scene: Scene) -> None:
    scene.session.state = State.NEW
    scene.take(b"not yet")
    assert scene.connection.calls == []
    scene.session.state = State.CONNECTED
    scene.take(b"connect")
    scene.take(b"publish")
    assert scene.connection.calls == [LARGEST]


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()], ids=["defect", "cancelled"])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_failure_ends_the_connection(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: BaseException, waits: bool
) -> None:
    async def work(frame: bytes) -> None:
        if frame == b"1":
            if waits:
                await asyncio.sleep(0)
            raise error

    scene.session.work = work
    scene.take(b"0", b"1", b"2")
    await scene.idle()
    scene.take(b"3")
    assert scene.session.received == [b"0"]
    assert scene.session.reasons == [DisconnectCode.INTERNAL]
    assert (3004, "internal server error") in scene.connection.calls
    assert ("a frame failed" in caplog.text) is isinstance(error, Exception)


async def test_what_a_command_waits_for_may_be_cancelled(scene: Scene) -> None:
    gate = scene.session.work = Gate(b"0")
    scene.take(b"0", b"1")
    gate.waiting[b"0"].cancel()
    await scene.idle()
    assert scene.session.received == []
    assert scene.session.reasons == [DisconnectCode.INTERNAL]


# — writing —


async def test_writes_at_once_until_it_is_closed(scene: Scene) -> None:
    scene.transport.send(b"one")
    scene.transport.send(b"two")
    assert scene.connection.written == [b"one", b"two"]
    scene.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    scene.transport.send(b"three")
    assert scene.connection.written == [b"one", b"two"]
    assert scene.connection.calls == [(3001, "shutdown")]


async def test_a_burst_is_no_reason_while_the_client_reads(scene: Scene) -> None:
    scene.connection.waits = LIMIT + 1
    scene.transport.send(b"x")
    await asyncio.sleep(0)
    assert scene.session.reasons == []


async def test_who_leaves_too_much_unread_is_given_up_at_the_end_of_the_tick(scene: Scene) -> None:
    scene.transport.pause()
    scene.connection.waits = LIMIT
    scene.transport.send(b"x")
    await asyncio.sleep(0)
    assert scene.session.reasons == []
    scene.connection.waits = LIMIT + 1
    scene.transport.send(b"y")
    scene.transport.send(b"z")
    assert scene.session.reasons == [], "not while it is written to"
    assert scene.connection.written == [b"x", b"y", b"z"]
    await asyncio.sleep(0)
    assert scene.session.reasons == [DisconnectCode.SLOW]
    assert scene.connection.calls == [(3008, "slow")]


async def test_what_made_the_client_slow_is_not_counted(scene: Scene) -> None:
    scene.connection.waits = 10 * LIMIT
    scene.transport.pause()
    scene.connection.waits = 11 * LIMIT
    scene.transport.send(b"x")
    await asyncio.sleep(0)
    assert scene.session.reasons == []
    scene.connection.waits = 11 * LIMIT + 1
    scene.transport.send(b"y")
    await asyncio.sleep(0)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_what_is_taken_by_the_end_of_the_tick_is_not_counted(scene: Scene) -> None:
    scene.transport.pause()
    scene.connection.waits = LIMIT + 1
    scene.transport.send(b"x")
    scene.connection.waits = 0
    await asyncio.sleep(0)
    assert scene.session.reasons == []
    scene.connection.waits = LIMIT + 1
    scene.transport.send(b"y")
    await asyncio.sleep(0)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_who_is_closed_meanwhile_is_not_judged(scene: Scene) -> None:
    scene.transport.pause()
    scene.connection.waits = LIMIT + 1
    scene.transport.send(b"x")
    scene.transport.lose(1006, "")
    await asyncio.sleep(0)
    assert scene.session.reasons == []


async def test_patience_ends(scene: Scene) -> None:
    scene.connection.waits = 1
    scene.transport.pause()
    scene.later(PATIENCE - 0.2)
    scene.transport.pause()
    assert scene.session.reasons == []
    scene.later(0.4)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_who_reads_again_is_patiently_waited_for_again(scene: Scene) -> None:
    scene.connection.waits = 1
    scene.transport.pause()
    scene.later(PATIENCE - 0.2)
    scene.transport.resume()
    scene.transport.resume()
    scene.later(PATIENCE)
    scene.transport.pause()
    scene.later(PATIENCE - 0.2)
    assert scene.session.reasons == []
    scene.later(0.4)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_who_is_slow_is_known_while_he_is(scene: Scene) -> None:
    slow = LIMITS.slow
    scene.connection.waits = 123
    scene.transport.pause()
    assert [each.waiting() for each in slow] == [123]
    scene.transport.resume()
    assert slow == set()
    scene.transport.pause()
    scene.transport.lose(1006, "")
    assert slow == set()


async def test_patience_begins_anew_with_whatever_is_taken(scene: Scene) -> None:
    """Also if more is written than that: what it adds up to is the limit's to bound."""
    scene.connection.waits = LIMIT
    scene.transport.pause()
    for _ in range(20):
        scene.later(PATIENCE - 0.2)
        scene.connection.waits += 9
        scene.transport.send(b"ten bytes.")
    assert scene.session.reasons == []
    scene.connection.waits += 10
    scene.transport.send(b"ten bytes.")
    scene.later(1.1 * PATIENCE)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_what_the_kernel_passes_on_is_taken_too(scene: Scene) -> None:
    """It takes megabytes at once, and nothing more until a third of them has gone."""
    scene.connection.waits, scene.connection.kernel = LIMIT, 4_000_000
    scene.transport.pause()
    for _ in range(10):
        scene.later(PATIENCE - 0.2)
        scene.connection.kernel -= 1000
    scene.later(1.1 * PATIENCE)
    assert scene.session.reasons == [DisconnectCode.SLOW]


async def test_what_made_the_client_slow_is_allowed_only_once(scene: Scene) -> None:
    scene.connection.waits = 10 * LIMIT
    scene.transport.pause()
    scene.connection.waits = LIMIT
    scene.later(PATIENCE)
    scene.connection.waits = 2 * LIMIT + 1
    scene.transport.send(b"x")
    await asyncio.sleep(0)
    assert scene.session.reasons == [DisconnectCode.SLOW]


@pytest.mark.parametrize("ends", ["resume", "lose"])
async def test_who_reads_slowly_is_not_answered_further(scene: Scene, ends: str) -> None:
    scene.connection.waits = LIMIT
    scene.transport.pause()
    scene.take(b"0", b"1")
    drained = asyncio.ensure_future(scene.transport.drained())
    for _ in range(10):
        await asyncio.sleep(0)
    assert scene.session.received == []
    assert not drained.done()
    if ends == "resume":
        scene.transport.resume()
    else:
        scene.transport.lose(1006, "")
    await scene.idle()
    await drained
    assert scene.session.received == [b"0", b"1"]
    await scene.transport.drained()


async def test_a_client_is_behind_while_something_is_on_its_way(scene: Scene) -> None:
    """Then no pong can be expected of it: what it is expected to do is to take something."""
    assert not scene.transport.behind()
    scene.connection.kernel = CALM
    assert not scene.transport.behind()
    scene.connection.kernel = 10 * CALM
    assert scene.transport.behind()
    for _ in range(9):
        scene.later(PATIENCE - 0.2)
        scene.connection.kernel -= CALM
    scene.later(PATIENCE / 10)
    assert scene.transport.write == scene.connection.write
    assert not scene.transport.behind()
    scene.connection.kernel = CALM + 1
    assert scene.transport.behind()
    scene.later(PATIENCE)
    assert scene.session.reasons == [DisconnectCode.SLOW]
    assert not scene.transport.behind()


# — the end —


async def test_the_end_is_told_once_and_leaves_no_deadline(scene: Scene) -> None:
    scene.transport.pause()
    scene.transport.lose(1006, "")
    scene.transport.pause()
    scene.transport.send(b"x")
    scene.later(2 * PATIENCE)
    assert scene.doorkeeper.closed == [(scene.session, 1006, "")]
    assert scene.session.reasons == []
    assert scene.connection.written == []


async def test_closing_leaves_no_deadline(scene: Scene) -> None:
    scene.transport.pause()
    scene.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    scene.transport.pause()
    scene.later(2 * PATIENCE)
    assert scene.connection.calls == [(3001, "shutdown")]


async def test_a_server_that_stops_sends_its_clients_elsewhere(scene: Scene) -> None:
    scene.transport.drain()
    assert scene.connection.calls == [(3001, "shutdown")]
    scene.transport.drain()
    assert scene.session.reasons == [DisconnectCode.SHUTDOWN]


async def test_frames_that_wait_when_the_client_goes_are_for_the_session_to_drop(scene: Scene) -> None:
    gate = scene.session.work = Gate(b"0")
    scene.take(b"0", b"1")
    scene.transport.lose(1006, "")
    scene.session.reasons.append(3000)
    gate.open(b"0")
    await scene.idle()
    assert scene.session.received == [b"0"]


def test_the_fan_out_writes_to_the_socket_itself_while_there_is_nothing_to_look_after(scene: Scene) -> None:
    transport, socket = scene.transport, scene.connection.write
    assert transport.write == socket
    transport.resume()
    assert not scene.session.routes
    transport.pause()
    transport.pause()
    transport.resume()
    assert scene.session.routes == [transport.send, socket]
    transport.pause()
    transport.lose(1006, "")
    assert transport.write == scene.session.routes[-1] == discard
    transport.write(b"nobody")
    transport.pause()
    assert not scene.connection.written
