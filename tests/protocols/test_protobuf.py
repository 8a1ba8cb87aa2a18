"""The codec by itself, on a table of its own; ``test_centrifuge_fields`` holds all others against google's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway.protocols.protobuf import (
    DEEPEST,
    UNREADABLE,
    Malformed,
    Message,
    boolean,
    delimited,
    int32,
    int64,
    mapping,
    message,
    messages,
    offset,
    payload,
    read_varint,
    sint64,
    text,
    texts,
    uint32,
    uint64,
    varint,
)
from tests.protocols.google import google, plain, some


class FilterNode(Struct):
    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: list[str] = []
    nodes: "list[FilterNode]" = []


class Publication(Struct):
    """With all that the protocol has, also what is not spoken."""

    data: bytes | None = None
    info: Any = None
    offset: int = 0
    tags: dict[str, str] = {}
    delta: bool = False
    time: int = 0
    channel: str = ""
    score: int = 0
    version: int = 0


class SubscribeResult(Struct):
    type: int = 0
    ttl: int = 0
    publications: list[Publication] = []


class ClientInfo(Struct):
    user: str = ""


class PresenceResult(Struct):
    presence: dict[str, ClientInfo] = {}


FILTER = Message(FilterNode, op=text(1), key=text(2), cmp=text(3), val=text(4), vals=texts(5), nodes=messages(6))
INFO = Message(ClientInfo, user=text(1))
PUBLICATION = Message(
    Publication,
    data=payload(4),
    info=message(5, INFO),
    offset=offset(6),
    tags=mapping(7),
    delta=boolean(8),
    time=int64(9),
    channel=text(10),
    score=sint64(13),
    version=uint64(16),
)
RESULT = Message(SubscribeResult, ttl=uint32(2), publications=messages(7, PUBLICATION), type=int32(15))
PRESENCE = Message(PresenceResult, presence=mapping(1, INFO))


def assert_malformed(table: Message, data: bytes) -> None:
    with pytest.raises(UNREADABLE):
        table.decode(data)


@pytest.mark.parametrize("table", [FILTER, PUBLICATION, RESULT, PRESENCE], ids=lambda table: table.struct.__name__)
@given(data=st.data())
def test_all_kinds_of_fields(table: Message, data: st.DataObject) -> None:
    kind = google(table.struct.__name__)
    theirs = data.draw(some(kind))
    ours = table.decode(theirs.SerializeToString())
    assert plain(table, ours) == plain(table, theirs) == plain(table, kind.FromString(table.write(ours)))


@given(st.integers(0, 2**64 - 1))
def test_numbers(number: int) -> None:
    written = varint(number)
    assert read_varint(b"x" + written + b"y", 1) == (number, 1 + len(written))
    for size in range(len(written)):
        with pytest.raises(IndexError):
            read_varint(written[:size], 0)


@pytest.mark.parametrize(
    ("table", "value", "written"),
    [
        (PUBLICATION, Publication(score=-1), "6801"),
        (PUBLICATION, Publication(score=-(2**63)), "68ffffffffffffffffff01"),
        (PUBLICATION, Publication(time=-1), "48ffffffffffffffffff01"),
        (PUBLICATION, Publication(offset=2**53), "308080808080808010"),
        (PUBLICATION, Publication(version=2**64 - 1), "8001ffffffffffffffffff01"),
        (PUBLICATION, Publication(info=ClientInfo()), "2a00"),
        (RESULT, SubscribeResult(type=-(2**31)), "7880808080f8ffffffff01"),
        (RESULT, SubscribeResult(publications=[Publication(), Publication()]), "3a003a00"),
        (PRESENCE, PresenceResult({"": ClientInfo(), "a": ClientInfo("b")}), "0a0212000a080a01611203" + "0a0162"),
    ],
)
def test_what_is_written(table: Message, value: Struct, written: str) -> None:
    assert table.write(value).hex() == written
    assert table.decode(bytes.fromhex(written)) == value


def test_zeros_are_not_written() -> None:
    assert PUBLICATION.write(Publication(data=b"", tags={})) == b""
    assert PUBLICATION.decode(b"") == Publication()


def test_a_message_in_two_parts_is_one() -> None:
    """As the specification has it: by this somebody may add to a message that he does not read."""
    assert PUBLICATION.decode(b"\x2a\x03\x0a\x01a\x30\x05\x2a\x00") == Publication(info=ClientInfo("a"), offset=5)


def test_an_entry_may_lack_its_parts() -> None:
    assert PUBLICATION.decode(b"\x3a\x00\x3a\x03\x0a\x01k") == Publication(tags={"": "", "k": ""})
    assert PRESENCE.decode(b"\x0a\x03\x0a\x01k") == PresenceResult({"k": ClientInfo()})


@pytest.mark.parametrize(
    "data",
    [
        "0a",  # a length is missing
        "0a02" + "61",  # cut off
        "0a81",  # within the length
        "0affffffffffffffffff01",  # longer than there are addresses
        "0a" + "ff" * 11,
        "0a01ff",  # not UTF-8
        "00" + "00",  # field 0
        "0f",  # wire type 7
        "0e",
        "0b",  # a group without end
        "0c",  # an end without group
        "0b14",  # another's end
        "0b0a0561",  # cut off within a group
        "0d000000",  # 32 bits
        "0900000000000000",  # 64 bits
        "32020a05",  # a message that goes on behind its own end
        "80808080800a",  # a tag of six bytes
        "0a808080808000",  # a length of six
    ],
)
def test_malformed(data: str) -> None:
    assert_malformed(FILTER, bytes.fromhex(data))


def test_a_message_does_not_read_beyond_its_end() -> None:
    """Though there are bytes: they are another's."""
    assert_malformed(FILTER, b"\x32\x02\x0a\x05" + b"abcde")
    assert_malformed(FILTER, b"\x32\x01\x0a\x01" + b"a")


def test_offsets_that_json_has_not() -> None:
    with pytest.raises(Malformed, match="offset"):
        PUBLICATION.decode(b"\x30" + varint(2**53 + 1))


def test_it_goes_no_deeper() -> None:
    def nested(levels: int) -> bytes:
        data = b""
        for _ in range(levels):
            data = b"\x32" + delimited(data)
        return data

    FILTER.decode(nested(DEEPEST))
    assert_malformed(FILTER, nested(DEEPEST + 1))
    assert_malformed(FILTER, nested(100_000))
    assert FILTER.decode(b"\x0b" * DEEPEST + b"\x0c" * DEEPEST) == FilterNode()
    assert_malformed(FILTER, b"\x0b" * (DEEPEST + 1) + b"\x0c" * (DEEPEST + 1))
