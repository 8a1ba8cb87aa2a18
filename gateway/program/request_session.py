"""Requests of HTTP that ask what a connection would ask: who is there, and what it may subscribe to."""

from starlette.requests import Request

from gateway.auth.permissions import may_subscribe
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import ConnectRequest, SubscribeRequest
from gateway.program.routes.client import kept
from gateway.program.routes.tokens import bearer
from gateway.program.running import Running
from gateway.protocols.objects import OBJECTS
from gateway.session import Handshake, Session, State, connecting
from gateway.session.application import AS_THE_OPTIONS_SAY, Admission, Admitted, route_of
from gateway.session.base import NOWHERE
from gateway.session.tokens import fetch_key, lacks_key


class RequestSession(Session):
    """Whoever asks by a request, whom handlers see as their client: with its headers, cookies, and state.

    It is connecting as long as it lasts: what handlers do to it waits for a connection that there never is.
    """

    __slots__ = ()

    @classmethod
    def of(cls, running: Running, request: Request, name: str) -> "RequestSession":
        """A session of this request; ``name`` is the id of the connection that it asks for."""
        handshake = Handshake(request.headers, kept(request.scope))
        session = cls(running.node, running.tokens, OBJECTS, NOWHERE, handshake, running.application, client=name)
        session.heartbeat.cancel()
        session.to(State.CONNECTING)
        running.acceptor.locate(session, request.scope)
        return session

    def disconnect(self, reason: Disconnect) -> None:
        """Refuse it: there is nothing else to close."""
        self.to(State.CLOSED)

    async def identify(self, request: Request) -> None:
        """Find out who it is, as of who connects: by ``on_connect``, or by a token.

        Raises ``Error`` or ``Disconnect`` for who may not connect.
        """
        asked = ConnectRequest(token=bearer(request))
        if lacks_key(self.tokens, asked):
            await fetch_key(self, asked)
        self.admit(await connecting.authenticate(self, asked))

    def admit(self, admission: Admission) -> None:
        """Let it be this user. Raises ``Disconnect`` for one that is blocked."""
        self.user, self.info = admission.user, admission.info
        if self.user in self.node.blocked:
            raise Disconnect(DisconnectCode.BLOCKED)

    async def ask(self, name: str) -> Admitted | None:
        """What it is granted in a channel; None where nobody says who may subscribe.

        By the channel's ``on_subscribe``, or its route's options. Raises ``Error`` or ``Disconnect`` if it may not.
        """
        channel = self.channel(name)
        route = route_of(channel)
        if route is None:
            return None
        if route.subscribe and not channel.shuts_out(self.user):
            admitted = await route.subscribe(self, channel, SubscribeRequest(name))
        elif may_subscribe(channel, self.user, insecure=self.node.client.insecure):
            admitted = AS_THE_OPTIONS_SAY
        else:
            raise Error(ErrorCode.PERMISSION_DENIED)
        if self.closed:  # by the handler
            raise Disconnect(DisconnectCode.PERMISSION_DENIED)
        return admitted
