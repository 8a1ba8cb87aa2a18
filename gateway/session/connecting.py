"""Connect and refresh: who the client is, and until when.

Source: Centrifuge protocol, "Connection life cycle" and "JWT".
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from gateway.auth.tokens import ConnectionToken, TokenExpired, TokenInvalid
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import ConnectRequest, ConnectResult, RefreshRequest, RefreshResult, SubscribeResult
from gateway.session.application import Admission, Admitted, decides_connect
from gateway.session.base import State
from gateway.session.initial import planned
from gateway.session.session import Session
from gateway.session.subscription import Subscription, SubscriptionEnded, SubscriptionState
from gateway.version import __version__

REFUSED_DELAY = 5.0
"""Seconds that a client has to leave by itself after connect was answered with an error."""

log = logging.getLogger(__name__)


class Turn:
    """One of the connects that the program decides at a time. Given back when that is done, or overdue."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns

    @classmethod
    async def come(cls, turns: asyncio.Semaphore) -> "Turn":
        await turns.acquire()
        return cls(turns)

    def end(self) -> None:
        if self._turns is not None:
            self._turns.release()
            self._turns = None


async def connect(session: Session, command_id: int, request: ConnectRequest) -> None:
    """Authenticate, make the server-side subscriptions, answer.

    The deadline is for us, who decide: the client has said what it had to say, and does not lose by waiting.
    """
    session.to(State.CONNECTING)
    turn = None
    try:
        if decides_connect(session.application, request):
            session.heartbeat.cancel()
            turn = await Turn.come(session.node.connecting)
            _check(session)
            _set_deadline(session, command_id, turn)
        admission = await _authenticate(session, request)
        admit(session, admission)
        subscriptions = await planned(session, admission.subs, request.subs)
        if turn is not None:
            turn.end()  # what follows is not the program's
        elif subscriptions:
            _set_deadline(session, command_id)
        if subscriptions:
            await _open(subscriptions)
            _check(session)
        ready = [each for each in subscriptions if each.state is SubscriptionState.READY]
        results = {each.channel: each.result() for each in ready}
    except Disconnect:
        raise
    except Exception as error:
        _refuse(session, error)
        raise
    finally:
        if turn is not None:
            turn.end()
    session.answer(command_id, _result(session, admission, results))
    for each in ready:
        each.start()
    session.connected()
    session.supersede()


def _check(session: Session) -> None:
    """To be called after every await: the client may have gone, or been told to try again. Raises ``Disconnect``."""
    if session.state is not State.CONNECTING:
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED)


async def _open(subscriptions: Sequence[Subscription]) -> None:
    """Open them side by side. Raises what the first of them did that failed, when all have been tried."""
    if len(subscriptions) == 1:
        outcomes: list[BaseException | None] = [await _tried(subscriptions[0])]
    else:
        outcomes = await asyncio.gather(*map(_tried, subscriptions))
    for outcome in outcomes:
        if outcome is not None:
            try:
                raise outcome
            finally:
                del outcome, outcomes  # this frame is in its traceback, and would keep it, and the session


async def _tried(subscription: Subscription) -> Exception | None:
    try:
        await subscription.open()
    except SubscriptionEnded:
        pass  # as somebody has said meanwhile
    except Exception as error:
        return error
    return None


def _set_deadline(session: Session, command_id: int, turn: Turn | None = None) -> None:
    """Bound the time that is ours. Nobody waits where nothing is to be decided, and nothing to be subscribed."""
    timeout = session.node.settings.client.connect_timeout
    session.watch(timeout, partial(_overdue, session, command_id, turn))


def _overdue(session: Session, command_id: int, turn: Turn | None) -> None:
    """It has taken too long, which is no fault of the client's. What is under way goes on, and then finds it gone."""
    if turn is not None:
        turn.end()
    if session.state is not State.CONNECTING:
        return
    timeout = session.node.settings.client.connect_timeout
    log.warning("client %s: connect was not decided within %g s (client.connect_timeout)", session.client, timeout)
    error = Error(ErrorCode.INTERNAL, "connect was not decided in time, try again")
    _refuse(session, error)
    session.refuse(command_id, error)


async def _authenticate(session: Session, request: ConnectRequest) -> Admission:
    """Who the client is, by its token, by what stands in front, or by the program. Raises if it may not connect."""
    connect = session.application.connect
    if connect is None:
        admission = _identify(session, request)
    else:
        # a token that no key here can verify is the program's own, and for the program to judge
        known = _identify(session, request) if session.tokens.has_keys or not request.token else None
        admission = await connect(session, request, known)
        session.admitted = True  # it hears of the end, whatever has become of the client
        _check(session)
    if admission is None:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    return admission


def _identify(session: Session, request: ConnectRequest) -> Admission | None:
    client = session.node.settings.client
    if request.token:
        return _by_token(session, request.token)
    if client.allow_anonymous_connect_without_token or client.insecure:
        return Admission()
    user = session.handshake.headers.get(client.user_id_http_header.lower()) if client.user_id_http_header else None
    return Admission(user) if user else None


def _by_token(session: Session, token: str) -> Admission:
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
    if not verified.subs:
        return Admission(verified.user, expire_at, verified.info)
    session.granted = frozenset(verified.subs)
    subs = {name: Admitted(grant) for name, grant in verified.subs.items()}
    return Admission(verified.user, expire_at, verified.info, subs)


def admit(session: Session, admission: Admission) -> None:
    """Make the client known. Raises ``Disconnect`` if its user is blocked, or has too many connections."""
    hub, client = session.node.hub, session.node.settings.client
    if admission.user in session.node.blocked:
        raise Disconnect(DisconnectCode.BLOCKED)
    if admission.user and 0 < client.user_connection_limit <= len(hub.of_user(admission.user)):
        raise Disconnect(DisconnectCode.CONNECTION_LIMIT)
    session.user, session.info = admission.user, admission.info
    session.refreshable = admission.refreshable
    session.since = session.node.clock()
    session.expire(admission.expire_at)
    hub.open(session)
    session.admitted = True


def _refuse(session: Session, error: Exception) -> None:
    """An error answers connect: the client is to leave and come again. Raises ``Disconnect`` if that is known to it."""
    if not session.to(State.REFUSED):
        if not isinstance(error, Error):
            log.error("client %s: connect failed, with nobody to be told", session.client, exc_info=error)
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED) from None
    session.node.hub.close(session)
    for subscription in list(session.subscriptions.values()):
        subscription.end()
    session.watch(REFUSED_DELAY, lambda: session.disconnect(Disconnect(1000, "bye")))


def _result(session: Session, admission: Admission, subs: dict[str, SubscribeResult]) -> ConnectResult:
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


# — refresh —


async def refresh(session: Session, command_id: int, request: RefreshRequest) -> None:
    """A new token for a connection that expires."""
    if not request.token or not session.expire_at or not session.refreshable:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    token = _refresh_token(session, request.token)
    session.expire(token.expire_at)
    if token.info is not None:
        session.info = token.info
    session.answer(
        command_id,
        RefreshResult(session.client, __version__, bool(token.expire_at), session.ttl(token.expire_at)),
    )


def _refresh_token(session: Session, text: str) -> ConnectionToken:
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
