"""Single flight: a question that many ask is put seldom."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.core.tasks import Tasks
from gateway.errors import another
from gateway.metrics import Reads

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class SingleFlight(Generic[_Key, _Answer]):
    """Puts a question once for all who ask it before it is put.

    Who asks joins only those whose question has not been put yet, so that nobody is told what was true before he
    asked. While it is under way those who come wait for the next, all together, and ``pause`` seconds longer, for
    there are many of them: so a storm is asked about once in a while, over however many ticks it comes. One who is
    cancelled disturbs nobody else.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self._boarding: dict[_Key, list[_Asker[_Answer]]] = {}
        self._flights = Tasks()
        self._put = self._shared = 0

    @property
    def reads(self) -> Reads:
        """How often it was put, and how many have shared the answer."""
        return Reads(self._put, self._shared)

    async def ask(self, key: _Key, put: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer to the question called ``key``; ``put`` puts it, for all who ask."""
        boarding = self._boarding.get(key)
        if boarding is None:
            return await self._lead(key, put)
        asker = _Asker(put)
        boarding.append(asker)
        try:
            return await asker.answer
        finally:
            del asker, boarding  # they keep a failure, whose traceback keeps this frame

    async def _lead(self, key: _Key, put: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Put it as the first who asks: mostly there is nobody else, and a task would cost more than the rest."""
        self._boarding[key] = []
        others: list[_Asker[_Answer]] = []
        try:
            await asyncio.sleep(0)  # for others to join; what is put may leave, and be answered, in the same turn
            others = self._board(key)
            self._count(1 + len(others))
            answer = await put()
        except Exception as error:
            _refuse(others, error)
            raise
        except BaseException:  # that is nothing to the others
            self._boarding[key] += others
            raise
        else:
            _tell(others, answer)
            return answer
        finally:
            if self._boarding[key]:
                self._flights.spawn(self._fly(key))
            else:
                del self._boarding[key]

    async def _fly(self, key: _Key) -> None:
        """Put it for those who have come meanwhile, and again, until nobody has."""
        askers: list[_Asker[_Answer]] = []
        try:
            while self._boarding[key]:
                await asyncio.sleep(self._pause)
                if askers := self._board(key):
                    self._count(len(askers))
                    await _put(askers)
        finally:
            for asker in (*askers, *self._boarding.pop(key)):  # none, unless the event loop is being closed
                asker.answer.cancel()

    def _count(self, askers: int) -> None:
        self._put += 1
        self._shared += askers - 1

    def _board(self, key: _Key) -> "list[_Asker[_Answer]]":
        askers, self._boarding[key] = self._boarding[key], []
        return [asker for asker in askers if not asker.answer.done()]


class _Asker(Generic[_Answer]):
    __slots__ = ("answer", "put")

    def __init__(self, put: Callable[[], Awaitable[_Answer]]) -> None:
        self.put = put
        self.answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()


async def _put(askers: list[_Asker[_Answer]]) -> None:
    try:
        answer = await askers[0].put()
    except Exception as error:
        _refuse(askers, error)
    else:
        _tell(askers, answer)


def _tell(askers: list[_Asker[_Answer]], answer: _Answer) -> None:
    for asker in askers:
        if not asker.answer.done():
            asker.answer.set_result(answer)


def _refuse(askers: list[_Asker[_Answer]], error: Exception) -> None:
    for asker in askers:
        if not asker.answer.done():
            asker.answer.set_exception(another(error))  # each gathers a traceback of its own
