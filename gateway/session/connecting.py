"""Connect: who the client is, until when, and the subscriptions that come with it.

Source: Centrifuge protocol, "Connection life cycle", "JWT", "Server-side subscriptions".
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.auth.tokens import TokenInvalid
from gateway.channels import Channel
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ConnectRequest,
    ConnectResult,
    SubscribeRequest,
    SubscribeResult,
)
from gateway.session.application import (
    AS_THE_OPTIONS_SAY,
    NO_APPLICATION,
    Admission,
    Admitted,
    decides_connect,
    judges,
    route_of,
)
from gateway.session.life import CONNECTING, State, SubscriptionEnded, SubscriptionState
from gateway.session.session import Session
from gateway.session.subscribing import allowed
from gateway.session.subscription import NOTHING, Subscription
from gateway.session.tokens import check_moment, fetch_key, lacks_key, verified
from gateway.version import __version__

REFUSED_DELAY = 5.0
"""Seconds that a client has to leave by itself after connect was answered with an error."""

LONGEST_HEADER = 8192
"""Characters of what a connect command calls a header, to be kept: servers take no longer ones, either."""

log = logging.getLogger(__name__)


def connect(session: Session, command_id: int, request: ConnectRequest) -> Coroutine[Any, Any, None] | None:
    """Authenticate, make the server-side subscriptions, answer.

    The deadline is for us, who decide: the client has said what it had to say, and does not lose by waiting.
    """
    node = session.node
    if node.witness is not None:
        node.witness.connecting(session, request)
    session.to(CONNECTING)
    application = session.application
    if request.headers and (kept := application.headers):
        named = {name.lower(): value for name, value in request.headers.items() if len(value) <= LONGEST_HEADER}
        session.headers = {name: named[name] for name in kept if name in named}
    began = node.wheel.clock()
    if (
        (application is not NO_APPLICATION and decides_connect(application, request))
        or lacks_key(session.tokens, request)
        or node.limiter.layers(session.spender.network).shared
    ):
        return _connect(session, command_id, request, began)
    try:
        admission = _identified(_identify(session, request))
        if application is not NO_APPLICATION:
            session.token = request.token
        admit(session, admission)
        if admission.subs or request.subs or node.channels.personal(session.user):
            return _connect(session, command_id, request, began, admission)
        _welcome(session, command_id, admission, (), began)
    except Disconnect:
        raise
    except Exception as error:
        _refuse(session, error)
        raise
    return None


async def _connect(
    session: Session, command_id: int, request: ConnectRequest, began: float, admission: Admission | None = None
) -> None:
    """The same where there is something to wait for, perhaps before the client can be let in by an ``admission``."""
    try:
        if lacks_key(session.tokens, request):
            _set_deadline(session, command_id)
            await fetch_key(session, request)
            _check(session)
        if admission is not None:
            await _plan(session, admission, request.subs)
        elif decides_connect(session.application, request):
            admission = await _in_turn(session, command_id, request)
        else:
            admission = await _let_in(session, request)
        if session.subscriptions and not decides_connect(session.application, request):
            _set_deadline(session, command_id)
        subscriptions = list(session.subscriptions.values())
        if subscriptions:
            await _open(subscriptions)
            _check(session)
            subscriptions = [each for each in subscriptions if each.state is SubscriptionState.READY]
        _welcome(session, command_id, admission, subscriptions, began)
    except Disconnect:
        raise
    except Exception as error:
        _refuse(session, error)
        raise


def _welcome(
    session: Session, command_id: int, admission: Admission, subscriptions: Sequence[Subscription], began: float
) -> None:
    """Answer that the client is connected, with what it is subscribed to."""
    session.answer(command_id, _result(session, admission, {each.channel: each.result() for each in subscriptions}))
    for each in subscriptions:
        each.start()
    session.connected()
    session.node.metrics.connect_time.observe(session.node.wheel.clock() - began)
    session.supersede()


async def _in_turn(session: Session, command_id: int, request: ConnectRequest) -> Admission:
    """Let the client in by the program, which decides so many at a time."""
    node = session.node
    session.heartbeat.cancel()
    await node.connecting.acquire()
    turn, timeout = _Turn(node.connecting), node.client.connect_timeout
    end = node.wheel.clock() + timeout
    # not the session's deadline, which ends with it: the program may be at it still when the client has left
    deadline = node.wheel.after(timeout, partial(_overdue, session, command_id, turn))
    try:
        _check(session)
        admission = await _let_in(session, request)
        if session.subscriptions:  # to be opened in what is left
            session.watch(end - node.wheel.clock(), partial(_overdue, session, command_id))
        return admission
    finally:
        deadline.cancel()
        turn.end()


class _Turn:
    """A place among those whom the program decides; given back once, by whoever says so first."""

    __slots__ = ("_places",)

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = places

    def end(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.release()


async def _let_in(session: Session, request: ConnectRequest) -> Admission:
    """Make the client known, and the subscriptions that come with connect, which are to be opened."""
    admission = await authenticate(session, request)
    limiter = session.node.limiter
    layers = limiter.layers(session.spender.network)
    if layers.shared:
        allowed = await limiter.shared(layers, admission.user, ConnectRequest)
        _check(session)
        if not allowed:
            raise Error(ErrorCode.TOO_MANY_REQUESTS)
    admit(session, admission)
    if admission.subs or request.subs or session.node.channels.personal(session.user):
        await _plan(session, admission, request.subs)
    return admission


def _check(session: Session) -> None:
    """To be called after every await: the client may have gone, or been told to try again. Raises ``Disconnect``."""
    if session.state is not CONNECTING:
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED)


async def _open(subscriptions: Sequence[Subscription]) -> None:
    """Open them side by side. Raises what the first of them did that failed, when all have been tried."""
    if len(subscriptions) == 1:
        with suppress(SubscriptionEnded):  # as somebody has said meanwhile
            await subscriptions[0].open()
        return
    for outcome in await asyncio.gather(*[each.open() for each in subscriptions], return_exceptions=True):
        if outcome is not None and not isinstance(outcome, SubscriptionEnded):
            try:
                raise outcome
            finally:
                del outcome  # this frame is in its traceback, and would keep it, and the session


def _set_deadline(session: Session, command_id: int) -> None:
    """Bound the time that is ours. Nobody waits where nothing is to be decided, and nothing to be subscribed."""
    timeout = session.node.client.connect_timeout
    session.watch(timeout, partial(_overdue, session, command_id))


def _overdue(session: Session, command_id: int, turn: _Turn | None = None) -> None:
    """It has taken too long, which is no fault of the client's. What is under way goes on, and then finds it gone."""
    if turn is not None:
        turn.end()
    if session.state is not CONNECTING:
        return
    timeout = session.node.client.connect_timeout
    log.warning("%s: connect was not decided within %g s (client.connect_timeout)", str(session), timeout)
    error = Error(ErrorCode.INTERNAL, "connect was not decided in time, try again")
    _refuse(session, error)
    session.fail(command_id, error)


async def authenticate(session: Session, request: ConnectRequest) -> Admission:
    """Who the client is, by its token, by what stands in front, or by the program. Raises if it may not connect."""
    if session.application is not NO_APPLICATION:
        session.token = request.token
    connect = session.application.connect
    if connect is None or not judges(session.application, request):
        admission = _identify(session, request)
    else:
        # a token that no key here can verify is the program's own, and for the program to judge
        known = _identify(session, request) if session.tokens.has_keys or not request.token else None
        admission = await connect(session, request, known)
        # it hears of the end, and whose it is, whatever has become of the client
        session.since, session.user, session.info = session.node.clock(), admission.user, admission.info
        _check(session)
        # let in, it would come back at once, again and again
        passed = ErrorCode.TOKEN_EXPIRED if request.token else DisconnectCode.EXPIRED
        check_moment(session.node, admission.expire_at, passed)
        if session.application.refresh is not None:
            session.granted = frozenset(admission.subs)
    return _identified(admission)


def _identified(admission: Admission | None) -> Admission:
    """The admission. Raises ``Disconnect`` if nothing says who the client is."""
    if admission is None:
        none = TokenInvalid("there is none, and client.allow_anonymous_connect_without_token is off", "missing")
        raise Disconnect(DisconnectCode.BAD_REQUEST) from none
    return admission


def _identify(session: Session, request: ConnectRequest) -> Admission | None:
    client = session.node.client
    if request.token:
        return _by_token(session, request.token)
    if client.allow_anonymous_connect_without_token or client.insecure:
        return Admission()
    user = session.handshake.headers.get(client.user_id_http_header.lower()) if client.user_id_http_header else None
    return Admission(user) if user else None


def _by_token(session: Session, token: str) -> Admission:
    client = session.node.client
    known = verified(session.tokens.connection, token)
    if not known.user and client.disallow_anonymous_connection_tokens:
        raise Disconnect(DisconnectCode.PERMISSION_DENIED)
    expire_at = 0 if client.insecure else known.expire_at
    check_moment(session.node, expire_at)
    if not known.subs:
        return Admission(known.user, expire_at, known.info, meta=known.meta)
    session.granted = frozenset(known.subs)
    subs = {name: Admitted(grant) for name, grant in known.subs.items()}
    return Admission(known.user, expire_at, known.info, subs, meta=known.meta)


def admit(session: Session, admission: Admission) -> None:
    """Make the client known.

    Raises ``Disconnect`` if its user is blocked, or has too many connections, ``Error`` if it connects too often.
    """
    hub, client = session.node.hub, session.node.client
    session.user, session.info = admission.user, admission.info  # known also to the log, if it may not come in
    if admission.user in session.node.blocked:
        raise Disconnect(DisconnectCode.BLOCKED)
    if admission.user and 0 < client.user_connection_limit <= len(hub.of_user(admission.user)):
        raise Disconnect(DisconnectCode.CONNECTION_LIMIT)
    if not session.node.limiter.admits(session.spender, admission.user):
        raise Error(ErrorCode.TOO_MANY_REQUESTS)
    session.refreshable = admission.refreshable and session.application.renew is None
    session.meta = admission.meta
    session.since = session.node.clock()
    if admission.expire_at:
        session.expire(admission.expire_at)
    hub.open(session)


def _refuse(session: Session, error: Exception) -> None:
    """An error answers connect: the client is to leave and come again. Raises ``Disconnect`` if that is known to it."""
    if not session.to(State.REFUSED):
        if not isinstance(error, Error):
            log.error("%s: connect failed, with nobody to be told", str(session), exc_info=error)
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED) from None
    session.node.hub.close(session)
    for subscription in list(session.subscriptions.values()):
        subscription.end()
    session.watch(REFUSED_DELAY, lambda: session.disconnect(Disconnect(1000, "bye")))


def _result(session: Session, admission: Admission, subs: dict[str, SubscribeResult]) -> ConnectResult:
    client, wire = session.node.client, session.wire
    pings = bool(client.ping_interval) and not wire.pings_apart
    return ConnectResult(
        session.client,
        __version__,
        *session.lasts(session.expire_at if session.refreshable else 0),
        data=admission.data or session.node.greeting,
        subs=subs,
        ping=max(1, round(client.ping_interval)) if pings else 0,
        pong=bool(pings and client.pong_timeout) and not wire.protocol.unidirectional,
        session=session.session_id,
        node=session.node.uid if session.wire.emulated else "",
        time=int(session.node.clock() * 1000) if client.connect_include_server_time else 0,
    )


# — the subscriptions that come with connect —


async def _plan(session: Session, admission: Admission, requests: Mapping[str, SubscribeRequest]) -> None:
    """Begin them: from the token, personal, and those asked for that the client might also subscribe to by itself.

    Raises ``Error`` or ``Disconnect`` if the client may not connect so.
    """
    channels, most = session.node.channels, session.node.client.channel_limit
    plan = dict(admission.subs)
    if personal := channels.personal(session.user):
        plan.setdefault(personal, AS_THE_OPTIONS_SAY)
    if len(plan) > most:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    for name, admitted in plan.items():
        request, resolved = requests.get(name, NOTHING), channels.resolve(name)
        if not resolved.options.is_stream:
            continue  # clients load maps by themselves, and say what they track
        subscription = Subscription(session, resolved, request.since, server_side=True).grant(admitted)
        subscription.choose(None, request.delta)
    refused = 0
    for name, request in requests.items() if admission.on_request else ():
        if name in plan or not (channel := _known(session, name)) or not channel.options.is_stream:
            continue
        route = route_of(channel)
        if route and route.subscribe and not route.server_side:
            continue
        try:
            subscription = await allowed(session, channel, request, server_side=True)
            subscription.choose(None, request.delta)
        except Error:
            refused += route is not None  # the program has been asked, and is not to be asked without end
        _check(session)
        if len(session.subscriptions) + refused > most:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT)


def _known(session: Session, name: str) -> Channel | None:
    try:
        return session.node.channels.resolve_for_client(name)
    except Error as error:
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error
        return None
