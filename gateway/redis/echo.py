"""Hearing oneself: what was published before has arrived, since what was published after it has."""

import asyncio
import logging
from collections.abc import Callable

PATIENCE = 1.0
"""Seconds that somebody waits for an echo: far longer than one takes, and bearable where none comes."""

logger = logging.getLogger(__name__)


class Echo:
    """Numbered messages to ourselves, one for all who ask in a tick.

    Redis hands a subscriber what is published in the order in which it was: whatever came before the message has come
    when the message has. While none comes back nobody waits, for then the rest does not come either.
    """

    def __init__(self, publish: Callable[[int], "asyncio.Future[int]"], name: Callable[[], str] = str) -> None:
        """``publish`` sends a number to ``hear``, and answers how many subscribers heard; ``name`` is the server's."""
        self._name = name
        self._publish = publish
        self._number = 0
        self._under_way: dict[int, asyncio.Future[None]] = {}
        self._next: asyncio.Future[None] | None = None
        self._silent = False

    async def wait(self) -> None:
        """Return when what was published before has arrived, or will not. Never fails."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_soon(self._send)
        echo = self._next
        if self._silent:
            return
        await asyncio.wait([echo], timeout=PATIENCE)
        if not echo.done() and not self._silent:
            self._silent = True
            text = "Redis %s: nothing published here has come back for %g s; nobody waits for it"
            logger.warning(text, self._name(), PATIENCE)

    def hear(self, payload: bytes) -> None:
        """A number has arrived."""
        self._silent = False
        self._release(int(payload))

    def _send(self) -> None:
        assert self._next is not None, "somebody has asked"
        if self._silent:
            self._release(self._number)  # of those that do not come one is kept
        self._number = number = self._number + 1
        self._under_way[number], self._next = self._next, None
        self._publish(number).add_done_callback(lambda answer: self._published(number, answer))

    def _published(self, number: int, answer: "asyncio.Future[int]") -> None:
        if answer.cancelled() or answer.exception() is not None or not answer.result():
            self._release(number)  # nobody hears it, we neither

    def _release(self, number: int) -> None:
        for each in [each for each in self._under_way if each <= number]:
            echo = self._under_way.pop(each)
            if not echo.done():
                echo.set_result(None)
