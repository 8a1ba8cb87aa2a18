"""An engine in memory whose every call takes some turns of the event loop, fails, or does not answer for a while."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

from gateway.config.settings import Settings
from gateway.errors import BrokerUnavailable
from gateway.program.engine import Engine

WAY = 1
"""Turns of the event loop to the broker, and back. All calls take as many, so that they keep their order."""

HEALING = ("unsubscribe", "remove")
"""Calls that take effect though they fail: a broker has forgotten, or a store will see to it, when it is back."""


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Line:
    """What lies between a node and its broker. Calls arrive in the order in which they are made."""

    def __init__(self) -> None:
        self.down = False
        self.under_way = 0
        """Calls that have no answer yet."""
        self._silent = False
        self._waiting: list[Callable[[], None]] = []

    def hold(self) -> None:
        """Nothing arrives until ``restore``."""
        self._silent = True

    def restore(self) -> None:
        self.down = self._silent = False
        waiting, self._waiting = self._waiting, []
        for arrive in waiting:
            arrive()

    async def carry(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Take a call to the broker, and its answer back."""
        answer = asyncio.get_running_loop().create_future()
        self.under_way += 1
        _later(WAY, lambda: self._arrive(name, call, answer))
        return await answer

    def _arrive(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]], answer: asyncio.Future[Any]) -> None:
        if self._silent:
            self._waiting.append(lambda: self._arrive(name, call, answer))
            return
        result: Any = None
        error: Exception | None = BrokerUnavailable() if self.down else None
        if not self.down or name.startswith(HEALING):
            try:
                result = _result(call())
            except Exception as raised:  # handed to the caller
                error = raised
        _later(WAY, lambda: self._answer(answer, result, error))

    def _answer(self, answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self.under_way -= 1
        if answer.done():  # who asked was cancelled
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


def _later(count: int, step: Callable[[], None]) -> None:
    """Call ``step`` after so many turns of the event loop."""
    if count:
        asyncio.get_running_loop().call_soon(_later, count - 1, step)
    else:
        step()


def _result(call: Coroutine[Any, Any, Any]) -> Any:
    """What an engine in memory, which never waits, answers."""
    try:
        call.send(None)
    except StopIteration as answered:
        return answered.value
    raise AssertionError("an engine in memory has waited")


class Slow:
    """A broker or a store at the end of a line."""

    def __init__(self, inner: Any, line: Line) -> None:
        self.inner = inner
        self._line = line

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not iscoroutinefunction(found) or name in ("start", "close"):
            return found

        @wraps(found)
        async def call(*args: Any, **options: Any) -> Any:
            return await self._line.carry(name, partial(found, *args, **options))

        return call


class SlowEngine(Engine):
    """The memory engine at the end of a line."""

    def __init__(self, settings: Settings, line: Line) -> None:
        super().__init__(settings)
        self._memory: Any = self.broker
        self._members = self.presence
        broker: Any = Slow(self.broker, line)
        presence: Any = Slow(self.presence, line)
        self.broker, self.presence = broker, presence

    @property
    def heard(self) -> set[str]:
        """Channels that the broker delivers."""
        return set(self._memory._channels)

    async def members(self, channel: str) -> set[str]:
        """Client ids in a channel's presence."""
        return set(await self._members.members(channel))
