"""Subscribe, unsubscribe and sub_refresh: what a client asks for itself.

Source: Centrifuge protocol, "Subscribing and unsubscribing", "Subscription expiry and sub_refresh".
"""

from gateway.auth.permissions import may_subscribe
from gateway.auth.tokens import SubscriptionToken
from gateway.channels import Channel
from gateway.config.settings.channels import STREAM_TYPES
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode
from gateway.messages import (
    SubRefreshRequest,
    SubRefreshResult,
    SubscribeRequest,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from gateway.session import mapping, polling
from gateway.session.application import AS_THE_OPTIONS_SAY, Admitted, route_of
from gateway.session.life import SubscriptionEnded
from gateway.session.rejections import check_filter
from gateway.session.session import Session
from gateway.session.subscription import NOTHING, Subscription
from gateway.session.tokens import INVALID, Code, check_moment, fetch_key, lacks_key, verified

COMPACT, REJECT_UNRECOVERED = 1, 2
"""Bits of a request's ``flag``: send a number in place of the channel; answer error 112, not ``recovered: false``."""


async def subscribe(session: Session, command_id: int, request: SubscribeRequest) -> None:
    if not request.channel or (request.delta not in ("", "fossil") and not request.type):
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    if lacks_key(session.tokens, request):
        await fetch_key(session, request)
    channel = session.channel(request.channel)
    apart = request.type or channel.options.subscription_type not in STREAM_TYPES
    if apart and not channel.options.is_polled:
        await _subscribe_to_map(session, command_id, request, channel)
        return
    _check_room(session, channel)
    if apart:
        request = polling.checked(request)
    tags = None if request.tf is None else _filter(session, channel, request)
    try:
        if request.token or route_of(channel) is not None:
            subscription = await _admitted(session, channel, request)
        else:
            subscription = _by_options(session, channel, request)
        if request.delta or request.flag or tags is not None:
            subscription.choose(tags, request.delta)
            subscription.compact = bool(request.flag & COMPACT) and session.wire.compact is not None
        await subscription.open()
    except SubscriptionEnded:
        if channel.name in session.subscriptions:  # the server has been quicker
            raise Error(ErrorCode.ALREADY_SUBSCRIBED) from None
        raise
    result = subscription.result()
    recovers_stream = request.recover and subscription.recoverable and not subscription.recovers_newest
    if request.flag & REJECT_UNRECOVERED and recovers_stream and not result.recovered:
        session.fail(command_id, Error(ErrorCode.UNRECOVERABLE_POSITION))
        subscription.end()
        if subscription.instead is not None:
            session.control(subscription.instead)
        return
    if request.type:
        polling.join(session, subscription, result)
    session.answer(command_id, result)
    subscription.start()


async def _subscribe_to_map(session: Session, command_id: int, request: SubscribeRequest, channel: Channel) -> None:
    if request.type != mapping.TYPES.get(channel.options.subscription_type, 0):
        other = request.type == polling.SHARED_POLL
        raise Error(ErrorCode.NOT_AVAILABLE if other else ErrorCode.PERMISSION_DENIED)
    tags = None if request.tf is None else _filter(session, channel, request)
    await mapping.subscribe(session, command_id, request, channel, tags, lambda: _admitted(session, channel, request))


async def unsubscribe(session: Session, command_id: int, request: UnsubscribeRequest) -> None:
    if not request.channel:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    subscription = session.subscriptions.get(request.channel)
    if subscription is not None:
        subscription.end()
        await subscription.over()
    session.answer(command_id, UnsubscribeResult())


async def sub_refresh(session: Session, command_id: int, request: SubRefreshRequest) -> None:
    """A new token: the subscription ends with it, also one that had no end. Without ``channel``, its claim names it."""
    if request.type:
        await polling.refresh(session, command_id, request)
        return
    if not request.channel and not request.token:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    if lacks_key(session.tokens, request):
        await fetch_key(session, request)
    name = request.channel or _verified(session, request.token).channel
    subscription = session.subscriptions.get(name)
    if subscription is None or not subscription.live:
        raise Error(ErrorCode.PERMISSION_DENIED)
    if not subscription.refreshable or (subscription.server_side and not subscription.expire_at):
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    if not request.token:
        raise Error(ErrorCode.BAD_REQUEST)
    try:
        renewed = await _renewed(session, subscription, request)
    except Error as error:
        if error.code == ErrorCode.TOKEN_EXPIRED:
            # clients take an error for the end, but subscribe again after this, and then hear of the token
            subscription.make_anew(UnsubscribeCode.EXPIRED, DisconnectCode.SUBSCRIPTION_EXPIRED)
            error.temporary = True  # centrifuge-go ends also a subscription that is being made again by any other
        raise
    check_moment(session.node, renewed.expire_at)
    subscription.expire(renewed.expire_at)
    session.answer(command_id, SubRefreshResult(*session.lasts(renewed.expire_at)))
    subscription.show(renewed.grant.info)


async def _renewed(session: Session, subscription: Subscription, request: SubRefreshRequest) -> Admitted:
    """What the new token grants: by the program, if that has let the client in. Raises if it is not good."""
    if subscription.asked and (route := route_of(subscription.resolved)) and route.refresh:
        renewed = await route.refresh(session, subscription.resolved, request)
        if not subscription.live:
            raise SubscriptionEnded
        check_moment(session.node, renewed.expire_at, ErrorCode.TOKEN_EXPIRED)
        return renewed
    token = _verified(session, request.token, subscription.channel)
    return Admitted(token.grant, token.expire_at)


# — who may subscribe, and how —


def _check_room(session: Session, channel: Channel) -> None:
    """Raises ``Error`` for who is subscribed already (105), or to as many channels as there may be (106)."""
    if channel.name in session.subscriptions:
        raise Error(ErrorCode.ALREADY_SUBSCRIBED)
    if len(session.subscriptions) >= session.node.client.channel_limit:
        raise Error(ErrorCode.LIMIT_EXCEEDED)


def _filter(session: Session, channel: Channel, request: SubscribeRequest) -> TagsFilter:
    """The filter that a client asks for.

    Raises ``Error``: 107 where there is none to be had, or it is none; 106 if the channel would have too many here.
    """
    assert request.tf is not None
    if not channel.options.allow_tags_filter:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel takes no tags filter")
    tags = session.node.hub.filters.find(request.tf)
    check_filter(session.node, session, channel.name, tags, channel.options.tags_filter_limit)
    return tags


async def _admitted(session: Session, channel: Channel, request: SubscribeRequest) -> Subscription:
    """The subscription that a client asks for. Raises ``Error`` or ``Disconnect`` if it may not have it."""
    route = route_of(channel)
    # a token that no key here can verify is the program's own, and for the program to judge
    own = route and route.subscribe and not session.tokens.has_subscription_keys
    if not request.token or own:
        return await allowed(session, channel, request)
    token = _verified(session, request.token, channel.name, ErrorCode.PERMISSION_DENIED)
    check_moment(session.node, token.expire_at)
    return Subscription(session, channel, request.since).grant(Admitted(token.grant, token.expire_at), request)


async def allowed(
    session: Session, channel: Channel, request: SubscribeRequest, *, server_side: bool = False
) -> Subscription:
    """The subscription that a client may have without a token. Raises ``Error`` if it may not.

    One that comes with connect is ``server_side``: its request says no more than where the client stood.
    """
    route = route_of(channel)
    if route and route.subscribe and not channel.shuts_out(session.user):
        subscription = Subscription(session, channel, request.since, server_side)
        admitted = await subscription.ask(route.subscribe(session, channel, request))
        return subscription.grant(admitted, NOTHING if server_side else request)
    return _by_options(session, channel, request, server_side=server_side)


def _by_options(
    session: Session, channel: Channel, request: SubscribeRequest, *, server_side: bool = False
) -> Subscription:
    """The same where the options alone decide."""
    if not may_subscribe(channel, session.user, insecure=session.node.client.insecure):
        raise Error(ErrorCode.PERMISSION_DENIED)
    subscription = Subscription(session, channel, request.since, server_side)
    return subscription.grant(AS_THE_OPTIONS_SAY, NOTHING if server_side else request)


def _verified(session: Session, text: str, channel: str = "", invalid: Code = INVALID) -> SubscriptionToken:
    """What a token says, which is to be this client's, and for the channel if one is given."""
    token = verified(session.tokens.subscription, text, invalid)
    if channel and (token.channel != channel or token.user != session.user or token.client not in ("", session.client)):
        raise Disconnect(DisconnectCode.INVALID_TOKEN)
    return token
