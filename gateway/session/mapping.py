"""Subscribing to a map.

Which request may come when stands in one table, ``STEPS``: a subscription that is loading goes on with each request of
its client, and is live with the last. The client does as the ``phase`` of each answer says.

Source: Centrifuge protocol, "Map subscribe protocol".
"""

from collections.abc import Awaitable, Callable

from gateway.channels import Channel
from gateway.core.hub import HELD
from gateway.core.patches import whole
from gateway.core.recovery import merge
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.maps.base import MapPage
from gateway.messages import (
    Position,
    Publication,
    SubscribeRequest,
    SubscribeResult,
)
from gateway.session.life import SubscriptionState
from gateway.session.loading import LIVE, PHASES, STATE, STREAM, Loading, chained, latest
from gateway.session.session import Session
from gateway.session.subscription import Subscription

Admit = Callable[[], Awaitable[Subscription]]
"""Makes the subscription that the client may have. Raises ``Error`` or ``Disconnect`` if it may have none."""

MAP = 1
"""What a map of any kind is called in answers."""

TYPES = {"map": 1, "map_clients": 2, "map_users": 3}
"""What requests call it, by the type of a namespace."""


async def subscribe(
    session: Session,
    command_id: int,
    request: SubscribeRequest,
    channel: Channel,
    tags: TagsFilter | None,
    admit: Admit,
) -> None:
    subscription = session.subscriptions.get(channel.name)
    if request.phase not in PHASES:
        if subscription is not None and subscription.state is SubscriptionState.LOADING:
            subscription.end()
        raise Error(ErrorCode.BAD_REQUEST, "bad request: phase must be 0, 1 or 2")
    if subscription is None:
        subscription = await _begin(session, request, channel, tags, admit)
    else:
        _go_on(session, subscription, request)
    loading = subscription.loading
    assert loading is not None
    loading.busy = True
    try:
        result = await STEPS[request.phase](session, subscription, loading, request)
    except BaseException:
        if subscription.state is SubscriptionState.LOADING:
            subscription.end()
        raise
    finally:
        loading.busy = False
    session.answer(command_id, result)
    if subscription.state is SubscriptionState.READY:
        subscription.start()


async def _begin(
    session: Session, request: SubscribeRequest, channel: Channel, tags: TagsFilter | None, admit: Admit
) -> Subscription:
    """A subscription that loads, for a client that has none."""
    now = session.node.wheel.clock()
    for each in list(session.subscriptions.values()):
        if each.state is SubscriptionState.LOADING and each.loading is not None and each.loading.is_late(now):
            each.end()
    if len(session.subscriptions) >= session.node.client.channel_limit:
        raise Error(ErrorCode.LIMIT_EXCEEDED)
    if request.cursor or (request.phase == STREAM and not request.recover):
        raise Error(ErrorCode.PERMISSION_DENIED)
    try:
        subscription = await admit()
    except Error as error:
        if error.code == ErrorCode.TOKEN_EXPIRED and request.recover:
            # the SDK fetches no token for a recovery; for the load that it then begins it does
            raise Error(ErrorCode.UNRECOVERABLE_POSITION) from error
        raise
    options = session.node.maps.options(channel)
    if request.phase == STREAM and not options.streams:
        subscription.end()
        raise Error(ErrorCode.BAD_REQUEST, "bad request: an ephemeral map has nothing to recover")
    subscription.choose(tags, request.delta)
    recovers = request.recover and options.streams and request.phase != STATE
    await subscription.load(Loading(options, channel.options.map, now, recovers))
    return subscription


def _go_on(session: Session, subscription: Subscription, request: SubscribeRequest) -> None:
    """Check that a request is the next of a load. Raises ``Error`` or ``Disconnect`` if it is not."""
    loading = subscription.loading
    if loading is None or subscription.state is not SubscriptionState.LOADING:
        busy = loading is not None and loading.busy
        raise Error(ErrorCode.CONCURRENT_PAGINATION if busy else ErrorCode.ALREADY_SUBSCRIBED)
    if loading.busy:
        raise Error(ErrorCode.CONCURRENT_PAGINATION)
    if request.phase == STATE and not request.cursor:
        raise Error(ErrorCode.ALREADY_SUBSCRIBED)
    if loading.is_late(session.node.wheel.clock()):
        raise Disconnect(DisconnectCode.SLOW)


# — one step for each phase —


async def _state(
    session: Session, subscription: Subscription, loading: Loading, request: SubscribeRequest
) -> SubscribeResult:
    """A page of the map. With the last one it is live, unless too much has changed meanwhile."""
    limit = loading.settings.page_size(request.limit)
    page = await loading.page(session.node, subscription.resolved, limit, request.cursor, _position(request))
    subscription.check()
    frozen = loading.frozen
    assert frozen is not None
    if not page.cursor and (not loading.options.streams or frozen.offset + limit >= page.position.offset):
        return await _live(session, subscription, loading, frozen, page)
    result = SubscribeResult(type=MAP, phase=STATE, cursor=page.cursor, state=_told(subscription, page.entries))
    if loading.options.streams:
        result.epoch, result.offset = frozen.epoch, frozen.offset
    return result


async def _stream(
    session: Session, subscription: Subscription, loading: Loading, request: SubscribeRequest
) -> SubscribeResult:
    """Changes since the first page, or since a client was here last. When few are left, it is live."""
    if not loading.options.streams:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: an ephemeral map has no changes to ask for")
    limit, since = loading.settings.page_size(request.limit), _position(request)
    changes = await loading.changes(session.node, subscription.resolved, limit, since)
    subscription.check()
    if changes is None:
        return await _live(session, subscription, loading, since, None)
    return SubscribeResult(
        type=MAP,
        phase=STREAM,
        epoch=since.epoch,
        offset=changes[-1].offset,
        publications=_told(subscription, changes),
    )


async def _at_once(
    session: Session, subscription: Subscription, loading: Loading, request: SubscribeRequest
) -> SubscribeResult:
    """Live from where the client says that it stands."""
    return await _live(session, subscription, loading, _position(request), None)


Step = Callable[[Session, Subscription, Loading, SubscribeRequest], Awaitable[SubscribeResult]]

STEPS: dict[int, Step] = {STATE: _state, STREAM: _stream, LIVE: _at_once}
"""What a request does, by its phase. First and later ones are told apart by ``_begin`` and ``_go_on``."""


async def _live(
    session: Session, subscription: Subscription, loading: Loading, start: Position, page: MapPage | None
) -> SubscribeResult:
    """The answer with which the client has all up to now: the last page, and what has changed since ``start``."""
    node, options = session.node, subscription.options
    if loading.given_up:  # while the store was being read
        raise Disconnect(DisconnectCode.SLOW)
    loading.start = start
    await subscription.open()
    result = SubscribeResult(
        *session.lasts(subscription.expire_at if subscription.refreshable else 0),
        data=subscription.data,
        type=MAP,
        delta=subscription.delta,
        state=_told(subscription, page.entries if page else []),
        publish_debounce=round(1000 * options.client_publish_debounce_interval),
    )
    held, subscription.held = subscription.held or [], None
    if subscription.found is None:
        if len(held) >= HELD:
            subscription.end()
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
        result.publications = latest(held, subscription.tags)
        if subscription.delta:
            result.publications = [whole(each) for each in result.publications]
        return result
    found = subscription.found = merge(subscription.found, held, recovering=True, tags=subscription.tags)
    result.publications = found.publications
    if subscription.delta:
        result.publications = chained(node.hub.patches, found.publications)
    result.recoverable = True
    result.epoch, result.offset = found.position.epoch, found.position.offset
    if loading.recovers:
        result.recovered = result.was_recovering = True
        node.metrics.recoveries[True] += 1
        node.metrics.recovery_size.observe(len(found.publications))
    return result


def _told(subscription: Subscription, publications: list[Publication]) -> list[Publication]:
    """As the client wants them: those that pass its filter, in the form that goes with delta."""
    tags = subscription.tags
    passing = [each for each in publications if tags is None or tags.passes(each.tags)]
    return [whole(each) for each in passing] if subscription.delta else passing


def _position(request: SubscribeRequest) -> Position:
    return Position(request.offset, request.epoch)
