"""Dependencies of a router, where the options of a channel decide and no handler does."""

from collections.abc import Awaitable, Callable

from gateway.auth.permissions import may_publish, may_read_history, may_read_presence, may_subscribe
from gateway.channels import Channel
from gateway.errors import Error, ErrorCode
from gateway.messages import Publication, SubscribeRequest
from gateway.program.routes.route import Route
from gateway.session import Session
from gateway.session.application import AS_THE_OPTIONS_SAY, Accepted, Admitted

Ask = Callable[[Session, Channel], Awaitable[None]]
"""Raises ``Error`` for who may not."""


def guard(route: Route, ask: Ask) -> None:
    """Ask before whatever the options alone would let clients do."""

    async def subscribe(session: Session, channel: Channel, _request: SubscribeRequest) -> Admitted:
        _require(may_subscribe(channel, session.user, insecure=_insecure(session)))
        await ask(session, channel)
        return AS_THE_OPTIONS_SAY

    async def publish(session: Session, channel: Channel, publication: Publication) -> Accepted:
        subscribed = _subscribed(session, channel)
        _require(may_publish(channel.options, session.user, subscribed, insecure=_insecure(session)))
        await ask(session, channel)
        return Accepted(publication)

    async def presence(session: Session, channel: Channel) -> None:
        subscribed = _subscribed(session, channel)
        _require(may_read_presence(channel.options, session.user, subscribed, insecure=_insecure(session)))
        await ask(session, channel)

    async def history(session: Session, channel: Channel) -> None:
        subscribed = _subscribed(session, channel)
        _require(may_read_history(channel.options, session.user, subscribed, insecure=_insecure(session)))
        await ask(session, channel)

    route.subscribe = route.subscribe or subscribe
    if route.publish is None:
        route.publish, route.publish_unsubscribed = publish, True
    if route.presence is None and route.history is None:
        route.read_unsubscribed = True
    route.presence = route.presence or presence
    route.history = route.history or history


def _require(allowed: bool) -> None:
    if not allowed:
        raise Error(ErrorCode.PERMISSION_DENIED)


def _insecure(session: Session) -> bool:
    return session.node.settings.client.insecure


def _subscribed(session: Session, channel: Channel) -> bool:
    subscription = session.subscriptions.get(channel.name)
    return subscription is not None and subscription.live
