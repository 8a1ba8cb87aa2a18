"""The frame parser on every way in which bytes can arrive, every limit, and what is written."""

import random
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import pytest

from gateway.transports.frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FINAL,
    FRAGMENTS,
    PING,
    PONG,
    TEXT,
    FrameParser,
    Violation,
    close_frame,
    frame,
    parse_close,
)
from tests.transports.wire import Messages, compressed, header, masked

LIMIT = 100_000


def feed(parts: Iterable[bytes], limit: int = LIMIT, window_bits: int = 15) -> tuple[Messages, int]:
    """Messages, and the code of the violation or 0."""
    parser = FrameParser(limit, window_bits)
    messages = [message for part in parts for message in parser.feed(part)]
    return messages, parser.violation.code if parser.violation else 0


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The same bytes: whole, one by one, in two parts."""
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    for index in range(len(data) + 1):
        yield [data[:index], data[index:]]


STREAMS: dict[str, tuple[bytes, Messages]] = {
    "example of RFC 6455, section 5.7": (bytes.fromhex("818537fa213d7f9f4d5158"), [(TEXT, b"Hello")]),
    "empty": (masked(FINAL | TEXT) + masked(FINAL | BINARY), [(TEXT, b""), (BINARY, b"")]),
    "not ASCII": (masked(FINAL | TEXT, "Grüße €𝄞".encode()), [(TEXT, "Grüße €𝄞".encode())]),
    "binary": (masked(FINAL | BINARY, b"\xff\x00\x80"), [(BINARY, b"\xff\x00\x80")]),
    "125 bytes": (masked(FINAL | TEXT, b"x" * 125), [(TEXT, b"x" * 125)]),
    "126 bytes": (masked(FINAL | TEXT, b"x" * 126), [(TEXT, b"x" * 126)]),
    "as many as the mark of a longer length": (
        masked(FINAL | BINARY, b"x" * 119, size_bytes=8),  # 127 with what stands before them
        [(BINARY, b"x" * 119)],
    ),
    "65535 bytes": (masked(FINAL | BINARY, b"x" * 65535), [(BINARY, b"x" * 65535)]),
    "longer length than needed": (masked(FINAL | TEXT, b"Hello", size_bytes=8), [(TEXT, b"Hello")]),
    "control frames": (
        masked(FINAL | PING, b"a" * 125) + masked(FINAL | PONG) + masked(FINAL | PING),
        [(PING, b"a" * 125), (PONG, b""), (PING, b"")],
    ),
    "coalesced": (
        masked(FINAL | TEXT, b"one") + masked(FINAL | BINARY, b"two") + masked(FINAL | TEXT, b"three"),
        [(TEXT, b"one"), (BINARY, b"two"), (TEXT, b"three")],
    ),
    "fragments with a ping between them, through a character": (
        masked(TEXT, "€".encode()[:1])
        + masked(FINAL | PING, b"!")
        + masked(CONTINUATION, "€".encode()[1:2])
        + masked(CONTINUATION)
        + masked(FINAL | CONTINUATION, "€".encode()[2:])
        + masked(FINAL | TEXT, b"next"),
        [(PING, b"!"), (TEXT, "€".encode()), (TEXT, b"next")],
    ),
    "binary fragments that would not be UTF-8": (
        masked(BINARY, b"\xff") + masked(FINAL | CONTINUATION, b"\xfe"),
        [(BINARY, b"\xff\xfe")],
    ),
    "empty fragments": (masked(BINARY) + masked(FINAL | CONTINUATION), [(BINARY, b"")]),
    "compressed": (
        masked(FINAL | COMPRESSED | TEXT, compressed(b"Hello")) + masked(FINAL | TEXT, b"plain"),
        [(TEXT, b"Hello"), (TEXT, b"plain")],
    ),
    "compressed fragments": (
        masked(COMPRESSED | TEXT, compressed("ü".encode() * 9)[:3])
        + masked(FINAL | PONG)
        + masked(FINAL | CONTINUATION, compressed("ü".encode() * 9)[3:]),
        [(PONG, b""), (TEXT, "ü".encode() * 9)],
    ),
    "close": (masked(FINAL | CLOSE, b"\x03\xe8bye"), [(CLOSE, b"\x03\xe8bye")]),
    "close within a message": (masked(TEXT, b"unf") + masked(FINAL | CLOSE), [(CLOSE, b"")]),
}


@pytest.mark.parametrize(("data", "messages"), STREAMS.values(), ids=STREAMS)
def test_messages_however_they_arrive(data: bytes, messages: Messages) -> None:
    for parts in cuts(data):
        assert feed(parts) == (messages, 0), parts


@pytest.mark.parametrize(("data", "messages"), STREAMS.values(), ids=STREAMS)
def test_a_tail_waits(data: bytes, messages: Messages) -> None:
    if messages[-1][0] == CLOSE:
        assert feed([data + masked(FINAL | TEXT, b"after")]) == (messages, 0)
        return
    tail = masked(FINAL | TEXT, b"tail")
    for index in range(1, len(tail)):
        assert feed([data + tail[:index]]) == (messages, 0)
        assert feed([data + tail[:index], tail[index:]]) == ([*messages, (TEXT, b"tail")], 0)


@pytest.mark.parametrize("size", [65535, 65536, LIMIT])
@pytest.mark.parametrize("step", [1000, 65536, 2 * LIMIT])
def test_long_messages(size: int, step: int) -> None:
    payload = random.Random(size).randbytes(size)
    data = masked(FINAL | BINARY, payload)
    assert feed(data[at : at + step] for at in range(0, len(data), step)) == ([(BINARY, payload)], 0)


def test_a_part_is_unfinished() -> None:
    parser = FrameParser(LIMIT)
    whole = masked(FINAL | TEXT, b"Hello")
    states = [parser.unfinished]
    for part in (whole, whole[:1], whole[1:], masked(TEXT), masked(FINAL | PING), masked(FINAL | CONTINUATION)):
        parser.feed(part)
        states.append(parser.unfinished)
    assert states == [False, False, True, False, True, True, False]


# — what a peer must not send —

HEADERS: dict[str, tuple[bytes, int]] = {
    "not masked": (bytes((FINAL | TEXT, 5)), 1002),
    "not masked, long": (bytes((FINAL | TEXT, 127)), 1002),
    "RSV1 of a text without compression": (header(FINAL | COMPRESSED | TEXT, 5, 0), 1002),
    "RSV2": (header(FINAL | 0x20 | TEXT, 5, 0), 1002),
    "RSV3": (header(FINAL | 0x10 | BINARY, 5, 0), 1002),
    "RSV1 of a ping": (header(FINAL | COMPRESSED | PING, 5, 0), 1002),
    **{f"opcode {opcode:x}": (header(FINAL | opcode, 0, 0), 1002) for opcode in (*range(3, 8), *range(11, 16))},
    "fragment of a ping": (header(PING, 5, 0), 1002),
    "fragment of a close": (header(CLOSE, 0, 0), 1002),
    "long ping": (bytes((FINAL | PING, 0xFE)), 1002),
    "long close": (bytes((FINAL | CLOSE, 0xFF)), 1002),
    "continuation of nothing": (header(CONTINUATION, 5, 0), 1002),
    "last continuation of nothing": (header(FINAL | CONTINUATION, 5, 0), 1002),
    "new message within a message": (masked(TEXT, b"a") + header(TEXT, 5, 0), 1002),
    "whole message within a message": (masked(TEXT, b"a") + header(FINAL | BINARY, 5, 0), 1002),
    "too big": (header(FINAL | TEXT, LIMIT + 1, 8), 1009),
    "too big by 63 bits": (header(FINAL | TEXT, 2**63 - 1, 8), 1009),
    "too big by 64 bits": (header(FINAL | TEXT, 2**64 - 1, 8), 1009),
    "too big first fragment": (header(TEXT, LIMIT + 1, 8), 1009),
    "too big together": (masked(TEXT, b"a") + header(FINAL | CONTINUATION, LIMIT, 8), 1009),
}


@pytest.mark.parametrize(("data", "code"), HEADERS.values(), ids=HEADERS)
def test_a_wrong_header_fails_before_the_payload_arrives(data: bytes, code: int) -> None:
    for parts in cuts(data):
        assert feed(parts, window_bits=0) == ([], code), parts


COMPRESSED_HEADERS: dict[str, bytes] = {
    "RSV1 of a ping": header(FINAL | COMPRESSED | PING, 5, 0),
    "RSV1 of a close": header(FINAL | COMPRESSED | CLOSE, 5, 0),
    "RSV1 of a continuation": masked(COMPRESSED | TEXT, b"a") + header(FINAL | COMPRESSED | CONTINUATION, 5, 0),
    "RSV2 too": header(FINAL | COMPRESSED | 0x20 | TEXT, 5, 0),
    "RSV1 of an unknown opcode": header(FINAL | COMPRESSED | 0x3, 5, 0),
}


@pytest.mark.parametrize("data", COMPRESSED_HEADERS.values(), ids=COMPRESSED_HEADERS)
def test_reserved_bits_where_messages_may_be_compressed(data: bytes) -> None:
    for parts in cuts(data):
        assert feed(parts) == ([], 1002), parts


@pytest.mark.parametrize("size", [10, 200, 70_000])
def test_the_limit_is_the_last_size_that_goes(size: int) -> None:
    payload = b"x" * size
    assert feed([masked(FINAL | TEXT, payload)], limit=size) == ([(TEXT, payload)], 0)
    assert feed([masked(FINAL | TEXT, payload)], limit=size - 1) == ([], 1009)
    fragments = masked(TEXT, payload[:4]), masked(CONTINUATION, payload[4:8]), masked(FINAL | CONTINUATION, payload[8:])
    assert feed(fragments, limit=size) == ([(TEXT, payload)], 0)
    assert feed(fragments, limit=size - 1) == ([], 1009)


def test_each_message_has_the_limit_for_itself() -> None:
    message = masked(TEXT, b"abc") + masked(FINAL | CONTINUATION, b"def")
    assert feed([message * 3], limit=6) == ([(TEXT, b"abcdef")] * 3, 0)


@pytest.mark.parametrize(
    "begun", [b"", masked(TEXT, b"a" * 100), masked(FINAL | TEXT, b"a" * 101)[:50]], ids=["nothing", "message", "frame"]
)
def test_a_limit_that_is_tightened_holds_for_what_has_begun(begun: bytes) -> None:
    parser = FrameParser(LIMIT)
    assert parser.feed(begun) == []
    parser.limit(100)
    kind = CONTINUATION if begun == masked(TEXT, b"a" * 100) else TEXT
    parser.feed(b"a" if begun and kind == TEXT else masked(FINAL | kind, b"a" * 101)[:6])
    assert parser.violation
    assert parser.violation.code == 1009


def test_a_limit_can_be_raised_again() -> None:
    parser = FrameParser(200_000)
    parser.feed(masked(FINAL | TEXT, b"x" * 101)[:50])
    parser.limit(101)
    assert parser.feed(masked(FINAL | TEXT, b"x" * 101)[50:]) == [(TEXT, b"x" * 101)]
    parser.limit(150_000)
    for _ in range(FRAGMENTS + 1):
        parser.feed(masked(CONTINUATION if parser.unfinished else TEXT))
    assert not parser.violation
    parser.feed(masked(CONTINUATION, b"x" * 150_001))
    assert parser.violation
    assert parser.violation.code == 1009


def test_says_how_much_is_unfinished() -> None:
    parser = FrameParser(LIMIT)
    assert parser.kept == 0
    parser.feed(masked(TEXT, b"a" * 100))
    assert parser.kept == 100
    parser.feed(masked(CONTINUATION, b"a" * 100)[:50])
    assert parser.kept == 150
    parser.feed(masked(CONTINUATION, b"a" * 100)[50:])
    assert parser.kept == 200
    parser.feed(masked(FINAL | CONTINUATION))
    assert parser.kept == 0


@pytest.mark.parametrize("size", [100, 65536])
def test_the_limit_holds_after_decompression(size: int) -> None:
    payload = b"x" * size
    data = masked(FINAL | COMPRESSED | BINARY, compressed(payload))
    assert feed([data], limit=size) == ([(BINARY, payload)], 0)
    assert feed([data], limit=size - 1) == ([], 1009)


def test_a_bomb_is_not_blown_up() -> None:
    bomb = masked(FINAL | COMPRESSED | BINARY, compressed(bytes(50_000_000)))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        assert feed([bomb]) == ([], 1009)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * LIMIT


def test_a_message_that_is_too_big_compressed() -> None:
    noise = random.Random(1).randbytes(100)
    assert feed([masked(FINAL | COMPRESSED | BINARY, compressed(noise))], limit=100) == ([], 1009)


UNDECOMPRESSABLE: dict[str, bytes] = {
    "no deflate": b"\xff\xff\xff",
    "empty": b"",
    "cut off": compressed(b"Hello hello hello hello")[:-3],
    "goes on after a last block": zlib.compress(b"Hello", wbits=-15) + compressed(b"hello"),
}


@pytest.mark.parametrize("payload", UNDECOMPRESSABLE.values(), ids=UNDECOMPRESSABLE)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_cannot_be_decompressed(payload: bytes, opcode: int) -> None:
    assert feed([masked(FINAL | COMPRESSED | opcode, payload)]) == ([], 1007)


@pytest.mark.parametrize(("limit", "most"), [(2000, 1024), (65536, 1024), (65536 * 2, 2048)])
def test_many_fragments_of_one_message(limit: int, most: int) -> None:
    fragments = masked(TEXT, b"a") + masked(CONTINUATION, b"a") * (most - 1)
    end = masked(FINAL | CONTINUATION, b"a")
    text = b"a" * (most + 1)
    assert feed([(fragments + end) * 2], limit=limit) == ([(TEXT, text)] * 2, 0)
    assert feed([fragments + masked(CONTINUATION) + end], limit=limit) == ([], 1008)


NOT_UTF8: dict[str, bytes] = {
    "lone continuation": b"ab\x80",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond the last": b"\xf4\x90\x80\x80",
    "never": b"\xfe",
}


@pytest.mark.parametrize("text", NOT_UTF8.values(), ids=NOT_UTF8)
def test_text_that_is_not_utf8(text: bytes) -> None:
    for data in (
        masked(FINAL | TEXT, text),
        masked(FINAL | COMPRESSED | TEXT, compressed(text)),
        masked(TEXT, b"ok") + masked(FINAL | CONTINUATION, text),
        masked(TEXT, text[:1]) + masked(FINAL | CONTINUATION, text[1:]),
    ):
        for parts in cuts(data):
            assert feed(parts) == ([], 1007), parts


@pytest.mark.parametrize("text", NOT_UTF8.values(), ids=NOT_UTF8)
def test_fragments_of_text_fail_at_once(text: bytes) -> None:
    assert feed([masked(TEXT, text)]) == ([], 1007)
    assert feed([masked(TEXT, "€".encode()[:2]), masked(CONTINUATION, text)]) == ([], 1007)


def test_text_that_ends_within_a_character() -> None:
    part = "€".encode()[:2]
    assert feed([masked(FINAL | TEXT, part)]) == ([], 1007)
    assert feed([masked(TEXT, part)]) == ([], 0)
    assert feed([masked(TEXT, part), masked(FINAL | CONTINUATION)]) == ([], 1007)


def test_a_character_begun_is_forgotten_with_its_message() -> None:
    euro = "€".encode()
    halves = masked(TEXT, euro[:1]) + masked(FINAL | CONTINUATION, euro[1:])
    assert feed([halves + masked(BINARY, euro[:1]) + masked(FINAL | CONTINUATION) + halves]) == (
        [(TEXT, euro), (BINARY, euro[:1]), (TEXT, euro)],
        0,
    )


@pytest.mark.parametrize("end", [bytes((FINAL | TEXT, 5)), masked(FINAL | CLOSE), masked(FINAL | CLOSE, b"\x00")])
@pytest.mark.parametrize("before", [b"", masked(TEXT, b"unf")])
def test_after_the_end_nothing_is_parsed(before: bytes, end: bytes) -> None:
    parser = FrameParser(LIMIT)
    ahead = parser.feed(masked(FINAL | TEXT, b"ahead") + before + end + masked(FINAL | TEXT, b"same read"))
    closes = [] if parser.violation else [(CLOSE, b"")]
    assert ahead == [(TEXT, b"ahead"), *closes]
    assert parser.feed(masked(FINAL | TEXT, b"later")) == []
    assert not parser.unfinished


# — close frames —


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_a_peer_may_send(code: int) -> None:
    payload = code.to_bytes(2, "big") + "für €".encode()
    assert parse_close(payload) == (code, "für €")
    assert feed([masked(FINAL | CLOSE, payload)]) == ([(CLOSE, payload)], 0)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_it_may_not(code: int) -> None:
    with pytest.raises(Violation) as violation:
        parse_close(code.to_bytes(2, "big"))
    assert violation.value.code == 1002
    assert feed([masked(FINAL | CLOSE, code.to_bytes(2, "big"))]) == ([], 1002)


def test_close_without_code() -> None:
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize(("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007), (b"\x00\x00\xff", 1002)])
def test_close_payloads_that_are_wrong(payload: bytes, code: int) -> None:
    with pytest.raises(Violation) as violation:
        parse_close(payload)
    assert violation.value.code == code
    assert str(violation.value).startswith(str(code))


# — what is written —


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8100"), (125, "817d"), (126, "817e007e"), (65535, "817effff"), (65536, "817f0000000000010000")],
)
def test_frame(size: int, head: str) -> None:
    payload = bytes(size)
    assert frame(TEXT, payload) == bytes.fromhex(head) + payload


def test_frames_of_other_kinds() -> None:
    assert frame(PONG, b"p") == b"\x8a\x01p"
    assert frame(BINARY, b"b", compressed=True) == b"\xc2\x01b"


def test_close_frame() -> None:
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(3001, "bye") == b"\x88\x05\x0b\xb9bye"
    assert close_frame(1005, "not sent") == b"\x88\x00"


@pytest.mark.parametrize("ahead", range(4))
def test_a_long_reason_is_cut_between_characters(ahead: int) -> None:
    reason = "x" * ahead + "𝄞" * 40
    payload = close_frame(1001, reason)[2:]
    code, kept = parse_close(payload)
    assert code == 1001
    assert reason.startswith(kept)
    assert 122 - 3 <= len(payload) <= 125
