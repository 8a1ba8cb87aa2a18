"""Single flight: a question that many ask is put seldom."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from msgspec import Struct

from gateway.core.tasks import Tasks
from gateway.errors import another
from gateway.metrics import Reads

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class Question(Struct, Generic[_Key, _Answer], eq=False):
    """A question that is asked; its ``detail`` is that of the first who asks."""

    key: _Key
    detail: Any = None
    askers: list[asyncio.Future[_Answer]] = []
    """Those for whom it has not been put yet."""
    aboard: list[asyncio.Future[_Answer]] = []
    """Those for whom it is under way."""


class Flights(Generic[_Key, _Answer]):
    """Puts a question once for all who ask it before it is put, and all that are asked in one tick together.

    Who asks joins only those whose question has not been put yet, so that nobody is told what was true before he
    asked. While it is under way those who come wait for the next, all together, and ``pause`` seconds longer, for
    there are many of them: so a storm is asked about once in a while, over however many ticks it comes. One who is
    cancelled disturbs nobody else.
    """

    def __init__(
        self,
        put: Callable[[list[Question[_Key, _Answer]]], None],
        pause: float = 0.0,
        copy: Callable[[_Answer], _Answer] = lambda answer: answer,
    ) -> None:
        """Of each question that is ``put``, ``tell`` or ``refuse`` is to be called.

        The first gets the answer itself, others a ``copy``.
        """
        self._put = put
        self._copy = copy
        self._pause = pause
        self._questions: dict[_Key, Question[_Key, _Answer]] = {}
        self._due: list[Question[_Key, _Answer]] = []
        self._count = self._shared = 0

    @property
    def reads(self) -> Reads:
        """How often questions were put, and how many have shared an answer."""
        return Reads(self._count, self._shared)

    def ask(self, key: _Key, detail: Any = None) -> asyncio.Future[_Answer]:
        """The answer to the question called ``key``."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = Question(key)
            self._board(question)
        if not question.askers:
            question.detail = detail
        question.askers.append(answer)
        return answer

    def tell(self, question: Question[_Key, _Answer], answer: _Answer) -> None:
        for number, asker in enumerate(self._land(question)):
            if not asker.done():
                asker.set_result(self._copy(answer) if number else answer)

    def refuse(self, question: Question[_Key, _Answer], error: BaseException) -> None:
        for asker in self._land(question):
            if not asker.done():
                asker.set_exception(another(error))  # each gathers a traceback of its own

    def drop(self, question: Question[_Key, _Answer]) -> None:
        """Have done with it, as when the event loop is being closed."""
        self._questions.pop(question.key, None)
        for asker in (*question.aboard, *question.askers):
            asker.cancel()

    def _board(self, question: Question[_Key, _Answer]) -> None:
        if not self._due:
            asyncio.get_running_loop().call_soon(self._leave)
        self._due.append(question)

    def _leave(self) -> None:
        due, self._due = self._due, []
        for question in due:
            question.aboard, question.askers = question.askers, []
            self._count += 1
            self._shared += len(question.aboard) - 1
        try:
            self._put(due)
        except Exception as error:  # let through, it would leave them without answer for ever
            for question in due:
                self.refuse(question, error)

    def _land(self, question: Question[_Key, _Answer]) -> list[asyncio.Future[_Answer]]:
        """Those who are to be answered now; the others are next."""
        aboard, question.aboard = question.aboard, []
        if not question.askers:
            self._questions.pop(question.key, None)
        elif aboard:
            asyncio.get_running_loop().call_later(self._pause, self._board, question)
        return aboard


class SingleFlight(Generic[_Key, _Answer]):
    """The same for questions that are put one by one, each as its first asker would."""

    def __init__(self, pause: float = 0.0) -> None:
        self._questions: Flights[_Key, _Answer] = Flights(self._put, pause)
        self._flights = Tasks()

    @property
    def reads(self) -> Reads:
        return self._questions.reads

    def ask(self, key: _Key, put: Callable[[], Awaitable[_Answer]]) -> asyncio.Future[_Answer]:
        """The answer to the question called ``key``; ``put`` puts it, for all who ask."""
        return self._questions.ask(key, (put, copy_context()))

    def _put(self, questions: list[Question[_Key, _Answer]]) -> None:
        for question in questions:
            put, context = question.detail
            self._flights.spawn(self._fly(question, put), context)

    async def _fly(self, question: Question[_Key, _Answer], put: Callable[[], Awaitable[_Answer]]) -> None:
        try:
            answer = await put()
        except Exception as error:
            self._questions.refuse(question, error)
        except BaseException:
            self._questions.drop(question)
            raise
        else:
            self._questions.tell(question, answer)
