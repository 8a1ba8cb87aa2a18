"""A subscription of a client of the Pusher protocol, which knows no positions, and cannot be told that it has lost its.

So a session makes that good by itself. In a presence channel the client is a member: the roster is held first, and
between its coming there, its ack, and its place in the audience nothing waits, so that no change is lost or told twice.

Source: Pusher Channels protocol, "Presence channels", "Cache channels".
"""

import logging
import random
from collections.abc import Mapping

from gateway.auth.permissions import Features
from gateway.auth.tokens import Override
from gateway.channels import Channel
from gateway.core.recovery import merge
from gateway.core.roster import Roster, changes
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, UnsubscribeCode
from gateway.kinds import Kind
from gateway.messages import ClientInfo, Payload, Position, Unsubscribe
from gateway.session.application import Admitted
from gateway.session.life import GONE, OVER
from gateway.session.pusher.members import Member
from gateway.session.pusher.replies import LIMIT, OVER_CAPACITY, SubscribeRefused
from gateway.session.pusher.session import AppSession
from gateway.session.recovering import look_up
from gateway.session.subscription import Subscription

APART = Override(presence=False, join_leave=False)
"""In an inbox it is signing in that makes a member, not subscribing."""

AGAIN = 1.0
"""Seconds until a lost position is looked for again, at least, while the broker is away; three times that at most."""

log = logging.getLogger(__name__)


class AppSubscription(Subscription):
    """A place in a channel of an app."""

    __slots__ = ("counted", "kind", "known", "member", "name", "roster")

    connection: AppSession

    def __init__(
        self,
        session: AppSession,
        channel: Channel,
        name: str,
        kind: Kind,
        member: Member | None = None,
        since: Position | None = None,
    ) -> None:
        """``name`` is what the client calls the channel; ``member`` who it is there, in a presence channel."""
        self.name = name
        self.kind = kind
        self.member = member
        self.roster: Roster | None = None
        self.known: Mapping[str, Payload | None] | None = None
        """The members of whom it has been told, while it is told nothing."""
        self.counted = False
        """Whether it is to be told how many there are."""
        super().__init__(session, channel, since)

    def begin(self, admitted: Admitted) -> None:
        """Grant it all that it can have: clients of this protocol ask for nothing."""
        self.options = admitted.grant.override.apply(self.options)
        if self.kind.inbox:
            self.options = APART.apply(self.options)
        settings, app = self.connection.node.settings.pusher, self.connection.app.settings
        counts = settings.subscription_counts and app.enable_subscription_counts and self.options.presence
        counted = counts and self.member is None and not self.kind.inbox
        keeps = self.options.keeps_history
        if self.kind.cached and self.since is None and keeps:
            self.since = Position()  # as of somebody who has seen nothing
        self.admit(
            admitted, Features(positioned=keeps, recoverable=keeps, join_leave=self.member is not None or counted)
        )
        if counted:
            self.counted = True
            self.connection.node.rosters.counts.hold(self.channel)
        if self.member is not None:
            self.info = ClientInfo(self.member.user, self.connection.client, self.member.info)

    async def hear(self) -> None:
        if self.member is not None and self.roster is None:
            rosters = self.connection.node.rosters
            roster = await rosters.hold(self.channel)
            if self.state in OVER:
                rosters.release(self.channel)
            self.check()
            self.roster = roster
            self._check_room(roster)
        await super().hear()

    def come(self) -> None:
        """Be one of the members from now on; the ack is to follow at once. Raises `SubscribeRefused` for one more."""
        if self.roster is not None:
            self._check_room(self.roster)
            self.roster.came(self.info)

    def end(self, push: Unsubscribe | None = None) -> None:
        super().end(push)
        if self.counted:
            self.counted = False
            self.connection.node.rosters.counts.release(self.channel)
        roster, self.roster = self.roster, None
        if roster is None:
            return
        roster.left(self.info)
        self.connection.node.rosters.release(self.channel)

    def make_anew(self, code: UnsubscribeCode, reconnect: DisconnectCode) -> None:
        """A client does not subscribe again that is still connected."""
        self.connection.disconnect(Disconnect(reconnect))

    def let_go(self) -> None:
        if self.roster is not None and self.known is None:
            self.known = self.roster.members()

    def lose_position(self, before: Position | None) -> None:
        """Find out what was missed, and go on from there. The hub has let go of it."""
        self.since = before
        self.connection.node.metrics.lost_positions += 1
        self._repair()

    def _check_room(self, roster: Roster) -> None:
        most = self.connection.app.settings.max_presence_members
        if roster.count >= most and not roster.has(self.info.user):
            raise SubscribeRefused(LIMIT, f"the channel has {most} members, and takes no more", OVER_CAPACITY)

    # — a lost position —

    def _repair(self) -> None:
        if self.live and self.connection.state not in GONE:
            self.connection.node.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Send what has been missed, and deliver again. Who has missed more than there is connects anew."""
        session, node = self.connection, self.connection.node
        node.hub.join(self)
        self.held = []
        try:
            found = await look_up(node, self.resolved, self.options, self.since, recoverable=True)
        except BrokerUnavailable:
            node.hub.leave(self)
            node.wheel.after(AGAIN * random.uniform(1, 3), self._repair)  # noqa: S311  spreads, hides nothing
            return
        except Exception:
            log.exception("%s: what was missed in %s cannot be read", str(session), self.channel)
            session.disconnect(Disconnect(DisconnectCode.INTERNAL))
            return
        if not self.live or session.state in GONE:
            return
        try:
            found = merge(found, self.held, recovering=self.since is not None, newest_only=self.recovers_newest)
        except Disconnect as reason:
            session.disconnect(reason)
            return
        self.held = None
        node.metrics.recoveries[found.recovered] += 1
        if not found.recovered:
            session.disconnect(Disconnect(DisconnectCode.INSUFFICIENT_STATE))
            return
        for publication in found.publications:
            session.deliver(self.channel, publication, found.position.epoch)
        if self.roster is not None and self.known is not None:
            for push in changes(self.known, self.roster.members()):
                session.push(self.channel, push)
            self.known = None
        last = found.publications[-1] if found.publications else None
        node.hub.enter(self, found.position, last)
        if self.counted:
            node.rosters.counts.remind(self.channel)


def subscription_of(session: AppSession, channel: str) -> AppSubscription | None:
    """What a client has in a channel, by the gateway's name. Nobody makes subscriptions here but the client."""
    found = session.subscriptions.get(channel)
    return found if isinstance(found, AppSubscription) else None
