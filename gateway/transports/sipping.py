"""Reading little at a time from a peer that nobody knows yet.

An event loop reads a quarter of a megabyte at once, and whatever it has read must be kept.
"""

import asyncio
from collections.abc import Callable

SIP = 16384
"""Bytes of one read. A connect command is smaller, nearly always."""


class SippingProtocol(asyncio.BufferedProtocol):
    """Stands in for another protocol of a transport, reads for it, and calls ``enough`` after ``most`` bytes."""

    __slots__ = ("_buffer", "_enough", "_left", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, most: int, enough: Callable[[], None]) -> None:
        self._protocol = protocol
        self._left = most
        self._enough = enough
        self._buffer = bytearray()

    def get_buffer(self, sizehint: int) -> bytearray:
        self._buffer = bytearray(SIP)  # no longer kept than it is read into
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(memoryview(self._buffer)[:nbytes])
        self._buffer = bytearray()
        self._left -= nbytes
        self._protocol.data_received(data)
        if self._left <= 0:
            self._enough()

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)


def change_reader(transport: asyncio.Transport, protocol: asyncio.BaseProtocol, *, reads: bool) -> None:
    """Have another protocol read from now on; ``reads`` says whether the transport does, rather than pause."""
    restart = reads and not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    if restart:  # uvloop would read on as it has begun
        transport.pause_reading()
    transport.set_protocol(protocol)
    if restart:
        transport.resume_reading()
