"""A channel as a route: what may happen in the channels of a pattern is decided by the program's handlers."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, get_args

from pydantic import ValidationError

from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Error, ErrorCode, SettingsError
from gateway.messages import Exclusion, Payload, Publication, SubRefreshRequest, SubscribeRequest
from gateway.program.encoding import encode_publication
from gateway.program.keywords import check_keywords
from gateway.program.routes import events
from gateway.program.routes.client import EventClient
from gateway.program.routes.handlers import Answering, Handler
from gateway.program.routes.options import SUBSCRIBERS, Options, Who
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.publishing import PublishHandler
from gateway.program.routes.returns import HANDLED, Grant, Handled, Message
from gateway.program.routes.route import Route
from gateway.program.routes.signatures import Event, calling_place, place_of
from gateway.session import Session
from gateway.session.application import Accepted, Admitted

F = TypeVar("F", bound=Callable[..., Any])

HISTORY_TTL = 600.0
"""Seconds for which a route with ``history_size`` keeps it unless it says otherwise: a long way through a tunnel."""


class Declaring(Protocol):
    """What a route asks of the program that declares it."""

    def check_open(self) -> None:
        """Raises ``RuntimeError`` when it is too late for another handler."""

    def event(self, session: Session, params: Mapping[str, str], token: str = "") -> EventClient: ...


class ChannelRoute:
    """The channels of one pattern. Made by `Gateway.channel`.

    Handlers take the pattern's parameters, the data as a pydantic model where there is any, the `Client`, and any
    ``Depends``, ``Security``, ``Header``, ``Cookie`` or ``Query``. They may be ``async`` or not; those that are not
    run in a thread. What they raise is answered as `routes.answers` says.
    """

    def __init__(
        self,
        program: Declaring,
        pattern: str,
        options: Options,
        message: Any = None,
        publish: Who = SUBSCRIBERS,
        read: Who = SUBSCRIBERS,
    ) -> None:
        self.place = calling_place()
        """Where it is declared, as ``file:line``."""
        self.pattern = Pattern(pattern)
        self.message = message
        """The type of what subscribers receive, if it is not what ``on_publish`` takes or returns."""
        self.handlers: dict[str, Handler] = {}
        """By event, as ``on_subscribe``."""
        self._program = program
        self.route = Route(self.pattern, _options(pattern, options), _who("publish", publish), _who("read", read))
        """What the session sees of it."""

    @property
    def options(self) -> ChannelOptions:
        return self.route.options

    def __repr__(self) -> str:
        return f'gateway.channel("{self.pattern.text}") at {self.place}'

    def name(self, **params: object) -> str:
        """The channel with these parameters, as in ``chat.name(room="lobby")``. Raises ``ValueError``."""
        return self.pattern.format(**params)

    def on_subscribe(self, call: F) -> F:
        """Decide who may subscribe.

        Returns None or True to let the client in, False to refuse it (error 103), a `Grant` to say how it is in.
        Without this handler the options decide (``allow_subscribe_for_client``); a subscription token always does.
        """
        handler = self._add(call, events.SUBSCRIBE)

        async def subscribe(session: Session, channel: Channel, request: SubscribeRequest) -> Admitted:
            granted = await self._call(handler, session, channel, bytes(request.data), request.token)
            match granted:
                case None | True:
                    return _AS_THE_OPTIONS_SAY
                case False:
                    raise Error(ErrorCode.PERMISSION_DENIED)
                case Grant():
                    return granted.admitted(self.route.refresh is not None and bool(request.token))
            raise TypeError(f"on_subscribe must return None, a bool or a Grant, not {granted!r}")

        self.route.subscribe = subscribe
        return call

    def on_refresh(self, call: F) -> F:
        """Decide whether a subscription goes on: before it expires, its client sends another token (``getToken``).

        Returns a `Grant` with a new ``expires``, or False to refuse (error 103). It is for subscriptions that were
        made with a token of the program's own; others end when they expire, and the client asks ``on_subscribe``.
        """
        handler = self._add(call, events.SUB_REFRESH)

        async def refresh(session: Session, channel: Channel, request: SubRefreshRequest) -> Admitted:
            granted = await self._call(handler, session, channel, b"", request.token)
            match granted:
                case False:
                    raise Error(ErrorCode.PERMISSION_DENIED)
                case Grant():
                    return granted.admitted(refreshable=True)
            raise TypeError(f"on_refresh must return Grant(expires=...) or False, not {granted!r}")

        self.route.refresh = refresh
        return call

    def on_publish(self, call: F) -> F:
        """Decide what is published for what a client sends.

        Returns what is published instead, None to publish what it took, as `routes.publishing` says, a `Message` to
        say how, False to refuse (error 103), or `HANDLED` to publish nothing. Only subscribers are heard, unless the
        channel says ``publish="anyone"``. Without this handler the options decide (``allow_publish_for_subscriber``).
        """
        handler = self._take(PublishHandler(call, list(self.pattern.types), self.pattern.text, self.message))
        answering = Answering(call, (bool, Message, Handled))

        async def publish(session: Session, channel: Channel, publication: Publication) -> Accepted:
            returned = await self._call(handler, session, channel, publication.data)
            if returned is None or returned is True:
                return Accepted(publication)
            if returned is False:
                raise Error(ErrorCode.PERMISSION_DENIED)
            if returned is HANDLED:
                return Accepted(None)
            message = returned if isinstance(returned, Message) else Message(answering.encode(returned))
            result = encode_publication(message.data, message.tags)
            result.info = publication.info
            result.exclude = Exclusion((message.exclude.id,)) if message.exclude is not None else None
            return Accepted(result, PublishOptions(message.skip_history, message.idempotency_key))

        self.route.publish = publish
        return call

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
        answering = Answering(call)

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

    def check(self) -> None:
        """Raises `SettingsError` for an option that speaks of a handler which the channels do not have."""
        route = self.route
        if route.publish_unsubscribed and not route.publish:
            raise SettingsError(
                f'{self}: publish="anyone" says for whom on_publish is asked, and there is none; so that every user '
                "may publish unasked, write allow_publish_for_client=True"
            )
        if route.read_unsubscribed and not (route.presence or route.history):
            raise SettingsError(
                f'{self}: read="anyone" says for whom on_presence and on_history are asked, and there are none; so '
                "that every user may read unasked, write allow_presence_for_client=True, allow_history_for_client=True"
            )

    # — inside —

    def _add(self, call: Callable[..., Any], event: Event) -> Handler:
        return self._take(Handler(call, event, self.pattern.types, self.pattern.text))

    def _take(self, handler: Handler) -> Handler:
        self._program.check_open()
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

    async def _call(self, handler: Handler, session: Session, channel: Channel, data: bytes, token: str = "") -> Any:
        return await handler(self._program.event(session, channel.params, token), data, session.node.spawn)


_AS_THE_OPTIONS_SAY = Admitted()


def _who(option: str, who: Who) -> Who:
    if who not in get_args(Who):
        raise SettingsError(f"{option}={who!r}: it must be one of {', '.join(map(repr, get_args(Who)))}")
    return who


def _options(pattern: str, given: Mapping[str, Any]) -> ChannelOptions:
    """Channel options of a route: history is recovered, and kept for a while, unless they say otherwise."""
    implied: dict[str, Any] = {}
    if given.get("channel_regex"):
        raise SettingsError(
            f'gateway.channel("{pattern}", channel_regex=...): the pattern itself says which names there are, for '
            'example gateway.channel("orders:{id:int}"); what it lets pass, on_subscribe may refuse'
        )
    check_keywords("gateway.channel()", given, ["message", "publish", "read", *Options.__annotations__])
    if given.get("history_size"):
        implied = {"history_ttl": HISTORY_TTL, "force_recovery": True}
    try:
        return ChannelOptions.model_validate({**implied, **given})
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][0] if each['loc'] else ''}: {each['msg']}" for each in error.errors())
        raise SettingsError(
            f'gateway.channel("{pattern}"): {problems}; for example gateway.channel("{pattern}", history_size=100, '
            "presence=True); there are " + ", ".join(ChannelOptions.model_fields)
        ) from error
