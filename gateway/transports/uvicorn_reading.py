"""How a WebSocket of uvicorn's is read: as fast as it is taken, and what has begun to come must end in time."""

import asyncio
from asyncio import AbstractEventLoop, TimerHandle

from gateway.transports.frames import FrameParser
from gateway.transports.raw import QUEUED, ReadyState
from gateway.transports.sipping import SippingProtocol, change_reader

DEFAULT_TIMEOUT = 10.0
"""Seconds for the class as it stands, to finish a message or the upgrade request."""


class ReadingProtocol(asyncio.Protocol):
    """The reading side of a connection. `WebSocketProtocol` sets all that it is made of, in one call."""

    __slots__ = ("_deadline", "_held", "_parser", "_sipping", "loop", "state", "transport")

    timeout = DEFAULT_TIMEOUT
    loop: AbstractEventLoop
    state: ReadyState
    transport: asyncio.Transport
    _parser: FrameParser
    _held: bool
    _sipping: bool
    _deadline: TimerHandle | None

    # — pace —

    def hold(self) -> None:
        if not self._held:
            self._held = True
            self.transport.pause_reading()
            self._end_watch()  # that nothing arrives is now our doing

    def sip(self) -> None:
        if not self._sipping:
            self._sipping = True
            self._read_by(SippingProtocol(self, QUEUED, self._sipped))

    def go_on(self) -> None:
        if self._sipping:
            self._sipping = False
            self._read_by(self)
        if self._held:
            self._held = False
            self.transport.resume_reading()
            if self._parser.unfinished:
                self._watch()

    def _sipped(self) -> None:
        if self._sipping and self.state is ReadyState.OPEN:
            self.hold()

    def _read_by(self, protocol: asyncio.BaseProtocol) -> None:
        if self.state is not ReadyState.CLOSED and not self.transport.is_closing():
            change_reader(self.transport, protocol, reads=not self._held)

    # — deadlines —

    def _watch(self) -> None:
        """What has begun must end in time. While we do not read, that is not for the peer to do."""
        if self.state is not ReadyState.OPENING and not self._parser.unfinished:
            self._end_watch()
        elif self._deadline is None and not self._held and self.state < ReadyState.CLOSED:
            self._deadline = self.loop.call_later(self.timeout, self._overdue)

    def _end_watch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        """It has not ended in time."""
