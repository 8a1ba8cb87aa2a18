"""The client of an event, as handlers and their dependencies see it."""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, MutableMapping
from functools import cached_property
from typing import Any, NoReturn, Protocol, cast

from anyio import from_thread
from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket, WebSocketState

from gateway.auth.claims import has_passed
from gateway.core.cluster import ControlCommand, SubscribeUser, UnsubscribeUser
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode, UnsubscribeCode
from gateway.program.encoding import encode_data
from gateway.program.errors import find_channel
from gateway.program.routes.answers import translate
from gateway.program.routes.streams import Stream, Streams
from gateway.program.typed import PLAIN, Decode, T, decoded
from gateway.session import NO_APPLICATION, Session, State, server_side
from gateway.session.life import SubscriptionEnded

_UNWANTED = frozenset(("extensions", "endpoint", "route", "router", "path_params", "starlette.exception_handlers"))
"""Keys of a scope that are about the call that has ended, not about the request."""


class _Program(Protocol):
    """What a client asks of the program: an application is one, unless it is `NO_APPLICATION`."""

    @property
    def streams(self) -> Streams: ...

    @property
    def conn_info(self) -> Decode:
        """Reads what credentials say of a user."""


class Client(HTTPConnection):
    """One connection: who the client is, and the request that opened it (headers, cookies, query_params).

    An `HTTPConnection`, so that dependencies made for HTTP and WebSocket routes serve here as well. Two objects of
    one connection are equal. What is done to a client that has left does nothing.

    ``client.state`` is the connection's own, from its first event to its last: what ``on_connect`` puts there, every
    later handler finds, beside what the application's lifespan has yielded and middleware has added. It stays in this
    node: a client that comes back has another.
    """

    def __init__(self, session: Session | None, scope: dict[str, Any], token: str = "") -> None:
        HTTPConnection.__init__(self, scope)
        self._its_session = session
        self.token = token
        """What the client has sent with the command at hand, or else has connected with, or refreshed it by since."""

    @property
    def id(self) -> str:
        """The connection's id, a UUID; a client that returns has another."""
        return self._session.client

    @property
    def user(self) -> str:
        """The user's id; empty for an anonymous client, and where an event has no client."""
        return self._its_session.user if self._its_session is not None else ""

    @property
    def _session(self) -> Session:
        if self._its_session is None:
            raise RuntimeError("no single client causes this event")
        return self._its_session

    @property
    def info(self) -> Any:
        """What the credentials say of the user, as presence shows it (``conn_info``); None without.

        It is of the type that ``on_connect -> Credentials[Profile]`` declares, else what JSON has.
        """
        info, application = self._session.info, self._session.application
        decode = PLAIN if application is NO_APPLICATION else cast(_Program, application).conn_info
        return decoded(decode, info)

    @property
    def connected(self) -> bool:
        return not self._session.closed

    @property
    def channels(self) -> list[str]:
        """What the client is subscribed to."""
        return [name for name, each in list(self._session.subscriptions.items()) if each.live]

    async def subscribe(self, channel: str, *, info: Any = None, data: Any = None) -> None:
        """Subscribe the client, whether it may by itself or not; it is told, with ``data``.

        ``info`` is shown in presence beside the connection's. Raises ``Error`` for a name that is no channel's, and
        where the broker is away.
        """
        self._session.node.check_loop()
        find_channel(self._session.node.channels, channel)
        command = SubscribeUser(
            user=self.user,
            client=self.id,
            channel=channel,
            info=None if info is None else encode_data(info),
            data=None if data is None else encode_data(data),
        )
        if not self.defer(command) and self._session.state is State.CONNECTED:
            try:
                await server_side.give(self._session, command)
            except SubscriptionEnded:
                if not self._session.closed:  # else it has left, and what is done to it does nothing
                    raise

    def defer(self, command: ControlCommand) -> bool:
        """Keep a command until connect has been answered: before, the client would not know of it.

        False, and nothing is done, if it has been answered.
        """
        if self._session.state not in (State.NEW, State.CONNECTING):
            return False
        self._session.control(command)
        return True

    def unsubscribe(self, channel: str) -> None:
        """End a subscription; the client is told."""
        code = UnsubscribeCode.SERVER
        command = UnsubscribeUser(user=self.user, client=self.id, channel=channel, code=code, reason=code.reason)
        if not self._session.closed:
            _in_loop(self._session.node, lambda: self._unsubscribe(command))

    def _unsubscribe(self, command: UnsubscribeUser) -> None:
        session, there = self._session, self._session.subscriptions.get(command.channel)
        if session.state is State.CONNECTING:  # the client knows of nothing yet
            if there is not None:
                there.end()
            if any(isinstance(each, SubscribeUser) and each.channel == command.channel for each in session.deferred):
                session.control(command)  # behind the one that it takes back
        elif there is not None:
            server_side.unsubscribe(session, command)

    def disconnect(self, code: int = DisconnectCode.FORCE_DISCONNECT, reason: str | None = None) -> None:
        """Close the connection. From 3500 to 3999, and from 4500 to 4999, the client does not come back by itself.

        Of codes and reasons that no close frame can carry becomes what `routes.answers` says.
        """
        farewell = cast(Disconnect, translate(Disconnect(code, reason)))
        _in_loop(self._session.node, lambda: self._session.disconnect(farewell))

    async def stream(
        self, source: AsyncIterable[T], *, channel: str = "", stop_when_unread: float | None = None
    ) -> Stream[T]:
        """Publish what an asynchronous iterator yields, for this client to read: see `Gateway.stream`.

        The client is subscribed by the server; without ``channel`` to one made for it alone, which it leaves soon
        after the end.
        """
        if self._session.application is NO_APPLICATION:
            raise RuntimeError(
                "client.stream is for clients of the SDKs; for a plain socket `await gateway.stream(channel, source)`, "
                "and `await connection.subscribe(channel)`"
            )
        self._session.node.check_loop()
        program = cast(_Program, self._session.application)
        return await program.streams.start_for(self, source, channel, stop_when_unread)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Client) and other._its_session is self._its_session

    def __hash__(self) -> int:
        return hash(self._its_session)

    def __repr__(self) -> str:
        return f"<Client {self.id} user={self.user!r}>" if self._its_session else "<Client of nobody>"


def _in_loop(node: Node, work: Callable[[], None]) -> None:
    """Do it in the event loop, also from a thread, where handlers run that are not ``async``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        from_thread.run_sync(work)
    else:
        node.check_loop()
        work()


class Seen(HTTPConnection):
    """What all events of a connection see of its handshake, with the client's token in place of its credentials."""

    def __init__(self, known: Mapping[str, Any], token: str = "") -> None:
        """``known`` is what is kept of the scope: the application and the headers at the least."""
        self._known, self.token = known, token
        self.application = known["app"]

    @cached_property
    def headers(self) -> Headers:
        raw = self._known["headers"]
        return Headers(raw=with_header(raw, "authorization", f"Bearer {self.token}") if self.token else raw)

    @cached_property
    def scope(self) -> dict[str, Any]:  # type: ignore[override]  # made when somebody asks
        made = {"type": "websocket", "method": "GET", "path": "/", "query_string": b"", **dict(self._known.items())}
        made["headers"] = self.headers.raw
        return made


class EventClient(Client, Request, WebSocket):  # type: ignore[misc]  # what they share is refused here
    """A client for one event. Whatever a dependency was written for, the handshake is what it gets."""

    client_state = application_state = WebSocketState.CONNECTED
    shown: Headers | None = None
    """Its headers, where a token stands in them that the handshake has not brought."""

    def __init__(self, session: Session | None, seen: Seen, params: Mapping[str, str], token: str = "") -> None:
        self._its_session, self._seen, self.token = session, seen, token
        # they are everybody's: a dependency that changes them must do so for itself alone
        self._params = {**params}

    @cached_property
    def scope(self) -> dict[str, Any]:  # type: ignore[override]
        """Its own: what a dependency changes there is this event's alone."""
        return {**self._seen.scope, "path_params": self._params}

    @property
    def headers(self) -> Headers:
        return self._seen.headers if self.shown is None else self.shown

    @cached_property
    def query_params(self) -> QueryParams:
        return self._seen.query_params

    @cached_property
    def cookies(self) -> dict[str, str]:
        return self._seen.cookies

    @property
    def path_params(self) -> dict[str, Any]:
        return self._params

    @property
    def overrides(self) -> Any:
        """What the application calls in place of dependencies."""
        return getattr(self._seen.application, "dependency_overrides", None)

    def token_expired(self) -> bool:
        """Whether the client's token is a JWT whose time has passed; nobody has looked at its signature."""
        return bool(self.token) and has_passed(self.token, self._session.node.clock())

    def took(self, event: str, seconds: float) -> None:
        """A handler has run for so long. What no client has caused is not counted."""
        if self._its_session is not None:
            self._its_session.node.metrics.handler_time[event].observe(seconds)

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise RuntimeError("here is only the handshake to see: the gateway itself speaks with the client")

    receive = send = accept = close = body = form = is_disconnected = send_push_promise = _refuse
    receive_text = receive_bytes = receive_json = send_text = send_bytes = send_json = _refuse


Header = tuple[bytes, bytes]


def with_header(headers: Iterable[Header], name: str, value: str) -> list[Header]:
    """The headers with this one in place of any of its name."""
    key = name.lower().encode()
    return [*(each for each in headers if each[0] != key), (key, value.encode(errors="replace"))]


def kept(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """What events need of the scope of the request that opened the connection, with a state where it brings none."""
    if not isinstance(scope, MutableMapping):  # as those are that servers and middleware make, of whatever class
        return scope  # it is made when somebody asks, and of the request alone
    found = {key: value for key, value in scope.items() if key not in _UNWANTED and not key.startswith("fastapi")}
    found.setdefault("state", {})
    return found
