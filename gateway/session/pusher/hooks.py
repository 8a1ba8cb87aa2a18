"""Whom sessions tell what is of interest to the backends of apps."""

from typing import Protocol

from gateway.apps.base import App


class Hooks(Protocol):
    """Told by sessions as it happens. Nothing here waits, and nothing raises."""

    def client_event(self, app: App, channel: str, event: str, data: str, socket_id: str, user: str) -> None:
        """A client event has been published; ``data`` is JSON, ``user`` the member in a presence channel."""

    def cache_miss(self, app: App, channel: str, period: str) -> None:
        """A client has come to a cache channel that is empty. ``period`` names the time in which it is, for all."""


class NoHooks:
    """Where no backend wants to know. Satisfies `Hooks`."""

    def client_event(self, app: App, channel: str, event: str, data: str, socket_id: str, user: str) -> None:
        """Nobody wants to know."""

    def cache_miss(self, app: App, channel: str, period: str) -> None:
        """Nobody wants to know."""
