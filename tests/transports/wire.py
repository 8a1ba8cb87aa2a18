"""Frames as a client writes them, right and wrong."""

import zlib

Messages = list[tuple[int, bytes]]
"""What a parser answers: opcodes and payloads."""

MASK = b"\x37\xfa\x21\x3d"
"""The one of the examples in RFC 6455, section 5.7."""


def masked(first: int, payload: bytes = b"", *, mask: bytes = MASK, size_bytes: int | None = None) -> bytes:
    """A frame with this first byte. ``size_bytes`` of length are 0, 2 or 8 after the seven bits."""
    if size_bytes is None:
        size_bytes = 0 if len(payload) < 126 else 2 if len(payload) < 65536 else 8
    return header(first, len(payload), size_bytes) + mask + xor(payload, mask)


def header(first: int, size: int, size_bytes: int) -> bytes:
    """What comes before the mask."""
    if size_bytes == 0:
        return bytes((first, 0x80 | size))
    return bytes((first, 0x80 | (126 if size_bytes == 2 else 127))) + size.to_bytes(size_bytes, "big")


def xor(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def compressed(payload: bytes, window_bits: int = 15) -> bytes:
    """What a client sends of a compressed message."""
    compressor = zlib.compressobj(wbits=-window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
