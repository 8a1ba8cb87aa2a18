"""How a client stands in a channel: whether it is subscribed, what it may do there, and as whom it is known."""

import logging
from collections.abc import Callable

from gateway.channels import Channel
from gateway.errors import Error, ErrorCode
from gateway.messages import ClientInfo
from gateway.session.session import Session

log = logging.getLogger(__name__)


def is_subscribed(session: Session, channel: Channel) -> bool:
    subscription = session.subscriptions.get(channel.name)
    return subscription is not None and subscription.live


def check_subscribed(session: Session, channel: Channel, what: str, unsubscribed: bool) -> None:
    """Raises ``Error`` (103) for who may not even ask the program: its handler knows of subscribers alone."""
    if not (unsubscribed or is_subscribed(session, channel)):
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s refused, not subscribed to %s", str(session), what, channel.name)
        raise Error(ErrorCode.PERMISSION_DENIED)


def check_may(session: Session, channel: Channel, may: Callable[..., bool]) -> None:
    """Raises ``Error`` if the options do not let the client do it."""
    if session.node.client.insecure:
        return
    if not may(channel.options, session.user, is_subscribed(session, channel)):
        raise Error(ErrorCode.PERMISSION_DENIED)


def info_in(session: Session, channel: Channel) -> ClientInfo:
    """Who publishes: as the channel knows the client if it is subscribed, else as the connection does."""
    subscription = session.subscriptions.get(channel.name)
    return subscription.info if subscription else ClientInfo(session.user, session.client, session.info)
