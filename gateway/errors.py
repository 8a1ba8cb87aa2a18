"""What may go wrong, as two catalogues: errors answer a command, disconnects close the connection.

Source: Centrifuge protocol, codes of errors, disconnects and unsubscribes.
"""

from enum import IntEnum
from typing import Literal, Self


class ErrorCode(IntEnum):
    """Errors in replies. Codes of applications lie between 400 and 1999."""

    message: str
    temporary: bool

    def __new__(cls, code: int, message: str, temporary: bool = False) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.message = message
        member.temporary = temporary
        return member

    INTERNAL = 100, "internal server error", True
    UNAUTHORIZED = 101, "unauthorized"
    UNKNOWN_CHANNEL = 102, "unknown channel"
    PERMISSION_DENIED = 103, "permission denied"
    METHOD_NOT_FOUND = 104, "method not found"
    ALREADY_SUBSCRIBED = 105, "already subscribed"
    LIMIT_EXCEEDED = 106, "limit exceeded"
    BAD_REQUEST = 107, "bad request"
    NOT_AVAILABLE = 108, "not available"
    TOKEN_EXPIRED = 109, "token expired"
    EXPIRED = 110, "expired"
    TOO_MANY_REQUESTS = 111, "too many requests", True
    UNRECOVERABLE_POSITION = 112, "unrecoverable position"
    CONCURRENT_PAGINATION = 113, "concurrent pagination", True


class _Ending(IntEnum):
    """Codes with the reason that goes with them."""

    reason: str

    def __new__(cls, code: int, reason: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        return member


class DisconnectCode(_Ending):
    """Disconnects, sent as WebSocket close codes. Codes of applications lie between 4000 and 4999."""

    CONNECTION_CLOSED = 3000, "connection closed"
    SHUTDOWN = 3001, "shutdown"
    INTERNAL = 3004, "internal server error"
    EXPIRED = 3005, "connection expired"
    SUBSCRIPTION_EXPIRED = 3006, "subscription expired"
    SLOW = 3008, "slow"
    WRITE_ERROR = 3009, "write error"
    INSUFFICIENT_STATE = 3010, "insufficient state"
    FORCE_RECONNECT = 3011, "force reconnect"
    NO_PONG = 3012, "no pong"
    TOO_MANY_REQUESTS = 3013, "too many requests"
    STATE_INVALIDATED = 3014, "state invalidated"
    INVALID_TOKEN = 3500, "invalid token"
    BAD_REQUEST = 3501, "bad request"
    STALE = 3502, "stale"
    FORCE_DISCONNECT = 3503, "force disconnect"
    CONNECTION_LIMIT = 3504, "connection limit"
    CHANNEL_LIMIT = 3505, "channel limit"
    INAPPROPRIATE_PROTOCOL = 3506, "inappropriate protocol"
    PERMISSION_DENIED = 3507, "permission denied"
    NOT_AVAILABLE = 3508, "not available"
    TOO_MANY_ERRORS = 3509, "too many errors"
    BLOCKED = 3510, "blocked"


class UnsubscribeCode(_Ending):
    """Why the server ended a subscription. From 2500 on, the client subscribes again by itself."""

    SERVER = 2000, "server unsubscribe"
    INSUFFICIENT_STATE = 2500, "insufficient state"
    EXPIRED = 2501, "subscription expired"
    STATE_INVALIDATED = 2502, "state invalidated"


LONGEST_REASON = 123
"""Bytes of a reason: what a close frame has room for (RFC 6455, section 5.5.1)."""

_REASONS: dict[int, str] = {code: code.reason for code in DisconnectCode}


class Error(Exception):
    """Answers one command with an error; the connection stays.

    ``Error(ErrorCode.PERMISSION_DENIED)``, or ``Error(403, "not a member")`` with a code of your own.
    """

    def __init__(self, code: ErrorCode | int, message: str | None = None, temporary: bool | None = None) -> None:
        known = code if isinstance(code, ErrorCode) else None
        self.code = int(code)
        self.message = message or (known.message if known else "error")
        self.temporary = temporary if temporary is not None else bool(known and known.temporary)
        super().__init__(f"{self.code} {self.message}")


class Disconnect(Exception):  # noqa: N818  the field's word for it
    """Closes the connection. The code says whether the client may return."""

    def __init__(self, code: DisconnectCode | int, reason: str | None = None) -> None:
        self.code = int(code)
        self.reason = reason or _REASONS.get(self.code, "disconnected")
        super().__init__(f"{self.code} {self.reason}")

    def check(self) -> Self:
        """The same. Raises ``ValueError`` for a code that is no server's to send, or too long a reason."""
        if not 3000 <= self.code <= 4999:
            raise ValueError(f"code = {self.code} must lie between 3000 and 4999, for example 4001")
        if len(self.reason.encode(errors="replace")) > LONGEST_REASON:
            raise ValueError(f"reason must not be longer than {LONGEST_REASON} bytes, for example 'signed out'")
        return self

    @property
    def reconnect(self) -> bool:
        """Whether a client that sees this code comes back by itself."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)


Stored = Literal["", "no", "maybe"]


class BrokerUnavailable(Error):  # noqa: N818
    """The broker cannot be reached just now. The same command may succeed later.

    ``stored`` says what has become of a publication: ``no``, it has not been published; ``maybe``, for it was sent and
    not answered: a repeat might publish it twice, unless both have the same ``idempotency_key``. Empty where it is
    about something else, or nobody knows.
    """

    def __init__(self, message: str = "broker unavailable, try again", *, stored: Stored = "") -> None:
        super().__init__(ErrorCode.INTERNAL, message)
        self.stored = stored


class KeysUnavailable(Error):  # noqa: N818
    """The key that a token needs cannot be fetched just now. The text is for the log, not for the client."""

    def __init__(self, problem: str) -> None:
        super().__init__(ErrorCode.INTERNAL, "keys unavailable, try again")
        self.problem = problem


def another(error: BaseException) -> BaseException:
    """Another exception like this one, for somebody else to raise: each gathers a traceback of its own."""
    other = type(error).__new__(type(error), *error.args)
    other.__dict__.update(error.__dict__)
    return other


class SettingsError(ValueError):
    """Settings that cannot be used. The text names the key, the value and a correct example."""
