"""Answers what pages of the Pusher protocol ask before they subscribe and sign in: whether they may.

Source: Pusher Channels protocol, "Authorizing users", "Authenticating users", "Encrypted channels".
"""

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode
from starlette.exceptions import HTTPException

from gateway.apps.base import App
from gateway.apps.signatures import sign
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.kinds import is_name, is_user, kind_of
from gateway.messages import Payload
from gateway.program.request_session import RequestSession
from gateway.program.running import Running
from gateway.protocols.pusher import is_socket_id, shown_info
from gateway.session.rejections import tell_of_token
from gateway.web.bodies import body_of, json_response

LONGEST = 65_536
"""Bytes of a request: two names, and what else a page sends along."""

MOST_FIELDS = 100

_STATUS: dict[int, int] = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.TOO_MANY_REQUESTS: 429,
    ErrorCode.INTERNAL: 503,
    DisconnectCode.INTERNAL: 503,
}
"""How what a handler has refused for such a reason is answered; all else is 403."""

_fields = Decoder(dict[str, Any]).decode


class User(Struct, frozen=True):
    """Who asks. Whose ``id`` is empty is nobody in particular."""

    id: str
    info: Payload | None = None
    watchlist: tuple[str, ...] = ()


class Asked(Struct, frozen=True):
    """What a page asks."""

    socket_id: str
    channel: str
    app: str
    """The key of the app; empty for the only one."""


Find = Callable[[str], Awaitable[App]]
"""The app with a key. Raises ``Error``."""
Identify = Callable[[RequestSession, Request, App], Awaitable[User]]
"""Who asks, of which app. Raises ``Error`` or ``Disconnect`` for who may not."""


class Question(NamedTuple):
    """All that is known when it is answered."""

    app: App
    asked: Asked
    session: RequestSession
    user: User


class PusherAuth:
    """The endpoints where pages ask. What says no is answered 403, as what cannot be read is 400."""

    def __init__(self, running: Callable[[], Running], find: Find, identify: Identify) -> None:
        self._running, self._find, self._identify = running, find, identify

    def router(self) -> APIRouter:
        """The endpoints by their names in pusher-js and in Laravel Echo."""
        router = APIRouter(tags=["Pusher"])
        for prefix in ("/pusher", "/broadcasting"):
            router.add_api_route(f"{prefix}/auth", self.channel, methods=["POST"], response_class=Response)
            router.add_api_route(f"{prefix}/user-auth", self.user, methods=["POST"], response_class=Response)
        return router

    async def channel(self, request: Request) -> Response:
        """Whether a connection may subscribe to a private, presence or encrypted channel."""
        return await self._answered(request, self._subscription)

    async def user(self, request: Request) -> Response:
        """Whether a connection may sign in, and as whom."""
        return await self._answered(request, self._sign_in)

    async def _answered(self, request: Request, answer: Callable[[Question], Awaitable[Any]]) -> Response:
        running = self._running()
        try:
            asked = await _read(request)
            session = RequestSession.of(running, request, asked.socket_id)
            with _telling(session):
                app = await self._find(asked.app)
                user = await self._identify(session, request, app)
                return json_response(await answer(Question(app, asked, session, user)))
        except (Error, Disconnect) as failure:
            detail = failure.message if isinstance(failure, Error) else failure.reason
            raise HTTPException(_STATUS.get(failure.code, 403), detail) from failure

    async def _subscription(self, question: Question) -> dict[str, str]:
        app, asked, session, user = question
        name = asked.channel
        kind = kind_of(name)
        if not (kind.signed and is_name(name, app.settings.max_channel_name_length)):
            raise Error(ErrorCode.BAD_REQUEST, "channel_name must name a private, presence or encrypted channel")
        channel = app.names.inside(name)
        admitted = await session.ask(channel)
        if admitted is None:
            _tell(session, f'no handler says who may subscribe to {channel}: declare gateway.channel("...")')
            raise Error(ErrorCode.PERMISSION_DENIED)
        if kind.presence:
            return _signed(app, asked, name, channel_data=_member(session, user, admitted.grant.info))
        answer = _signed(app, asked, name)
        if kind.name == "encrypted":
            answer["shared_secret"] = _shared_secret(app, session, name)
        return answer

    async def _sign_in(self, question: Question) -> dict[str, str]:
        app, asked, session, user = question
        if not app.settings.enable_user_authentication:
            raise Error(ErrorCode.PERMISSION_DENIED, "enable_user_authentication is off for this app")
        data: dict[str, Any] = {"id": _named(session, user)}
        if user.info is not None:
            data["user_info"] = Raw(shown_info(user.info))
        if user.watchlist:
            data["watchlist"] = user.watchlist
        return _signed(app, asked, "", "user", "", user_data=encode(data).decode())


def _signed(app: App, asked: Asked, *what: str, **data: str) -> dict[str, str]:
    """The signature of a connection, of what it may do, and of what others are told of it."""
    settings = app.settings
    return {"auth": f"{settings.key}:{sign(settings.secret, asked.socket_id, *what, *data.values())}", **data}


def _member(session: RequestSession, user: User, info: Payload | None) -> str:
    """What others are told: what has been said for this channel, else what is said of the user."""
    member: dict[str, Any] = {"user_id": _named(session, user)}
    info = user.info if info is None else info
    if info is not None:
        member["user_info"] = Raw(shown_info(info))
    return encode(member).decode()


def _named(session: RequestSession, user: User) -> str:
    """The id of a user who has one that can be told. Raises ``Error``."""
    if not is_user(user.id):
        _tell(session, "its user has no id of letters, digits and _-=@,.; at most 200 of them")
        raise Error(ErrorCode.PERMISSION_DENIED, "this takes a user")
    return user.id


def _shared_secret(app: App, session: RequestSession, channel: str) -> str:
    """The key of a channel, which its subscribers share and the gateway need not know."""
    key = app.settings.encryption_master_key
    if not key:
        _tell(session, "the app has no encryption_master_key")
        raise Error(ErrorCode.PERMISSION_DENIED, "encrypted channels are off for this app")
    return b64encode(sha256(channel.encode() + b64decode(key)).digest()).decode()


def _tell(session: RequestSession, why: str) -> None:
    """Log what the program could do about a refusal."""
    session.node.refusals.happened("pusher_auth", "%s: not authorized: %s", str(session), why, reason=why)


@contextmanager
def _telling(session: RequestSession) -> Iterator[None]:
    """Count and log what is refused."""
    try:
        yield
    except Error as failure:
        session.node.metrics.errors[failure.code] += 1
        tell_of_token(session, failure)
        raise
    except Disconnect as failure:
        if not tell_of_token(session, failure):
            _tell(session, failure.reason)
        raise


async def _read(request: Request) -> Asked:
    """What a page asks, in JSON or as a form. Raises ``Error`` (bad request)."""
    fields = _parse(request.headers.get("content-type", ""), await body_of(request, LONGEST))
    socket_id, channel, app = (fields.get(each, "") for each in ("socket_id", "channel_name", "app_key"))
    if not (isinstance(socket_id, str) and isinstance(channel, str) and isinstance(app, str)):
        raise Error(ErrorCode.BAD_REQUEST, "socket_id, channel_name and app_key must be text")
    if not is_socket_id(socket_id):
        raise Error(ErrorCode.BAD_REQUEST, "socket_id must be two numbers, as 123.456")
    return Asked(socket_id, channel, app or request.query_params.get("app_key", ""))


def _parse(kind: str, body: bytes) -> Mapping[str, Any]:
    try:
        if kind.partition(";")[0].strip().lower() == "application/json":
            return _fields(body)
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except (DecodeError, ValueError, RecursionError):
        raise Error(ErrorCode.BAD_REQUEST, "the body must be a form or an object of JSON") from None
