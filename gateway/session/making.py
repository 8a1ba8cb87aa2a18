"""How a subscription is made, and how it ends.

It is made in four steps: ``prepare`` hears the channel and reads its stream, holding live publications back;
``settle`` joins the two and makes the result; the answer is sent; ``start`` begins live delivery. Nothing waits
between the last three, so nothing can slip in between. A subscription that is not prepared yet belongs to whoever
makes it, and is dropped by nobody else.

Source: Centrifuge protocol, "Race between live and stored", "Position control while subscribed".
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.recovery import Recovery, merge, recover_cache, recover_stream
from gateway.core.tasks import begin
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode
from gateway.messages import Payload, Position, Publication, SubscribeResult, Unsubscribe
from gateway.session.application import NoApplication, route_of
from gateway.session.subscription import Subscription

if TYPE_CHECKING:
    from gateway.session.session import Session


NEWEST = HistoryFilter(limit=1, reverse=True)


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


async def prepare_all(session: "Session", subscriptions: list[Subscription]) -> list[Recovery | None]:
    """Prepare several at once. If one fails the others have been prepared, and end with the session."""
    if not subscriptions:
        return []
    outcomes = await asyncio.gather(*(prepare(session, each) for each in subscriptions), return_exceptions=True)
    found: list[Recovery | None] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        found.append(outcome)
    return found


def settle(subscription: Subscription, found: Recovery | None) -> tuple[SubscribeResult, Position | None]:
    """The result for the client, and the position from which live delivery goes on."""
    expires = bool(subscription.expire_at) and subscription.refreshable
    result = SubscribeResult(
        expires=expires,
        ttl=subscription.connection.ttl(subscription.expire_at) if expires else 0,
        data=subscription.data,
    )
    if found is None:
        return result, None
    since = subscription.since
    recovered = merge(
        found,
        subscription.held or [],
        recovering=since is not None or found.replayed,
        newest_only=subscription.recoverable and subscription.options.force_recovery_mode == "cache",
    )
    subscription.held = None
    result.positioned = True
    result.recoverable = subscription.recoverable
    result.epoch = recovered.position.epoch
    result.offset = recovered.position.offset
    if since is not None:
        result.was_recovering = True
        result.recovered = recovered.recovered and not found.replayed
        subscription.connection.node.metrics.recoveries[result.recovered] += 1
        if result.recovered:
            result.publications = recovered.publications
            result.offset = since.offset  # each recovered publication moves the client on from there
    if found.replayed and recovered.publications:
        result.publications = recovered.publications
        result.offset = recovered.publications[0].offset - 1
        # the JavaScript SDK looks at those of a server-side subscription only then
        result.recovered = subscription.server_side
    return result, recovered.position


def start(session: "Session", subscription: Subscription, position: Position | None) -> None:
    session.node.hub.enter(subscription, position)
    subscription.live = True
    expire(session, subscription, subscription.expire_at)


async def drop(session: "Session", subscription: Subscription) -> asyncio.Future[None] | None:
    """End a subscription: no more delivery, out of presence, others are told.

    Where the program is told, too, answers when that has been done.
    """
    if not _detach(session, subscription):
        return None
    farewell = _farewell(session, subscription)
    await _let_go(session, subscription)
    return None if farewell is None else session.follow(subscription.channel, farewell())


async def withdraw(session: "Session", subscription: Subscription) -> asyncio.Future[None] | None:
    """End a subscription that somebody else may be making just now. Answers as ``drop`` does."""
    if subscription.prepared:
        return await drop(session, subscription)
    subscription.revoked = True
    return None


async def announce(session: "Session", subscription: Subscription) -> None:
    """Tell the channel of a join."""
    if subscription.options.join_leave and subscription.live:
        await session.node.announce_join(subscription.channel, subscription.info)


async def _look_up(session: "Session", subscription: Subscription) -> Recovery:
    node, since = session.node, subscription.since
    channel = subscription.resolved
    cache = subscription.options.force_recovery_mode == "cache"
    if cache and (route := route_of(channel)) and route.cache_empty:
        await _fill(session, channel, route.cache_empty)
    if since is None and subscription.options.replay:
        return await _replay(session, channel, newest_only=cache)
    if since is None or not subscription.recoverable:
        _, top = await node.broker.history(channel.name, HistoryFilter(), node.stream(channel))
        return Recovery(False, [], top)
    if cache:
        newest, top = await node.broker.history(channel.name, NEWEST, node.stream(channel))
        return recover_cache(since, newest[0] if newest else None, top)
    which = HistoryFilter(limit=node.settings.client.recovery_max_publication_limit, since=since)
    stream, top = await node.broker.history(channel.name, which, node.stream(channel))
    found = recover_stream(since, stream, top)
    if not found.recovered and subscription.options.replay:
        return await _replay(session, channel, newest_only=False)  # it begins anew, as a newcomer does
    return found


async def _replay(session: "Session", channel: Channel, *, newest_only: bool) -> Recovery:
    """All that a channel keeps, for a subscriber that has seen nothing of it."""
    which = NEWEST if newest_only else HistoryFilter(limit=-1)
    publications, top = await session.node.broker.history(channel.name, which, session.node.stream(channel))
    return Recovery(True, publications, top, replayed=True)


async def _fill(
    session: "Session", channel: Channel, begin: Callable[["Session", Channel], Awaitable[Payload | None]]
) -> None:
    """Publish what an empty channel begins with."""
    node = session.node
    newest, _ = await node.broker.history(channel.name, NEWEST, node.stream(channel))
    if newest or (data := await begin(session, channel)) is None:
        return
    # what has been published meanwhile is newer, and others may have asked at the same time
    newest, _ = await node.broker.history(channel.name, NEWEST, node.stream(channel))
    if not newest:
        await node.publish(channel, Publication(data))


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


def _farewell(session: "Session", subscription: Subscription) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """What the program does when a subscription ends, if it has been one. To be asked before it is let go."""
    if not subscription.live or isinstance(session.application, NoApplication):  # whose code decides by itself
        return None
    route = route_of(subscription.resolved)
    return partial(route.unsubscribe, session, subscription.resolved) if route and route.unsubscribe else None


def end(session: "Session", subscription: Subscription, code: int, reason: str) -> None:
    """Take a subscription away from its client. No publication follows the push."""
    if _detach(session, subscription):
        session.node.hub.leave(subscription)
        session.push(subscription.channel, Unsubscribe(code, reason))
        farewell = _farewell(session, subscription)
        # begins now: it may be made anew in the same breath
        leaving = begin(_let_go(session, subscription))
        if farewell is not None:
            session.follow(subscription.channel, _end(leaving, farewell))
        elif leaving is not None:
            session.node.spawn(_end(leaving))


async def _end(leaving: Awaitable[None] | None, farewell: Callable[[], Awaitable[None]] | None = None) -> None:
    if leaving is not None:
        await leaving
    if farewell is not None:
        await farewell()


def lose_position(session: "Session", subscription: Subscription) -> None:
    """The client has missed something: it subscribes again and recovers."""
    _make_anew(session, subscription, UnsubscribeCode.INSUFFICIENT_STATE, DisconnectCode.INSUFFICIENT_STATE)


def expire(session: "Session", subscription: Subscription, expire_at: int) -> None:
    """Set or replace the moment at which the subscription ends, unless it is refreshed before."""
    if subscription.expiry is not None:
        subscription.expiry.cancel()
        subscription.expiry = None
    subscription.expire_at = expire_at
    if expire_at:
        codes = UnsubscribeCode.EXPIRED, DisconnectCode.SUBSCRIPTION_EXPIRED
        grace = session.node.settings.client.expired_sub_close_delay if subscription.refreshable else 0.0
        subscription.expiry = session.node.wheel.after(
            expire_at - session.node.clock() + grace,
            lambda: _make_anew(session, subscription, *codes),
        )


def _make_anew(
    session: "Session", subscription: Subscription, code: UnsubscribeCode, reconnect: DisconnectCode
) -> None:
    """Have the client subscribe again; what the server subscribed takes a new connection."""
    if subscription.server_side:
        session.disconnect(Disconnect(reconnect))
    else:
        end(session, subscription, code, code.reason)
