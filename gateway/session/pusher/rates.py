"""Rates of what clients of the Pusher protocol say: those of the commands that do the same."""

from typing import Any

from gateway.limits.limiter import BYTES
from gateway.messages import PublishRequest, RefreshRequest, SubscribeRequest, UnsubscribeRequest
from gateway.session.pusher.session import AppSession

SUBSCRIBE, UNSUBSCRIBE, PUBLISH = SubscribeRequest, UnsubscribeRequest, PublishRequest
SIGN_IN = RefreshRequest
"""Who a client is it says by a token elsewhere."""


def is_within(session: AppSession, kind: type[Any] | None, size: int) -> bool:
    """Whether a message of so many bytes is within this node's rates; what says nothing costs its bytes alone."""
    limiter = session.node.limiter
    limits = limiter.of_commands(session.spender.network)
    if limits is None:
        return True
    if not limiter.allows(limits, session.spender, session.user, BYTES, size):
        return kind is None or kind is UNSUBSCRIBE
    return kind is None or limiter.allows(limits, session.spender, session.user, kind)


async def is_within_all(session: AppSession, kind: type[Any]) -> bool:
    """The same for the rates that hold for all nodes together."""
    limiter = session.node.limiter
    limits = limiter.of_commands(session.spender.network)
    return limits is None or not limits.shared or await limiter.shared(limits, session.user, kind)
