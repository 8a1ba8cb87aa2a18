"""The order of commands while slots change hands: nobody overtakes those who are led on or wait for their keys."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway.redis.connection import ignored

LONGEST = 3.0
"""Seconds that anybody waits for a former owner's answers."""

PAUSE = 0.05
"""Seconds before what is on its way between two servers is asked for again."""

Place = int | bytes
"""A slot that changes hands, or a key on its way, which is no reason for other keys of its slot to wait."""

_Turn = asyncio.Future[None]
Ask = Callable[[], asyncio.Future[Any]]
"""Asks a slot's former owner for anything: behind its answer none is due of what was sent before."""


class _Queue:
    __slots__ = ("again", "new")

    def __init__(self) -> None:
        self.again: list[_Turn] = []
        """Those who have been sent, and are to be once more."""
        self.new: list[_Turn] = []


class Turns:
    """Slots and keys on their way to another server, and who waits there."""

    def __init__(self) -> None:
        self._queues: dict[Place, _Queue] = {}

    def take(self, place: Place) -> _Turn | None:
        """What to wait for before a command is sent there, None if nothing."""
        queue = self._queues.get(place)
        return None if queue is None else _stand(queue.new)

    def pausing(self, place: Place) -> bool:
        """Whether somebody waits to be sent once more, before whom nobody may be led on."""
        return place in self._queues and bool(self._queues[place].again)

    def take_again(self, place: Place) -> _Turn:
        """What to wait for before a command that has been sent is sent once more; its place is held."""
        return _stand(self._queues[place].again)

    def held(self, place: Place) -> bool:
        return place in self._queues

    def close(self) -> None:
        """Let everybody go."""
        for queue in self._queues.values():
            _free([*queue.again, *queue.new])
        self._queues.clear()

    def hold(self, places: Iterable[Place], ask: Ask) -> Coroutine[Any, Any, None]:
        """Have new commands wait until those before them have been answered, and led where they belong.

        What it returns is to be run, and lets them go.
        """
        held = {place: _Queue() for place in places if place not in self._queues}
        self._queues |= held
        return self._serve(held, ask, ask())

    async def _serve(self, held: dict[Place, _Queue], ask: Ask, last: asyncio.Future[Any]) -> None:
        try:
            await _answered(last)
            while again := [turn for queue in held.values() for turn in queue.again]:
                await asyncio.sleep(PAUSE)
                again = [turn for queue in held.values() for turn in queue.again]
                for queue in held.values():
                    queue.again.clear()
                await _let_go(again)
                await _answered(ask())
            for place, queue in held.items():
                while queue.new:  # who comes meanwhile stands behind those who go now
                    new, queue.new = queue.new, []
                    await _let_go(new)
                self._queues.pop(place, None)
        finally:
            for place, queue in held.items():
                self._queues.pop(place, None)
                _free([*queue.again, *queue.new])


def _stand(queue: list[_Turn]) -> _Turn:
    turn: _Turn = asyncio.get_running_loop().create_future()
    queue.append(turn)
    return turn


async def _answered(last: asyncio.Future[Any]) -> None:
    last.add_done_callback(ignored)
    await asyncio.wait([last], timeout=LONGEST)


async def _let_go(turns: Iterable[_Turn]) -> None:
    """Returns when they have been sent."""
    _free(turns)
    await asyncio.sleep(0)


def _free(turns: Iterable[_Turn]) -> None:
    for turn in turns:
        if not turn.done():
            turn.set_result(None)
