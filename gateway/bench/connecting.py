"""Opens the connections of a plan, so many at a time."""

import select
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from gateway.bench.limits import make_room
from gateway.bench.opening import Opening, Refused, Target, upgrade_request
from gateway.bench.plan import Plan
from gateway.bench.reader import NOTHING, Reader

Opened = Callable[[Opening], None]
"""Told of each connection that is subscribed."""

_HOPELESS = 100
"""Connections that fail, without a single one that does not, after which no more are tried."""
_PAUSE = 0.05
"""Longest wait for the sockets, in seconds."""


class Connector:
    """Carries openings through, among the other sockets of a reader. Failures are counted by their kind."""

    def __init__(self, plan: Plan, reader: Reader, opened: Opened, errors: Counter[str]) -> None:
        self.connected = 0
        self.seconds = 0.0
        self._plan, self._reader, self._opened, self._errors = plan, reader, opened, errors
        self._openings: dict[int, Opening] = {}

    def __contains__(self, fd: int) -> bool:
        return fd in self._openings

    def run(self, tick: Callable[[float], None]) -> None:
        """Until all connections are subscribed or have failed. Raises `LoadError`."""
        plan = self._plan
        make_room(plan.connections)
        target, request = Target.of(plan), upgrade_request(plan)
        began = heard = time.monotonic()
        number = settled = 0
        try:
            while self._openings or (number < plan.connections and not self._hopeless):
                while len(self._openings) < plan.connect_concurrency and number < plan.connections:
                    self._open(target, request, number)
                    number += 1
                self._reader.read(_PAUSE)
                now = time.monotonic()
                tick(now)
                if settled != number - len(self._openings):
                    settled, heard = number - len(self._openings), now
                elif now - heard > plan.connect_timeout:
                    break
        finally:
            self.seconds = time.monotonic() - began
            for fd in list(self._openings):
                self._refuse(fd, f"timed out after {plan.connect_timeout:g} s")

    @property
    def _hopeless(self) -> bool:
        return not self.connected and self._errors.total() >= _HOPELESS

    def _open(self, target: Target, request: bytes, number: int) -> None:
        try:
            opening = Opening(self._plan, target, request, number)
            events = opening.proceed()
        except Refused as refused:
            self._errors[str(refused)] += 1
            return
        fd = opening.socket.fileno()
        self._openings[fd] = opening
        self._reader.add(fd, partial(self.proceed, fd), events)

    def proceed(self, fd: int, buffer: bytearray) -> int:
        """Go on with a connection whose socket is ready. It is a receiver for what comes after its confirmation."""
        opening = self._openings[fd]
        try:
            events = opening.proceed()
        except Refused as refused:
            self._refuse(fd, str(refused))
            return NOTHING
        self._reader.wait_for(fd, events or select.EPOLLIN)
        if events:
            return NOTHING
        del self._openings[fd]
        self.connected += 1
        self._opened(opening)
        return opening.rest(buffer)

    def _refuse(self, fd: int, reason: str) -> None:
        self._openings.pop(fd).socket.close()
        self._errors[reason] += 1
