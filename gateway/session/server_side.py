"""Subscriptions that the server gives and takes: by its API, or by the program.

Source: Centrifuge protocol, "Server-side subscriptions".
"""

import logging

from msgspec import convert

from gateway.auth.permissions import granted_features
from gateway.auth.tokens import Grant, Override
from gateway.channels import Channel
from gateway.core.cluster import SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.messages import Position, Subscribe, SubscribeRequest, Unsubscribe
from gateway.session.application import Admitted
from gateway.session.subscription import Owner, Subscription, SubscriptionEnded, SubscriptionState

log = logging.getLogger(__name__)

NOTHING = SubscribeRequest()
"""Asks for no feature and for no recovery."""


def given(owner: Owner, channel: Channel, admitted: Admitted, since: Position | None) -> Subscription:
    """A subscription that the server grants, ready to be opened."""
    subscription = Subscription(owner, channel, since, server_side=True)
    grant(subscription, admitted)
    return subscription


def grant(subscription: Subscription, admitted: Admitted) -> None:
    """Grant one what the options force; nobody has asked for more."""
    options = admitted.grant.override.apply(subscription.resolved.options)
    subscription.admit(admitted, granted_features(options, subscription.connection.user, NOTHING))


def subscribe(owner: Owner, command: SubscribeUser) -> None:
    """Subscribe the connection, if that can be; it takes its place before the next command."""
    try:
        subscription = _ordered(owner, command)
    except Error as error:
        _not_subscribed(owner, command, error)
    except Disconnect as reason:
        owner.disconnect(reason)
    else:
        if subscription is not None:
            owner.node.spawn(_try_to_make(owner, subscription, command))


async def give(owner: Owner, command: SubscribeUser) -> None:
    """Subscribe the connection. Raises ``Error`` if that cannot be, ``Disconnect`` when it has been closed for it."""
    try:
        subscription = _ordered(owner, command)
        if subscription is not None:
            await _make(owner, subscription)
    except Disconnect as reason:  # whoever hears of it may do nothing about it
        owner.disconnect(reason)
        raise


def unsubscribe(owner: Owner, command: UnsubscribeUser) -> None:
    """Unsubscribe the connection; the push is sent even if it was not subscribed."""
    push = Unsubscribe(command.code, command.reason)
    subscription = owner.subscriptions.get(command.channel)
    if subscription is not None:
        subscription.end(push)
    elif not owner.closed:
        owner.push(command.channel, push)


def _ordered(owner: Owner, command: SubscribeUser) -> Subscription | None:
    """The subscription that is ordered, None if there is one already."""
    there = owner.subscriptions.get(command.channel)
    if there is not None:
        if there.state is not SubscriptionState.DECIDING:
            return None
        there.end()  # nothing is left to decide
    if len(owner.subscriptions) >= owner.node.settings.client.channel_limit:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    channel = owner.node.channels.resolve(command.channel)
    grant = Grant(command.info, command.data, convert(command.override, Override))
    return given(owner, channel, Admitted(grant, command.expire_at), command.since)


async def _make(owner: Owner, subscription: Subscription) -> None:
    await subscription.open()
    result = subscription.result()
    owner.push(
        subscription.channel,
        Subscribe(result.recoverable, result.epoch, result.offset, result.positioned, result.data),
    )
    for publication in result.publications:
        owner.push(subscription.channel, publication)
    subscription.start()


async def _try_to_make(owner: Owner, subscription: Subscription, command: SubscribeUser) -> None:
    try:
        await _make(owner, subscription)
    except SubscriptionEnded:
        pass  # as somebody has said since
    except Error as error:
        _not_subscribed(owner, command, error)
    except Disconnect as reason:
        owner.disconnect(reason)


def _not_subscribed(owner: Owner, command: SubscribeUser, error: Error) -> None:
    if not owner.closed:
        log.warning("client %s: not subscribed to %s: %s", owner.client, command.channel, error)
