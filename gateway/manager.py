"""The tutorial's connection manager, for an application as it stands."""

from fastapi import FastAPI

from gateway.embedded import Gateway
from gateway.sockets import manager


class ConnectionManager(manager.ConnectionManager):
    """Keeps the WebSockets of a route, and broadcasts to all of them, on whichever node they are.

    What FastAPI's tutorial writes for one process; the program that uses it stays as it is ::

        manager = ConnectionManager(app)

    Given an application, it makes a `Gateway` with settings from file and environment, and runs it in the
    application's lifespan; given a `Gateway`, it takes that. See `sockets.manager.ConnectionManager` for the rest.
    """

    def __init__(self, home: FastAPI | Gateway, channel: str = "broadcast") -> None:
        if isinstance(home, FastAPI):
            app, home = home, Gateway()
            home.run_in(app)
        super().__init__(home, channel)
