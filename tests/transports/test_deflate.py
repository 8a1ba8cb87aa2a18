"""What is agreed on for compression, and what compressed messages are like."""

import random
import zlib

import pytest

from gateway.transports.deflate import Compression, agree, deflate, inflate
from tests.transports.wire import compressed

COMPRESSION = Compression()
BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LIMIT = 1000

TEXT = b'{"push":{"channel":"room","pub":{"data":{"text":"hello hello hello"}}}}' * 4


def answer(*offers: str, compression: Compression = COMPRESSION) -> str | None:
    agreement = agree(offers, compression)
    return agreement.answer if agreement else None


# — negotiation —


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        ("permessage-deflate", BOTH),
        ("Permessage-DEFLATE", BOTH),
        ("permessage-deflate; server_no_context_takeover", BOTH),
        ("permessage-deflate; client_no_context_takeover", BOTH),
        ("permessage-deflate;Server_No_Context_Takeover ;client_no_context_takeover", BOTH),
        ("permessage-deflate; client_max_window_bits", BOTH + "; client_max_window_bits=15"),
        ("permessage-deflate; client_max_window_bits=10", BOTH + "; client_max_window_bits=10"),
        ("permessage-deflate; client_max_window_bits=8", BOTH + "; client_max_window_bits=8"),
        ('permessage-deflate; client_max_window_bits="15"', BOTH + "; client_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=15", BOTH + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=12", BOTH + "; server_max_window_bits=12"),
        ('permessage-deflate; server_max_window_bits="9"', BOTH + "; server_max_window_bits=9"),
        (
            "permessage-deflate; client_max_window_bits=11; server_max_window_bits = 10; server_no_context_takeover",
            BOTH + "; server_max_window_bits=10; client_max_window_bits=11",
        ),
    ],
)
def test_offers_that_are_taken(offer: str, expected: str) -> None:
    assert answer(offer) == expected


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        '"permessage-deflate"',
        "permessage-deflate;",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=",
        'permessage-deflate; client_max_window_bits=""',
        'permessage-deflate; client_max_window_bits="10',
        'permessage-deflate; client_max_window_bits=10"',
        'permessage-deflate; client_max_window_bits="',
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=١٢",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; Server_max_window_bits=11",
    ],
)
def test_offers_that_are_declined(offer: str) -> None:
    assert answer(offer) is None


def test_the_first_offer_that_can_be_met() -> None:
    assert (
        answer("permessage-deflate; client_max_window_bits=9, permessage-deflate")
        == f"{BOTH}; client_max_window_bits=9"
    )
    assert answer("permessage-deflate; server_max_window_bits=8, permessage-deflate") == BOTH
    assert answer("x-other; a=1", "permessage-deflate; unknown", "permessage-deflate") == BOTH
    assert answer("x-other, permessage-deflate; unknown") is None
    assert answer() is None


def test_windows() -> None:
    agreement = agree(["permessage-deflate; server_max_window_bits=9; client_max_window_bits=8"], Compression(level=6))
    assert agreement is not None
    assert agreement.compression == Compression(window_bits=9, level=6)
    assert agreement.client_window_bits == 9, "zlib has none of 8"
    agreement = agree(["permessage-deflate"], COMPRESSION)
    assert agreement is not None
    assert agreement.client_window_bits == 15, "whatever it likes"
    assert agreement.compression == COMPRESSION


def test_who_agrees_on_the_same_can_share_frames() -> None:
    one, other = (agree([f"permessage-deflate; client_max_window_bits={bits}"], COMPRESSION) for bits in (9, 15))
    assert one is not None
    assert other is not None
    assert one.compression == other.compression
    assert hash(one.compression) == hash(other.compression)


# — there and back —


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [1, 6, 9])
def test_what_is_compressed_comes_back(window_bits: int, level: int) -> None:
    noise = random.Random(window_bits).randbytes(100)
    for payload in (TEXT, noise * 3, bytes(70_000)):
        packed = deflate(payload, Compression(window_bits, level))
        assert packed is not None
        assert len(packed) < len(payload)
        assert inflate(packed, window_bits, 70_001) == payload


def test_each_message_by_itself() -> None:
    """No context is taken over: the same message has the same bytes, and one decompresses without the other."""
    assert deflate(TEXT, COMPRESSION) == deflate(TEXT, COMPRESSION)


def test_what_is_not_worth_it() -> None:
    assert deflate(b"a" * 127, COMPRESSION) is None
    assert deflate(b"a" * 128, COMPRESSION) is not None
    assert deflate(random.Random(3).randbytes(1000), COMPRESSION) is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("f248cdc9c90700", b"Hello"),  # section 7.2.3.1
        ("000500faff48656c6c6f00", b"Hello"),  # 7.2.3.3, not compressed
        ("f348cdc9c9070000", b"Hello"),  # 7.2.3.4, marked as the last block
        ("f348cdc9c90700", b"Hello"),  # the same as zlib leaves it
        ("f248050000 00ffffcac9c90700", b"Hello"),  # 7.2.3.5, two blocks
        ("00", b""),  # 7.2.3.6
        ("01", b""),  # the same as the last block
        ("0300", b""),
        ("030000", b""),
    ],
)
def test_examples_of_rfc_7692(payload: str, message: bytes) -> None:
    assert inflate(bytes.fromhex(payload), 15, LIMIT) == message


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        compressed(TEXT)[:-1],
        compressed(TEXT)[:10],
        compressed(TEXT) + b"\x00\x00\xff\xff",  # the end that is to be left out
        zlib.compress(TEXT),  # with a header
        zlib.compress(TEXT, wbits=-15) + b"\x01",
        zlib.compress(TEXT, wbits=-15) + compressed(TEXT),
    ],
)
def test_what_is_not_a_whole_message(payload: bytes) -> None:
    with pytest.raises(zlib.error):
        inflate(payload, 15, LIMIT)


@pytest.mark.parametrize("length", range(len(compressed(TEXT))))
def test_no_part_passes_for_the_whole(length: int) -> None:
    with pytest.raises(zlib.error):
        inflate(compressed(TEXT)[:length], 15, LIMIT)


@pytest.mark.parametrize("limit", [1, len(TEXT) - 1, len(TEXT), len(TEXT) + 1])
def test_no_more_than_the_limit(limit: int) -> None:
    assert inflate(compressed(TEXT), 15, limit) == TEXT[:limit]
