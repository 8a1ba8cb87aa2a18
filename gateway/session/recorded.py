"""A session that is recorded: it tells what it does.

It is one by its class, which it is given while somebody watches it and loses afterwards. So a session that nobody
watches runs what it always runs.
"""

from collections.abc import Coroutine
from functools import cache
from typing import Any

from gateway.auth.tokens import TokenRefused
from gateway.core.cluster import (
    ControlCommand,
    DisconnectUser,
    RefreshUser,
    SendMessage,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.errors import Disconnect, Error
from gateway.limits.limiter import COMMANDS
from gateway.messages import (
    Command,
    Pong,
    Publication,
    Push,
    Request,
    Result,
    RPCRequest,
    SubscribeResult,
    Unsubscribe,
)
from gateway.session.dispatch import ClientSession
from gateway.session.life import GONE
from gateway.session.session import Session

_NAMES = {kind: name for name, kind in COMMANDS.items()}

_ORDERS: dict[type[ControlCommand], str] = {
    SubscribeUser: "subscribe",
    UnsubscribeUser: "unsubscribe",
    DisconnectUser: "disconnect",
    SendMessage: "send",
    RefreshUser: "refresh",
}


def name_of(request: Request) -> str:
    """A command as the protocol names it."""
    return _NAMES.get(type(request)) or type(request).__name__.removesuffix("Request").lower()


def reason_of(error: Exception) -> str:
    """Why something is refused: what the client is told, and what is wrong with its token."""
    if not isinstance(error, Error | Disconnect):
        return f"100 internal server error: {type(error).__name__}, see the log"
    why = error.__cause__
    return f"{error}: {why}" if isinstance(why, TokenRefused) else str(error)


class Recorded(Session):
    """Tells of what the client is told.

    What somebody has taken hold of (a deadline's callback, an ``answer`` to what is awaited) can run when the session
    has its own class again, and must not say ``super()``.
    """

    __slots__ = ()

    def answer(self, command_id: int, result: Result) -> None:
        _tell(self, "reply", f"#{command_id} {_outcome(result)}", data=result)
        _own(self).answer(self, command_id, result)

    def fail(self, command_id: int, error: Exception) -> None:
        _tell(self, "error", f"#{command_id} {reason_of(error)}")
        _own(self).fail(self, command_id, error)

    def push(self, channel: str, push: Push) -> None:
        data = push.data if isinstance(push, Publication) else push
        _tell(self, "push", _described(push, channel), channel, data)
        _own(self).push(self, channel, push)

    def disconnect(self, reason: Disconnect) -> None:
        if self.state not in GONE:
            _tell(self, "disconnect", f"the gateway closes with {reason.code} {reason.reason}")
        _own(self).disconnect(self, reason)

    def control(self, command: ControlCommand) -> None:
        means_it = command.client in ("", self.client) and command.session in ("", self.session_id)
        if means_it and self.state not in GONE:
            code = f" {command.code} {command.reason}" if isinstance(command, DisconnectUser | UnsubscribeUser) else ""
            text = f"the server orders: {_ORDERS[type(command)]}{code}"
            _tell(self, "server", text, getattr(command, "channel", ""), getattr(command, "data", None))
        _own(self).control(self, command)

    def pong(self) -> None:
        if self.awaits_pong is not None:
            _tell(self, "pong", f"after {(self.node.wheel.clock() - self.awaits_pong) * 1000:.0f} ms")
        _own(self).pong(self)

    def _ping(self) -> None:
        _tell(self, "ping", "sent")
        _own(self)._ping(self)


class RecordedClient(Recorded, ClientSession):
    """Tells of the client's commands, too."""

    __slots__ = ()

    def _handle(self, command: Command) -> Coroutine[Any, Any, None] | None:
        request = command.request
        if not isinstance(request, Pong):
            method = f" {request.method}" if isinstance(request, RPCRequest) else ""
            text = f"#{command.id} {name_of(request)}{method}"
            _tell(self, "command", text, getattr(request, "channel", ""), request)
        return ClientSession._handle(self, command)


def record(session: Session) -> None:
    """Have a session tell what it does."""
    pings = session.heartbeat.callback == session._ping
    kind: Any = type(session)  # which mypy takes for unhashable, as its objects seem to be
    session.__class__ = _recorded(kind)
    if pings:
        session.heartbeat.callback = session._ping


def release(session: Session) -> None:
    """Have it be what it was."""
    session.__class__ = _own(session)


def _own(session: Session) -> Any:
    """The class that it has while nobody watches it."""
    kind: Any = type(session)
    return kind.__bases__[-1] if issubclass(kind, Recorded) else kind


@cache
def _recorded(kind: type[Session]) -> type[Session]:
    teller = RecordedClient if issubclass(kind, ClientSession) else Recorded
    return type(f"Recorded{kind.__name__}", (teller, kind), {"__slots__": ()})


def _tell(session: Session, kind: str, text: str, channel: str = "", data: object = None) -> None:
    if (witness := session.node.witness) is not None:
        witness.tell(session, kind, text, channel, data)


def _described(push: Push, channel: str) -> str:
    match push:
        case Publication():
            return f"publication, offset {push.offset}" if channel else "message"
        case Unsubscribe():
            return f"unsubscribe {push.code} {push.reason}"
    return type(push).__name__.lower()


def _outcome(result: Result) -> str:
    text = type(result).__name__.removesuffix("Result").lower()
    if isinstance(result, SubscribeResult) and result.was_recovering:
        return text + (f", {len(result.publications)} recovered" if result.recovered else ", not recovered")
    return text
