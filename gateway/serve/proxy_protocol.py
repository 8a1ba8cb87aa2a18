"""The PROXY protocol: what a proxy says of its client before the client's own bytes.

Source: "The PROXY protocol, versions 1 & 2" of HAProxy, doc/proxy-protocol.txt, sections 2.1 and 2.2. No network here.
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

Address = tuple[str, int]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""Begins version 2."""

LONGEST_LINE = 107
"""Bytes of a header of version 1, the end of its line included."""

LONGEST_HEADER = 4096
"""Bytes of a header of version 2: addresses take 52 at most, the rest is for what a proxy adds and we do not read."""

_SHORTEST_LINE = len(b"PROXY UNKNOWN\r\n")
_V2_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_KNOWN_FAMILIES = frozenset({0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32})


class ProxyHeaderError(ValueError):
    """What has arrived is no PROXY header. The text is for the log."""


class Header(NamedTuple):
    """A whole header."""

    client: Address | None
    """None if the proxy does not say, or speaks for itself: then the connection's own address counts."""


def read_header(arrived: bytes) -> Header | int:
    """The header that ``arrived`` is, or how many bytes of it are still to come, at least.

    Who reads no more than so many at a time never reads a byte of what follows. Raises `ProxyHeaderError`.
    """
    if arrived.startswith(b"P"):
        return _read_line(arrived)
    if not SIGNATURE.startswith(arrived[: len(SIGNATURE)]):
        raise ProxyHeaderError("it begins with no PROXY header")
    if len(arrived) < _SHORTEST_LINE:
        return _SHORTEST_LINE - len(arrived)  # both versions have so many
    return _read_binary(arrived)


def _read_line(arrived: bytes) -> Header | int:
    """Version 1: ``PROXY TCP4 192.0.2.1 198.51.100.7 51234 443`` and the end of the line."""
    if not (arrived.startswith(b"PROXY ") or b"PROXY ".startswith(arrived)):
        raise ProxyHeaderError("it begins with no PROXY header")
    end = arrived.find(b"\r\n")
    if end < 0:
        missing = max(_SHORTEST_LINE - len(arrived), 1 if arrived.endswith(b"\r") else 2)
        if len(arrived) + missing > LONGEST_LINE:
            raise ProxyHeaderError(f"its PROXY header is longer than {LONGEST_LINE} bytes")
        return missing
    if end + 2 != len(arrived):
        raise ProxyHeaderError("its PROXY header does not end where it should")
    match arrived[:end].split(b" "):
        case [_, b"UNKNOWN", *_]:
            return Header(None)
        case [_, b"TCP4", source, target, source_port, target_port]:
            kind: type[IPv4Address | IPv6Address] = IPv4Address
        case [_, b"TCP6", source, target, source_port, target_port]:
            kind = IPv6Address
        case _:
            raise ProxyHeaderError("its PROXY header is neither TCP4, TCP6 nor UNKNOWN")
    _address(kind, target), _port(target_port)
    return Header((_address(kind, source), _port(source_port)))


def _address(kind: type[IPv4Address | IPv6Address], text: bytes) -> str:
    try:
        if b"%" in text:  # a scope means nothing on another machine
            raise ValueError
        return _host(kind(text.decode("ascii")))
    except ValueError:
        raise ProxyHeaderError("an address in its PROXY header is none") from None


def _port(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 5 and int(text) <= 65535 and (text == b"0" or text[:1] != b"0")):
        raise ProxyHeaderError("a port in its PROXY header is none")
    return int(text)


def _read_binary(arrived: bytes) -> Header | int:
    """Version 2: a signature, the command, the family, a length; then addresses, and what is not read."""
    if len(arrived) < _V2_HEAD.size:
        return _V2_HEAD.size - len(arrived)
    _, command, family, length = _V2_HEAD.unpack_from(arrived)
    whole: int = _V2_HEAD.size + length
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("its PROXY header is of a version or command that is not known")
    if family not in _KNOWN_FAMILIES:
        raise ProxyHeaderError("its PROXY header is of a family that is not known")
    if whole > LONGEST_HEADER:
        raise ProxyHeaderError(f"its PROXY header is longer than {LONGEST_HEADER} bytes")
    if len(arrived) < whole:
        return whole - len(arrived)
    if len(arrived) > whole:
        raise ProxyHeaderError("its PROXY header does not end where it should")
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return Header(None)
    size, kind = (4, IPv4Address) if family == _TCP4 else (16, IPv6Address)
    if length < 2 * size + 4:
        raise ProxyHeaderError("its PROXY header is too short for its addresses")
    at = _V2_HEAD.size
    [port] = struct.unpack_from("!H", arrived, at + 2 * size)
    return Header((_host(kind(arrived[at : at + size])), port))


def _host(address: IPv4Address | IPv6Address) -> str:
    mapped = getattr(address, "ipv4_mapped", None)  # as other addresses of IPv4 are written
    return str(mapped or address)
