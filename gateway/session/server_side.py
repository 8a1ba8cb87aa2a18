"""Subscriptions that the server makes: with connect, or by the server API.

Source: Centrifuge protocol, "Server-side subscriptions" and "``subs`` in a connect request".
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import convert

from gateway.auth.permissions import granted_features, may_subscribe
from gateway.auth.tokens import Grant, Override
from gateway.channels import Channel
from gateway.core.cluster import SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Position, Subscribe, SubscribeRequest, Unsubscribe
from gateway.session import making
from gateway.session.application import Admitted, route_of
from gateway.session.subscription import Subscription

if TYPE_CHECKING:
    from gateway.session.session import Session

log = logging.getLogger(__name__)

NOTHING = SubscribeRequest()
"""Asks for no feature and for no recovery."""


async def planned(
    session: "Session", granted: Mapping[str, Admitted], requests: Mapping[str, SubscribeRequest]
) -> list[Subscription]:
    """The subscriptions that come with connect: from the token, personal, and those asked for and allowed."""
    node = session.node
    personal = node.personal_channel(session.user)
    if not (granted or requests or personal):
        return []
    plan = dict(granted)
    if personal:
        plan.setdefault(personal, Admitted())
    channels = {name: node.channels.resolve(name) for name in plan}
    refused = 0
    for name, request in requests.items():
        if name in channels or not (channel := _known(session, name)):
            continue
        admitted = await _admitted(session, channel, request)
        if admitted is not None:
            channels[name], plan[name] = channel, admitted
        elif channel.route is not None:
            refused += 1  # the program has been asked, and is not to be asked without end
        if len(channels) + refused > node.settings.client.channel_limit:
            break
    if len(channels) + refused > node.settings.client.channel_limit:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    return [
        _given(session, channel, plan[name], requests.get(name, NOTHING).since) for name, channel in channels.items()
    ]


def _known(session: "Session", name: str) -> Channel | None:
    try:
        return session.node.channels.resolve(name)
    except Error as error:
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error
        return None


async def _admitted(session: "Session", channel: Channel, request: SubscribeRequest) -> Admitted | None:
    """What a channel of the connect request grants, if the client might also subscribe to it by itself."""
    limited = channel.users is not None and session.user not in channel.users
    if not limited and (route := route_of(channel)) and route.subscribe:
        try:
            return await route.subscribe(session, channel, request)
        except Error:
            return None
    return Admitted() if may_subscribe(channel, session.user, insecure=session.node.settings.client.insecure) else None


def _given(session: "Session", channel: Channel, admitted: Admitted, since: Position | None) -> Subscription:
    features = granted_features(admitted.grant.override.apply(channel.options), session.user, NOTHING)
    return Subscription(session, channel, admitted, features, since, server_side=True)


async def obey(session: "Session", command: SubscribeUser) -> None:
    """The server API subscribes the connection, if that can be."""
    try:
        await give(session, command)
    except Error as error:
        log.warning("client %s: not subscribed to %s: %s", session.client, command.channel, error)
    except Disconnect as reason:
        session.disconnect(reason)


async def give(session: "Session", command: SubscribeUser) -> None:
    """Subscribe the connection. Raises ``Error`` or ``Disconnect`` if that cannot be."""
    if command.channel in session.subscriptions:
        return
    if len(session.subscriptions) >= session.node.settings.client.channel_limit:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    channel = session.node.channels.resolve(command.channel)
    grant = Grant(command.info, command.data, convert(command.override, Override))
    subscription = _given(session, channel, Admitted(grant, command.expire_at), command.since)
    found = await making.prepare(session, subscription)
    result, position = making.settle(subscription, found)
    session.push(
        subscription.channel,
        Subscribe(result.recoverable, result.epoch, result.offset, result.positioned, result.data),
    )
    for publication in result.publications:
        session.push(subscription.channel, publication)
    making.start(session, subscription, position)
    await making.announce(session, subscription)


def take_away(session: "Session", command: UnsubscribeUser) -> None:
    """The server API unsubscribes the connection; the push is sent even if it was not subscribed."""
    subscription = session.subscriptions.get(command.channel)
    if subscription is not None and subscription.prepared:
        making.end(session, subscription, command.code, command.reason)
        return
    if subscription is not None:
        subscription.revoked = True
    elif session.lanes is not None:
        session.lanes.revoke(command.channel)
    session.push(command.channel, Unsubscribe(command.code, command.reason))
