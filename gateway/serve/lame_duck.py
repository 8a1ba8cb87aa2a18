"""The lame-duck time: who is told to stop serves as ever until balancers know that no more clients are wanted."""

from collections.abc import Callable
from typing import Any, NamedTuple

from uvicorn.server import ServerState

from gateway.config.settings import Settings


class LameDuck(NamedTuple):
    seconds: float
    begin: Callable[[], None]
    """Says from now on, to who asks for the application's health, that it wants no more clients."""


NO_LAME_DUCK = LameDuck(0.0, lambda: None)


class LeavingState(ServerState):
    """A server's state, which its HTTP connections look at."""

    keep_alive = True
    """Whether they are kept for another request. Who leaves says with each answer that the next goes elsewhere."""


def lame_duck_of(settings: Settings, app: Any) -> LameDuck:
    """That of an application; one that cannot be asked for its health has none."""
    begin = getattr(getattr(app, "state", None), "lame_duck", None)
    return NO_LAME_DUCK if begin is None else LameDuck(settings.shutdown.grace, begin)
