"""Traces by OpenTelemetry. Nothing of it is imported, and nothing is around anything, unless they are wanted.

This module alone is imported where they are not.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.brokers.base import Broker
from gateway.channels import Route
from gateway.config.settings import OpenTelemetrySettings, Settings
from gateway.web.api import Answer, Around, unchanged

if TYPE_CHECKING:
    from gateway.core.node import Node

A = TypeVar("A")
"""An application, as a session asks it."""

Tell = Callable[[str, Any], Awaitable[None]]
"""Tells a program of an event of a channel."""


class Tracing(Protocol):
    """What stands around the parts of one node."""

    def broker(self, broker: Broker) -> Broker:
        """Round trips, and the delivery of publications."""

    def application(self, application: A) -> A:
        """Handlers of connections and calls."""

    def route(self, route: Route) -> Route:
        """Handlers of channels, when sessions ask them."""

    def told(self, tell: Tell) -> Tell:
        """Handlers of channels, when they are told of an event without a client."""

    @property
    def api(self) -> Around:
        """Methods of the server API."""

    async def close(self) -> None: ...


class Untraced:
    """Everything as it is."""

    api = staticmethod(unchanged)

    def broker(self, broker: Broker) -> Broker:
        return broker

    def application(self, application: A) -> A:
        return application

    def route(self, route: Route) -> Route:
        return route

    def told(self, tell: Tell) -> Tell:
        return tell

    async def close(self) -> None:
        pass


def open_tracing(settings: Settings, node: "Callable[[], Node]") -> Tracing:
    """That of one node, which ``node`` gives once it is made. Raises ``SettingsError``."""
    if not settings.opentelemetry.enabled:
        return Untraced()
    from gateway.tracing.tracing import OpenTelemetry  # an extra, which most do without

    return OpenTelemetry(settings, node)


def around_api(settings: OpenTelemetrySettings, running: Callable[[], Tracing]) -> Around:
    """What stands around the methods of the server API, which are there before any node."""
    if not (settings.enabled and settings.api):
        return unchanged

    def around(name: str, answer: Answer) -> Answer:
        async def traced(command: Any, request: Any) -> Any:
            return await running().api(name, answer)(command, request)

        return traced

    return around
