"""PROXY headers, good and bad, in pieces and with something behind them."""

import ipaddress
import struct
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.serve.proxy_protocol import (
    LONGEST_HEADER,
    LONGEST_LINE,
    SIGNATURE,
    Address,
    Header,
    ProxyHeaderError,
    read_header,
)

CLIENT, PROXY = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("198.51.100.7")
CLIENT6, PROXY6 = ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("2001:db8::7")


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def addresses(*both: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int = 51234) -> bytes:
    return b"".join(each.packed for each in both) + struct.pack("!HH", port, 443)


FOUR, SIX = addresses(CLIENT, PROXY), addresses(CLIENT6, PROXY6)


def read(header: bytes, tail: bytes = b"") -> Address | None:
    """Feed it as a socket would: never more than was asked for. What follows must stay unread."""
    arrived, wire = b"", header + tail
    found = read_header(arrived)
    while not isinstance(found, Header):
        assert found > 0
        piece = wire[len(arrived) : len(arrived) + found]
        assert piece, "it wants more than there is"
        arrived += piece
        found = read_header(arrived)
    assert arrived == header
    return found.client


def byte_by_byte(header: bytes) -> None:
    for end in range(len(header) + 1):
        read_header(header[:end])


GOOD: list[tuple[bytes, Address | None]] = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.7 51234 443\r\n", ("192.0.2.1", 51234)),
    (b"PROXY TCP4 1.1.1.1 2.2.2.2 0 0\r\n", ("1.1.1.1", 0)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::7 51234 443\r\n", ("2001:db8::1", 51234)),
    (b"PROXY TCP6 :: :: 1 2\r\n", ("::", 1)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("192.0.2.1", 1)),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", (":".join(["ffff"] * 8), 65535)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", None),
    (v2(0x21, 0x11, FOUR), ("192.0.2.1", 51234)),
    (v2(0x21, 0x21, SIX), ("2001:db8::1", 51234)),
    (v2(0x21, 0x21, addresses(ipaddress.ip_address("::ffff:192.0.2.1"), PROXY6)), ("192.0.2.1", 51234)),
    (v2(0x21, 0x11, FOUR + b"\x04\x00\x02ab"), ("192.0.2.1", 51234)),
    (v2(0x21, 0x11, FOUR + bytes(LONGEST_HEADER - 16 - len(FOUR))), ("192.0.2.1", 51234)),
    (v2(0x20, 0x11, FOUR), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x00, bytes(30)), None),
    (v2(0x21, 0x12, FOUR), None),
    (v2(0x21, 0x31, bytes(216)), None),
]


@pytest.mark.parametrize("tail", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\r\n\r\n\x00", b"PROXY "])
@pytest.mark.parametrize(("header", "client"), GOOD, ids=range(len(GOOD)))
def test_good_headers_up_to_their_last_byte(header: bytes, client: Address | None, tail: bytes) -> None:
    assert read(header, tail) == client


@pytest.mark.parametrize(("header", "client"), GOOD, ids=range(len(GOOD)))
def test_good_headers_byte_by_byte(header: bytes, client: Address | None) -> None:
    for end in range(len(header)):
        missing = read_header(header[:end])
        assert isinstance(missing, int)
        assert 0 < missing <= len(header) - end
    assert read_header(header) == Header(client)


@pytest.mark.parametrize(
    "header",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\r\n\r\n\x00\r\nQUIX",
        b"PROXYTCP4 ",
        b"PRoXY ",
        b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2 1 2\r\n",
        b"PROXY TCP4 \xff.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1_0 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 123456 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n",
        b"PROXY UNKNOWN " + b"x" * LONGEST_LINE,
        b"PROXY UNKNOWN\r\nGET",
        v2(0x22, 0x11, FOUR),
        v2(0x11, 0x11, FOUR),
        v2(0x31, 0x11, FOUR),
        v2(0x21, 0x41, FOUR),
        v2(0x21, 0x13, FOUR),
        v2(0x21, 0x11, FOUR[:-1]),
        v2(0x21, 0x21, FOUR),
        v2(0x21, 0x11, b""),
        v2(0x21, 0x11, b"", LONGEST_HEADER),
        v2(0x21, 0x11, b"", 65535),
        v2(0x20, 0x00, b"") + b"x",
    ],
)
def test_bad_headers(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        byte_by_byte(header)


@given(st.binary(max_size=200), st.integers(0, 20))
@example(b"", 0)
def test_any_bytes_are_a_header_or_none(noise: bytes, kept: int) -> None:
    """Noise, also behind the beginning of a good header: an answer that makes sense, or `ProxyHeaderError`."""
    for good, _ in GOOD:
        arrived = good[:kept] + noise
        with suppress(ProxyHeaderError):
            found = read_header(arrived)
            if isinstance(found, int):
                assert found > 0
                assert len(arrived) + found <= LONGEST_HEADER


@given(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    st.integers(0, 65535),
    st.binary(max_size=50),
)
def test_what_a_proxy_writes_is_read(
    pair: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...], port: int, tail: bytes
) -> None:
    source, target = pair
    mapped = getattr(source, "ipv4_mapped", None)
    expected = (str(mapped or source), port)
    assert read(f"PROXY TCP{source.version} {source} {target} {port} 443\r\n".encode(), tail) == expected
    family = 0x11 if source.version == 4 else 0x21
    assert read(v2(0x21, family, addresses(source, target, port=port)), tail) == expected
