"""The session of a client of an app: what it knows, and how it reaches its client. `dispatch` has what it hears.

Source: Pusher Channels protocol, "Connection", "Ping and pong".
"""

import logging
import secrets
from collections.abc import Callable
from contextvars import Context

from msgspec.structs import replace

from gateway.apps.base import App
from gateway.auth.tokens import TokenVerifier
from gateway.core.cluster import ControlCommand, SubscribeUser
from gateway.core.node import Node
from gateway.core.wheel import Timer
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import MemberAdded, MemberRemoved, Publication, Push, SubscriptionCount
from gateway.protocols.base import Wire
from gateway.protocols.pusher import closing
from gateway.session.application import Application, NoApplication
from gateway.session.base import Handshake, Transport
from gateway.session.life import CONNECTED, CONNECTING, GONE
from gateway.session.pusher import replies
from gateway.session.pusher.bucket import Bucket
from gateway.session.pusher.shared import Shared
from gateway.session.pusher.watchlists import Attendance, Watchlist
from gateway.session.rejections import TOO_MANY
from gateway.session.session import Session

FOR_ALL = 4100
"""Codes of this protocol from here on say nothing against the client, which comes again."""

_SPOKEN = (Publication, MemberAdded, MemberRemoved, SubscriptionCount)
"""Pushes that the protocol has a word for."""

log = logging.getLogger(__name__)


def new_socket_id() -> str:
    """Two random numbers that are exact in JavaScript; backends give it back to exclude the connection."""
    return f"{secrets.randbits(53)}.{secrets.randbits(53)}"


class AppSession(Session):
    """One connection to an app. It is ``NEW`` until its app is known: then ``welcome``, or ``turn_away``.

    Of the gateway's commands for connections those are carried out that the protocol can express: a subscription that
    the server takes ends, and the client is not told; there are none that the server gives.
    """

    __slots__ = ("_app", "_leave", "_patience", "attendance", "bucket", "postponed", "resumes", "shared", "watchlist")

    def __init__(
        self,
        node: Node,
        tokens: TokenVerifier,
        wire: Wire,
        transport: Transport,
        handshake: Handshake,
        application: "Application[Session] | NoApplication",
        context: Context | None = None,
        *,
        shared: Shared,
        resumes: bool = False,
    ) -> None:
        self.shared = shared
        self.resumes = resumes
        """Whether the client is told offsets, and may say where it stood."""
        self.attendance: Attendance | None = None
        self.watchlist: Watchlist | None = None
        self.bucket: Bucket | None = None
        """Of client events; made by the first."""
        self.postponed: dict[str, Timer] | None = None
        """Subscribes that wait until the broker is back, by the gateway's names of their channels."""
        self._app: App | None = None
        self._leave: Callable[[], None] | None = None
        self._patience: Timer | None = None
        """Until when it has to say who it is."""
        super().__init__(node, tokens, wire, transport, handshake, application, context, client=new_socket_id())

    @property
    def app(self) -> App:
        assert self._app is not None, "the client has not been let in"
        return self._app

    # — what the client is told —

    def say(self, message: bytes) -> None:
        self.node.hub.post(self, message)

    def complain(self, text: str, code: int | None = None, error: int = ErrorCode.BAD_REQUEST) -> None:
        """Tell that something was not done; the connection stays, unless that comes too often."""
        self.say(replies.failed(code, text))
        self.bear(error)

    def bear(self, error: int) -> None:
        """Count an error of the client's, which is closed if there are too many."""
        self.node.metrics.errors[error] += 1
        if error != ErrorCode.INTERNAL and not self.node.limiter.bears(self.spender):
            self.reject(Disconnect(DisconnectCode.NOT_AVAILABLE, TOO_MANY))

    def fail(self, command_id: int, error: Exception) -> None:
        if not isinstance(error, Error):
            log.error("%s: an event failed", str(self), exc_info=error)
            error = Error(ErrorCode.INTERNAL)
        self.complain(error.message, error=error.code)

    def push(self, channel: str, push: Push) -> None:
        """What the protocol has no word for is left out."""
        if isinstance(push, _SPOKEN):
            super().push(channel, push)

    def deliver(self, channel: str, publication: Publication, epoch: str) -> None:
        """Send a publication that has been read of the stream, where it has no epoch."""
        if self.resumes and not publication.epoch:
            publication = replace(publication, epoch=epoch)
        self.push(channel, publication)

    # — life —

    def welcome(self, app: App) -> None:
        """Let the client in: the first message says so."""
        settings = self.node.settings.pusher
        self.to(CONNECTING)
        self._app, self.since = app, self.node.clock()
        self._leave = self.shared.quota.enter(app.id, limited=app.settings.max_connections > 0)
        self.node.hub.open(self)
        self.say(replies.established(self.client, settings.activity_timeout))
        self.connected()
        if app.settings.authorization_timeout:
            self._patience = self.node.wheel.after(app.settings.authorization_timeout, self._unauthorized)

    def turn_away(self, code: int, text: str) -> None:
        """Refuse a client that is not let in."""
        self.disconnect(Disconnect(code, text))

    def authorized(self) -> None:
        """The client has signed in, or joined a channel that takes a signature."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def is_served(self) -> bool:
        """Whether its app is there still. If not it is closed, and told what has become of the app when it returns."""
        if not self.app.settings.enabled:
            self.disconnect(Disconnect(replies.RECONNECT, "the app has changed"))
        return not self.closed

    def pong(self) -> None:
        """The client lives. It need not have been asked."""
        if self.awaits_pong is not None:
            super().pong()

    def disconnect(self, reason: Disconnect) -> None:
        """Close the connection, having told the client why, where that is against it, or it has heard nothing yet."""
        if self.state not in GONE:
            told = self.outwardly(reason)
            if told.code >= 4000 and (self.state is not CONNECTED or told.code < FOR_ALL):
                self.say(replies.failed(told.code, told.reason))
        super().disconnect(reason)

    def outwardly(self, reason: Disconnect) -> Disconnect:
        """In the codes of the protocol. Who has not been let in would return at once, again and again, from 4200 on."""
        found = closing(reason)
        return Disconnect(replies.OVER_CAPACITY, found.reason) if not self.since and found.code >= 4200 else found

    async def end(self, closed: Disconnect | None = None) -> None:
        """Leave every channel. The program is not told, which was not asked to let the client in, either."""
        if self.leave(closed):
            await self.left()
            if self.lanes is not None:
                await self.lanes.finished()

    def leave(self, closed: Disconnect | None = None) -> bool:
        if not super().leave(closed):
            return False
        self.authorized()
        if self._leave is not None:
            self._leave()
        if self.watchlist is not None:
            self.watchlist.close()
            self.watchlist = None  # which knows the session, to tell its client
        if self.attendance is not None:
            self.attendance.end()
        return True

    def control(self, command: ControlCommand) -> None:
        if isinstance(command, SubscribeUser):
            log.info("%s: not subscribed to %s: the protocol knows no such thing", str(self), command.channel)
        else:
            super().control(command)

    def _ping(self) -> None:
        if self.is_served():  # who only listens is to notice, too
            super()._ping()

    def _stale(self) -> None:
        self.turn_away(replies.OVER_CAPACITY, "the app could not be looked up in time")

    def _unauthorized(self) -> None:
        self._patience = None
        who = "%s: closed: neither signed in nor in a private channel in time"
        self.node.refusals.happened("pusher_unauthorized", who, str(self))
        self.disconnect(Disconnect(replies.UNAUTHORIZED, "connection not authorized in time"))
