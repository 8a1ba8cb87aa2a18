"""How a WebSocket of uvicorn's ends: by us, by its peer, or because one of the two has broken a rule."""

from asyncio import TimerHandle
from collections.abc import Callable

from gateway.transports.conversation import Conversation
from gateway.transports.frames import POLICY, Violation, close_frame
from gateway.transports.raw import CLOSE_TIMEOUT, ReadyState, Receiver, discard
from gateway.transports.uvicorn_reading import ReadingProtocol


class ClosingProtocol(ReadingProtocol):
    """The end of a connection."""

    __slots__ = ("_close_timer", "_receiver", "write")

    write: Callable[[bytes], None]
    _receiver: Receiver | None
    _close_timer: TimerHandle | None

    def close(self, code: int, reason: str) -> None:
        if self.state is not ReadyState.OPEN:
            return
        self.state = ReadyState.CLOSING
        self.write(close_frame(code, reason))
        self.go_on()  # the answer must be seen
        self._bound_closing()

    def abort(self) -> None:
        self.transport.abort()

    def _overdue(self) -> None:
        self._deadline = None
        if self.state is ReadyState.OPENING:
            self.transport.abort()
        elif self.state < ReadyState.CLOSED:
            self._fail(Violation(POLICY, "message timeout"))

    def _lose(self, code: int, reason: str) -> None:
        receiver = self._receiver
        if not isinstance(receiver, Conversation) or receiver.over:  # it may yet be handed over, with what has arrived
            self._receiver = None
        self.write = discard  # uvloop's raises
        if receiver is not None:
            receiver.lose(code, reason)

    def _fail(self, violation: Violation) -> None:
        """End a connection whose peer breaks the rules (RFC 6455, section 7.1.7)."""
        if self.state is ReadyState.OPEN:
            self.write(close_frame(violation.code, violation.reason))
        self.state = ReadyState.CLOSED
        if self._receiver is not None:
            self._receiver.breach(violation.code, violation.reason)
        self._lose(violation.code, violation.reason)
        self.go_on()
        if self.transport.can_write_eof():
            # The rest of its input is thrown away unread. To close at once would answer that with a reset, which
            # can overtake the close frame.
            self.transport.write_eof()
            self._bound_closing()
        else:
            self._close_transport()

    def _close_transport(self) -> None:
        self.transport.close()
        self._bound_closing()

    def _bound_closing(self) -> None:
        """A peer that must read, or answer, before the connection closes has so long for it."""
        if self._close_timer is None:
            self._close_timer = self.loop.call_later(min(self.timeout, CLOSE_TIMEOUT), self.transport.abort)
