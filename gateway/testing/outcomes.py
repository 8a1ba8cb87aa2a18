"""What a test hears when things go another way: answers of the gateway, and what is wrong by the kit's own eyes."""

from gateway.errors import Disconnect


class Refused(Exception):  # noqa: N818  as the SDKs see it, an answer
    """A command was answered with an error; the connection stays."""

    def __init__(self, code: int, message: str, temporary: bool = False) -> None:
        self.code = code
        self.message = message
        self.temporary = temporary
        """Whether the SDKs try again."""
        super().__init__(f"{code} {message}")


class Disconnected(Exception):  # noqa: N818  a state
    """The connection is over: its close code and reason, 1006 without a goodbye."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}".rstrip())

    @property
    def reconnect(self) -> bool:
        """Whether the SDKs come back by themselves."""
        return Disconnect(self.code, self.reason).reconnect


class Rejected(Disconnected):
    """The handshake was answered with an HTTP status. ``code`` is what the application said, which no browser sees."""

    def __init__(self, status: int, code: int = 1006, reason: str = "", body: bytes = b"") -> None:
        self.status = status
        self.body = body
        super().__init__(code, reason)


class Unexpected(AssertionError):  # noqa: N818  a verdict
    """Something came that should not have."""


class Late(AssertionError):  # noqa: N818  a verdict
    """Something has not come in time. The text says what came instead."""
