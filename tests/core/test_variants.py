"""Patches and filters in the fan-out, where streams do not simply go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from gateway.core import patches
from gateway.core.audience import AudienceKey
from gateway.core.hub import Hub
from gateway.core.patches import Bases, Patches
from gateway.messages import Exclusion, Payload, Position, Publication, Push, Quoted
from gateway.metrics import Metrics
from gateway.protocols.base import Wire
from gateway.protocols.fossil import LARGEST, apply, create
from tests.core.test_hub import Client, Reader, Text, at

PADDING = "a text that is the same each time"


class Forms(Text):
    """Messages that tell the form of a publication: w1 is a whole one, p1 a patch, n1 what others get without delta."""

    name: ClassVar[str] = "forms"

    def __init__(self) -> None:
        super().__init__()
        self.payloads: dict[str, bytes] = {}

    def encode_push(self, channel: str, push: Push) -> bytes:
        assert isinstance(push, Publication)
        self.encoded[form := "p" if push.delta else "w" if type(push.data) is Quoted else "n"] += 1
        message = b"%b%d" % (form.encode(), push.offset)
        self.payloads[message.decode()] = bytes(push.data)
        return message

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b" ".join(messages)


@pytest.fixture
async def hub() -> Hub:
    return Hub(Metrics(), clock=lambda: 1000.0)


PROTOCOL = Forms()
FORMS = Wire(PROTOCOL, bytes.decode)


@dataclass(eq=False)
class Follower(Reader):
    """A subscriber with delta, and what it has made of what it was sent."""

    base: bytes = b""


def follower(hub: Hub, position: Position | None, had: Publication | None = None) -> Follower:
    subscriber = Follower(Client(FORMS), positioned=position is not None, delta=True, base=had.data if had else b"")
    hub.join(subscriber)
    hub.enter(subscriber, position, had)
    return subscriber


def publication(offset: int, text: str = "") -> Publication:
    data = Payload(f"{PADDING} {text or offset}".encode())
    return Publication(data, offset=offset, epoch="abcd" if offset else "", patchable=True)


def publish(hub: Hub, *offsets: int) -> None:
    for offset in offsets:
        hub.publish("room", publication(offset))


def told(hub: Hub, reader: Reader) -> str:
    """The forms in which publications have come, which say what was published."""
    hub.flush()
    frames, reader.frames[:] = [*reader.frames], []
    for message in " ".join(frames).split():
        if not isinstance(reader, Follower):
            break
        data = PROTOCOL.payloads[message]
        reader.base = apply(reader.base, data) if message[0] == "p" else data
        assert len(reader.base) == LARGEST + len(PADDING) + 1 or reader.base == publication(int(message[1:])).data
    return " ".join(frames)


def had(offset: int) -> Publication:
    """As it lies in the stream."""
    return Publication(publication(offset).data, offset=offset)


async def test_a_patch_is_made_and_written_once_for_all(hub: Hub) -> None:
    readers = [follower(hub, at(0)) for _ in range(50)]
    PROTOCOL.encoded.clear()
    publish(hub, 1, 2, 3)
    assert {told(hub, each) for each in readers} == {"w1 p2 p3"}
    assert PROTOCOL.encoded == {"w": 1, "p": 2}
    assert len(hub.channels["room"].audiences) == 1


async def test_those_ahead_come_with_what_they_had(hub: Hub) -> None:
    here = follower(hub, at(1), had(1))
    ahead = follower(hub, at(3), had(3))
    fresh = follower(hub, at(3))
    publish(hub, 2, 3, 4, 5)
    assert told(hub, here) == "p2 p3 p4 p5"
    assert told(hub, ahead) == "p4 p5"
    assert told(hub, fresh) == "w4 p5"
    assert len(hub.channels["room"].audiences) == 1


async def test_what_somebody_had_before_his_position_is_no_base(hub: Hub) -> None:
    """As when the newest publications of a stream are none that his filter, or the release, could read."""
    late = follower(hub, at(3), had(2))
    publish(hub, 4, 5)
    assert told(hub, late) == "w4 p5"


async def test_who_goes_over_old_ground_gets_all_whole(hub: Hub) -> None:
    """A server that lost writes tells again what this node has seen, for those who have not."""
    others = follower(hub, at(10))
    publish(hub, 11)
    behind = follower(hub, at(5), had(5))
    publish(hub, 6, 7)
    assert (told(hub, others), told(hub, behind)) == ("w11", "w6 w7")
    fresh = follower(hub, at(7))
    publish(hub, 8, 9, 10, 11, 12, 13)
    assert told(hub, others) == "p12 p13"
    assert told(hub, behind) == "w8 w9 w10 w11 p12 p13"
    assert told(hub, fresh) == "w8 w9 w10 w11 w12 p13"
    assert [each.losses for each in (others, behind, fresh)] == [0, 0, 0]


async def test_old_ground_is_no_base_for_those_who_are_beyond(hub: Hub) -> None:
    others = follower(hub, at(10), had(10))
    publish(hub, 11)
    hub.publish("room", publication(7, "12, and more of what comes"))
    publish(hub, 12)
    assert told(hub, others) == "p11 p12"
    assert PROTOCOL.payloads["p12"] == create(had(11).data, had(12).data)


async def test_who_is_excluded_on_old_ground_goes_on_and_gets_the_next_whole(hub: Hub) -> None:
    others = follower(hub, at(10))
    publish(hub, 11)
    behind = follower(hub, at(9), had(9))
    hub.connections = {"gone": behind.connection}
    behind.connection.subscriptions["room"] = behind
    publish(hub, 10)
    again = publication(11)
    again.exclude = Exclusion(clients=("gone",))
    hub.publish("room", again)
    publish(hub, 12, 13)
    assert told(hub, others) == "w11 p12 p13"
    assert (told(hub, behind), behind.losses) == ("w10 w12 p13", 0)


async def test_after_one_without_offset_all_get_the_next_whole(hub: Hub) -> None:
    here, ahead = follower(hub, at(1), had(1)), follower(hub, at(3), had(3))
    publish(hub, 2, 0, 3, 4, 5)
    assert told(hub, here) == "p2 w0 w3 p4 p5"
    assert told(hub, ahead) == "w0 w4 p5"


async def test_after_a_gap_whoever_stays_gets_the_next_whole(hub: Hub) -> None:
    lost, loose = follower(hub, at(0)), follower(hub, None)
    publish(hub, 1, 2, 4)
    assert (told(hub, lost), lost.losses) == ("w1 p2", 1)
    assert told(hub, loose) == "w1 w2 w4"
    back = follower(hub, at(4))
    publish(hub, 5, 6)
    assert told(hub, back) == "w5 p6"


async def test_another_epoch_is_no_continuation(hub: Hub) -> None:
    here = follower(hub, at(1), had(1))
    other = follower(hub, at(1, "next"), had(1))
    hub.publish("room", Publication(publication(2).data, offset=2, epoch="next", patchable=True))
    assert here.losses == 1
    assert told(hub, other) == "w2"


async def test_what_is_not_to_be_patched_is_a_base_all_the_same(hub: Hub) -> None:
    here = follower(hub, at(0))
    for offset in (1, 2, 3):
        each = publication(offset)
        each.patchable = offset != 2
        hub.publish("room", each)
    assert told(hub, here) == "w1 w2 p3"


async def test_what_is_large_goes_whole_and_is_not_kept(hub: Hub) -> None:
    here = follower(hub, at(0))
    publish(hub, 1)
    hub.publish("room", publication(2, "x" * LARGEST))
    assert "room" not in hub._variants._bases
    publish(hub, 3, 4)
    assert told(hub, here) == "w1 w2 w3 p4"


async def test_bases_take_so_much_and_no_more(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(publication(1).data)
    monkeypatch.setattr(patches, "MOST_BASES", 2 * size)
    bases = Bases()
    for name in "abc":
        bases.keep(name, at(1), publication(1).data)
    assert [name in bases for name in "abc"] == [False, True, True]
    bases.keep("b", at(2), publication(2).data)
    bases.keep("d", at(1), publication(1).data)
    assert [name in bases for name in "bcd"] == [True, False, True]
    for name in "bcd":
        bases.drop(name)
    assert bases._size == 0


async def test_those_who_lose_their_position_take_the_base_along(hub: Hub) -> None:
    follower(hub, at(0))
    publish(hub, 1)
    assert "room" in hub._variants._bases
    publish(hub, 3)
    assert "room" not in hub._variants._bases


async def test_others_are_not_told_apart_by_those_with_delta(hub: Hub) -> None:
    plain = Reader(Client(FORMS), positioned=True)
    hub.join(plain)
    hub.enter(plain, at(0))
    here = follower(hub, at(0))
    publish(hub, 1, 2)
    assert (told(hub, plain), told(hub, here)) == ("n1 n2", "w1 p2")
    assert AudienceKey(FORMS, False, True) in hub.channels["room"].audiences


# — what is made —


def payloads(*texts: str) -> list[Publication]:
    return [Publication(Payload(text.encode()), offset=number) for number, text in enumerate(texts, 1)]


def test_a_chain_can_be_read_one_by_one() -> None:
    texts = [PADDING + "1", PADDING + "2", "short", "short", PADDING + "3", PADDING * 3]
    made = Patches().chain(payloads(*texts))
    assert [each.delta for each in made] == [False, True, False, False, False, True]
    base = b""
    for each, text in zip(made, texts, strict=True):
        assert type(each.data) is Quoted
        base = apply(base, each.data) if each.delta else bytes(each.data)
        assert base.decode() == text


def test_a_chain_takes_bounded_time_and_what_is_known_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = payloads(*(PADDING + str(number) for number in range(6)))
    monkeypatch.setattr(patches, "MADE_AT_ONCE", 2 * len(found[1].data))
    made = Patches()
    assert [each.delta for each in made.chain(found)] == [False, True, True, False, False, False]
    assert [each.delta for each in made.chain(found)] == [False, True, True, True, True, False]


def test_patches_are_made_once_and_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[bytes] = []

    def counted(base: bytes, target: bytes) -> bytes:
        created.append(target)
        return create(base, target)

    monkeypatch.setattr(patches, "create", counted)
    monkeypatch.setattr(patches, "MOST_PATCHES", 1000)
    made = Patches()
    one, two, *more = (each.data for each in payloads(*(PADDING + str(number) for number in range(30))))
    assert made.between(one, two) == made.between(Payload(one), Payload(two))
    assert created == [two]
    for each in more:
        made.between(one, each)
    assert made._size <= 1000
    made.between(one, two)
    assert created.count(two) == 2


# — maps —


def back(hub: Hub, position: Position, *keys: str) -> Follower:
    """Somebody who has come back to a map, and has been given what these keys have."""
    subscriber = Follower(Client(FORMS), positioned=True, delta=True)
    hub.join(subscriber)
    hub.enter(subscriber, position, frozenset(keys))
    return subscriber


def change(hub: Hub, offset: int, key: str = "a", *, previous: bool = True, exclude: Exclusion | None = None) -> None:
    made = publication(offset)
    made.key, made.exclude = key, exclude
    made.previous = publication(offset - 1).data if previous else None
    hub.publish("room", made)


def forms(hub: Hub, reader: Reader) -> str:
    hub.flush()
    frames, reader.frames[:] = [*reader.frames], []
    return " ".join(frames)


async def test_a_key_is_known_to_those_who_have_come_back_when_all_of_them_have_it(hub: Hub) -> None:
    here, ahead = back(hub, at(5)), back(hub, at(7))
    change(hub, 6)  # which the one ahead may have had before it left, and has not been given since
    change(hub, 7, previous=False)
    change(hub, 8)
    change(hub, 9)
    assert forms(hub, here) == "w6 w7 w8 p9"
    assert forms(hub, ahead) == "w8 p9"


async def test_what_somebody_was_spared_is_not_known(hub: Hub) -> None:
    one, other = back(hub, at(5), "a"), back(hub, at(5), "a")
    hub.connections = {"other": other.connection}
    other.connection.subscriptions["room"] = other
    change(hub, 6)
    change(hub, 7, exclude=Exclusion(clients=("other",)))
    change(hub, 8)
    change(hub, 9)
    assert forms(hub, one) == "p6 p7 w8 p9"
    assert forms(hub, other) == "p6 w8 p9"
