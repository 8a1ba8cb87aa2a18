"""The subscriptions that come with connect: from the token, personal, and those asked for and allowed.

Source: Centrifuge protocol, "Server-side subscriptions" and "``subs`` in a connect request".
"""

from collections.abc import Mapping

from gateway.auth.permissions import may_subscribe
from gateway.channels import Channel
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import SubscribeRequest
from gateway.session.application import AS_THE_OPTIONS_SAY, Admitted, route_of
from gateway.session.base import State
from gateway.session.server_side import NOTHING, given, grant
from gateway.session.session import Session
from gateway.session.subscription import Subscription, SubscriptionEnded


async def planned(
    session: Session, granted: Mapping[str, Admitted], requests: Mapping[str, SubscribeRequest]
) -> list[Subscription]:
    """All of them, to be opened. Raises ``Error`` or ``Disconnect`` if the client may not connect so."""
    node = session.node
    most = node.settings.client.channel_limit
    personal = node.channels.personal(session.user)
    if not (granted or requests or personal):
        return []
    plan = dict(granted)
    if personal:
        plan.setdefault(personal, AS_THE_OPTIONS_SAY)
    if len(plan) > most:
        raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    for name, admitted in plan.items():
        given(session, node.channels.resolve(name), admitted, requests.get(name, NOTHING).since)
    refused = 0
    for name, request in requests.items():
        if name in plan or not (channel := _known(session, name)):
            continue
        if not await _admit(session, channel, request) and channel.route is not None:
            refused += 1  # the program has been asked, and is not to be asked without end
        if session.state is not State.CONNECTING:
            raise SubscriptionEnded
        if len(session.subscriptions) + refused > most:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT)
    return list(session.subscriptions.values())


def _known(session: Session, name: str) -> Channel | None:
    try:
        return session.node.channels.resolve_for_client(name)
    except Error as error:
        if error.code == ErrorCode.UNKNOWN_CHANNEL:
            raise Disconnect(DisconnectCode.BAD_REQUEST) from error
        return None


async def _admit(session: Session, channel: Channel, request: SubscribeRequest) -> bool:
    """Begin what a channel of the connect request grants, if the client might also subscribe to it by itself."""
    if not channel.shuts_out(session.user) and (route := route_of(channel)) and route.subscribe:
        subscription = Subscription(session, channel, request.since, server_side=True)
        try:
            admitted = await subscription.ask(route.subscribe(session, channel, request))
        except Error:
            return False
        grant(subscription, admitted)
        return True
    if may_subscribe(channel, session.user, insecure=session.node.settings.client.insecure):
        given(session, channel, AS_THE_OPTIONS_SAY, request.since)
        return True
    return False
