"""The program: all that its handlers decide, as the session asks for it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi.params import Depends
from msgspec import Struct, structs

from gateway.channels import Channel, Channels
from gateway.config.settings import ChannelSettings
from gateway.config.settings.pusher import PusherApp
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, SettingsError
from gateway.messages import ConnectRequest, Payload, RefreshRequest, RPCRequest
from gateway.program.routes import events
from gateway.program.routes.channel import CURRENT, ChannelRoute, Place
from gateway.program.routes.client import EventClient, Seen
from gateway.program.routes.handle import Operating
from gateway.program.routes.handlers import Answering, Handler
from gateway.program.routes.returns import Credentials, info_type
from gateway.program.routes.signatures import Event, place_of
from gateway.program.routes.streams import Streams
from gateway.program.typed import PLAIN, Decode, T, Types, decoding
from gateway.session import Session
from gateway.session.application import Admission, user_id

F = TypeVar("F", bound=Callable[..., Any])

CHANNEL_NAMES = ChannelSettings()


class Procedure(Struct, frozen=True):
    """A method that clients call."""

    handler: Handler
    answering: Answering
    place: Place | None


class Program:
    """Satisfies `session.application.Application`. One for each `Gateway`."""

    streams: Streams
    renew = None
    judges_tokens = judges_subs = True
    headers: Sequence[str] = ()

    def __init__(self, names: ChannelSettings = CHANNEL_NAMES, gateway: Operating | None = None) -> None:
        self._names = Channels(names)
        self._gateway = gateway
        self.runs = False
        """Whether the gateway does."""
        self.channels: list[ChannelRoute[Any]] = []
        self.places: list[Place] = []
        """Where routers are included."""
        self.procedures: dict[str, Procedure] = {}
        self.handlers: dict[str, Handler] = {}
        """``on_connect``, ``on_refresh`` and ``on_disconnect``."""
        self.app: Any = None
        """The application that it runs in, whose ``dependency_overrides`` hold."""
        self.connect: Callable[[Session, ConnectRequest, Admission | None], Awaitable[Admission]] | None = None
        self.refresh: Callable[[Session, RefreshRequest, Admission | None], Awaitable[Admission]] | None = None
        self.disconnect: Callable[[Session], Awaitable[None]] | None = None
        self.rpc: Callable[[Session, RPCRequest], Awaitable[Payload | None]] | None = None
        self.load_app: Callable[[str], Awaitable[PusherApp | None]] | None = None
        """The app of the Pusher protocol with a key, if the program has such apps."""
        self._closed = False
        self.conn_info: Decode = PLAIN
        """Reads what credentials say of a user."""

    @property
    def gateway(self) -> Operating:
        assert self._gateway is not None, "only asked by routes of a gateway's"
        return self._gateway

    @property
    def decides(self) -> bool:
        """Whether there is any handler."""
        return bool(self.handlers or self.procedures or any(each.decides for each in self.channels))

    def route(self, channel: Channel) -> ChannelRoute[Any] | None:
        """The program's route that a channel is of."""
        key = channel.route.key if channel.route else None
        return next((each for each in self.channels if each.route.key == key), None)

    def types(self, channel: Channel) -> Types:
        """How the program reads what a channel holds; where it declares nothing, as plain JSON."""
        route = self.route(channel)
        return route.route.types if route else Types(conn_info=self.conn_info)

    def close(self) -> None:
        """Take no more handlers: the node begins to use them. Raises `SettingsError` for what is not whole."""
        connect = self.handlers.get(events.CONNECT.name)
        self.conn_info = decoding(info_type(connect.call, Credentials) if connect else None)
        for route in self.channels:
            route.begin(self.conn_info)
        self._closed = True

    def check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the gateway has started: declare channels and handlers before, where modules are read")

    def add(self, route: ChannelRoute[T]) -> ChannelRoute[T]:
        """Take a route, behind those that there are. Raises `SettingsError` if these leave no name to it."""
        self.check_open()
        for earlier in self.channels:
            if self._takes_all(earlier, route):
                if earlier.declared is route.declared:
                    raise SettingsError(
                        f"{route} would be there twice: a router that is included again needs another prefix, as in "
                        'gateway.include(router, prefix="shop:")'
                    )
                raise SettingsError(
                    f"{route} has no channel of its own: all of them are those of {earlier}, which comes before; "
                    "use the route that this returned, or declare the narrower pattern first"
                )
        self.channels.append(route)
        return route

    def on_connect(self, call: F) -> F:
        handler = self._add(call, events.CONNECT)
        info = Answering(call, read=lambda call: info_type(call, Credentials))

        async def connect(session: Session, request: ConnectRequest, known: Admission | None) -> Admission:
            if known is not None:
                session.user, session.info = known.user, known.info
            returned = await handler(self.event(session, {}), bytes(request.data), session.node.spawn)
            # without a token, there is none that the client could renew
            refreshable = self.refresh is not None and bool(request.token)
            match returned:
                case None | True:
                    return known or Admission()
                case False:
                    raise Disconnect(DisconnectCode.PERMISSION_DENIED)
                case Credentials():
                    return _beside(known, returned.admission(refreshable, info.encode))
                case str():
                    return _beside(known, Admission(user_id(returned), refreshable=refreshable))
            raise TypeError(f"on_connect must return Credentials, a user's id, None or a bool, not {returned!r}")

        self.connect = connect
        return call

    def on_refresh(self, call: F) -> F:
        handler = self._add(call, events.REFRESH)
        info = Answering(call, read=lambda call: info_type(call, Credentials))

        async def refresh(session: Session, request: RefreshRequest, known: Admission | None) -> Admission:
            returned = await handler(self.event(session, {}, request.token), b"", session.node.spawn)
            match returned:
                case None | True if known is not None:
                    return known
                case False:
                    raise Disconnect(DisconnectCode.PERMISSION_DENIED)
                case Credentials():
                    return _beside(known, returned.admission(True, info.encode))
            raise TypeError(f"on_refresh must return Credentials(user, expires=...) or False, not {returned!r}")

        self.refresh = refresh
        return call

    def on_disconnect(self, call: F) -> F:
        handler = self._add(call, events.DISCONNECT, ("code", "reason"))

        async def disconnect(session: Session) -> None:
            closed = session.reason or Disconnect(DisconnectCode.CONNECTION_CLOSED)
            event = self.event(session, {"code": str(closed.code), "reason": closed.reason})
            await handler(event, b"", session.node.spawn)

        self.disconnect = disconnect
        return call

    def procedure(
        self, name: str, call: Callable[..., Any], dependencies: Sequence[Depends] = (), place: Place | None = None
    ) -> None:
        """Take what answers a method. Raises `SettingsError` for one that there is."""
        self.check_open()
        if name in self.procedures:
            raise SettingsError(
                f'gateway.rpc("{name}") stands there twice: {place_of(call)}, and before '
                f"{place_of(self.procedures[name].handler.call)}"
            )
        handler = Handler(call, events.RPC, dependencies=[*(place.dependencies if place else ()), *dependencies])
        self.procedures[name] = Procedure(handler, Answering(call), place)
        self.rpc = self._call

    def event(self, session: Session, params: Mapping[str, str], token: str = "") -> EventClient:
        """A client for one event, with the pattern's parameters as its path parameters, and a token of the event's."""
        token = token or session.token
        seen: Seen | None = session.handshake.seen
        if seen is None or seen.token != token:
            known = session.handshake.scope
            if "app" not in known:
                known = {"headers": [], "app": self.app, **known}
            seen = session.handshake.seen = Seen(known, token)
        return EventClient(session, seen, params, token)

    def nobody(self, params: Mapping[str, str]) -> EventClient:
        """What an event without a client is solved against: the pattern's parameters, and the application.

        What a lifespan yields is not there: a program is told of it with requests only, mixed with what is theirs.
        """
        return EventClient(None, Seen({"type": "http", "headers": [], "app": self.app}), params)

    async def _call(self, session: Session, request: RPCRequest) -> Payload | None:
        procedure = self.procedures.get(request.method)
        if procedure is None:
            raise Error(ErrorCode.METHOD_NOT_FOUND)
        event = self.event(session, {})
        CURRENT.set(procedure.place)
        value = await procedure.handler(event, bytes(request.data), session.node.spawn)
        return None if value is None else procedure.answering.encode(value)

    def _takes_all(self, earlier: ChannelRoute[Any], later: ChannelRoute[Any]) -> bool:
        if earlier.pattern.shape == later.pattern.shape:
            return True
        return all(self._names.claim(earlier.route, name) is not None for name in later.pattern.extremes())

    def _add(self, call: Callable[..., Any], event: Event, params: Iterable[str] = ()) -> Handler:
        self.check_open()
        if event.name in self.handlers:
            raise SettingsError(f"there is an {event.name} already: {place_of(self.handlers[event.name].call)}")
        handler = self.handlers[event.name] = Handler(call, event, params)
        return handler


def _beside(known: Admission | None, admission: Admission) -> Admission:
    """What a program says of a client, beside its token: that one's channels, and its end unless another is set."""
    if known is None:
        return admission
    subs = {**known.subs, **admission.subs}
    if admission.expire_at:
        return structs.replace(admission, subs=subs)
    return structs.replace(admission, subs=subs, expire_at=known.expire_at, refreshable=known.refreshable)
