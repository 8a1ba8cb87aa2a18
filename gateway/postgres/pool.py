"""Few connections for statements, made when they are needed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gateway.postgres.failures import BUSY, StatementRefused, translated

_Answer = TypeVar("_Answer")


class Pool:
    """At most ``size`` connections. One whose answer did not come is closed: nobody knows what it is at.

    asyncpg's own pool asks each connection to reset itself after each use, which is a second round trip, and waits for
    a server that does not answer.
    """

    def __init__(self, open_: Callable[[], Awaitable[Any]], size: int) -> None:
        self._open = open_
        self._free: list[Any] = []
        self._used: set[Any] = set()
        self._places = asyncio.Semaphore(size)
        self._closed = False

    async def fetch(self, statement: str, *args: Any) -> list[Any]:
        """The rows that a statement answers with. Raises ``BrokerUnavailable``, or ``BUSY`` for a row that is held."""
        async with self._places:
            with translated():
                connection = await self._take()
            answered = False
            try:
                with translated("maybe"):
                    rows: list[Any] = await connection.fetch(statement, *args)
                answered = True
                return rows
            except (StatementRefused, *BUSY):
                answered = True
                raise
            finally:
                self._give_back(connection, answered)

    def drop(self) -> None:
        """Close the connections that nobody uses just now."""
        for connection in self._free:
            connection.terminate()
        self._free.clear()

    def close(self) -> None:
        self._closed = True
        self.drop()
        for connection in self._used:
            connection.terminate()

    async def _take(self) -> Any:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                break
        else:
            connection = await self._open()
        self._used.add(connection)
        return connection

    def _give_back(self, connection: Any, answered: bool) -> None:
        self._used.discard(connection)
        if answered and not self._closed and not connection.is_closed():
            self._free.append(connection)
        else:
            connection.terminate()
