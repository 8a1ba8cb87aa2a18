"""Connect and refresh: who the client is, and until when.

Source: Centrifuge protocol, "Connection life cycle" and "JWT".
"""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.auth.tokens import ConnectionToken, TokenExpired, TokenInvalid
from gateway.core.cluster import DisconnectUser, RefreshUser
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ConnectRequest,
    ConnectResult,
    Refresh,
    RefreshRequest,
    RefreshResult,
    SubscribeResult,
)
from gateway.session import making, server_side
from gateway.session.application import Admission, Admitted
from gateway.session.base import State
from gateway.session.subscription import Subscription
from gateway.version import __version__

if TYPE_CHECKING:
    from gateway.session.session import Session

REFUSED_DELAY = 5.0
"""Seconds that a client has to leave by itself after connect was answered with an error."""


async def connect(session: "Session", command_id: int, request: ConnectRequest) -> Awaitable[None]:
    """Authenticate, make the server-side subscriptions, answer."""
    try:
        admission = await _authenticate(session, request)
        admit(session, admission)
        subscriptions = await server_side.planned(session, admission.subs, request.subs)
        if session.closed:  # while the program decided
            raise Disconnect(DisconnectCode.CONNECTION_CLOSED)
        found = await making.prepare_all(session, subscriptions)
    except Disconnect:
        raise
    except Exception:
        _refuse(session)
        raise
    results = {each.channel: making.settle(each, what) for each, what in zip(subscriptions, found, strict=True)}
    subs = {name: result for name, (result, _) in results.items()}
    session.answer(command_id, _result(session, admission, subs))
    for each in subscriptions:
        making.start(session, each, results[each.channel][1])
    session.connected()
    return _after(session, subscriptions)


async def _authenticate(session: "Session", request: ConnectRequest) -> Admission:
    """Who the client is, by its token, by what stands in front, or by the program. Raises if it may not connect."""
    connect = session.application.connect
    if connect is None:
        admission = _identify(session, request)
    else:
        # a token that no key here can verify is the program's own, and for the program to judge
        known = _identify(session, request) if session.tokens.has_keys or not request.token else None
        admission = await connect(session, request, known)
        if session.closed:
            raise Disconnect(DisconnectCode.CONNECTION_CLOSED)
    if admission is None:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    return admission


def _identify(session: "Session", request: ConnectRequest) -> Admission | None:
    client = session.node.settings.client
    if request.token:
        return _by_token(session, request.token)
    if client.allow_anonymous_connect_without_token or client.insecure:
        return Admission()
    user = session.handshake.headers.get(client.user_id_http_header.lower()) if client.user_id_http_header else None
    return Admission(user) if user else None


def _by_token(session: "Session", token: str) -> Admission:
    client = session.node.settings.client
    try:
        verified = session.tokens.connection(token)
    except TokenInvalid as error:
        raise Disconnect(DisconnectCode.INVALID_TOKEN) from error
    except TokenExpired as error:
        raise Error(ErrorCode.TOKEN_EXPIRED) from error
    if not verified.user and client.disallow_anonymous_connection_tokens:
        raise Disconnect(DisconnectCode.PERMISSION_DENIED)
    expire_at = 0 if client.insecure else verified.expire_at
    if expire_at and expire_at <= session.node.clock():
        raise Error(ErrorCode.EXPIRED)
    session.granted = frozenset(verified.subs)
    subs = {name: Admitted(grant) for name, grant in verified.subs.items()}
    return Admission(verified.user, expire_at, verified.info, subs)


def admit(session: "Session", admission: Admission) -> None:
    hub, client = session.node.hub, session.node.settings.client
    if admission.user and 0 < client.user_connection_limit <= len(hub.of_user(admission.user)):
        raise Disconnect(DisconnectCode.CONNECTION_LIMIT)
    session.user, session.info = admission.user, admission.info
    session.refreshable = admission.refreshable
    _expire(session, admission.expire_at)
    hub.open(session)
    session.admitted = True


def _refuse(session: "Session") -> None:
    """An error answers connect: the client is to leave and come again."""
    if session.closed:
        return
    session.state = State.REFUSED
    session.node.hub.close(session)
    session.heartbeat.cancel()
    session.heartbeat = session.node.wheel.after(REFUSED_DELAY, lambda: session.disconnect(Disconnect(1000, "bye")))


def _result(session: "Session", admission: Admission, subs: dict[str, SubscribeResult]) -> ConnectResult:
    client = session.node.settings.client
    expires = bool(session.expire_at) and session.refreshable
    return ConnectResult(
        client=session.client,
        version=__version__,
        expires=expires,
        ttl=session.ttl(session.expire_at) if expires else 0,
        data=admission.data or session.node.greeting,
        subs=subs,
        ping=max(1, round(client.ping_interval)) if client.ping_interval else 0,
        pong=bool(client.ping_interval and client.pong_timeout) and not session.wire.protocol.unidirectional,
        session=session.session_id,
        time=int(session.node.clock() * 1000) if client.connect_include_server_time else 0,
    )


async def _after(session: "Session", subscriptions: list[Subscription]) -> None:
    for each in subscriptions:
        await making.announce(session, each)
    client = session.node.settings.client.subscribe_to_user_personal_channel
    if client.enabled and client.single_connection and session.user:
        limit = DisconnectCode.CONNECTION_LIMIT
        others = DisconnectUser(user=session.user, code=limit, reason=limit.reason, whitelist=[session.client])
        with suppress(BrokerUnavailable):  # those on this node are gone by then
            await session.node.cluster.command(others)


# — expiry and refresh —


def _expire(session: "Session", expire_at: int) -> None:
    """Set or replace the moment at which the connection ends, unless it is refreshed before."""
    if session.expiry is not None:
        session.expiry.cancel()
        session.expiry = None
    session.expire_at = expire_at
    if expire_at:
        grace = session.node.settings.client.expired_close_delay if session.refreshable else 0.0
        session.expiry = session.node.wheel.after(
            expire_at - session.node.clock() + grace,
            lambda: session.disconnect(Disconnect(DisconnectCode.EXPIRED)),
        )


async def refresh(session: "Session", command_id: int, request: RefreshRequest) -> None:
    """A new token for a connection that expires."""
    if not request.token or not session.expire_at or not session.refreshable:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    token = _refresh_token(session, request.token)
    _expire(session, token.expire_at)
    if token.info is not None:
        session.info = token.info
    session.answer(
        command_id,
        RefreshResult(session.client, __version__, bool(token.expire_at), session.ttl(token.expire_at)),
    )


def _refresh_token(session: "Session", text: str) -> ConnectionToken:
    try:
        token = session.tokens.connection(text)
    except TokenInvalid as error:
        raise Disconnect(DisconnectCode.INVALID_TOKEN) from error
    except TokenExpired as error:
        raise Disconnect(DisconnectCode.EXPIRED) from error
    if token.user != session.user:
        raise Disconnect(DisconnectCode.INVALID_TOKEN)
    if token.expire_at and token.expire_at <= session.node.clock():
        raise Error(ErrorCode.EXPIRED)
    if set(token.subs) != session.granted:
        raise Disconnect(DisconnectCode.INSUFFICIENT_STATE)
    return token


def refresh_by_server(session: "Session", command: RefreshUser) -> None:
    """The server API moves the expiry."""
    if command.expired or (command.expire_at and command.expire_at <= session.node.clock()):
        session.disconnect(Disconnect(DisconnectCode.EXPIRED))
        return
    _expire(session, command.expire_at)
    if command.info is not None:
        session.info = command.info
    session.push("", Refresh(bool(command.expire_at), session.ttl(command.expire_at)))
