"""What a session asks of the program that the gateway is part of: who may connect, subscribe, publish.

Everything here is optional. Where the program says nothing, tokens and channel options decide.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from gateway.auth.tokens import Grant
from gateway.brokers import base
from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.maps.base import NO_EXTRAS, MapWrite
from gateway.messages import (
    ConnectRequest,
    Payload,
    Publication,
    RefreshRequest,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
)

S = TypeVar("S", contravariant=True)
"""The session that asks."""


class Admission(Struct, frozen=True):
    """Who a client is. ``expire_at`` is in Unix seconds, 0 is never; ``subs`` are made by the server.

    ``refreshable`` says whether the client can move the expiry by a new token, ``on_request`` whether it gets the
    subscriptions that its connect command asks for, as far as the options allow; of ``subs`` it may say where it stood.
    """

    user: str = ""
    expire_at: int = 0
    info: Payload | None = None
    subs: Mapping[str, "Admitted"] = {}
    data: Payload | None = None
    refreshable: bool = True
    meta: Payload | None = None
    """What is known of the connection and not told to its client, an object of JSON."""
    on_request: bool = True


class Admitted(Struct, frozen=True):
    """What a subscription is granted, and until when (Unix seconds; 0 is without end).

    ``on_request`` says whether the client gets what it asks for of that which the options allow.
    """

    grant: Grant = Grant()
    expire_at: int = 0
    refreshable: bool = True
    on_request: bool = True


AS_THE_OPTIONS_SAY = Admitted()


class Accepted(Struct, frozen=True):
    """What is published in place of what a client sent; nothing if ``publication`` is None."""

    publication: Publication | None
    extras: PublishOptions = base.NO_EXTRAS


class AcceptedChange(Struct, frozen=True):
    """What is set or removed in a map in place of what a client asked for; nothing if ``change`` is None."""

    change: Publication | None
    extras: MapWrite = NO_EXTRAS


class Route(Protocol[S]):
    """What is decided in a channel. Each is None where it says nothing; all raise ``Error`` or ``Disconnect``."""

    @property
    def subscribe(self) -> Callable[[S, Channel, SubscribeRequest], Awaitable[Admitted]] | None: ...

    @property
    def refresh(self) -> Callable[[S, Channel, SubRefreshRequest], Awaitable[Admitted]] | None:
        """Renew a subscription that ``subscribe`` has admitted by a token."""

    @property
    def renew(self) -> Callable[[S, Channel], Awaitable[Admitted | None]] | None:
        """Renew a subscription whose time is over, unasked by its client, which cannot then; None ends it.

        Without info it keeps what it has.
        """

    @property
    def server_side(self) -> bool:
        """Whether ``subscribe`` is asked for the subscriptions that a connect command asks for; else there are none."""

    @property
    def publish(self) -> Callable[[S, Channel, Publication], Awaitable[Accepted]] | None:
        """The publication is what is published unless the program says otherwise."""

    @property
    def map_publish(self) -> Callable[[S, Channel, Publication], Awaitable[AcceptedChange]] | None:
        """The same of what a client sets in a map."""

    @property
    def map_remove(self) -> Callable[[S, Channel, Publication], Awaitable[AcceptedChange]] | None:
        """The same of what it removes."""

    @property
    def publish_unsubscribed(self) -> bool:
        """Whether these are asked for clients that are not subscribed, too; else these are refused."""

    @property
    def read_unsubscribed(self) -> bool:
        """Whether ``presence`` and ``history`` are asked for them."""

    @property
    def presence(self) -> Callable[[S, Channel], Awaitable[None]] | None:
        """Returns if presence may be read."""

    @property
    def history(self) -> Callable[[S, Channel], Awaitable[None]] | None:
        """Returns if history may be read."""

    @property
    def unsubscribe(self) -> Callable[[S, Channel], Coroutine[Any, Any, None]] | None:
        """A subscription has ended, however it ended."""

    @property
    def cache_empty(self) -> Callable[[S, Channel], Coroutine[Any, Any, Payload | None]] | None:
        """What a channel that keeps its newest publication alone begins with."""


class Application(Protocol[S]):
    """The program as a whole; what it does in a channel stands in ``Channel.route``."""

    @property
    def connect(self) -> Callable[[S, ConnectRequest, Admission | None], Awaitable[Admission]] | None:
        """Admit a client; the last argument is what its token or a trusted header says of it, if there is one."""

    @property
    def refresh(self) -> Callable[[S, RefreshRequest, Admission | None], Awaitable[Admission]] | None:
        """Renew a connection by another token; the last argument is what is known of that, if a key verifies it."""

    @property
    def renew(self) -> Callable[[S], Awaitable[Admission | None]] | None:
        """Renew a connection whose time is over, unasked by its client, which cannot then; None ends it.

        Of the admission count the end, and info and meta, where it has them.
        """

    @property
    def judges_tokens(self) -> bool:
        """Whether ``connect`` is asked for clients with a token, too."""

    @property
    def judges_subs(self) -> bool:
        """Whether any `Route.subscribe` is asked for what a connect command asks for."""

    @property
    def headers(self) -> Collection[str]:
        """Headers of a connect command, in lower case, that are kept for the application (`Session.headers`)."""

    @property
    def disconnect(self) -> Callable[[S], Awaitable[None]] | None:
        """A connection that was admitted has ended."""

    @property
    def rpc(self) -> Callable[[S, RPCRequest], Awaitable[Payload | None]] | None:
        """Answer a call; raises ``Error`` (104) for a method that there is not."""


class NoApplication:
    """Nothing but the gateway."""

    connect = refresh = renew = disconnect = rpc = None
    judges_tokens = judges_subs = False
    headers: Collection[str] = ()


NO_APPLICATION = NoApplication()


def decides_connect(application: Application[Any] | NoApplication, request: ConnectRequest) -> bool:
    """Whether code of the program may run before the client is connected."""
    return judges(application, request) or (bool(request.subs) and application.judges_subs)


def judges(application: Application[Any] | NoApplication, request: ConnectRequest) -> bool:
    """Whether the program is asked who the client is."""
    return application.connect is not None and (not request.token or application.judges_tokens)


def unix_seconds(moment: float | datetime | None) -> int:
    """The moment as a program gives it, in whole seconds; 0 for None, which is never.

    Raises ``ValueError`` for what is no moment near ours: a span of time, or milliseconds.
    """
    if moment is None:
        return 0
    seconds: Any = moment.timestamp() if isinstance(moment, datetime) else moment
    if isinstance(seconds, int | float) and 1e9 <= seconds < 1e12:
        return int(seconds)
    raise ValueError(f"expires is a datetime or Unix seconds, for example time.time() + 60, and not {moment!r}")


def user_id(user: str | int | None) -> str:
    """A user's id as a program gives it; for None it is empty, which is nobody in particular."""
    return "" if user is None else str(user)


def route_of(channel: Channel) -> Route[Any] | None:
    return channel.route or channel.asks  # type: ignore[return-value]
