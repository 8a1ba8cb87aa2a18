"""Client events: what subscribers of a channel tell each other, without the backend.

Source: Pusher Channels protocol, "Triggering client events".
"""

import logging
from collections.abc import Awaitable
from typing import TypeGuard

from msgspec.structs import replace

from gateway.auth.permissions import check_payload
from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.core.tasks import begin
from gateway.errors import Disconnect, Error, ErrorCode
from gateway.kinds import kind_of
from gateway.messages import Exclusion, Payload, Publication, PublishRequest
from gateway.protocols.pusher import EVENT, Said
from gateway.session.application import route_of
from gateway.session.pipeline import Pipeline
from gateway.session.pusher import replies
from gateway.session.pusher.bucket import Bucket
from gateway.session.pusher.rates import PUBLISH, is_within_all
from gateway.session.pusher.replies import EVENT_REFUSED
from gateway.session.pusher.session import AppSession
from gateway.session.pusher.subscription import AppSubscription, subscription_of

PREFIX = "client-"

LIVE_ONLY = PublishOptions(skip_history=True)
"""They are never kept."""

OVER_RATE = "client event rate exceeded"


def relay(session: AppSession, said: Said) -> Awaitable[None] | None:
    """Publish an event to the others of its channel."""
    if not session.app.settings.enable_client_messages:
        refuse(session, "client events are not enabled for the app", ErrorCode.PERMISSION_DENIED)
        return None
    name = session.app.names.inside(said.channel)
    request = PublishRequest(name)
    subscription = subscription_of(session, name)
    busy = session.lanes is not None and session.lanes.busy(request)  # with a subscribe that comes before it
    if busy or (subscription is not None and _decides(subscription.resolved)):
        return begin(session.in_turn().add(request, _in_turn(session, said, name)))
    if not _may(subscription, session, said):
        return None
    if session.pipeline is None:
        session.pipeline = Pipeline()
    return begin(session.pipeline.add(_publish(session, said, subscription)))


def refuse(session: AppSession, text: str, error: ErrorCode) -> None:
    _tell_of(session, text)
    session.complain(text, EVENT_REFUSED, error)


def _slow_down(session: AppSession) -> None:
    """Refuse one that is over the app's rate: pages whisper with each move of a mouse, and stay however often."""
    _tell_of(session, OVER_RATE)
    session.node.metrics.errors[ErrorCode.TOO_MANY_REQUESTS] += 1
    session.say(replies.failed(EVENT_REFUSED, OVER_RATE))


def _tell_of(session: AppSession, text: str) -> None:
    what = "%s: client event refused: %s"
    session.node.refusals.happened("pusher_event", what, str(session), text, reason=text, level=logging.INFO)


def turn_away(session: AppSession, _said: Said) -> None:
    """Answer one that is over a rate."""
    refuse(session, OVER_RATE, ErrorCode.TOO_MANY_REQUESTS)


async def _in_turn(session: AppSession, said: Said, name: str) -> None:
    subscription = subscription_of(session, name)
    if not session.closed and _may(subscription, session, said):
        await _publish(session, said, subscription)


def _decides(channel: Channel) -> bool:
    """Whether code of the program runs, which wants a task of its own."""
    route = route_of(channel)
    return route is not None and bool(route.publish)


def _may(subscription: AppSubscription | None, session: AppSession, said: Said) -> TypeGuard[AppSubscription]:
    """Whether the client may publish an event now; if not, it is told."""
    if wrong := _problem(session, said, subscription):
        refuse(session, wrong, ErrorCode.PERMISSION_DENIED)
        return False
    if rate := session.app.settings.max_client_events_per_second:
        now = session.node.wheel.clock()
        if session.bucket is None:
            session.bucket = Bucket(rate, now)
        if not session.bucket.take(rate, now):
            _slow_down(session)
            return False
    return True


def _problem(session: AppSession, said: Said, subscription: AppSubscription | None) -> str:
    """Why an event may not be published, empty if it may."""
    settings = session.app.settings
    if not kind_of(said.channel).client_events:
        return "client events are for private and presence channels"
    if subscription is None or not subscription.live:
        return "the client is not subscribed to the channel"
    if len(said.event) > settings.max_event_name_length:
        return f"an event's name must not be longer than {settings.max_event_name_length} characters"
    if len(bytes(said.data)) > settings.max_event_size:
        return f"data must not be larger than {settings.max_event_size} bytes"
    return ""


async def _publish(session: AppSession, said: Said, subscription: AppSubscription) -> None:
    channel = subscription.resolved
    try:
        check_payload(channel.options, Payload(said.data), known_json=True)
        published = await _decided(session, channel, _publication(session, said, subscription))
        if published is None or session.closed:
            return
        await session.node.publish(channel, published, LIVE_ONLY)
    except Disconnect as reason:
        session.reject(reason)
    except Exception as error:
        session.fail(0, error)
    else:
        user = subscription.info.user if subscription.kind.presence else ""
        data = published.data.decode(errors="replace")
        event = (published.tags or {}).get(EVENT, said.event)
        session.shared.hooks.client_event(session.app, said.channel, event, data, session.client, user)


def _publication(session: AppSession, said: Said, subscription: AppSubscription) -> Publication:
    return Publication(
        Payload(said.data),
        subscription.info,
        tags={EVENT: said.event},
        exclude=Exclusion(clients=(session.client,)),
    )


async def _decided(session: AppSession, channel: Channel, publication: Publication) -> Publication | None:
    """What is published in the end, by the program's word where it has one; None is nothing."""
    if not await is_within_all(session, PUBLISH):
        raise Error(ErrorCode.TOO_MANY_REQUESTS)
    route = route_of(channel)
    if route is None or not route.publish:
        return publication
    accepted = (await route.publish(session, channel, publication)).publication
    if accepted is None or accepted is publication:
        return accepted
    tags = {**(publication.tags or {}), **(accepted.tags or {})}
    return replace(accepted, tags=tags, info=publication.info, exclude=publication.exclude)
