"""Dependencies of a router, where the options of a channel decide and no handler does."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.auth.permissions import (
    may_publish,
    may_read_history,
    may_read_presence,
    may_remove,
    may_set,
    may_subscribe,
)
from gateway.channels import Channel
from gateway.errors import Error, ErrorCode
from gateway.messages import Publication, SubscribeRequest
from gateway.program.routes.route import Route
from gateway.session import Session
from gateway.session.application import AS_THE_OPTIONS_SAY, Accepted, AcceptedChange, Admitted
from gateway.session.standing import check_may, check_subscribed

Ask = Callable[[Session, Channel], Awaitable[None]]
"""Raises ``Error`` for who may not."""
Decide = Callable[..., Any]


def guard(route: Route, ask: Ask) -> None:
    """Ask before whatever the options alone would let clients do."""

    async def subscribe(session: Session, channel: Channel, _request: SubscribeRequest) -> Admitted:
        if not may_subscribe(channel, session.user, insecure=session.node.settings.client.insecure):
            raise Error(ErrorCode.PERMISSION_DENIED)
        await ask(session, channel)
        return AS_THE_OPTIONS_SAY

    async def publish(session: Session, channel: Channel, publication: Publication) -> Accepted:
        check_may(session, channel, may_publish)
        await ask(session, channel)
        return Accepted(publication)

    def writing(may: Callable[..., bool]) -> Callable[[Session, Channel, Publication], Awaitable[AcceptedChange]]:
        async def change(session: Session, channel: Channel, publication: Publication) -> AcceptedChange:
            check_may(session, channel, may)
            await ask(session, channel)
            return AcceptedChange(publication)

        return change

    async def presence(session: Session, channel: Channel) -> None:
        check_may(session, channel, may_read_presence)
        await ask(session, channel)

    async def history(session: Session, channel: Channel) -> None:
        check_may(session, channel, may_read_history)
        await ask(session, channel)

    writes, reads = route.publish_unsubscribed, route.read_unsubscribed
    route.publish_unsubscribed = route.read_unsubscribed = True  # the options say it, or else the handler's own
    route.subscribe = route.subscribe or subscribe
    route.publish = _own(route.publish, writes) or publish
    route.map_publish = _own(route.map_publish, writes) or writing(may_set)
    route.map_remove = _own(route.map_remove, writes) or writing(may_remove)
    route.presence = _own(route.presence, reads) or presence
    route.history = _own(route.history, reads) or history


def _own(decide: Decide | None, unsubscribed: bool) -> Decide | None:
    """What a handler decides, for subscribers alone unless it is for anyone."""
    if decide is None or unsubscribed:
        return decide

    def of_subscribers(session: Session, channel: Channel, *more: Publication) -> Any:
        check_subscribed(session, channel, "what a handler decides", False)
        return decide(session, channel, *more)

    return of_subscribers
