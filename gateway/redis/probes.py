"""Whether what is published arrives: numbered probes that a node publishes to itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

MISSING = 2
"""Probes that were published and have not arrived: one may still be on its way."""


class Probes:
    """Each probe has a number and must itself arrive, whatever else does.

    ``publish`` sends one; ``listener`` answers by what the node hears, an object that is another one after a
    reconnect. ``deafened`` is called when the probes do not come.
    """

    def __init__(
        self,
        interval: float,
        publish: Callable[[str], Awaitable[None]],
        listener: Callable[[], object],
        deafened: Callable[[], None],
    ) -> None:
        self.deaf = False
        self.lag = 0.0
        self._interval = interval
        self._publish = publish
        self._listener = listener
        self._deafened = deafened
        self._sent = self._arrived = 0
        self._missing: list[int] = []

    def restart(self) -> None:
        """Those under way will not arrive: their connection has gone."""
        self._missing.clear()

    async def run(self) -> None:
        while True:
            try:
                self._check_hearing()
                # Not wait_for, which on Python 3.11 can lose a cancellation.
                async with asyncio.timeout(self._interval):
                    await self._send()
            except (BrokerUnavailable, TimeoutError):
                logger.debug("no probe: a failed publish proves nothing about receiving")
            except Exception:  # a supervisor that dies leaves the node deaf for ever
                logger.exception("a probe failed")
            await asyncio.sleep(self._interval)

    def hear(self, payload: bytes) -> None:
        """A probe has arrived."""
        number, _, sent = payload.partition(b":")
        self._arrived = int(number)
        self._missing = [missing for missing in self._missing if missing > self._arrived]
        self.lag = max(0.0, asyncio.get_running_loop().time() - float(sent))
        self.deaf = False

    def _check_hearing(self) -> None:
        if len(self._missing) >= MISSING:
            self.deaf = True
            self._missing.clear()
            self._deafened()

    async def _send(self) -> None:
        listener = self._listener()
        self._sent = number = self._sent + 1
        await self._publish(f"{number}:{asyncio.get_running_loop().time()!r}")
        listened = listener is not None and listener is self._listener()
        if listened and number > self._arrived:  # it may have come before the answer did
            self._missing.append(number)
