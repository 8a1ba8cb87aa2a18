"""The session of a client that says something. What that may be stands in one table, ``EVENTS``."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gateway.config.settings.pusher import ROOM
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.pusher import PusherProtocol, Said
from gateway.session.life import CONNECTED, GONE
from gateway.session.pusher import client_events, rates, signing_in, subscribing
from gateway.session.pusher.session import AppSession

TOO_BIG = 1009
"""Code of WebSockets for a message that is too large."""

LEAST = 65536
"""Bytes of a message that is always read: sign-ins with long watchlists are as large as that."""


class PusherSession(AppSession):
    """Its transport calls ``receive`` for each message, or ``take``, one at a time."""

    __slots__ = ()

    async def receive(self, frame: bytes) -> None:
        """Carry out one message."""
        if (rest := self.take(frame)) is not None:
            await rest

    def take(self, frame: bytes) -> Awaitable[None] | None:
        """Carry out one message as far as that goes without waiting; answers what is to be awaited before the next."""
        if self.state in GONE:
            return None
        self.node.metrics.bytes_in += len(frame)
        if self.state is not CONNECTED:
            self.reject(Disconnect(DisconnectCode.BAD_REQUEST))
            return None
        self.pong()  # whatever it says, it lives
        if not self.is_served():
            return None
        if len(frame) > max(LEAST, self.app.settings.max_event_size + ROOM):
            self.reject(Disconnect(TOO_BIG, "message is too big"))
            return None
        protocol = self.wire.protocol
        if frame == protocol.pong:
            return None
        assert isinstance(protocol, PusherProtocol)
        try:
            return self._handle(protocol.read(frame), len(frame))
        except ValueError as error:
            self.complain(f"message cannot be read: {error}"[:200])
        except Disconnect as reason:
            self.reject(reason)
        return None

    def _handle(self, said: Said, size: int) -> Awaitable[None] | None:
        """Have the handler of the message begin. Raises ``ValueError`` for data that it cannot read."""
        event = EVENTS.get(said.event)
        if event is None and said.event.startswith(client_events.PREFIX):
            event = CLIENT_EVENT
        within = rates.is_within(self, event.kind if event else None, size)
        if event is None:
            self.complain(f"there is no event {said.event[:50]!a} for clients to send")
            return None
        if event.kind is not None:
            self.node.metrics.commands[event.kind.__name__] += 1
        if within:
            return event.handle(self, said)
        if event.turn_away is not None:
            event.turn_away(self, said)
        return None


class Event(NamedTuple):
    """What becomes of a message."""

    handle: Callable[[AppSession, Said], Awaitable[None] | None]
    kind: type[Any] | None = None
    """As which it counts; None is for free."""
    turn_away: Callable[[AppSession, Said], None] | None = None
    """Answers it over a rate."""


def _ping(session: AppSession, _said: Said) -> None:
    session.say(PONG)


def _pong(_session: AppSession, _said: Said) -> None:
    """That it has come is all."""


PONG = PusherProtocol.ping.replace(b"ping", b"pong")

EVENTS: dict[str, Event] = {
    "pusher:subscribe": Event(subscribing.subscribe, rates.SUBSCRIBE, subscribing.turn_away),
    "pusher:unsubscribe": Event(subscribing.unsubscribe, rates.UNSUBSCRIBE),
    "pusher:signin": Event(signing_in.sign_in, rates.SIGN_IN, signing_in.turn_away),
    "pusher:ping": Event(_ping),
    "pusher:pong": Event(_pong),
}

CLIENT_EVENT = Event(client_events.relay, rates.PUBLISH, client_events.turn_away)
