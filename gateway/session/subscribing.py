"""Subscribe, unsubscribe and sub_refresh, and the subscriptions that the server makes.

A subscription is made in four steps: ``prepare`` hears the channel and reads its stream, holding live
publications back; ``settle`` joins the two and makes the result; the answer is sent; ``start`` begins live
delivery. Nothing waits between the last three, so nothing can slip in between. A subscription that is not live
yet belongs to whoever makes it; only live ones may be taken away by others.

Source: Centrifuge protocol, "Subscribing and unsubscribing", "Server-side subscriptions", "Race between live
and stored".
"""

import logging
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from msgspec import convert
from msgspec.structs import replace

from gateway.auth.permissions import Features, granted_features, may_subscribe
from gateway.auth.tokens import Grant, Override, SubscriptionToken, TokenExpired, TokenInvalid
from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.cluster import SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode
from gateway.messages import (
    Position,
    SubRefreshRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from gateway.recovery import Recovery, merge, recover_cache, recover_stream
from gateway.session.subscription import Subscription

if TYPE_CHECKING:
    from gateway.session.session import Session

log = logging.getLogger(__name__)

REJECT_UNRECOVERED = 2
"""Bit of a request's ``flag``: answer error 112 rather than ``recovered: false``."""


# — commands —


async def subscribe(session: "Session", command_id: int, request: SubscribeRequest) -> Awaitable[None] | None:
    if not request.channel or request.delta not in ("", "fossil"):
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    channel = session.node.channels.resolve(request.channel)
    if channel.name in session.subscriptions:
        raise Error(ErrorCode.ALREADY_SUBSCRIBED)
    if len(session.subscriptions) >= session.node.settings.client.channel_limit:
        raise Error(ErrorCode.LIMIT_EXCEEDED)
    if request.type:
        raise Error(ErrorCode.PERMISSION_DENIED)
    if bytes(request.tf) not in (b"", b"null"):
        raise Error(ErrorCode.BAD_REQUEST)
    subscription = _requested(session, channel, request)
    found = await prepare(session, subscription)
    result, position = settle(subscription, found)
    if request.flag & REJECT_UNRECOVERED and result.was_recovering and not result.recovered:
        await drop(session, subscription)
        raise Error(ErrorCode.UNRECOVERABLE_POSITION)
    session.answer(command_id, result)
    start(session, subscription, position)
    return announce(session, subscription) if subscription.options.join_leave else None


async def unsubscribe(session: "Session", command_id: int, request: UnsubscribeRequest) -> None:
    if not request.channel:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    subscription = session.subscriptions.get(request.channel)
    if subscription is not None:
        await withdraw(session, subscription)
    session.answer(command_id, UnsubscribeResult())


async def sub_refresh(session: "Session", command_id: int, request: SubRefreshRequest) -> Awaitable[None] | None:
    """A new token for a subscription that expires. Without ``channel``, the token's claim names it."""
    if not request.channel and not request.token:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    name = request.channel or _refresh_token(session, request.token).channel
    subscription = session.subscriptions.get(name)
    if subscription is None:
        raise Error(ErrorCode.PERMISSION_DENIED)
    if not subscription.expire_at:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    if not request.token:
        raise Error(ErrorCode.BAD_REQUEST)
    token = _refresh_token(session, request.token)
    _check_meant_for(session, name, token)
    if token.expire_at and token.expire_at <= session.node.clock():
        raise Error(ErrorCode.EXPIRED)
    if token.grant.info is not None:
        # another object: publications and presence of before keep what they were made with
        subscription.info = replace(subscription.info, chan_info=token.grant.info)
    _expire(session, subscription, token.expire_at)
    session.answer(command_id, SubRefreshResult(bool(token.expire_at), session.ttl(token.expire_at)))
    return session.node.show(subscription.channel, subscription.info) if subscription.options.presence else None


# — the four steps —


async def prepare(session: "Session", subscription: Subscription) -> Recovery | None:
    """Hear the channel, appear in its presence, and read its stream where that is asked for."""
    session.subscriptions[subscription.channel] = subscription
    try:
        await session.node.hold(subscription, subscription.presence_info)
    except BaseException:
        _detach(session, subscription)
        raise
    try:
        found = await _look_up(session, subscription) if subscription.positioned else None
    except BaseException:
        await drop(session, subscription)
        raise
    if session.closed or subscription.revoked:
        await drop(session, subscription)
        raise Error(ErrorCode.PERMISSION_DENIED)
    subscription.prepared = True
    return found


def settle(subscription: Subscription, found: Recovery | None) -> tuple[SubscribeResult, Position | None]:
    """The result for the client, and the position from which live delivery goes on."""
    result = SubscribeResult(
        expires=bool(subscription.expire_at),
        ttl=subscription.connection.ttl(subscription.expire_at),
        data=subscription.data,
    )
    if found is None:
        return result, None
    since = subscription.since
    recovered = merge(
        found,
        subscription.held or [],
        recovering=since is not None,
        newest_only=subscription.recoverable and subscription.options.force_recovery_mode == "cache",
    )
    subscription.held = None
    result.positioned = True
    result.recoverable = subscription.recoverable
    result.epoch = recovered.position.epoch
    result.offset = recovered.position.offset
    if since is not None:
        result.was_recovering = True
        subscription.connection.node.metrics.recoveries[recovered.recovered] += 1
        if recovered.recovered:
            result.recovered = True
            result.publications = recovered.publications
            result.offset = since.offset  # each recovered publication moves the client on from there
    return result, recovered.position


def start(session: "Session", subscription: Subscription, position: Position | None) -> None:
    session.node.hub.enter(subscription, position)
    subscription.live = True
    _expire(session, subscription, subscription.expire_at)


async def drop(session: "Session", subscription: Subscription) -> None:
    """End a subscription: no more delivery, out of presence, others are told."""
    if _detach(session, subscription):
        await _let_go(session, subscription)


async def withdraw(session: "Session", subscription: Subscription) -> None:
    """End a subscription that somebody else may be making just now."""
    if subscription.prepared:
        await drop(session, subscription)
    else:
        subscription.revoked = True


async def announce(session: "Session", subscription: Subscription) -> None:
    """Tell the channel of a join."""
    if subscription.options.join_leave and subscription.live:
        await session.node.announce_join(subscription.channel, subscription.info)


async def _look_up(session: "Session", subscription: Subscription) -> Recovery:
    node, since = session.node, subscription.since
    channel = subscription.resolved
    if since is None or not subscription.recoverable:
        _, top = await node.broker.history(channel.name, HistoryFilter(), node.stream(channel))
        return Recovery(False, [], top)
    if subscription.options.force_recovery_mode == "cache":
        which = HistoryFilter(limit=1, reverse=True)
        newest, top = await node.broker.history(channel.name, which, node.stream(channel))
        return recover_cache(since, newest[0] if newest else None, top)
    which = HistoryFilter(limit=node.settings.client.recovery_max_publication_limit, since=since)
    stream, top = await node.broker.history(channel.name, which, node.stream(channel))
    return recover_stream(since, stream, top)


def _detach(session: "Session", subscription: Subscription) -> bool:
    """Whether the subscription was the session's until now."""
    if session.subscriptions.get(subscription.channel) is not subscription:
        return False
    del session.subscriptions[subscription.channel]
    if subscription.expiry is not None:
        subscription.expiry.cancel()
    return True


async def _let_go(session: "Session", subscription: Subscription) -> None:
    was_live, subscription.live = subscription.live, False
    await session.node.release(subscription, subscription.presence_info)
    if was_live and subscription.options.join_leave:
        await session.node.announce_leave(subscription.channel, subscription.info)


# — who may subscribe, and how —


def _requested(session: "Session", channel: Channel, request: SubscribeRequest) -> Subscription:
    """The subscription that a client asks for. Raises ``Error`` or ``Disconnect`` if it may not have it."""
    if request.token:
        token = _subscribe_token(session, channel.name, request.token)
        grant, expire_at = token.grant, token.expire_at
    else:
        insecure = session.node.settings.client.insecure
        if not may_subscribe(channel, session.user, insecure=insecure):
            raise Error(ErrorCode.PERMISSION_DENIED)
        grant, expire_at = Grant(), 0
    options = grant.override.apply(channel.options)
    granted = granted_features(options, session.user, request, insecure=session.node.settings.client.insecure)
    since = Position(request.offset, request.epoch) if request.recover else None
    return _make(session, channel, grant, granted, since, expire_at=expire_at)


def _make(
    session: "Session",
    channel: Channel,
    grant: Grant,
    granted: Features,
    since: Position | None,
    *,
    expire_at: int = 0,
    server_side: bool = False,
) -> Subscription:
    return Subscription(
        session,
        channel,
        grant.override.apply(channel.options),
        joins=granted.join_leave,
        positioned=granted.positioned,
        recoverable=granted.recoverable,
        chan_info=grant.info,
        data=grant.data,
        expire_at=expire_at,
        since=since if granted.positioned else None,
        server_side=server_side,
    )


def _subscribe_token(session: "Session", channel: str, text: str) -> SubscriptionToken:
    try:
        token = session.tokens.subscription(text)
    except TokenInvalid as error:
        raise Error(ErrorCode.PERMISSION_DENIED) from error
    except TokenExpired as error:
        raise Error(ErrorCode.TOKEN_EXPIRED) from error
    _check_meant_for(session, channel, token)
    if token.expire_at and token.expire_at <= session.node.clock():
        raise Error(ErrorCode.EXPIRED)
    return token


def _refresh_token(session: "Session", text: str) -> SubscriptionToken:
    try:
        return session.tokens.subscription(text)
    except TokenInvalid as error:
        raise Disconnect(DisconnectCode.INVALID_TOKEN) from error
    except TokenExpired as error:
        raise Error(ErrorCode.EXPIRED) from error


def _check_meant_for(session: "Session", channel: str, token: SubscriptionToken) -> None:
    if token.channel != channel or token.user != session.user or token.client not in ("", session.client):
        raise Disconnect(DisconnectCode.INVALID_TOKEN)


# — made and ended by the server —


def server_side(
    session: "Session", grants: Mapping[str, Grant], requests: Mapping[str, SubscribeRequest]
) -> list[Subscription]:
    """The subscriptions that come with connect: from the token, personal, and those asked for and allowed."""
    node = session.node
    personal = node.personal_channel(session.user)
    plan = dict(grants)
    if personal:
        plan.setdefault(personal, Grant())
    channels = {name: node.channels.resolve(name) for name in plan}
    for name in requests:
        if name not in channels and (allowed := _allowed(session, name)) is not None:
            channels[name] = allowed
    if len(channels) > node.settings.client.channel_limit:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    return [
        _given(session, channel, plan.get(name, Grant()), _wanted(requests.get(name)))
        for name, channel in channels.items()
    ]


def _allowed(session: "Session", name: str) -> Channel | None:
    """A channel asked for in the connect request, if the client might also subscribe to it by itself."""
    try:
        channel = session.node.channels.resolve(name)
    except Error as error:
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error
        return None
    insecure = session.node.settings.client.insecure
    return channel if may_subscribe(channel, session.user, insecure=insecure) else None


def _wanted(request: SubscribeRequest | None) -> Position | None:
    return Position(request.offset, request.epoch) if request is not None and request.recover else None


def _given(
    session: "Session", channel: Channel, grant: Grant, since: Position | None, expire_at: int = 0
) -> Subscription:
    granted = granted_features(grant.override.apply(channel.options), session.user, SubscribeRequest())
    return _make(session, channel, grant, granted, since, expire_at=expire_at, server_side=True)


async def give(session: "Session", command: SubscribeUser) -> None:
    """The server API subscribes the connection."""
    if command.channel in session.subscriptions:
        return
    grant = Grant(command.info, command.data, convert(command.override, Override))
    try:
        if len(session.subscriptions) >= session.node.settings.client.channel_limit:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
        channel = session.node.channels.resolve(command.channel)
        subscription = _given(session, channel, grant, command.since, command.expire_at)
        found = await prepare(session, subscription)
        result, position = settle(subscription, found)
        session.push(
            subscription.channel,
            Subscribe(result.recoverable, result.epoch, result.offset, result.positioned, result.data),
        )
        for publication in result.publications:
            session.push(subscription.channel, publication)
    except Error as error:
        log.warning("client %s: not subscribed to %s: %s", session.client, command.channel, error)
        return
    except Disconnect as reason:
        session.disconnect(reason)
        return
    start(session, subscription, position)
    await announce(session, subscription)


def take_away(session: "Session", command: UnsubscribeUser) -> None:
    """The server API unsubscribes the connection; the push is sent even if it was not subscribed."""
    subscription = session.subscriptions.get(command.channel)
    if subscription is not None and subscription.prepared:
        _end(session, subscription, command.code, command.reason)
        return
    if subscription is not None:
        subscription.revoked = True
    session.push(command.channel, Unsubscribe(command.code, command.reason))


def insufficient_state(session: "Session", subscription: Subscription) -> None:
    """The client has missed something: it subscribes again and recovers, or connects again."""
    if subscription.server_side:
        session.disconnect(Disconnect(DisconnectCode.INSUFFICIENT_STATE))
    else:
        code = UnsubscribeCode.INSUFFICIENT_STATE
        _end(session, subscription, code, code.reason)


def _end(session: "Session", subscription: Subscription, code: int, reason: str) -> None:
    """No publication follows the push."""
    if _detach(session, subscription):
        session.node.hub.leave(subscription)
        session.push(subscription.channel, Unsubscribe(code, reason))
        session.node.spawn(_let_go(session, subscription))


def _expire(session: "Session", subscription: Subscription, expire_at: int) -> None:
    """Set or replace the moment at which the subscription ends, unless it is refreshed before."""
    if subscription.expiry is not None:
        subscription.expiry.cancel()
        subscription.expiry = None
    subscription.expire_at = expire_at
    if expire_at:
        delay = expire_at - session.node.clock() + session.node.settings.client.expired_sub_close_delay
        subscription.expiry = session.node.wheel.after(delay, lambda: _expired(session, subscription))


def _expired(session: "Session", subscription: Subscription) -> None:
    if subscription.server_side:
        session.disconnect(Disconnect(DisconnectCode.SUBSCRIPTION_EXPIRED))
    else:
        _end(session, subscription, UnsubscribeCode.EXPIRED, UnsubscribeCode.EXPIRED.reason)
