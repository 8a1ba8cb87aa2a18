"""The node's copy of the block list: who may not connect, and is sent away."""

from collections.abc import Callable, Mapping
from heapq import nsmallest

from gateway.blocks.base import BlockStore
from gateway.core.hub import Hub
from gateway.errors import Disconnect, DisconnectCode

SWEEP = 60.0
"""Seconds between two looks for blocks that have ended."""


class Blocked:
    """Users that may not connect: ``user in blocked``. Satisfies `BlockEvents`."""

    def __init__(self, store: BlockStore, hub: Hub, clock: Callable[[], float]) -> None:
        self.store = store
        self._hub = hub
        self._clock = clock
        self._until: dict[str, float] = {}
        self._sweep_at = 0.0

    def __contains__(self, user: str) -> bool:
        until = self._until.get(user)
        return until is not None and until > self._clock()

    def page(self, limit: int, after: str = "") -> tuple[dict[str, float], str]:
        """Some of them with the end of each (Unix seconds, or infinity), in the order of their names, behind ``after``.

        And the cursor of the next page, empty after the last.
        """
        now = self._clock()
        names = nsmallest(limit + 1, (user for user, until in self._until.items() if user > after and until > now))
        page = {user: self._until[user] for user in names[:limit]}
        return page, names[limit - 1] if len(names) > limit else ""

    # — from the store —

    def on_list(self, users: Mapping[str, float]) -> None:
        now = self._clock()
        self._until = {user: now + seconds for user, seconds in users.items()}
        for user in self._until.keys() & self._hub.users.keys():
            self._send_away(user)

    def on_block(self, user: str, seconds: float) -> None:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            self._until = {each: until for each, until in self._until.items() if until > now}
        self._until[user] = now + seconds
        self._send_away(user)

    def on_unblock(self, user: str) -> None:
        self._until.pop(user, None)

    def _send_away(self, user: str) -> None:
        for connection in self._hub.of_user(user):
            connection.disconnect(Disconnect(DisconnectCode.BLOCKED))
