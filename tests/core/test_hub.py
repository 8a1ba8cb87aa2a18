"""The fan-out: who gets which publication, in which frames, and who is told of a loss."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from gateway.core.audience import Write
from gateway.core.hub import Hub
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import ClientInfo, Command, Exclusion, Join, Leave, Payload, Position, Publication, Push, Result
from gateway.metrics import Metrics
from gateway.protocols.base import FRAME_SIZE, Wire
from tests.waiting import until

EPOCH = "abcd"
ANN = ClientInfo("ann", "c1")


class Text:
    """A protocol whose messages are words, and which counts how often it encodes."""

    name: ClassVar[str] = "text"
    binary: ClassVar[bool] = False
    ping: ClassVar[bytes] = b""
    pong: ClassVar[bytes] = b""
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = False

    def __init__(self) -> None:
        self.encoded: Counter[str] = Counter()

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        raise NotImplementedError

    def encode_result(self, command_id: int, result: Result) -> bytes:
        raise NotImplementedError

    def encode_error(self, command_id: int, error: Exception) -> bytes:
        raise NotImplementedError

    def encode_push(self, channel: str, push: Push) -> bytes:
        match push:
            case Publication(binary=True):
                raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
            case Publication():
                text = bytes(push.data).decode()
            case _:
                text = type(push).__name__.lower()
        self.encoded[text] += 1
        return text.encode()

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b" ".join(messages)


def text_wire() -> Wire:
    return Wire(Text(), bytes.decode)


WIRE = text_wire()


@dataclass(eq=False)
class Client:
    """A connection and its transport in one."""

    wire: Wire = field(default_factory=text_wire)
    client: str = "c1"
    user: str = "ann"
    outbox: list[bytes] | None = None
    frames: list[str] = field(default_factory=list)
    disconnected: list[int] = field(default_factory=list)
    subscriptions: "dict[str, Reader]" = field(default_factory=dict)

    @property
    def transport(self) -> "Client":
        return self

    @property
    def write(self) -> Write:
        return self.send

    def send(self, frame: Any) -> None:
        self.frames.append(frame)

    def disconnect(self, reason: Disconnect) -> None:
        self.disconnected.append(reason.code)

    def control(self, command: Any) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class Reader:
    """A subscription, and what its client was sent."""

    connection: Client
    channel: str = "room"
    joins: bool = False
    positioned: bool = False
    held: list[Publication] | None = None
    losses: int = 0
    before: Position | None = None
    """Where it was told that it had stood."""
    batch_delay: float = 0.0
    tags: TagsFilter | None = None
    delta: bool = False
    number: int = 0

    def __post_init__(self) -> None:
        self.connection.subscriptions[self.channel] = self

    def lose_position(self, before: Position | None, /) -> None:
        self.losses += 1
        self.before = before

    @property
    def frames(self) -> list[str]:
        return self.connection.frames


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hub(metrics: Metrics, clock: Clock) -> Hub:
    return Hub(metrics, clock=clock)


def reader(
    hub: Hub,
    position: Position | None = None,
    *,
    wire: Wire = WIRE,
    joins: bool = False,
    channel: str = "room",
    batch_delay: float = 0.0,
) -> Reader:
    """A subscriber whose delivery has begun."""
    subscriber = Reader(Client(wire), channel, joins, positioned=position is not None, batch_delay=batch_delay)
    hub.join(subscriber)
    hub.enter(subscriber, position)
    return subscriber


def at(offset: int, epoch: str = EPOCH) -> Position:
    return Position(offset, epoch)


def publication(offset: int = 0, text: str = "", epoch: str = EPOCH, time: int = 0) -> Publication:
    text = text or f"p{offset}"
    return Publication(Payload(text.encode()), offset=offset, epoch=epoch if offset else "", time=time)


def publish(hub: Hub, *offsets: int) -> None:
    for offset in offsets:
        hub.publish("room", publication(offset))


async def tick() -> None:
    """Let the hub write: after one more look at the sockets."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# — connections —


async def test_finds_the_connections_of_a_user(hub: Hub) -> None:
    first, second, other = Client(client="1"), Client(client="2"), Client(client="3", user="bob")
    for each in (first, second, other):
        hub.open(each)
    assert hub.of_user("ann") == [first, second]
    assert hub.of_user("nobody") == []
    hub.close(first)
    assert hub.of_user("ann") == [second]
    hub.close(second)
    hub.close(second)
    assert set(hub.users) == {"bob"}
    assert set(hub.connections) == {"3"}


# — who gets what —


async def test_encodes_once_for_each_wire(hub: Hub) -> None:
    protocols = Text(), Text()
    wires = [Wire(protocol, bytes.decode) for protocol in protocols]
    readers = [
        reader(hub, position, wire=wire, joins=joins)
        for wire in wires
        for joins in (False, True)
        for position in (None, at(0), at(7))
        for _ in range(3)
    ]
    publish(hub, 1)
    assert [protocol.encoded for protocol in protocols] == [{"p1": 1}, {"p1": 1}]
    hub.flush()
    up_to_date = [each for each in readers if each.frames]
    assert len(up_to_date) == 24  # not those whom the stream has not reached
    assert {tuple(each.frames) for each in up_to_date} == {("p1",)}


async def test_a_tick_makes_one_frame(hub: Hub) -> None:
    one, other = reader(hub), reader(hub, at(0))
    publish(hub, 1, 2, 3)
    assert one.frames == []
    await tick()
    assert one.frames == other.frames == ["p1 p2 p3"]
    publish(hub, 4)
    await tick()
    assert one.frames == ["p1 p2 p3", "p4"]


@pytest.mark.parametrize("readers", [1, 2])
async def test_publications_may_wait_for_each_other(hub: Hub, readers: int) -> None:
    found = [reader(hub, batch_delay=0.01) for _ in range(readers)]
    plain = reader(hub, channel="other")
    publish(hub, 1)
    await tick()
    hub.publish("other", publication(1))
    publish(hub, 2)
    await tick()
    assert plain.frames == ["p1"]
    assert not any(each.frames for each in found)
    await until(lambda: found[0].frames)
    assert [each.frames for each in found] == [["p1 p2"]] * readers
    publish(hub, 3)
    late = reader(hub, batch_delay=0.01)
    publish(hub, 4)
    await until(lambda: late.frames)
    assert late.frames == ["p4"]
    assert found[0].frames == ["p1 p2", "p3", "p4"]


async def test_what_comes_before_the_next_look_at_the_sockets_goes_along(hub: Hub) -> None:
    one, other = reader(hub), reader(hub)
    publish(hub, 1)
    await asyncio.sleep(0)
    publish(hub, 2)
    await tick()
    assert one.frames == other.frames == ["p1 p2"]


async def test_one_who_is_alone_gets_pushes_of_several_channels_in_one_write(hub: Hub, metrics: Metrics) -> None:
    one = reader(hub)
    other = Reader(one.connection, "other")
    hub.join(other)
    hub.enter(other, None)
    publish(hub, 1)
    hub.publish("other", publication(text="q1"))
    publish(hub, 2)
    await tick()
    assert one.frames == ["p1 p2 q1"]
    assert (metrics.deliveries, metrics.bytes_out) == (3, 6)


async def test_a_connection_may_be_written_to_in_another_way(hub: Hub) -> None:
    """Also from within a write, as when a socket takes no more."""
    slow, plain = reader(hub), reader(hub)
    hub.join(joining := Reader(slow.connection))
    elsewhere = Reader(slow.connection, "nowhere")
    ways: list[str] = []

    class Slow(Client):
        @property
        def write(self) -> Write:
            return self._socket if not ways else self.send

        def _socket(self, frame: Any) -> None:
            ways.append(frame)
            hub.reroute([elsewhere, joining, subscriber])

    subscriber = Reader(Slow(WIRE))
    hub.join(subscriber)
    hub.enter(subscriber, None)
    for offset in (1, 2):
        publish(hub, offset)
        await tick()
    assert (ways, subscriber.frames) == (["p1"], ["p2"])
    assert slow.frames == plain.frames == ["p1", "p2"]


@pytest.mark.parametrize("readers", [1, 2])
async def test_a_frame_that_cannot_be_made_is_one_audiences_trouble(
    hub: Hub, readers: int, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_payload: bytes) -> Any:
        raise ValueError("no such frame")

    wire = Wire(Text(), bytes.decode)
    broken = [reader(hub, wire=wire) for _ in range(readers)]
    wire.frame = refuse
    good, another = reader(hub), reader(hub)
    publish(hub, 1)
    await tick()
    assert good.frames == another.frames == ["p1"]
    assert not any(each.frames for each in broken)
    assert "a frame could not be made" in caplog.text


async def test_a_socket_that_fails_is_nobody_elses_trouble(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Client):
        @property
        def write(self) -> Write:
            raise_ = iter(()).__next__
            return lambda _frame: raise_()

    subscriber = Reader(Broken(WIRE))
    hub.join(subscriber)
    hub.enter(subscriber, None)
    good = reader(hub)
    publish(hub, 1)
    await tick()
    assert good.frames == ["p1"]
    assert "could not be written" in caplog.text


async def test_replies_go_out_before_pushes(hub: Hub) -> None:
    one = reader(hub)
    publish(hub, 1)
    hub.post(one.connection, b"reply")
    hub.post(one.connection, b"another")
    await tick()
    assert one.frames == ["reply another p1"]  # in one write
    assert not one.connection.outbox


async def test_replies_go_out_before_pushes_that_need_no_tick(hub: Hub) -> None:
    one = reader(hub)
    hub.post(one.connection, b"reply")
    for _ in range(2):
        hub.publish("room", publication(text="x" * FRAME_SIZE))
    assert [frame[:5] for frame in one.frames[:2]] == ["reply", "xxxxx"]


async def test_an_outbox_that_was_emptied_by_others_is_left_alone(hub: Hub) -> None:
    one = reader(hub)
    hub.post(one.connection, b"reply")
    one.connection.outbox = None
    hub.flush()
    assert one.frames == []


async def test_frames_of_pushes_are_bounded(hub: Hub) -> None:
    one = reader(hub)
    sizes = [FRAME_SIZE // 3] * 7 + [FRAME_SIZE - 10, FRAME_SIZE - 10, 1, FRAME_SIZE * 2, 1]
    for size in sizes:
        hub.publish("room", publication(text="x" * size))
    hub.flush()
    frames = [[len(each) for each in frame.split(" ")] for frame in one.frames]
    assert [size for frame in frames for size in frame] == sizes
    assert [frame for frame in frames if sum(frame) > FRAME_SIZE] == [[FRAME_SIZE * 2]]


async def test_frames_of_replies_are_bounded(hub: Hub) -> None:
    one = Client()
    sizes = [FRAME_SIZE * 2, 1, FRAME_SIZE - 1, FRAME_SIZE // 2, FRAME_SIZE // 2, 1]
    for size in sizes:
        hub.post(one, b"x" * size)
    hub.flush()
    assert [[len(each) for each in frame.split(" ")] for frame in one.frames] == [
        [FRAME_SIZE * 2],
        [1, FRAME_SIZE - 1],
        [FRAME_SIZE // 2, FRAME_SIZE // 2],
        [1],
    ]


async def test_a_subscriber_that_comes_within_a_tick_gets_nothing_older(hub: Hub) -> None:
    first = reader(hub)
    publish(hub, 1)
    second = reader(hub)
    publish(hub, 2)
    hub.flush()
    assert " ".join(first.frames) == "p1 p2"
    assert second.frames == ["p2"]


async def test_a_channel_nobody_hears_is_nothing(hub: Hub) -> None:
    publish(hub, 1)
    hub.announce("room", Join(ANN))
    hub.leave(Reader(Client()))
    assert hub.subscribers("room") == 0
    assert not hub.channels


async def test_joins_and_leaves_reach_those_who_want_them(hub: Hub) -> None:
    quiet, curious, positioned = reader(hub), reader(hub, joins=True), reader(hub, at(0), joins=True)
    ahead = reader(hub, at(3), joins=True)
    hub.announce("room", Join(ANN))
    hub.announce("room", Leave(ANN))
    hub.flush()
    assert quiet.frames == []
    assert curious.frames == positioned.frames == ahead.frames == ["join leave"]


async def test_one_who_leaves_gets_nothing_more(hub: Hub) -> None:
    one, other = reader(hub), reader(hub)
    publish(hub, 1)
    hub.leave(one)
    hub.leave(one)
    hub.flush()
    assert (one.frames, other.frames) == ([], ["p1"])
    assert (hub.subscriptions, hub.subscribers("room")) == (1, 1)
    hub.leave(other)
    assert (hub.subscriptions, hub.subscribers("room"), hub.channels) == (0, 0, {})


async def test_a_subscription_given_up_while_it_is_made_leaves_no_trace(hub: Hub) -> None:
    one = Reader(Client(), positioned=True, held=[])
    hub.join(one)
    assert set(hub.channels) == {"room"}
    hub.leave(one)
    assert not hub.channels
    assert hub.subscriptions == 0


async def test_counts_what_is_delivered(hub: Hub, metrics: Metrics) -> None:
    for _ in range(3):
        reader(hub)
    publish(hub, 1, 2)
    hub.flush()
    assert (metrics.deliveries, metrics.bytes_out) == (6, 12)


async def test_binary_data_ends_connections_that_cannot_carry_it(hub: Hub) -> None:
    readers = [reader(hub), reader(hub, at(0)), reader(hub, at(0), joins=True)]
    elsewhere = reader(hub, channel="other")
    hub.publish("room", Publication(Payload(b"\xff"), offset=1, epoch=EPOCH, binary=True))
    hub.flush()
    assert [each.connection.disconnected for each in readers] == [[3506]] * 3
    assert elsewhere.connection.disconnected == []
    assert [each.frames for each in readers] == [[], [], []]


async def test_joins_pass_over_those_who_cannot_be_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf_wire = text_wire()
    deaf, curious = reader(hub, wire=deaf_wire, joins=True), reader(hub, joins=True)

    def refuse(channel: str, push: Push) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    monkeypatch.setattr(deaf_wire.protocol, "encode_push", refuse)
    hub.announce("room", Join(ANN))
    hub.flush()
    assert (deaf.frames, deaf.connection.disconnected) == ([], [])
    assert curious.frames == ["join"]


async def test_writes_to_one_connection_at_once(hub: Hub) -> None:
    one, two = Client(WIRE), Client(WIRE)
    hub.send(one, b"a")
    assert one.frames == ["a"]
    hub.post(two, b"x")
    for message in (b"b", b"c"):
        hub.post(one, message)
    hub.send(one, b"d")
    assert one.frames == ["a", "b c d"]
    assert two.frames == []
    hub.post(one, b"e")
    hub.flush()
    assert one.frames == ["a", "b c d", "e"]
    assert two.frames == ["x"]


# — while a subscription is made —


async def test_live_publications_are_held_back(hub: Hub) -> None:
    positioned, plain = Reader(Client(), positioned=True, held=[]), Reader(Client())
    hub.join(positioned)
    hub.join(plain)
    publish(hub, 4, 0, 5)
    assert positioned.held is not None
    assert [each.offset for each in positioned.held] == [4, 5]
    positioned.held = None
    publish(hub, 6)
    hub.enter(positioned, at(6))
    hub.enter(plain, None)
    publish(hub, 7)
    hub.flush()
    assert positioned.frames == plain.frames == ["p7"]
    assert hub.subscribers("room") == 2


# — positions —


async def test_duplicates_are_skipped(hub: Hub) -> None:
    one = reader(hub, at(3))
    publish(hub, 3, 4, 4, 2, 5, 5)
    hub.flush()
    assert one.frames == ["p4 p5"]
    assert one.losses == 0


async def test_a_gap_is_told_to_those_who_are_positioned(hub: Hub) -> None:
    positioned, plain = reader(hub, at(3)), reader(hub)
    publish(hub, 4)
    hub.flush()
    publish(hub, 6)
    hub.flush()
    assert (positioned.losses, plain.losses) == (1, 0)
    assert (positioned.frames, plain.frames) == (["p4"], ["p4", "p6"])
    assert (hub.subscriptions, hub.subscribers("room")) == (1, 1)
    publish(hub, 7)
    hub.flush()
    assert positioned.frames == ["p4"]


async def test_what_came_before_a_gap_is_sent_before_the_loss_is_told(hub: Hub) -> None:
    one = reader(hub, at(3))

    def lose_position(_before: Position | None) -> None:
        hub.post(one.connection, b"unsubscribed")

    one.lose_position = lose_position  # type: ignore[method-assign]
    publish(hub, 4, 6)
    hub.flush()
    assert one.frames in (["unsubscribed"], ["p4", "unsubscribed"])


async def test_a_channel_whose_last_subscriber_lost_its_position_is_forgotten(hub: Hub) -> None:
    one = reader(hub, at(3))
    publish(hub, 5)
    assert (one.losses, hub.subscriptions, hub.channels) == (1, 0, {})


async def test_another_epoch_is_a_loss(hub: Hub) -> None:
    old = reader(hub, at(1))
    hub.publish("room", publication(2, epoch="next"))
    new = reader(hub, at(2, "next"))
    hub.publish("room", publication(3, epoch="next"))
    hub.flush()
    assert (old.losses, old.frames) == (1, [])
    assert (new.losses, new.frames) == (0, ["p3"])


async def test_another_epoch_is_a_loss_though_its_offset_is_the_next(hub: Hub) -> None:
    one = reader(hub, at(1))
    publish(hub, 2)
    hub.publish("room", publication(3, epoch="next"))
    hub.flush()
    assert (one.losses, one.frames) == (1, ["p2"])


async def test_a_stream_that_went_back_is_a_loss(hub: Hub) -> None:
    one = reader(hub, at(5))
    publish(hub, 6)
    hub.publish("room", publication(1, epoch="next"))
    assert one.losses == 1


async def test_those_ahead_wait_for_the_stream(hub: Hub) -> None:
    here, ahead, further = reader(hub, at(1)), reader(hub, at(3)), reader(hub, at(4))
    publish(hub, 2, 3)
    late = reader(hub, at(3))
    publish(hub, 4, 5, 6)
    hub.flush()
    assert " ".join(here.frames) == "p2 p3 p4 p5 p6"
    assert " ".join(ahead.frames) == " ".join(late.frames) == "p4 p5 p6"
    assert " ".join(further.frames) == "p5 p6"
    assert [each.losses for each in (here, ahead, further, late)] == [0] * 4
    assert len(hub.channels["room"].audiences) == 1


async def test_those_ahead_are_told_of_a_gap_too(hub: Hub) -> None:
    ahead = reader(hub, at(3))
    publish(hub, 5)
    assert ahead.losses == 1


async def test_one_behind_the_channel_is_not_taken_for_up_to_date(hub: Hub) -> None:
    """A server that lost writes answers with an older position than this node has seen."""
    ahead = reader(hub, at(10))
    publish(hub, 11)
    behind = reader(hub, at(5))
    publish(hub, 6, 7)
    hub.flush()
    assert (ahead.frames, ahead.losses) == (["p11"], 0)
    assert behind.losses or " ".join(behind.frames) == "p6 p7"


async def test_a_late_publication_is_a_loss(metrics: Metrics, clock: Clock) -> None:
    hub = Hub(metrics, max_lag=2.0, clock=clock)
    positioned, plain = reader(hub, at(0)), reader(hub)
    hub.publish("room", publication(1, time=int((clock.now - 1.5) * 1000)))
    assert positioned.losses == 0
    hub.publish("room", publication(2, time=int((clock.now - 2.5) * 1000)))
    hub.flush()
    assert positioned.losses == 1
    assert " ".join(plain.frames) == "p1 p2"
    assert hub.channels["room"].seen_at == clock.now


async def test_one_wants_no_offset_and_all_get_it(hub: Hub) -> None:
    readers = [reader(hub), reader(hub, at(3)), reader(hub, at(9))]
    publish(hub, 0)
    hub.flush()
    assert [each.frames for each in readers] == [["p0"]] * 3
    assert hub.channels["room"].position is None


async def test_losing_an_audience_that_has_gone_is_nothing(hub: Hub) -> None:
    one = reader(hub, at(3))
    channel = hub.channels["room"]
    keys = list(channel.audiences)
    hub.leave(one)
    hub.lose(channel, keys)
    assert one.losses == 0


async def test_tells_where_its_positioned_subscribers_stand(hub: Hub) -> None:
    reader(hub), reader(hub, at(3))
    assert hub.channels["room"].positions() == {at(3)}
    publish(hub, 4)
    reader(hub, at(9))
    assert hub.channels["room"].positions() == {at(4), at(9)}


# — all but one —


def known(hub: Hub, subscriber: Reader, client: str) -> Reader:
    """Let the hub know the subscriber's connection by this id."""
    subscriber.connection.client = client
    hub.open(subscriber.connection)
    return subscriber


def publish_but(hub: Hub, client: str, text: str, offset: int = 0, *, user: str = "") -> None:
    exclude = Exclusion((client,) if client else (), (user,) if user else ())
    epoch = EPOCH if offset else ""
    hub.publish("room", Publication(Payload(text.encode()), offset=offset, epoch=epoch, exclude=exclude))


async def test_one_may_be_left_out_of_what_is_announced(hub: Hub) -> None:
    one, two = (known(hub, reader(hub, joins=True), name) for name in ("one", "two"))
    apart = known(hub, reader(hub, at(0), joins=True), "three")
    hub.announce("room", Join(ANN), Exclusion(clients=("two", "nobody")))
    hub.announce("room", Leave(ANN))
    hub.flush()
    assert [" ".join(each.frames) for each in (one, two, apart)] == ["join leave", "leave", "join leave"]


async def test_an_announcement_is_encoded_once_for_each_wire(hub: Hub) -> None:
    wire = text_wire()
    readers = [reader(hub, position, joins=True, wire=wire) for position in (None, at(0), at(1))]
    hub.announce("room", Join(ANN))
    hub.flush()
    assert [each.frames for each in readers] == 3 * [["join"]]
    assert isinstance(wire.protocol, Text)
    assert wire.protocol.encoded["join"] == 1


async def test_one_client_may_be_excluded(hub: Hub, metrics: Metrics) -> None:
    one, two, three = (known(hub, reader(hub), name) for name in ("one", "two", "three"))
    hub.publish("room", publication(text="before"))
    publish_but(hub, "two", "hidden")
    hub.publish("room", publication(text="after"))
    hub.flush()
    everything = "before hidden after"
    assert [" ".join(each.frames) for each in (one, two, three)] == [everything, "before after", everything]
    assert hub.subscribers("room") == hub.subscriptions == 3


async def test_a_user_may_be_excluded_and_a_client_of_it_as_well(hub: Hub) -> None:
    readers = [known(hub, reader(hub), name) for name in ("one", "two", "three")]
    for each, user in zip(readers, ("bob", "bob", "eve"), strict=True):
        hub.close(each.connection)
        each.connection.user = user
        hub.open(each.connection)
    publish_but(hub, "two", "hidden", user="bob")
    hub.publish("room", publication(text="after"))
    hub.flush()
    assert [" ".join(each.frames) for each in readers] == ["after", "after", "hidden after"]
    assert hub.subscribers("room") == hub.subscriptions == 3


async def test_who_is_not_excluded_is_encoded_for_and_written_to_once(hub: Hub) -> None:
    """However many others there are, and however many are excluded."""
    readers = [known(hub, reader(hub), f"client {number}") for number in range(20)]
    excluded = tuple(each.connection.client for each in readers[:5])
    hub.publish("room", Publication(Payload(b"encoded once"), exclude=Exclusion(excluded)))
    hub.flush()
    assert WIRE.protocol.encoded["encoded once"] == 1  # type: ignore[attr-defined]  # it is a `Text`
    assert [each.frames for each in readers] == [[]] * 5 + [["encoded once"]] * 15


async def test_who_excludes_itself_costs_the_others_nothing(hub: Hub, metrics: Metrics) -> None:
    """Cursors: everybody publishes to all others in one tick, and each is written to once."""
    readers = [known(hub, reader(hub), name) for name in "abcd"]
    hub.publish("room", publication(text="first"))
    for each in readers[:3]:
        publish_but(hub, each.connection.client, f"by-{each.connection.client}")
    publish_but(hub, "a", "by-a-again")
    hub.flush()
    assert [each.frames for each in readers] == [
        ["first by-b by-c"],
        ["first by-a by-c by-a-again"],
        ["first by-a by-b by-a-again"],
        ["first by-a by-b by-c by-a-again"],
    ]
    assert metrics.deliveries == 3 + 4 + 4 + 5
    publish(hub, 1)
    hub.flush()
    assert [each.frames[1:] for each in readers] == [["p1"]] * 4


async def test_an_excluded_one_that_leaves_gets_nothing_more(hub: Hub) -> None:
    one, two = (known(hub, reader(hub), name) for name in ("one", "two"))
    hub.publish("room", publication(text="before"))
    publish_but(hub, "two", "hidden")
    hub.leave(two)
    hub.flush()
    assert (one.frames, two.frames) == (["before hidden"], [])


async def test_exclusion_where_frames_are_full(hub: Hub) -> None:
    one, two = (known(hub, reader(hub), name) for name in ("one", "two"))
    large = "x" * (FRAME_SIZE - 5)
    hub.publish("room", publication(text=large))
    publish_but(hub, "two", "hidden-one")
    hub.publish("room", publication(text="after"))
    hub.flush()
    assert one.frames == [large, "hidden-one after"]
    assert two.frames == [large, "after"]


async def test_what_is_for_one_stands_behind_the_publications_before_it(hub: Hub) -> None:
    one = reader(hub)
    reader(hub)
    hub.publish("room", publication(text="before"))
    hub.post_in_turn(one.connection, b"alone")
    hub.post_in_turn(one.connection, b"again")
    hub.publish("room", publication(text="after"))
    hub.flush()
    assert one.frames == ["before", "alone again", "after"]


class Plain(Text):
    """Of clients that cannot tell channels apart."""

    omits = True


@dataclass
class Ears:
    """One plain client, which hears two channels; ``excluded`` is another, in the first of them."""

    hub: Hub
    client: Client = field(default_factory=lambda: Client(Wire(Plain(), bytes.decode)))

    def __post_init__(self) -> None:
        for channel in ("a", "b"):
            self.hub.join(subscriber := Reader(self.client, channel))
            self.hub.enter(subscriber, None)
        self.excluded = known(self.hub, reader(self.hub, wire=self.client.wire, channel="a"), "excluded")

    def full(self) -> None:
        self.hub.publish("a", publication(text="x" * FRAME_SIZE))

    def entered(self) -> None:
        reader(self.hub, wire=self.client.wire, channel="a")

    def reached(self) -> None:
        """The stream reaches one that has begun ahead of it."""
        ahead = Reader(Client(self.client.wire), "a")
        self.hub.join(ahead)
        self.hub.enter(ahead, at(1))
        self.hub.publish("a", publication(2))


@pytest.mark.parametrize("early", [Ears.full, Ears.entered, Ears.reached])
@pytest.mark.parametrize("first", ["a", "b"])
async def test_what_leaves_before_the_tick_ends_stands_behind_other_channels(
    hub: Hub, early: Callable[[Ears], None], first: str
) -> None:
    """For plain clients: none of them is told of another channel's publication too early."""
    ears = Ears(hub)
    hub.publish(first, publication(text="one"))
    hub.publish("a", publication(text="two"))
    early(ears)
    hub.publish("b", publication(text="three"))
    hub.publish("a", Publication(Payload(b"four"), exclude=Exclusion(("excluded",))))
    hub.flush()
    words = " ".join(ears.client.frames).split()
    assert [word for word in words if word in ("one", "two", "three", "four")] == ["one", "two", "three", "four"]
    assert "four" not in " ".join(ears.excluded.frames)


async def test_all_that_an_audience_has_may_be_excluded(hub: Hub) -> None:
    alone = known(hub, reader(hub), "alone")
    publish_but(hub, "alone", "hidden")
    hub.flush()
    assert alone.frames == []
    hub.publish("room", publication(text="after"))
    hub.flush()
    assert alone.frames == ["after"]


async def test_who_is_spared_a_publication_has_not_missed_it(hub: Hub) -> None:
    one, two = known(hub, reader(hub, at(3)), "one"), known(hub, reader(hub, at(3)), "two")
    publish(hub, 4)
    publish_but(hub, "two", "p5", 5)
    publish(hub, 6)
    hub.flush()
    assert " ".join(one.frames) == "p4 p5 p6"
    assert " ".join(two.frames) == "p4 p6"
    assert one.losses == two.losses == 0


@pytest.mark.parametrize("stranger", ["nobody", "elsewhere"])
async def test_excluding_who_is_not_here(hub: Hub, stranger: str) -> None:
    """A client of another node, or of another channel."""
    one = known(hub, reader(hub), "one")
    elsewhere = known(hub, reader(hub, channel="other"), "elsewhere")
    publish_but(hub, stranger, "seen")
    hub.flush()
    assert (one.frames, elsewhere.frames) == (["seen"], [])


async def test_excluding_where_publications_wait_for_each_other(hub: Hub) -> None:
    one, two = (known(hub, reader(hub, batch_delay=0.01), name) for name in ("one", "two"))
    hub.publish("room", publication(text="a"))
    publish_but(hub, "two", "hidden")
    hub.publish("room", publication(text="b"))
    await until(lambda: " ".join(one.frames) == "a hidden b")
    assert " ".join(two.frames) == "a b"


class Filling(Client):
    """Its socket is full from the first frame on that is for it alone; then only ``send`` may write."""

    hub: Hub
    reader: Reader
    full = False
    bypassed = 0

    @property
    def write(self) -> Write:
        return self.send if self.full else self._socket

    def _socket(self, frame: Any) -> None:
        self.bypassed += self.full
        if not self.full:
            self.send(frame)

    def send(self, frame: Any) -> None:
        super().send(frame)
        if not self.full:
            self.full = True
            self.hub.reroute([self.reader])


def filling(hub: Hub, position: Position | None = None) -> Filling:
    client = Filling(WIRE, client="filling")
    client.hub, client.reader = hub, Reader(client, positioned=position is not None)
    hub.open(client)
    hub.join(client.reader)
    hub.enter(client.reader, position)
    return client


async def test_who_is_excluded_may_be_written_to_in_another_way_meanwhile(hub: Hub) -> None:
    reader(hub)
    excluded = filling(hub)
    hub.post(excluded, b"reply")
    publish_but(hub, "filling", "hidden")
    hub.publish("room", publication(text="after"))
    hub.flush()
    assert (excluded.frames, excluded.bypassed) == (["reply", "after"], 0)


async def test_who_is_caught_up_with_may_be_written_to_in_another_way_meanwhile(hub: Hub) -> None:
    reader(hub, at(1))
    publish(hub, 2)
    hub.flush()
    ahead = filling(hub, at(3))
    publish(hub, 3)
    hub.post(ahead, b"reply")
    publish(hub, 4)
    hub.flush()
    assert (ahead.frames, ahead.bypassed) == (["reply", "p4"], 0)


# — what is counted —


async def test_the_lag_is_taken_of_one_publication_when_it_is_wanted(hub: Hub, metrics: Metrics, clock: Clock) -> None:
    reader(hub)
    for sent in (999.5, 999.9):
        hub.publish("room", Publication(Payload(b"a"), time=int(sent * 1000)))
    clock.now += 0.25
    hub.flush()
    assert sum(metrics.delivery_lag.counts) == 1
    assert metrics.delivery_lag.total == pytest.approx(0.75), "of the one that came first, until it is written"
    for wanted in (False, True):
        hub.measures |= wanted
        hub.publish("room", Publication(Payload(b"a"), time=int(clock.now * 1000)))
        hub.flush()
        assert sum(metrics.delivery_lag.counts) == 1 + wanted


async def test_a_clock_that_is_ahead_makes_no_negative_lag(hub: Hub, metrics: Metrics, clock: Clock) -> None:
    reader(hub)
    hub.publish("room", Publication(Payload(b"a"), time=int((clock.now + 5) * 1000)))
    hub.flush()
    assert (sum(metrics.delivery_lag.counts), metrics.delivery_lag.total) == (1, 0.0)


async def test_what_nobody_gets_has_no_lag(hub: Hub, metrics: Metrics) -> None:
    reader(hub, batch_delay=60.0)
    hub.publish("room", Publication(Payload(b"a"), time=1))
    hub.publish("nowhere", Publication(Payload(b"a"), time=1))
    hub.flush()
    assert sum(metrics.delivery_lag.counts) == 0


async def test_what_is_held_back_has_a_bound_and_is_counted_beyond(
    hub: Hub, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.hub.HELD", 2)
    joining = Reader(Client(), positioned=True, held=[])
    hub.join(joining)
    for offset in range(1, 6):
        hub.publish("room", Publication(Payload(b"a"), offset=offset, epoch=EPOCH))
    assert (len(joining.held or ()), metrics.dropped) == (2, {"held": 3})


async def test_who_holds_nothing_back_misses_nothing(hub: Hub, metrics: Metrics) -> None:
    hub.join(Reader(Client()))
    hub.publish("room", Publication(Payload(b"1"), key="k", version=1))
    publish(hub, 4)
    assert metrics.dropped == {}


async def test_a_channel_may_be_delivered_in_another_way(hub: Hub, metrics: Metrics) -> None:
    subscriber = reader(hub)
    delivered: list[Publication] = []
    hub.divert("room", delivered.append)
    hub.join(Reader(Client()))
    value = Publication(Payload(b"1"), key="k", version=1)
    hub.publish("room", value)
    hub.flush()
    assert (delivered, subscriber.frames, metrics.dropped["held"]) == ([value], [], 0)
