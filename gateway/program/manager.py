"""The tutorial's connection manager, for an application as it stands."""

from typing import Any, Self

from fastapi import FastAPI

from gateway.program.gateway import Gateway
from gateway.program.sockets import manager

STATE = "gateway_of_managers"
"""What it is called in ``app.state``."""

ADVICE = "ConnectionManager needs to know the application, or its Gateway: write manager = ConnectionManager(app)"


class ConnectionManager(manager.ConnectionManager):
    """Keeps the WebSockets of a route, and broadcasts to all of them, on whichever node they are.

    What FastAPI's tutorial writes for one process; the program that uses it stays as it is ::

        manager = ConnectionManager(app)

    Given an application, it makes a `Gateway` with settings from file and environment, one for all managers, and runs
    it in the application's lifespan; given a `Gateway`, it takes that. See `sockets.manager.ConnectionManager` for the
    rest.
    """

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if not args and "home" not in options:
            raise TypeError(ADVICE)
        return super().__new__(cls)

    def __init__(self, home: FastAPI | Gateway, channel: str = "broadcast") -> None:
        if not isinstance(home, FastAPI | Gateway):
            raise TypeError(f"{ADVICE}, not {home!r}")
        super().__init__(_gateway_of(home) if isinstance(home, FastAPI) else home, channel)


def _gateway_of(app: FastAPI) -> Gateway:
    """One for all managers of the application."""
    gateway: Gateway | None = getattr(app.state, STATE, None)
    if gateway is None:
        gateway = Gateway()
        gateway.run_in(app)
        setattr(app.state, STATE, gateway)
    return gateway
