"""Each table of ours against what google's runtime makes of the protocol's own."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocols.centrifuge_fields import COMMAND, PUSHES, RESULTS
from gateway.protocols.protobuf import LEN, UNREADABLE, Message, varint
from tests.protocols.google import google, google_of, plain, pool, some


def _tables(*roots: Message) -> Iterator[Message]:
    for root in roots:
        yield root
        yield from _tables(*(each.of for each in root.fields.values() if each.of))


TABLES = {
    google_of(each).DESCRIPTOR.name: each
    for each in _tables(COMMAND, *RESULTS.values(), *PUSHES.values())
    if each.struct.__name__ != "_Entry"
}
SPOKEN = pool({name: table.fields for name, table in TABLES.items()})
"""What is not spoken is looked into no more by google's runtime than by ours."""

LENIENT = {"there is no such offset", "a number has more than 64 bits", "there is no such field number"}
"""Where google's runtime goes on: it has offsets beyond JSON's, drops bits, and knows a field 0 within groups."""

tables = st.sampled_from([*TABLES.values()])
messages = tables.flatmap(lambda table: st.tuples(st.just(table), some(google_of(table))))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_numbers_are_the_protocols(table: Message) -> None:
    known = google_of(table).DESCRIPTOR.fields_by_name
    assert {name: field.number for name, field in table.fields.items()} == {
        name: known[name].number for name in table.fields
    }


def test_replies_and_pushes_have_their_numbers() -> None:
    for outer, numbered in ("Reply", RESULTS), ("Push", PUSHES):
        known = google(outer).DESCRIPTOR.fields_by_number
        assert {number: google_of(each).DESCRIPTOR.name for number, each in numbered.items()} == {
            number: known[number].message_type.name for number in numbered
        }


@given(messages)
def test_what_google_writes_is_read(given: tuple[Message, Any]) -> None:
    table, message = given
    assert plain(table, table.decode(message.SerializeToString())) == plain(table, message)


@given(messages)
@example((TABLES["SubscribeResult"], google_of(TABLES["SubscribeResult"])(data=b"\0 marks what is no JSON")))
def test_what_is_written_google_reads(given: tuple[Message, Any]) -> None:
    table, message = given
    ours = table.decode(message.SerializeToString())
    theirs = google_of(table).FromString(table.write(ours))
    assert plain(table, theirs) == plain(table, ours, written=True)


@given(messages, st.binary(max_size=40), st.integers(0, 1 << 29), st.integers(0, 7), st.data())
def test_what_is_not_known_is_passed_over(
    given: tuple[Message, Any], value: bytes, number: int, kind: int, data: st.DataObject
) -> None:
    """Between two fields, of any wire type, and be it nonsense: then both refuse it."""
    table, message = given
    head, tail = message.SerializeToString(), data.draw(some(google_of(table))).SerializeToString()
    strange = varint(number << 3 | kind) + (varint(len(value)) if kind == LEN else b"") + value
    _agree(table, head + strange + tail)


@given(tables, st.binary(max_size=60))
@example(COMMAND, b"\x08" + b"\xff" * 9 + b"\x01")
@example(COMMAND, b"\x08" + b"\xff" * 9 + b"\x02")
@example(COMMAND, b"\x08" + b"\xff" * 10 + b"\x01")
@example(COMMAND, b"\x88\x80\x00\x07")
@example(COMMAND, b"\x88\x80\x80\x80\x80\x00\x07")
@example(COMMAND, b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(COMMAND, b"\x00\x00")
@example(COMMAND, b"\x10")
@example(COMMAND, b"\x13\x0b\x08\x01\x0c\x14")
@example(COMMAND, b"\x13\x0b\x08\x01\x14\x0c")
@example(COMMAND, b"\x13" * 100 + b"\x14" * 100)
@example(COMMAND, b"\x13" * 101 + b"\x14" * 101)
@example(COMMAND, b"\x2a\x03\x0a\x01\xff")
def test_any_bytes(table: Message, frame: bytes) -> None:
    _agree(table, frame)


@given(messages, st.data())
def test_broken_messages(given: tuple[Message, Any], data: st.DataObject) -> None:
    table, message = given
    frame = bytearray(message.SerializeToString())
    if frame:
        for at in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=3)):
            frame[at] = data.draw(st.integers(0, 255))
    _agree(table, bytes(frame[: data.draw(st.integers(0, len(frame)))]))


def _agree(table: Message, frame: bytes) -> None:
    """Both read the same, or both refuse."""
    try:
        theirs = google(google_of(table).DESCRIPTOR.name, SPOKEN).FromString(frame)
    except DecodeError:
        with pytest.raises(UNREADABLE):
            table.decode(frame)
        return
    try:
        ours = table.decode(frame)
    except UNREADABLE as error:
        assert str(error) in LENIENT  # noqa: PT017  no other code is run that may raise it
        return
    # an entry with something else in it google's leaves out
    assert plain(table, ours, maps=False) == plain(table, theirs, maps=False)
