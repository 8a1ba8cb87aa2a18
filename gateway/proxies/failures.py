"""What a backend has not decided."""

from typing import Literal

from gateway.errors import Error, ErrorCode

Kind = Literal["overload", "timeout", "connection", "status", "size", "answer"]
"""Too many calls; no answer in time; nobody there, or gone; a status that means nothing; too large; unreadable."""


class Failure(Error):  # noqa: N818  like BrokerUnavailable, it answers a command
    """The backend has not decided; a client is to try again, and learns no more.

    ``text`` is for the log: it names no value that a client or the backend has sent.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(ErrorCode.INTERNAL)
        self.kind = kind
        self.text = text
