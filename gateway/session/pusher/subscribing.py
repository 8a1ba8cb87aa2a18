"""Subscribe and unsubscribe. Of one channel they are carried out in their order, of several side by side.

Every subscribe is answered once, and an unsubscribe never. While the broker is away the answer waits: pusher-js would
not subscribe again to a channel that was refused, as long as it is connected.

Source: Pusher Channels protocol, "Subscription events", "Cache channels".
"""

import logging
import random
from collections.abc import Awaitable
from functools import partial

from gateway.apps.signatures import verify_channel
from gateway.channels import Channel
from gateway.core.tasks import begin
from gateway.errors import BrokerUnavailable, Disconnect, Error, ErrorCode
from gateway.kinds import INBOX, Kind, is_name, kind_of
from gateway.messages import Position, SubscribeRequest, SubscribeResult, UnsubscribeRequest
from gateway.protocols.pusher import Said, read_data
from gateway.session.application import AS_THE_OPTIONS_SAY, Admitted, route_of
from gateway.session.pusher import replies
from gateway.session.pusher.members import Member, member_of, member_of_user
from gateway.session.pusher.rates import SUBSCRIBE, is_within_all
from gateway.session.pusher.replies import AUTH, LIMIT, SubscribeRefused
from gateway.session.pusher.said import Subscribing, Unsubscribing
from gateway.session.pusher.session import AppSession
from gateway.session.pusher.subscription import AGAIN, AppSubscription, subscription_of

log = logging.getLogger(__name__)

NOT_SIGNED = "the channel is for who is signed in as its user"


def subscribe(session: AppSession, said: Said) -> Awaitable[None] | None:
    asked = read_data(said.data, Subscribing)
    name = session.app.names.inside(asked.channel)
    work = _answered(session, asked)
    busy = session.lanes is not None and session.lanes.busy(SubscribeRequest(name))
    if not busy and not _is_decided(session, name):
        rest = begin(work)
        if rest is None:
            return None
        work = _go_on(rest)
    return begin(session.in_turn().add(SubscribeRequest(name), work))


def turn_away(session: AppSession, said: Said) -> None:
    """Answer one that is over a rate."""
    asked = read_data(said.data, Subscribing)
    refuse(session, asked.channel, Error(ErrorCode.TOO_MANY_REQUESTS))


def unsubscribe(session: AppSession, said: Said) -> Awaitable[None] | None:
    name = session.app.names.inside(read_data(said.data, Unsubscribing).channel)
    request = UnsubscribeRequest(name)
    if session.lanes is not None and session.lanes.busy(request):
        return begin(session.lanes.add(request, _unsubscribe(session, name)))
    _end(session, name)
    return None


def refuse(session: AppSession, channel: str, error: Exception) -> None:
    """Answer a subscribe that cannot be. What is none of the catalogue's is a defect, and the client learns little."""
    if session.closed:
        return
    if not isinstance(error, Error):
        log.error("%s: a subscribe failed", str(session), exc_info=error)
        error = Error(ErrorCode.INTERNAL)
    what = "%s: not subscribed to %.100r: %s"
    session.node.refusals.happened(
        "pusher_subscribe", what, str(session), channel, error.message, reason=error.message, level=logging.INFO
    )
    session.say(replies.refused(channel, error))
    session.bear(error.code)


async def _unsubscribe(session: AppSession, name: str) -> None:
    _end(session, name)


def _end(session: AppSession, name: str) -> None:
    _take_back(session, name)
    if (subscription := subscription_of(session, name)) is not None:
        subscription.end()


async def _go_on(rest: Awaitable[None]) -> None:
    await rest


def _is_decided(session: AppSession, name: str) -> bool:
    """Whether code of the program may run, which wants a task of its own."""
    try:
        route = route_of(session.node.channels.resolve(name))
    except Error:
        return False
    return route is not None and bool(route.subscribe or route.cache_empty)


async def _answered(session: AppSession, asked: Subscribing, *, again: bool = False) -> None:
    """Subscribe, or answer why not."""
    try:
        await _subscribe(session, asked, again)
    except Disconnect as reason:
        session.reject(reason)
    except BrokerUnavailable:
        _postpone(session, asked)
    except Exception as error:
        refuse(session, asked.channel, error)


def _postpone(session: AppSession, asked: Subscribing) -> None:
    """Do it later, unless the client takes it back."""
    if session.closed:
        return
    name = session.app.names.inside(asked.channel)
    wait = AGAIN * random.uniform(1, 3)  # noqa: S311  spreads, hides nothing
    session.postponed = session.postponed or {}
    session.postponed[name] = session.node.wheel.after(wait, partial(_try_again, session, name, asked))


def _try_again(session: AppSession, name: str, asked: Subscribing) -> None:
    _take_back(session, name)
    if not session.closed:
        work = _answered(session, asked, again=True)
        session.node.spawn(session.in_turn().add(SubscribeRequest(name), work))


def _take_back(session: AppSession, name: str) -> None:
    if session.postponed and (timer := session.postponed.pop(name, None)):
        timer.cancel()


async def _subscribe(session: AppSession, asked: Subscribing, again: bool) -> None:
    if session.closed:
        return
    channel, kind = _channel(session, asked)
    _take_back(session, channel.name)
    there = subscription_of(session, channel.name)
    if there is not None and there.live:
        session.say(_ack(session, there, asked))  # again, and nothing else
        return
    most = session.node.client.channel_limit
    if len(session.subscriptions) + len(session.postponed or ()) >= most:
        raise SubscribeRefused(LIMIT, f"at most {most} channels may be subscribed to", replies.OVER_CAPACITY)
    member = _member(session, asked) if kind.presence else None
    if not again and not await is_within_all(session, SUBSCRIBE):
        raise Error(ErrorCode.TOO_MANY_REQUESTS)
    since = asked.resume if session.resumes else None
    subscription = AppSubscription(session, channel, asked.channel, kind, member, since)
    subscription.begin(await _admitted(session, subscription, asked))
    await subscription.open()
    _start(session, subscription, asked)


def _start(session: AppSession, subscription: AppSubscription, asked: Subscribing) -> None:
    """Answer, then what the client has missed, then what comes: nothing waits between."""
    try:
        result = subscription.result()
        subscription.come()
    except BaseException:
        subscription.end()
        raise
    session.say(_ack(session, subscription, asked, result))
    for publication in result.publications:
        session.deliver(subscription.channel, publication, result.epoch)
    recovered = asked.resume is not None and result.recovered
    if subscription.kind.cached and not (result.publications or recovered):
        session.say(replies.cache_miss(asked.channel))
        session.shared.hooks.cache_miss(session.app, asked.channel, f"{result.epoch}:{result.offset}")
    subscription.start()
    if subscription.kind.signed or subscription.kind.inbox:
        session.authorized()


def _ack(
    session: AppSession, subscription: AppSubscription, asked: Subscribing, result: SubscribeResult | None = None
) -> bytes:
    data = replies.NO_DATA if subscription.roster is None else subscription.roster.snapshot()
    resume = b""
    if session.resumes and subscription.positioned:
        if result is not None:
            position, recovered = Position(result.offset, result.epoch), asked.resume is not None and result.recovered
        else:
            position, recovered = session.node.hub.place(subscription) or Position(), False
        resume = replies.resumption(position, recovered)
    return replies.subscribed(asked.channel, data, resume)


def _channel(session: AppSession, asked: Subscribing) -> tuple[Channel, Kind]:
    """The channel that a client may subscribe to. Raises ``Error`` if it may not, or there is no such."""
    app, name = session.app, asked.channel
    if not is_name(name, app.settings.max_channel_name_length):
        longest = app.settings.max_channel_name_length
        raise SubscribeRefused(AUTH, f"a channel's name has 1 to {longest} of the characters A-Z a-z 0-9 _-=@,.;", 400)
    kind = kind_of(name)
    channel = session.node.channels.resolve(app.names.inside(name))
    if not channel.options.is_stream:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is a map")
    if kind.inbox and (not session.user or name != INBOX + session.user):
        raise SubscribeRefused(AUTH, NOT_SIGNED, 401)
    if kind.signed and (wrong := verify_channel(app, asked.auth or "", session.client, name, asked.channel_data or "")):
        raise SubscribeRefused(AUTH, wrong, 401)
    return channel, kind


def _member(session: AppSession, asked: Subscribing) -> Member:
    """Who the client is in a presence channel. Raises `SubscribeRefused` if nothing says it."""
    largest = session.app.settings.max_presence_member_size
    if asked.channel_data:
        return member_of(asked.channel_data, largest)
    if not session.user:
        raise SubscribeRefused(AUTH, "a presence channel takes channel_data, or a client that has signed in", 401)
    return member_of_user(session.user, session.info, largest)


async def _admitted(session: AppSession, subscription: AppSubscription, asked: Subscribing) -> Admitted:
    """What the program grants in a channel that takes no signature, which is its own word elsewhere."""
    route = route_of(subscription.resolved)
    if route is None or not route.subscribe or subscription.kind.signed or subscription.kind.inbox:
        return AS_THE_OPTIONS_SAY
    request = SubscribeRequest(subscription.channel)
    return await subscription.ask(route.subscribe(session, subscription.resolved, request))
