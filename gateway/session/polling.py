"""Channels that are polled: what a client subscribes to there, and which keys it tracks.

Source: Centrifuge protocol, "Shared poll".
"""

from gateway.auth.tracking import signed_until
from gateway.core.polls import Item
from gateway.errors import Error, ErrorCode
from gateway.messages import SubRefreshRequest, SubRefreshResult, SubscribeRequest, SubscribeResult
from gateway.session.session import Session
from gateway.session.subscription import Subscription

SHARED_POLL = 4
"""Type of subscription."""

TRACK, UNTRACK = 1, 2
"""Types of a sub_refresh."""

GRACE = 5
"""Seconds that a signature is still taken after its end."""


def checked(request: SubscribeRequest) -> SubscribeRequest:
    """The request as far as it means something where a backend is polled. Raises ``Error`` for another type."""
    if request.type != SHARED_POLL:
        raise Error(ErrorCode.BAD_REQUEST)
    return SubscribeRequest(request.channel, request.token, data=request.data, delta=request.delta, type=request.type)


def join(session: Session, subscription: Subscription, result: SubscribeResult) -> None:
    """Have a subscription, about to be live, be one that may track keys."""
    poll = session.node.polls.open(subscription.channel, subscription.options.shared_poll)
    poll.join(subscription)
    session.node.hub.divert(subscription.channel, poll.publish)
    subscription.poll = poll
    result.type, result.epoch = SHARED_POLL, poll.epoch


async def refresh(session: Session, command_id: int, request: SubRefreshRequest) -> None:
    """Track keys, or no longer."""
    subscription = session.subscriptions.get(request.channel)
    if subscription is None or not subscription.live or subscription.poll is None:
        raise Error(ErrorCode.PERMISSION_DENIED)
    if request.type == TRACK:
        session.answer(command_id, _track(session, subscription, request))
    elif request.type == UNTRACK and request.untrack:
        subscription.poll.untrack(subscription, request.untrack)
        session.answer(command_id, SubRefreshResult())
    else:
        raise Error(ErrorCode.BAD_REQUEST)


def _track(session: Session, subscription: Subscription, request: SubRefreshRequest) -> SubRefreshResult:
    poll, now = subscription.poll, session.node.clock()
    assert poll is not None
    keys = [[item.key for item in batch.items] for batch in request.track]
    if not any(keys):
        raise Error(ErrorCode.BAD_REQUEST)
    untracked = set(request.untrack)
    most = subscription.options.shared_poll.most_keys
    if poll.would_track(subscription, (key for some in keys for key in some), untracked) > most:
        raise Error(ErrorCode.LIMIT_EXCEEDED)
    settings = session.node.settings.shared_poll
    ends = [
        signed_until(settings, batch.signature, session.user, subscription.channel, some)
        for batch, some in zip(request.track, keys, strict=True)
    ]
    if None in ends:
        raise Error(ErrorCode.PERMISSION_DENIED)
    moments = [end or 0 for end in ends]
    if any(end and end + GRACE < now for end in moments):
        raise Error(ErrorCode.TOKEN_EXPIRED)
    items = {
        item.key: Item(item.key, item.version, end)
        for batch, end in zip(request.track, moments, strict=True)
        for item in batch.items
        if item.key not in untracked
    }
    poll.untrack(subscription, untracked)
    answered = poll.track(subscription, items.values())
    lives = [max(int(end - now), 1) for end in moments if end]
    return SubRefreshResult(bool(lives), min(lives, default=0), answered)
