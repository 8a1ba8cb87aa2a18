"""Subscriptions that the server gives and takes: by its API, or by the program.

Source: Centrifuge protocol, "Server-side subscriptions".
"""

import asyncio
import logging

from msgspec import convert

from gateway.auth.tokens import Grant, Override
from gateway.core.cluster import SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Position, Subscribe, Unsubscribe
from gateway.session.application import Admitted
from gateway.session.holding import Owner
from gateway.session.life import GONE, SubscriptionEnded, SubscriptionState
from gateway.session.subscription import Subscription

log = logging.getLogger(__name__)


async def subscribe(owner: Owner, command: SubscribeUser) -> None:
    """Subscribe the connection, if that can be; it takes its place before it first waits."""
    try:
        there = owner.subscriptions.get(command.channel)
        if there is not None and there.live:
            _tell_again(owner, there, command)
        else:
            await _subscribe(owner, command)
    except (SubscriptionEnded, Disconnect):
        pass  # as somebody has said since
    except Error as error:
        if owner.state not in GONE:
            log.warning("%s: not subscribed to %s: %s", str(owner), command.channel, error)


async def give(owner: Owner, command: SubscribeUser) -> None:
    """Subscribe the connection. Raises ``Error`` if that cannot be, ``Disconnect`` when it has been closed for it."""
    task = asyncio.current_task()
    if any(each.channel == command.channel and each.filling is task for each in owner.ending):
        raise SubscriptionEnded  # it would wait for itself
    await _subscribe(owner, command)


def unsubscribe(owner: Owner, command: UnsubscribeUser) -> None:
    """Unsubscribe the connection; the push is sent even if it was not subscribed."""
    push = Unsubscribe(command.code, command.reason)
    subscription = owner.subscriptions.get(command.channel)
    if subscription is not None:
        subscription.end(push)
    elif owner.state not in GONE:
        owner.push(command.channel, push)


def _tell_again(owner: Owner, there: Subscription, command: SubscribeUser) -> None:
    """Tell a client that is subscribed where it stands, with what the server says now. It misses nothing.

    What it is to others in the channel stays as it is, and so do its features.
    """
    if command.expire_at:
        there.expire(command.expire_at)
    position = owner.node.hub.place(there) or Position()
    push = Subscribe(there.recoverable, position.epoch, position.offset, there.positioned, command.data)
    owner.push(there.channel, push)


async def _subscribe(owner: Owner, command: SubscribeUser) -> None:
    there = owner.subscriptions.get(command.channel)
    if there is not None:
        there.instead = command
        if there.state is not SubscriptionState.DECIDING:
            return
        there.end()  # nothing is left to decide
    try:
        if len(owner.subscriptions) >= owner.node.client.channel_limit:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
        channel = owner.node.channels.resolve(command.channel)
        if not channel.options.is_stream:
            raise Error(ErrorCode.BAD_REQUEST)
        grant = Grant(command.info, command.data, convert(command.override, Override))
        subscription = Subscription(owner, channel, command.since, server_side=True)
        await subscription.grant(Admitted(grant, command.expire_at)).open()
        made = subscription.result()
        owner.push(channel.name, Subscribe(made.recoverable, made.epoch, made.offset, made.positioned, made.data))
        for publication in made.publications:
            owner.push(channel.name, publication)
        subscription.start()
    except Disconnect as reason:  # whoever hears of it may do nothing about it
        owner.disconnect(reason)
        raise
