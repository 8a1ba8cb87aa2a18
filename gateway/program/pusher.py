"""The Pusher protocol in the hands of the program: its apps, who its users are, and what it tells them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from msgspec import Raw
from msgspec.json import decode

from gateway.apps.base import App
from gateway.config.settings.pusher import PusherApp
from gateway.core.cluster import named
from gateway.errors import Error, ErrorCode, SettingsError
from gateway.kinds import INBOX, kind_of
from gateway.messages import Payload
from gateway.program.encoding import encode_data
from gateway.program.operations import Operations
from gateway.program.pusher_auth import PusherAuth, User
from gateway.program.request_session import RequestSession
from gateway.program.routes import events
from gateway.program.routes.handlers import Handler
from gateway.program.routes.program import Program
from gateway.program.routes.signatures import Event, place_of
from gateway.program.running import Running
from gateway.program.sockets.order import arrive
from gateway.session.application import Admission, user_id
from gateway.session.pusher import terminating
from gateway.web.pusher.events import publish_event

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class PusherUser:
    """Who a user is, for the Pusher protocol.

    ``info`` is shown in presence, where a channel's handler says nothing else. The page is told who of ``watchlist`` is
    online, with ``enable_watchlists``.
    """

    id: str | int
    info: Any = field(default=None, kw_only=True)
    watchlist: Sequence[str | int] = field(default=(), kw_only=True)


class Pusher:
    """The Pusher protocol's part of a gateway: ``gateway.pusher`` ::

        app.include_router(gateway.pusher.auth)
        orders = gateway.channel("private-orders.{id:int}")

        @orders.on_subscribe
        async def may_follow(id: int, user: User = Depends(current_user)) -> None: ...

        await gateway.pusher.trigger("private-orders.7", "order.paid", {"id": 7})

    Channels are named here as in that protocol; where they stand in the gateway, the app's namespace says.
    """

    def __init__(self, operations: Operations, program: Program, running: Callable[[], Running]) -> None:
        self._operations, self._program, self._running = operations, program, running
        self._user: Handler | None = None

    # — handlers —

    def app(self, call: F) -> F:
        """Say which app has a key, for those that the settings do not name: a `PusherApp`, or None for no app.

        It takes the ``key``, and dependencies that need no client, and is asked again after ``pusher.app_ttl``. The
        namespace of such an app begins with that of one that the settings name, or with ``pusher.namespace``.
        """
        handler = self._handler(call, events.PUSHER_APP, self._program.load_app, ["key"])

        async def load(key: str) -> PusherApp | None:
            asking, spawn = self._program.nobody({"key": key}), self._operations.node.spawn
            found: PusherApp | None = await handler(asking, b"", spawn)  # what it is, `apps.loaded` looks
            return found

        self._program.load_app = load
        return call

    def user(self, call: F) -> F:
        """Say who asks `auth`: a `PusherUser`, an id, or None for who may not ask at all.

        Without it ``on_connect`` says so, as of every client, or the token that stands in ``Authorization: Bearer``.
        Where apps have users of their own it looks at ``app``, the key of the one that is asked for, or users of one
        could sign in to another.
        """
        self._user = self._handler(call, events.PUSHER_USER, self._user, ["app"])
        return call

    @cached_property
    def auth(self) -> APIRouter:
        """``/pusher/auth``, ``/broadcasting/auth``, and ``…/user-auth``: for ``app.include_router``, with any prefix.

        The channels' own ``on_subscribe`` decides, as it does for all clients, with the request's cookies and headers.
        A channel of which the program says nothing is refused.
        """
        return PusherAuth(self._running, self._find, self._identify).router()

    # — publishing —

    async def trigger(
        self, channels: str | Sequence[str], event: str, data: Any, *, socket_id: str = "", app: str = ""
    ) -> None:
        """Publish an event to channels by their names in the Pusher protocol: clients of all protocols get it.

        ``data`` is anything that JSON can say. The connection of ``socket_id`` does not get it. ``app`` is the key of
        one of several. Raises ``Error`` for names that cannot be and for what is larger than the app allows,
        ``ValueError`` for an encrypted channel unless the data is encrypted, and ``BrokerUnavailable``.
        """
        node = self._operations.node
        node.check_loop()
        names = [channels] if isinstance(channels, str) else list(channels)
        payload = encode_data(data)
        for name in names:
            if kind_of(name).name == "encrypted" and not _is_encrypted(payload):
                raise ValueError(f"{name} is encrypted, and this is not: trigger it by a library that has the key")
        found = await self._of(app)
        await publish_event(node, found, event, payload.decode(), names, socket_id)
        await arrive(node, [found.names.inside(name) for name in names])

    async def send_to_user(self, user: str | int, event: str, data: Any, *, app: str = "") -> None:
        """Publish an event to all connections that are signed in as a user."""
        await self.trigger(f"{INBOX}{user}", event, data, app=app)

    async def terminate(self, user: str | int, *, app: str = "") -> None:
        """Close all connections that are signed in as a user: they stay away until their pages connect anew.

        Raises ``ValueError`` for anonymous clients, which are no user.
        """
        self._operations.node.check_loop()
        found = await self._of(app)
        await self._operations.node.cluster.notify(terminating.NOTICE, terminating.notice(found.id, named(user)))

    # — inside —

    def _handler(self, call: Callable[..., Any], event: Event, there: object, params: Sequence[str] = ()) -> Handler:
        self._program.check_open()
        if there is not None:
            raise SettingsError(f"there is a {event.name} already; the second is {place_of(call)}")
        return Handler(call, event, params)

    async def _of(self, key: str) -> App:
        """The app that the program names. Raises ``LookupError``."""
        found = await self._asked(key)
        if found is None:
            raise LookupError(f"no app has the key {key!r:.100}" if key else _WHICH)
        return found

    async def _find(self, key: str) -> App:
        """The app that a page names. Raises ``Error``."""
        found = await self._asked(key)
        if found is None or not found.settings.enabled:
            raise Error(ErrorCode.PERMISSION_DENIED, "no app has this key" if key else _UNNAMED)
        return found

    async def _asked(self, key: str) -> App | None:
        running = self._running()
        if running.pusher is None:
            raise RuntimeError('the Pusher protocol is off: set pusher.enabled, as Gateway(pusher={"enabled": True})')
        known = running.node.settings.pusher.apps
        if not key and len(known) == 1:
            key = known[0].key
        return await running.apps.find(key) if key else None

    async def _identify(self, session: RequestSession, request: Request, app: App) -> User:
        if self._user is None:
            await session.identify(request)
            return User(session.user, session.info)
        said = await self._user(self._program.event(session, {"app": app.settings.key}), b"", session.node.spawn)
        user = _user(said)
        session.admit(Admission(user.id, info=user.info))
        return user


_WHICH = 'there are several apps, or none in the settings: name one by its key, as app="f3c4b2a1d0e9"'
_UNNAMED = "app_key must name one of the apps"


def _user(said: object) -> User:
    """What a handler has said of who asks. Raises ``Error`` for nobody."""
    match said:
        case None:
            raise Error(ErrorCode.PERMISSION_DENIED)
        case PusherUser():
            info = None if said.info is None else encode_data(said.info)
            return User(user_id(said.id), info, tuple(map(user_id, said.watchlist)))
        case str() | int() if not isinstance(said, bool):
            return User(user_id(said))
    raise TypeError(f"pusher.user must return a PusherUser, an id or None, not {said!r:.100}")


def _is_encrypted(data: Payload) -> bool:
    """Whether it has the form that server libraries give encrypted data."""
    return data.startswith(b"{") and decode(data, type=dict[str, Raw]).keys() == {"nonce", "ciphertext"}
