"""A channel as a route: what may happen in the channels of a pattern is decided by the program's handlers."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, overload

from fastapi.params import Depends

from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Error, ErrorCode, SettingsError
from gateway.messages import Payload, Publication, SubRefreshRequest, SubscribeRequest
from gateway.program.encoding import encode_data
from gateway.program.routes import events
from gateway.program.routes.client import EventClient
from gateway.program.routes.declaration import Declaration
from gateway.program.routes.guarding import guard
from gateway.program.routes.handle import ChannelHandle, Operating
from gateway.program.routes.handlers import Answering, Handler
from gateway.program.routes.map_writes import KEY, deciding_publish, deciding_remove
from gateway.program.routes.named_events import ChannelEvent, Named, NamedEvent, NamedEvents, format_of
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.publishing import PublishHandler, accepted
from gateway.program.routes.returns import Grant, info_type
from gateway.program.routes.route import Route
from gateway.program.routes.signatures import Event, check_dependencies, place_of
from gateway.program.typed import UNTYPED, Decode, T, Types, decoding
from gateway.session import Session
from gateway.session.application import Accepted, Admitted

F = TypeVar("F", bound=Callable[..., Any])


class Declaring(Protocol):
    """What a route asks of the program that declares it."""

    @property
    def gateway(self) -> Operating: ...

    @property
    def runs(self) -> bool:
        """Whether its gateway does."""

    def check_open(self) -> None:
        """Raises ``RuntimeError`` when it is too late for another handler."""

    def event(self, session: Session, params: Mapping[str, str], token: str = "") -> EventClient: ...


class Place(Protocol):
    """Where a router is included."""

    @property
    def prefix(self) -> str: ...

    @property
    def dependencies(self) -> Sequence[Depends]:
        """What runs before whatever a client asks of the channels."""


CURRENT: ContextVar[Place | None] = ContextVar("place", default=None)
"""Where the handler that runs belongs to, if that is a router."""

_UNASKED = (events.UNSUBSCRIBE, events.CACHE_EMPTY, events.OCCUPIED, events.VACATED, events.LIVE)
"""What no client asks for, so that there is nobody to refuse."""


class ChannelRoute(Generic[T]):
    """The channels of one pattern. Made by `Gateway.channel` and `ChannelRouter.channel`.

    Handlers take the pattern's parameters, the data as a pydantic model where there is any, the `Client`, and any
    ``Depends``, ``Security``, ``Header``, ``Cookie`` or ``Query``. They may be ``async`` or not; those that are not
    run in a thread. What they raise is answered as `routes.answers` says.
    """

    def __init__(self, program: Declaring, declared: Declaration, place: Place | None = None) -> None:
        self.declared = declared
        self.program = program
        self.pattern = Pattern(place.prefix + declared.pattern if place else declared.pattern)
        self.message = declared.received
        """The type of what subscribers receive, if it is not what ``on_publish`` takes or returns."""
        self.handlers: dict[str, Handler] = {}
        """By event, as ``on_subscribe``."""
        self.route = Route(self.pattern, declared.checked(self.pattern.text), declared.publish, declared.read)
        """What the session sees of it."""
        if self.options.is_map and KEY in self.pattern.types:
            raise SettingsError(
                f"{self} is a map, in which handlers take the key of a value as `key`: call the parameter of the "
                "pattern otherwise"
            )
        self._place = place
        self._events: NamedEvents | None = None
        self.route.encode = Answering(self.message, read=lambda kind: kind).encode

    @property
    def options(self) -> ChannelOptions:
        return self.route.options

    def __repr__(self) -> str:
        return f'gateway.channel("{self.pattern.text}") at {self.declared.place}'

    def name(self, **params: object) -> str:
        """The channel with these parameters, as in ``chat.name(room="lobby")``. Raises ``ValueError``."""
        return self.pattern.format(**params)

    def at(self, **params: object) -> ChannelHandle[T]:
        """The channel with these parameters, to publish to and to read: ``chat.at(room="lobby")``.

        Raises ``ValueError``, as ``name`` does.
        """
        return ChannelHandle(self.program.gateway, self.name(**params), self._encode)

    def on_subscribe(self, call: F) -> F:
        """Decide who may subscribe.

        Returns None or True to let the client in, False to refuse it (error 103), a `Grant` to say how it is in.
        Without this handler the options decide (``allow_subscribe_for_client``); a subscription token always does.
        """
        handler = self._add(call, events.SUBSCRIBE)
        info = Answering(call, read=lambda call: info_type(call, Grant))

        async def subscribe(session: Session, channel: Channel, request: SubscribeRequest) -> Admitted:
            granted = await self._call(handler, session, channel, bytes(request.data), request.token)
            match granted:
                case None | True:
                    return _AS_THE_OPTIONS_SAY
                case False:
                    raise Error(ErrorCode.PERMISSION_DENIED)
                case Grant():
                    return granted.admitted(self.route.refresh is not None and bool(request.token), info.encode)
            raise TypeError(f"on_subscribe must return None, a bool or a Grant, not {granted!r}")

        self.route.subscribe = subscribe
        return call

    def on_refresh(self, call: F) -> F:
        """Decide whether a subscription goes on: before it expires, its client sends another token (``getToken``).

        Returns a `Grant` with a new ``expires``, or False to refuse (error 103). It is for subscriptions that were
        made with a token of the program's own; others end when they expire, and the client asks ``on_subscribe``.
        """
        handler = self._add(call, events.SUB_REFRESH)
        info = Answering(call, read=lambda call: info_type(call, Grant))

        async def refresh(session: Session, channel: Channel, request: SubRefreshRequest) -> Admitted:
            granted = await self._call(handler, session, channel, b"", request.token)
            match granted:
                case False:
                    raise Error(ErrorCode.PERMISSION_DENIED)
                case Grant():
                    return granted.admitted(True, info.encode)
            raise TypeError(f"on_refresh must return Grant(expires=...) or False, not {granted!r}")

        self.route.refresh = refresh
        return call

    def on_publish(self, call: F) -> F:
        """Decide what is published for what a client sends.

        Returns what is published instead, None to publish what it took, as `routes.publishing` says, a `Message` to
        say how, False to refuse (error 103), or `HANDLED` to publish nothing. Only subscribers are heard, unless the
        channel says ``publish="anyone"``. Without this handler the options decide (``allow_publish_for_subscriber``).
        In a map it decides what a client sets, and takes the ``key: str``.
        """
        if self._events is not None:
            raise SettingsError(f"{self} has events: what clients publish goes to their handlers, and never to this")
        handler = self._publish_handler(call, self.message)
        self._take(handler)
        answering = handler.answering()

        async def publish(session: Session, channel: Channel, publication: Publication) -> Accepted:
            returned = await self._call(handler, session, channel, publication.data)
            if returned is None or returned is True:
                return Accepted(publication)
            return accepted(returned, publication, answering.encode)

        if self.options.is_map:
            self.route.map_publish = deciding_publish(partial(self._call, handler), answering.encode)
        else:
            self.route.publish = publish
        return call

    def on_remove(self, call: F) -> F:
        """Decide whether a client's key goes out of a map: returns None or True, False to refuse, or `HANDLED`.

        Clients are heard as by ``on_publish``. Without it the options decide (``map.allow_remove_for_subscriber``).
        """
        if not self.options.is_map:
            raise SettingsError(
                f"on_remove of {self} would never run: the channel is no map; write "
                f'gateway.channel("{self.pattern.text}", map={{"mode": "persistent"}})'
            )
        self.route.map_remove = deciding_remove(partial(self._call, self._add(call, events.REMOVE)))
        return call

    @overload
    def event(self, name: str, model: type[Named], *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Named]: ...
    @overload
    def event(self, name: str, model: Any = None, *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Any]: ...
    def event(self, name: str, model: Any = None, *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Any]:
        """Declare an event by its name, as in ``{"event": "typing", "data": {...}}``, with its handler or without ::

            @chat.event("typing")
            async def typing(room: str, typing: Typing, client: Client) -> Typing: ...

            joined = chat.event("joined", Joined)  # which only the program publishes

        The handler takes the data, and gives what is published, as ``on_publish`` does; ``model`` is the type of that,
        if it does not say. Where the channel's ``message`` is a union of models with a discriminator, that field is
        the name. ``dependencies`` run before the handler, and can refuse. Raises `SettingsError`.
        """
        self.program.check_open()
        event = ChannelEvent[Any](name, lambda call: self.handle_event(name, call))
        self._named().add(name, model, check_dependencies(dependencies))
        return event

    def handle_event(self, name: str, call: Callable[..., Any]) -> None:
        """Take the handler of an event that has been declared."""
        self.program.check_open()
        event = self._named()[name]
        event.handle(self._publish_handler(call, event.model, event.dependencies, events.named(name)))
        self.route.publish = self._publish_event

    def on_presence(self, call: F) -> F:
        """Decide who may read presence: returns None or True to allow it, False to refuse (error 103).

        Only subscribers are heard, unless the channel says ``read="anyone"``.
        """
        self.route.presence = self._permission(call, events.PRESENCE)
        return call

    def on_history(self, call: F) -> F:
        """Decide who may read history, as ``on_presence`` does who may read presence."""
        self.route.history = self._permission(call, events.HISTORY)
        return call

    def on_unsubscribe(self, call: F) -> F:
        """Hear of every subscription that has ended, also with its connection. What it returns does not matter."""
        handler = self._add(call, events.UNSUBSCRIBE)

        async def unsubscribe(session: Session, channel: Channel) -> None:
            await self._call(handler, session, channel, b"")

        self.route.unsubscribe = unsubscribe
        return call

    def on_cache_empty(self, call: F) -> F:
        """Say what a channel begins with: for channels with ``force_recovery_mode="cache"``, which keep one value.

        Runs when somebody subscribes and nothing is kept. What it returns is published; None publishes nothing.
        """
        if self.options.force_recovery_mode != "cache":
            raise SettingsError(
                f'on_cache_empty of "{self.pattern.text}" would never run: the channel is no cache; write '
                f'gateway.channel("{self.pattern.text}", history_size=1, force_recovery_mode="cache")'
            )
        handler = self._add(call, events.CACHE_EMPTY)
        answering = Answering(call, message=self.message)

        async def cache_empty(session: Session, channel: Channel) -> Payload | None:
            value = await self._call(handler, session, channel, b"")
            return None if value is None else answering.encode(value)

        self.route.cache_empty = cache_empty
        return call

    def on_occupied(self, call: F) -> F:
        """Hear of a channel's first subscriber on any node, after there was none."""
        self._add(call, events.OCCUPIED)
        return call

    def on_vacated(self, call: F) -> F:
        """Hear that a channel's last subscriber on any node has gone."""
        self._add(call, events.VACATED)
        return call

    def live(self, call: F) -> F:
        """Publish what an asynchronous generator yields, for as long as the channel has a subscriber anywhere.

        It runs on one node at a time, whichever; when that one drains or dies another takes over, from the start.
        """
        self._add(call, events.LIVE)
        return call

    @property
    def decides(self) -> bool:
        """Whether anything is asked of the program."""
        return bool(self.handlers or self._events or self._dependencies)

    @property
    def named_events(self) -> Sequence[NamedEvent]:
        """Those that have a name."""
        return list(self._events or ())

    def encode_event(self, event: str, data: Any) -> Payload:
        """What the program publishes. Raises ``LookupError`` for an event that there is not."""
        return self._named().encode(event, data)

    def begin(self, conn_info: Decode) -> None:
        """Nothing more is declared: what is missing stands in for itself. ``conn_info`` reads that of all clients.

        Raises `SettingsError` for what speaks of a handler that the channels do not have.
        """
        self._check()
        if self._dependencies:
            handler = Handler(_ask_nobody, events.GUARD, self.pattern.types, self.pattern.text, self._dependencies)
            guard(self.route, lambda session, channel: self._call(handler, session, channel, b""))
        subscribe = self.handlers.get(events.SUBSCRIBE.name)
        named, seat = self._events, info_type(subscribe.call, Grant) if subscribe else None
        self.route.types = Types(
            data=named.decode if named else decoding(self.message),
            event=named.name if named else UNTYPED.event,
            conn_info=conn_info,
            chan_info=decoding(seat),
        )

    # — inside —

    def _check(self) -> None:
        route = self.route
        if self.declared.discriminator and not self._events:
            raise SettingsError(
                f'{self}: discriminator="{self.declared.discriminator}" names events, and there are none'
            )
        for each in self.named_events:
            if each.answering is None:
                raise SettingsError(
                    f'{self}: nothing says what "{each.name}" is: write event("{each.name}", Model), or use it as the '
                    "decorator of a handler"
                )
        if route.publish_unsubscribed and not (route.publish or route.map_publish or route.map_remove):
            raise SettingsError(
                f'{self}: publish="anyone" says for whom on_publish is asked, and there is none; so that every user '
                "may publish unasked, write allow_publish_for_client=True"
            )
        if route.read_unsubscribed and not (route.presence or route.history):
            raise SettingsError(
                f'{self}: read="anyone" says for whom on_presence and on_history are asked, and there are none; so '
                "that every user may read unasked, write allow_presence_for_client=True, allow_history_for_client=True"
            )

    def _named(self) -> NamedEvents:
        if self._events is None:
            if self.options.is_map:
                raise SettingsError(f"{self} is a map, whose keys have values: there are no events in it")
            if events.PUBLISH.name in self.handlers:
                raise SettingsError(f"{self} has an on_publish, to which all goes that clients publish, and no event's")
            self._events = NamedEvents(self.pattern.text, format_of(self.message, self.declared.discriminator))
        return self._events

    def _encode(self, data: Any) -> Payload | bytes:
        if self._events and self._events.format.model is None:
            raise TypeError(
                f'"{self.pattern.text}" has events: write publish_event("name", data), of '
                f"{', '.join(each.name for each in self._events)}"
            )
        return data if isinstance(data, bytes) else self.route.encode(data)

    @property
    def _dependencies(self) -> Sequence[Depends]:
        return [*(self._place.dependencies if self._place else ()), *self.declared.dependencies]

    def _publish_handler(
        self,
        call: Callable[..., Any],
        message: Any,
        dependencies: Sequence[Depends] = (),
        event: Event = events.PUBLISH,
    ) -> PublishHandler:
        dependencies = [*self._dependencies, *dependencies]
        return PublishHandler(call, self._params(event), self.pattern.text, message, dependencies, event)

    def _params(self, event: Event) -> list[str]:
        """What handlers of the event may take by name: the pattern's parameters, and the key of a map."""
        keyed = self.options.is_map and event in (events.PUBLISH, events.REMOVE)
        return [*self.pattern.types, *((KEY,) if keyed else ())]

    async def _publish_event(self, session: Session, channel: Channel, publication: Publication) -> Accepted:
        event, handler, data = self._named().find(publication.data)
        returned = await self._call(handler, session, channel, data)
        return accepted(event.written(returned), publication, encode_data)

    def _add(self, call: Callable[..., Any], event: Event) -> Handler:
        dependencies = () if event in _UNASKED else self._dependencies
        return self._take(Handler(call, event, self._params(event), self.pattern.text, dependencies, self.message))

    def _take(self, handler: Handler) -> Handler:
        self.program.check_open()
        if there := self.handlers.get(handler.event.name):
            raise SettingsError(f'"{self.pattern.text}" has its {there.event.name} already: {place_of(there.call)}')
        self.handlers[handler.event.name] = handler
        return handler

    def _permission(self, call: Callable[..., Any], event: Event) -> Callable[[Session, Channel], Any]:
        handler = self._add(call, event)

        async def decide(session: Session, channel: Channel) -> None:
            if await self._call(handler, session, channel, b"") is False:
                raise Error(ErrorCode.PERMISSION_DENIED)

        return decide

    async def _call(
        self, handler: Handler, session: Session, channel: Channel, data: bytes, token: str = "", key: str = ""
    ) -> Any:
        self.make_current()
        params = {**channel.params, KEY: key} if key else channel.params
        return await handler(self.program.event(session, params, token), data, session.node.spawn)

    def make_current(self) -> None:
        """A handler of the route's runs from here on."""
        CURRENT.set(self._place)


_AS_THE_OPTIONS_SAY = Admitted()


async def _ask_nobody() -> None:
    """Stands where a channel has no handler, and its router has dependencies."""
