"""The frame parser on streams nobody thought of, with the parser of ``websockets`` to judge it by."""

import operator
import os
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gateway.transports.frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FINAL,
    PING,
    PONG,
    TEXT,
    FrameParser,
)
from tests.transports.oracle import WINDOW_BITS, Oracle, Outcome
from tests.transports.wire import Messages, compressed, header, masked

LIMIT = 2000

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
"""After a change of the parser a long run with other examples is due: FUZZ_EXAMPLES=100000."""

bounded = settings(
    deadline=None,
    max_examples=int(EXAMPLES or 700),
    derandomize=EXAMPLES is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# — streams —


class Stream(NamedTuple):
    data: bytes
    messages: Messages


texts = st.one_of(st.text(max_size=80), st.text("aé€𝄞", min_size=100, max_size=300)).map(str.encode)
payloads = st.one_of(st.binary(max_size=150), st.binary(min_size=1, max_size=9).map(lambda part: part * 100))
masks = st.binary(min_size=4, max_size=4)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
positions = st.lists(st.integers(0, 2**16), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in parts, some of them empty."""
    places = sorted(position % (len(data) + 1) for position in at)
    return [data[begin:end] for begin, end in pairwise([0, *places, len(data)])]


@st.composite
def messages_on_the_wire(draw: st.DrawFn) -> Stream:
    """One message in frames, with control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    message = draw(texts if opcode == TEXT else payloads)
    packed = draw(st.booleans())
    parts = cut(compressed(message) if packed else message, draw(positions))
    data, messages = b"", []
    for number, part in enumerate(parts):
        first = CONTINUATION if number else opcode | (COMPRESSED if packed else 0)
        last = FINAL if number == len(parts) - 1 else 0
        size_bytes = draw(st.sampled_from([None, None, 2, 8]))
        data += masked(first | last, part, mask=draw(masks), size_bytes=size_bytes)
        between = [] if last else draw(st.lists(controls, max_size=2))
        data += b"".join(masked(FINAL | each, payload, mask=draw(masks)) for each, payload in between)
        messages += between
    return Stream(data, [*messages, (opcode, message)])


closes = st.tuples(
    st.sampled_from([1000, 1001, 3000, 4999]).map(lambda code: code.to_bytes(2, "big")),
    st.text(max_size=30).map(str.encode),
).map(b"".join)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Valid frames."""
    parts = draw(st.lists(messages_on_the_wire(), max_size=4))
    for opcode, payload in draw(st.lists(controls, max_size=2)):
        parts.append(Stream(masked(FINAL | opcode, payload), [(opcode, payload)]))
    if draw(st.booleans()):
        close = draw(st.one_of(st.just(b""), closes))
        parts.append(Stream(masked(FINAL | CLOSE, close), [(CLOSE, close)]))
    return Stream(b"".join(part.data for part in parts), [each for part in parts for each in part.messages])


whole_ones = st.sampled_from([TEXT, BINARY, CLOSE, PING]).map(lambda opcode: FINAL | opcode)
kinds = st.one_of(
    st.integers(0, 255),
    whole_ones,
    st.sampled_from([TEXT, BINARY, CONTINUATION, FINAL | CONTINUATION]),
    st.sampled_from([TEXT, BINARY, FINAL | TEXT, FINAL | BINARY]).map(lambda opcode: COMPRESSED | opcode),
)
"""First bytes, most of them of frames that exist."""

frames_of_any_kind = st.builds(
    masked,
    kinds,
    st.one_of(
        st.binary(max_size=125),
        texts.map(lambda text: text[:125]),
        texts.map(lambda text: compressed(text)[:125]),
        st.tuples(st.integers(0, 6000).map(lambda code: code.to_bytes(2, "big")), st.binary(max_size=3)).map(b"".join),
    ),
    size_bytes=st.sampled_from([0, 0, 2, 8]),
)
frames_with_reserved_bits = st.builds(
    masked, st.builds(operator.or_, whole_ones, st.sampled_from([0x40, 0x20, 0x10])), st.binary(max_size=5)
)
headers_of_any_size = st.builds(
    header, kinds, st.one_of(st.integers(0, 2 * LIMIT), st.integers(0, 2**64 - 1)), st.just(8)
)
fragments_about_the_limit = st.lists(st.integers(LIMIT // 4, LIMIT // 2 + 1), min_size=2, max_size=4).map(
    lambda sizes: masked(BINARY, bytes(sizes[0])) + b"".join(masked(CONTINUATION, bytes(size)) for size in sizes[1:])
)
compressed_otherwise = st.builds(
    masked,
    st.sampled_from([TEXT, BINARY, FINAL | TEXT, FINAL | BINARY]).map(lambda opcode: COMPRESSED | opcode),
    st.one_of(
        st.binary(max_size=50),
        payloads.map(lambda payload: zlib.compress(payload, wbits=-15)),
        st.tuples(payloads, st.integers(0, 40)).map(lambda both: compressed(both[0])[: both[1]]),
        st.integers(LIMIT - 2, LIMIT + 2).map(lambda size: compressed(bytes(size))),
        st.integers(LIMIT, 50 * LIMIT).map(lambda size: compressed(bytes(size))),
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid stream with some bytes changed, left out or put in."""
    data = bytearray(draw(streams()).data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        old = draw(st.integers(0, 5))
        data[place : place + old] = draw(st.binary(min_size=old, max_size=5))
        if data:
            data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


anything = st.one_of(
    mutated(),
    st.lists(
        st.one_of(
            frames_of_any_kind,
            frames_with_reserved_bits,
            compressed_otherwise,
            headers_of_any_size,
            fragments_about_the_limit,
            messages_on_the_wire().map(lambda stream: stream.data),
        ),
        max_size=6,
    ).map(b"".join),
    st.binary(max_size=60),
)


# — the two parsers —


def ours(parts: list[bytes]) -> Outcome:
    parser = FrameParser(LIMIT, WINDOW_BITS)
    messages = [message for part in parts for message in parser.feed(part)]
    violation = parser.violation
    return Outcome(messages, violation.code, violation.reason) if violation else Outcome(messages, 0, "")


# — where they differ —

Difference = Callable[[Outcome, Oracle], bool]


def names_undecompressable_data(ours: Outcome, oracle: Oracle) -> bool:
    """1007, data that is not what it says; they have 1002, or 1009 where the fault is just at the limit."""
    theirs = oracle.outcome
    reasons = {"decompression failed", f"frame exceeds limit of {LIMIT} bytes"}
    return ours.why == "cannot be decompressed" and theirs.why in reasons and same(ours, theirs)


def refuses_compressed_data_that_is_not_whole(ours: Outcome, oracle: Oracle) -> bool:
    """They take what can be decompressed of data that is cut off, or goes on after its last block."""
    count = len(ours.messages)
    return (
        ours.why == "cannot be decompressed"
        and ours.messages == oracle.outcome.messages[:count]
        and count < len(oracle.packed)
        and not whole(oracle.packed[count])
    )


def whole(packed: bytes | None) -> bool:
    """Whether a block put behind it is found there, or nothing is behind its last block."""
    assert packed is not None
    tail = b"\x00\x00\xff\xff"
    decompressor = zlib.decompressobj(-WINDOW_BITS)
    decompressor.decompress(packed + tail)
    if decompressor.eof:
        return decompressor.unused_data in (b"", tail, b"\x00" + tail)
    try:
        return decompressor.decompress(b"\x01\x03\x00\xfc\xffend") == b"end" and decompressor.eof
    except zlib.error:
        return False


def judges_the_header_before_the_size(ours: Outcome, oracle: Oracle) -> bool:
    """A frame wrong in two ways. They look at the size first, of a compressed one after decompression, too."""
    headers = {
        "reserved bits are set",
        "control frame is too long",
        "control frame is fragmented",
        "continuation of nothing",
        "unfinished message",
    }
    return ours.why in headers and oracle.outcome.code == 1009 and same(ours, oracle.outcome)


def refuses_control_frames_with_the_long_form_of_a_length(ours: Outcome, oracle: Oracle) -> bool:
    """A length that fits seven bits must be there (RFC 6455, section 5.2), so what follows it is not awaited."""
    count = len(ours.messages)
    rest = oracle.outcome.messages[count:]
    return (
        ours.why == "control frame is too long"
        and ours.messages == oracle.outcome.messages[:count]
        and (rest[0][0] >= CLOSE if rest else oracle.outcome.code == 1007)
    )


def judges_the_close_code_before_the_reason(ours: Outcome, oracle: Oracle) -> bool:
    """A close frame wrong in two ways."""
    return ours.why == "invalid close code" and "utf-8" in oracle.outcome.why and same(ours, oracle.outcome)


def takes_a_close_frame_within_a_message(ours: Outcome, oracle: Oracle) -> bool:
    """RFC 6455, section 5.4: control frames may come between fragments. They have 1002."""
    theirs = oracle.outcome
    closed = ours.code == 0 and ours.messages[-1:] and ours.messages[-1][0] == CLOSE
    return bool(closed) and theirs.why == "incomplete fragmented message" and ours.messages[:-1] == theirs.messages


def counts_no_control_frames(ours: Outcome, oracle: Oracle) -> bool:
    """They count one between fragments as if it were part of the message, so a ping can be too much."""
    theirs = oracle.outcome
    count = len(theirs.messages)
    following = ours.messages[count : count + 1]
    return (
        "bytes after reading" in theirs.why
        and ours.messages[:count] == theirs.messages
        and bool(following)
        and following[0][0] >= CLOSE
        and f"frame with {len(following[0][1])} bytes" in theirs.why
    )


def limits_what_is_compressed_too(ours: Outcome, oracle: Oracle) -> bool:
    """Fragments that are too big before decompression, though not after it. They do so for whole frames alone."""
    count = sum(opcode < CLOSE for opcode, _ in ours.messages)
    packed = [part for (opcode, _), part in zip(oracle.outcome.messages, oracle.packed, strict=True) if opcode < CLOSE]
    packed.append(oracle.unfinished)
    return (
        ours.why == "message is too big"
        and ours.messages == oracle.outcome.messages[: len(ours.messages)]
        and len(packed[count] or b"") > LIMIT
    )


def decompresses_when_the_message_is_whole(ours: Outcome, oracle: Oracle) -> bool:
    """They decompress each fragment as it comes, so fail earlier: the message must not get through here either.

    Unless it was the compressed size of a fragment that they found too big for what is left of the limit.
    """
    theirs = oracle.outcome
    count = len(theirs.messages)
    rest = next((message for opcode, message in ours.messages[count:] if opcode < CLOSE), b"")
    return (
        oracle.in_compressed_fragments
        and ours.messages[:count] == theirs.messages
        and (not rest or "bytes after reading" in theirs.why)
    )


def same(ours: Outcome, theirs: Outcome) -> bool:
    return ours.messages == theirs.messages


DIFFERENCES: tuple[Difference, ...] = (
    names_undecompressable_data,
    refuses_compressed_data_that_is_not_whole,
    judges_the_header_before_the_size,
    refuses_control_frames_with_the_long_form_of_a_length,
    judges_the_close_code_before_the_reason,
    takes_a_close_frame_within_a_message,
    counts_no_control_frames,
    limits_what_is_compressed_too,
    decompresses_when_the_message_is_whole,
)


# — the tests —


@bounded
@given(streams(), positions)
def test_valid_streams_give_exactly_their_messages(stream: Stream, at: list[int]) -> None:
    outcome = ours(cut(stream.data, at))
    assert outcome == Outcome(stream.messages, 0, "")


@bounded
@given(anything, positions)
def test_any_bytes_are_judged_as_by_websockets(data: bytes, at: list[int]) -> None:
    outcome = ours([data])
    assert ours(cut(data, at)) == outcome, "it matters how the bytes arrive"
    # They judge whole frames, where a header is enough for us: what is missing of the last one is given to them.
    oracle = Oracle(data + bytes(2 * LIMIT) if outcome.code in (1002, 1009) else data, LIMIT)
    theirs = oracle.outcome
    to_the_zeros = theirs.why == "incorrect masking" and outcome.why != "frame is not masked"
    if outcome[:2] == theirs[:2] and not to_the_zeros:
        event(f"both {outcome.code}")
        return
    excuse = next((each.__name__ for each in DIFFERENCES if each(outcome, oracle)), None)
    assert excuse, (outcome, theirs)
    event(excuse)
