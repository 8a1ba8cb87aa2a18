"""Single flight: equal questions of one tick are asked once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.errors import another

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class SingleFlight(Generic[_Key, _Answer]):
    """Puts a question once for all who ask it within a tick of the event loop.

    Who asks joins only those whose question has not been put yet, so that nobody is told what was true before he
    asked. One who is cancelled disturbs nobody else.
    """

    def __init__(self) -> None:
        self._boarding: dict[_Key, list[asyncio.Future[_Answer]]] = {}

    async def ask(self, key: _Key, put: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer to the question called ``key``; ``put`` puts it, for the first of those who ask."""
        while (others := self._boarding.get(key)) is not None:
            answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
            others.append(answer)
            try:
                return await answer
            except _Left:
                continue
        return await self._lead(key, put)

    async def _lead(self, key: _Key, put: Callable[[], Awaitable[_Answer]]) -> _Answer:
        others = self._boarding[key] = []
        try:
            try:
                await asyncio.sleep(0)  # for others to join; what is put may leave, and be answered, in the same turn
            finally:
                del self._boarding[key]
            answer = await put()
        except BaseException as error:
            for other in others:
                if not other.done():
                    other.set_exception(another(error) if isinstance(error, Exception) else _Left())
            raise
        for other in others:
            if not other.done():
                other.set_result(answer)
        return answer


class _Left(Exception):  # noqa: N818  a state, as BrokerUnavailable is
    """The one who was to put the question has been cancelled: the others ask anew."""
