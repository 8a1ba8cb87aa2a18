"""One subscription's life, whoever makes it: the client, the server, or the program.

`gateway.session.life` says what may follow what. It begins with its object, which takes the channel's place in the
session at once.
``admit`` says what it is granted; ``open`` hears the channel and reads its stream, holding live publications back;
``result`` joins the two (``loading`` a map takes the steps in which the client asks for it); when the client has been
told, ``start`` begins live delivery. Nothing waits between the last three, so nothing can slip in between.

Source: Centrifuge protocol, "Race between live and stored".
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Self

from gateway.auth.permissions import Features, granted_features
from gateway.core.recovery import merge
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode, ErrorCode
from gateway.messages import ClientInfo, Position, Publication, SubscribeRequest, SubscribeResult, is_opaque
from gateway.session.application import Admitted, route_of
from gateway.session.holding import Holding
from gateway.session.life import ADMITTED, LIVE, LOADING, OPENING, READY
from gateway.session.loading import Loading
from gateway.session.recovering import is_empty, look_up, say_recovered
from gateway.session.rejections import check_filter
from gateway.session.tokens import check_moment

NOTHING = SubscribeRequest()
"""Asks for no feature and for no recovery."""

log = logging.getLogger(__name__)


class Subscription(Holding):
    """A place in a channel, from the decision whether there is to be one."""

    __slots__ = ()

    async def ask(self, decision: Awaitable[Admitted]) -> Admitted:
        """What the program grants, which hears of its end from then on. A refusal leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile, ``Error`` (109) if what is granted is over already.
        """
        try:
            admitted = await decision
            # where the server has been quicker, it will hear of the end of that one
            self.connection.subscriptions.get(self.channel, self).asked = True
            self.check()
            # granted, it would be subscribed to again at once, and again
            check_moment(self.connection.node, admitted.expire_at, ErrorCode.TOKEN_EXPIRED)
        except BaseException:
            await self._abandon()
            raise
        return admitted

    def grant(self, admitted: Admitted, request: SubscribeRequest = NOTHING) -> Self:
        """Grant it what the options force, and what they let it have of what was asked for."""
        session = self.connection
        if not admitted.on_request:
            request = NOTHING
        self.options = options = admitted.grant.override.apply(self.options)
        insecure = session.node.client.insecure
        self.admit(admitted, granted_features(options, session.user, request, insecure=insecure))
        return self

    def admit(self, admitted: Admitted, features: Features) -> None:
        """Say what it is granted. Raises ``Disconnect`` (inappropriate protocol) for data it cannot read."""
        session, grant = self.connection, admitted.grant
        if grant.data is not None and is_opaque(grant.data) and not session.wire.protocol.binary:
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
        self.joins = features.join_leave
        self.positioned = features.positioned
        self.recoverable = features.recoverable
        self.info = ClientInfo(session.user, session.client, session.info, grant.info)
        self.data = grant.data
        self.expire_at = admitted.expire_at
        self.refreshable = admitted.refreshable and self._renewal() is None
        if features.positioned:
            self.held = []
            cached = self.options.auto_cache_recover or grant.cache_recover
            if cached and self.since is None and self.recovers_newest:
                self.since = Position()  # as of somebody who has seen nothing
        self._to(ADMITTED)

    def choose(self, tags: TagsFilter | None, delta: str) -> None:
        """Say which publications the client wants, and in which form. With a filter there are no patches."""
        self.tags, self.delta = tags, tags is None and delta in self.options.allowed_delta_types

    async def open(self) -> None:
        """Hear the channel, appear in its presence, read its stream. A failure leaves nothing.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        node = self.connection.node
        self._to(OPENING)  # who has ended it before has cleared it away
        try:
            await self.hear()
            if self.loading is not None:
                self.found = await self.loading.look_up(node, self.resolved)
                self.check()
            elif self.positioned:
                if self.options.force_recovery_mode == "cache":
                    await self._fill()
                self.found = await look_up(
                    node, self.resolved, self.options, self.since, recoverable=self.recoverable, tags=self.tags
                )
            self._to(READY)
        except BaseException:
            await self._abandon()
            raise

    async def hear(self) -> None:
        """Hear the channel, unless it does already, and appear in its presence. A failure leaves what there is."""
        if self.heard:
            return
        node = self.connection.node
        for each in self.connection.ending:
            if each.channel == self.channel:
                await each.over()  # else what is cleared away of that one would be this one's
        await node.feeds.hold(self.channel)
        self.heard = True
        self.check()
        if self.tags is not None:  # others may have come with filters of theirs meanwhile
            check_filter(node, self.connection, self.channel, self.tags, self.options.tags_filter_limit)
        node.hub.join(self)
        if self.options.presence:
            await node.presence_store.add(self.channel, self.info)
            self.check()

    async def load(self, loading: Loading) -> None:
        """Let the client load the map, in its own time. What has no stream is heard meanwhile.

        Raises ``SubscriptionEnded`` if it has been meanwhile.
        """
        self.loading = loading
        if self.positioned:
            self._to(LOADING)
            return
        self._to(OPENING)
        try:
            self.held = []
            await self.hear()
            timeout = loading.settings.catch_up_timeout
            self.connection.node.wheel.after(timeout + 1.0, self._stop_holding)
            self._to(LOADING)
        except BaseException:
            await self._abandon()
            raise

    def _stop_holding(self) -> None:
        """Nothing is kept for a client that does not go on to load: it is too late for that."""
        if self.state is LOADING:
            assert self.loading is not None
            self.connection.node.hub.leave(self)
            self.held = None
            self.loading.given_up = True

    def result(self) -> SubscribeResult:
        """What the client is told. Raises ``Disconnect`` when a publication is missing.

        From then on ``found`` has the position from which live delivery goes on.
        """
        result = SubscribeResult(data=self.data)
        if self.expire_at and self.refreshable:
            result.expires, result.ttl = self.connection.lasts(self.expire_at)
        if self.compact and self.options.allow_channel_compaction:
            result.id = self.number = self.connection.node.hub.number(self.channel)
        found, since = self.found, self.since
        result.delta, result.was_recovering = self.delta, since is not None
        if found is None:
            return result
        self.found = recovered = merge(
            found,
            self.held or (),
            recovering=since is not None or found.replayed,
            newest_only=self.recovers_newest and not self.delta,
            tags=self.tags,
        )
        self.held = None
        result.positioned, result.recoverable = True, self.recoverable
        say_recovered(result, recovered, since, self.connection.node.metrics, server_side=self.server_side)
        if self.delta:
            result.publications = self.connection.node.hub.patches.chain(result.publications)
        return result

    def start(self) -> None:
        """The client has been told: deliver, and tell the channel of a join."""
        self._to(LIVE)
        node = self.connection.node
        try:
            self._enter()
        except LookupError:  # too late for an error: the client has its answer
            log.exception("%s: %s is subscribed to anew, for nobody heard it", str(self.connection), self.channel)
            self.lose_position(self.since)
            return
        self.started = True
        if self.expire_at:
            self.expire(self.expire_at)
        if self.options.shows_in_maps:
            node.map_presence.came(self.channel, self.options, self.info)
        if self.options.join_leave:
            node.begin(node.announce_join(self.channel, self.info))

    @property
    def recovers_newest(self) -> bool:
        """Whether it recovers the newest publication alone, for the channel is a cell and not a log."""
        return self.recoverable and self.options.force_recovery_mode == "cache"

    # — inside —

    def _enter(self) -> None:
        hub, found, self.found = self.connection.node.hub, self.found, None
        if self.loading is not None:
            hub.enter(self, None if found is None else found.position, self.loading.had(found))
            self.loading = None
        elif found is None:
            hub.enter(self, None)
        else:
            hub.enter(self, found.position, found.publications[-1] if found.publications else None)

    async def _fill(self) -> None:
        """Have the program fill an empty cache: in a task, for connect may have none, and in the client's context."""
        session, node, route = self.connection, self.connection.node, route_of(self.resolved)
        if route is None or route.cache_empty is None or not await is_empty(node, self.resolved):
            return
        context = None if session.context is None else session.context.copy()
        asked = route.cache_empty(session, self.resolved)
        self.filling = asyncio.get_running_loop().create_task(asked, context=context)
        try:
            data = await self.filling
        finally:
            self.filling = None
        # what has been published meanwhile is newer, and others may have asked at the same time
        if data is not None and await is_empty(node, self.resolved):
            await node.publish(self.resolved, Publication(data))
        self.check()
