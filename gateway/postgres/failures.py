"""What goes wrong with PostgreSQL, and what that means to those who ask."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gateway.errors import BrokerUnavailable, Error, ErrorCode, Stored

LASTING = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
)
"""Answers that trying again does not change: an operator must."""

BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""Somebody else is at work on a row, and holds it."""

UNSURE = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)
"""Answers after which nobody knows whether the statement was carried out."""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class StatementRefused(BrokerUnavailable):
    """PostgreSQL answered with an error. Clients never see ``detail``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(stored="maybe" if isinstance(error, UNSURE) else "no")
        self.detail = describe(error)
        self.lasting = isinstance(error, LASTING)
        self.kind = type(error).__name__.removesuffix("Error") if self.lasting else ""


def describe(error: BaseException) -> str:
    return str(error).replace("\n", " ") or repr(error)


@contextmanager
def translated(stored: Stored = "no") -> Iterator[None]:
    """Have what goes wrong raise ``BrokerUnavailable``; a row that is held stays the exception that it is.

    What was sent and not answered may have been carried out.
    """
    try:
        yield
    except (*BUSY, BrokerUnavailable):
        raise
    except asyncpg.PostgresError as error:
        raise StatementRefused(error) from error
    except (*FAILURES, asyncio.IncompleteReadError) as error:
        raise BrokerUnavailable(stored=stored) from error


def text(value: str) -> str:
    """What PostgreSQL can keep as text. Raises ``Error`` 107 for what it cannot."""
    if "\0" in value:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: names must not contain the character NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: names must be whole characters") from None
    return value
