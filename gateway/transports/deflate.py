"""permessage-deflate without context takeover: each message is compressed by itself.

So no memory is kept for a connection, and one compressed frame serves a whole audience. Source: RFC 7692.
"""

import zlib
from collections.abc import Iterable, Sequence

from msgspec import Struct

EXTENSION = "permessage-deflate"

_TAIL = b"\x00\x00\xff\xff"
"""What ends every compressed message, and is left out on the wire (RFC 7692, section 7.2.1)."""

_END = b"\x01\x00\x00\xff\xff"
"""An empty block that is the last. zlib sees it, and with it the end, if what is before it is whole."""

_UNUSED = frozenset({b"", _END, _TAIL + _END, b"\x00" + _TAIL + _END})
"""What may be left: a sender can mark a block of its own as the last (RFC 7692, section 7.2.3.4)."""

_WINDOWS = range(9, 16)
"""Bits of windows that zlib can do; RFC 7692 has 8 as well."""

MEMORY_LEVEL = 5
"""zlib's, of 9: 32 KiB for the time of one message, for a loss of few per cent."""


class Compression(Struct, frozen=True):
    """What a server is willing to do."""

    window_bits: int = 12
    """Window of what is sent: 4 KiB, more than most messages are long."""
    level: int = 1
    """zlib's, 1 is the fastest."""
    min_size: int = 128
    """Smaller messages are sent as they are."""


class Agreement(Struct, frozen=True):
    """What server and client have agreed on. Equal for connections that can share frames."""

    compression: Compression
    client_window_bits: int
    answer: str
    """Value of the response's Sec-WebSocket-Extensions."""


def agree(offers: Iterable[str], compression: Compression) -> Agreement | None:
    """Take the first offer that can be met; None goes on without compression.

    ``offers`` are the values of Sec-WebSocket-Extensions in the order of the client's preference.
    """
    for offer in ",".join(offers).split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == EXTENSION and (agreement := _meet(parameters, compression)):
            return agreement
    return None


def _meet(parameters: Sequence[str], compression: Compression) -> Agreement | None:
    window, client_window = compression.window_bits, 15
    answer = [EXTENSION, "server_no_context_takeover", "client_no_context_takeover"]
    seen: set[str] = set()
    for parameter in parameters:
        name, has_value, value = (part.strip() for part in parameter.partition("="))
        name, value = name.lower(), _unquote(value)
        if name in seen:
            return None
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover" if not has_value:
                pass
            case "server_max_window_bits" if _is_window(value):
                window = min(window, int(value))
                if window not in _WINDOWS:
                    return None  # declined: zlib cannot compress with a window this small
            case "client_max_window_bits" if not has_value or _is_window(value):
                # ours to lower, which saves a client memory and nobody else: decompressing takes what it takes
                client_window = int(value) if value else client_window
            case _:
                return None
    if "server_max_window_bits" in seen:
        answer.append(f"server_max_window_bits={window}")
    if "client_max_window_bits" in seen:
        answer.append(f"client_max_window_bits={client_window}")
    settled = Compression(window, compression.level, compression.min_size)
    return Agreement(settled, max(client_window, _WINDOWS.start), "; ".join(answer))


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _is_window(value: str) -> bool:
    return value in {"8", "9", "10", "11", "12", "13", "14", "15"}


def deflate(payload: bytes, compression: Compression) -> bytes | None:
    """The payload of a compressed frame; None if it is better sent as it is."""
    if len(payload) < compression.min_size:
        return None
    compressor = zlib.compressobj(compression.level, zlib.DEFLATED, -compression.window_bits, MEMORY_LEVEL)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed.removesuffix(_TAIL) if len(compressed) < len(payload) else None


def inflate(payload: bytes, window_bits: int, limit: int) -> bytes:
    """The message, cut after ``limit`` bytes.

    Raises ``zlib.error``, also for data that ends within a block, or goes on after a block marked as the last (which
    RFC 7692 allows and nobody does).
    """
    decompressor = zlib.decompressobj(-window_bits)
    message = decompressor.decompress(payload + _TAIL, limit)
    if len(message) == limit:
        return message
    decompressor.decompress(_END, 1)
    if not decompressor.eof or decompressor.unused_data not in _UNUSED:
        raise zlib.error("the compressed data does not end where the message ends")
    return message
