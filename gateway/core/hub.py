"""The local registry: connections, subscriptions, and the fan-out to them.

Nothing here waits and nothing here parses. A publication is encoded once for each wire, and appended to the
audiences that want it; their `Output` writes each of them once a tick.
"""

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Set
from typing import cast

from msgspec.structs import replace

from gateway.core.audience import NOBODY, Attendant, Audience, AudienceKey, Connection, LocalChannel, Subscriber
from gateway.core.losses import Losses, tell
from gateway.core.output import Output
from gateway.core.tags import TagsFilters
from gateway.core.variants import Had, Variants
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect
from gateway.messages import Announcement, Exclusion, Position, Publication
from gateway.metrics import Metrics
from gateway.protocols.base import Wire

HELD = 4096
"""Publications held back for a subscription that is being made. Who misses more is found out, and recovers."""

log = logging.getLogger(__name__)


class Hub:
    """Connections and subscriptions of this node."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_lag: float = 0.0,
        clock: Callable[[], float] = time.time,
        wheel: Wheel | None = None,
    ) -> None:
        self.connections: dict[str, Connection] = {}
        self.users: dict[str, Connection | dict[str, Connection]] = {}
        """Of each user the one connection that is here, or by client id those that are: `of_user`."""
        self.channels: dict[str, LocalChannel] = {}
        self.subscriptions = 0
        self._metrics = metrics
        self._max_lag = max_lag
        self._clock = clock
        self._output = output = Output(metrics, clock)
        self.post, self.post_in_turn, self.send = output.post, output.post_in_turn, output.send
        self.flush, self.flush_plain = output.flush, output.flush_plain
        self._latest: LocalChannel | None = None
        """The one that plain clients hear of which the latest publication was."""
        self.measures = True
        """Whether the lag of the next publication is taken. Of each it would cost a lone one some percent."""
        self._unfit: set[str] = set()
        self._numbers = itertools.count(1)  # none is used twice: a push may still be under way to somebody
        self.losses = Losses(wheel or Wheel())
        self._variants = Variants(self._send, self._move)
        self.patches = self._variants.patches
        self.filters = TagsFilters()

    # — connections —

    def open(self, connection: Connection) -> None:
        self.connections[connection.client] = connection
        here = self.users.get(connection.user)
        if here is None:
            self.users[connection.user] = connection
        elif isinstance(here, dict):
            here[connection.client] = connection
        else:
            self.users[connection.user] = {here.client: here, connection.client: connection}

    def close(self, connection: Connection) -> None:
        self.connections.pop(connection.client, None)
        here = self.users.get(connection.user)
        if here is connection:
            del self.users[connection.user]
        elif isinstance(here, dict):
            here.pop(connection.client, None)
            if not here:
                del self.users[connection.user]

    def of_user(self, user: str) -> list[Connection]:
        here = self.users.get(user)
        if here is None:
            return []
        return list(here.values()) if isinstance(here, dict) else [here]

    # — subscriptions —

    def join(self, subscriber: Subscriber) -> None:
        """Hold back live publications for a subscription that is being made."""
        channel = self.channels.get(subscriber.channel)
        if channel is None:
            channel = self.channels[subscriber.channel] = LocalChannel(subscriber.channel)
        channel.join(subscriber)

    def number(self, name: str) -> int:
        """What a channel, which somebody has joined, is called to clients that know it by number while it is here."""
        channel = self.channels[name]
        if not channel.number:
            channel.number = next(self._numbers)
        return channel.number

    def enter(self, subscriber: Subscriber, position: Position | None, had: Had = None) -> None:
        """Begin live delivery: of what comes after ``position``, where there is one, and after ``had``.

        What is pending for the others is written first: it is older than this subscription. Raises ``LookupError`` for
        one that has not joined, or has left since.
        """
        channel = self.channels[subscriber.channel]
        if not channel.part(subscriber):
            raise LookupError(channel.name)
        behind = position if position != channel.position else None
        wire, address = subscriber.connection.wire, channel.name
        if subscriber.number and wire.compact is not None:
            wire, address = wire.compact, str(subscriber.number)
        key = AudienceKey(wire, subscriber.joins, subscriber.positioned, behind, subscriber.tags)
        if subscriber.delta:
            key = self._variants.enter(channel, subscriber, key, position, had)
        audience = channel.audiences.get(key) if channel.audiences else None
        if audience is None:
            audience = Audience(key, subscriber.batch_delay, address)
            channel.put(audience)
            channel.interval = 0.0  # nobody may have stood there: the next check is to look at it
            channel.plain |= audience.plain
        else:
            self._output.write_early(audience)
        audience.members[subscriber] = subscriber.connection.transport.write
        self.subscriptions += 1

    def leave(self, subscriber: Subscriber) -> None:
        """End delivery; what is pending in this tick is not delivered any more."""
        self.losses.discard(subscriber)
        if (channel := self.channels.get(subscriber.channel)) is None:
            return
        channel.part(subscriber)
        for audience in channel.audiences.values():
            if audience.members.pop(subscriber, None) is not None:
                self.subscriptions -= 1
                if not audience.members:
                    channel.drop(audience)
                    self._variants.left(channel)
                break
        if channel.empty:
            self._forget(channel)

    def place(self, subscriber: Subscriber) -> Position | None:
        """Where a positioned subscriber stands, who has then been written all before it; None for others."""
        channel = self.channels.get(subscriber.channel)
        for key, audience in channel.audiences.items() if channel else ():
            if key.positioned and subscriber in audience.members:
                self._output.write_early(audience)
                assert channel is not None
                return key.behind or channel.position or Position()
        return None

    def divert(self, name: str, deliver: Callable[[Publication], None]) -> None:
        """Have what is published in a channel, which somebody has joined, delivered in another way."""
        self.channels[name].values = deliver

    def reroute(self, subscribers: Iterable[Subscriber]) -> None:
        """A connection is to be written to in another way from now on. May be called amid a fan-out."""
        for subscriber in subscribers:
            channel = self.channels.get(subscriber.channel)
            for audience in channel.audiences.values() if channel else ():
                if subscriber in audience.members:
                    audience.members[subscriber] = subscriber.connection.transport.write

    def subscribers(self, channel: str) -> int:
        found = self.channels.get(channel)
        return sum(len(audience.members) for audience in found.audiences.values()) if found else 0

    def everybody(self, channel: str) -> list[Subscriber]:
        """Its subscribers, with those that are about to be."""
        found = self.channels.get(channel)
        if found is None:
            return []
        return [*found.joining, *(each for audience in found.audiences.values() for each in audience.members)]

    # — fan-out —

    def publish(self, name: str, publication: Publication) -> None:
        """A publication has come from the broker."""
        channel = self.channels.get(name)
        if channel is None:
            return
        if channel.values is not None:
            channel.values(publication)
            return
        if channel.joining and (publication.offset or publication.key):
            self._hold(channel, publication)
        if publication.offset:
            readers, following = self._advance(channel, publication)
        else:
            readers, following = channel.wanting(publication.tags), []
        if channel.plain and channel is not self._latest:
            self._turn_to(channel, readers)
        excluded = self._excluded(name, publication.exclude) if publication.exclude else NOBODY
        if channel.deltas:
            readers = self._variants.deliver(channel, publication, readers, excluded)
        encoded: dict[Wire, bytes] = {}
        for audience in readers:
            wire = audience.key.wire
            message = encoded.get(wire)
            if message is None:
                try:
                    message = encoded[wire] = wire.protocol.encode_push(audience.address, publication)
                except Disconnect as reason:
                    self._turn_away(name, audience, reason)
                    continue
            self._output.append(audience, message, excluded)
        if self.measures and (encoded or channel.deltas):
            self.measures = not self._output.measure(publication.time)
        for audience in following:
            self._promote(channel, audience, Position(publication.offset, publication.epoch))

    def _send(
        self, name: str, publication: Publication, readers: Iterable[Audience], excluded: Set[Subscriber]
    ) -> None:
        """Give a publication to some audiences apart from the others, encoded once for each wire."""
        encoded: dict[Wire, bytes] = {}
        for audience in readers:
            wire = audience.key.wire
            try:
                message = encoded.get(wire)
                if message is None:
                    message = encoded[wire] = wire.protocol.encode_push(audience.address, publication)
            except Disconnect as reason:
                self._turn_away(name, audience, reason)
            else:
                self._output.append(audience, message, excluded)

    def _turn_away(self, name: str, audience: Audience, reason: Disconnect) -> None:
        """A publication is nothing that these can be sent: plain clients go without, others are told to go."""
        if audience.key.wire.protocol.omits:
            self.pass_over(name)
            return
        for subscriber in list(audience.members):
            subscriber.connection.disconnect(reason)

    def _hold(self, channel: LocalChannel, publication: Publication) -> None:
        """Keep it for subscriptions that are being made."""
        for subscriber in channel.joining:
            if subscriber.held is None:
                continue  # it begins with what comes later, and misses nothing
            if len(subscriber.held) < HELD:
                subscriber.held.append(publication)
            else:
                self._metrics.dropped["held"] += 1

    def _turn_to(self, channel: LocalChannel, readers: Iterable[Audience]) -> None:
        """Keep the order between channels for plain clients, who may hear several."""
        self._latest = channel
        if any(each.pending and each.plain for each in readers):
            self.flush_plain()  # else this would leave with what came before that of the other channel

    def announce(self, name: str, push: Announcement, exclude: Exclusion | None = None) -> None:
        """Somebody has come or gone, here or on another node: tell those whose protocol has a word for it."""
        channel = self.channels.get(name)
        if channel is None:
            return
        excluded = self._excluded(name, exclude) if exclude else NOBODY
        encoded: dict[int, bytes] = {}
        for key, audience in channel.audiences.items():
            if key.joins:
                message = encoded.get(id(key.wire))
                if message is None:
                    try:
                        message = key.wire.protocol.encode_push(audience.address, push)
                    except Disconnect:  # plain clients, whom the server has subscribed, know of no joins at all
                        message = b""
                    encoded[id(key.wire)] = message
                if message:
                    self._output.append(audience, message, excluded)

    def lose(self, channel: LocalChannel, keys: Iterable[AudienceKey], before: Position | None = None) -> None:
        """Let go of these audiences, which have missed something. Their members are told, many of them by and by.

        ``before`` is where the channel stood, if it does not any more.
        """
        for key in keys:
            if (audience := channel.audiences.get(key)) is None:
                continue
            channel.drop(audience)
            self._output.write_early(audience)  # what came before the gap is good
            stood = key.behind or before or channel.position
            if key.joins and isinstance(next(iter(audience.members), None), Attendant):  # as all are who share a wire
                for subscriber in audience.members:
                    cast(Attendant, subscriber).let_go()
            self.subscriptions -= len(audience.members)
            if key.wire.protocol.omits:  # they go on without, and would miss more by waiting
                for subscriber in list(audience.members):
                    tell(subscriber, stood)
            else:
                self.losses.add(audience.members, stood)
        self._variants.left(channel)
        if channel.empty and self.channels.get(channel.name) is channel:
            self._forget(channel)

    def pass_over(self, name: str) -> None:
        """Plain clients of a channel go without a publication; said once, while anybody listens there."""
        self._metrics.dropped["plain"] += 1
        if name not in self._unfit:
            self._unfit.add(name)
            log.warning(
                "channel %s: clients in the formats 'text' and 'json' do not get its binary publications; "
                "attach them with format='bytes', or publish text or JSON",
                name,
            )

    def _forget(self, channel: LocalChannel) -> None:
        del self.channels[channel.name]
        self._unfit.discard(channel.name)

    def _advance(self, channel: LocalChannel, publication: Publication) -> tuple[list[Audience], list[Audience]]:
        """Move the channel on, and have those whom the stream has reached join the others.

        Answers who reads the publication, and those of them that follow the stream by themselves for now.
        """
        now, published, before = self._clock(), publication.time, channel.position
        late = self._max_lag > 0 and published > 0 and now - published / 1000 > self._max_lag
        if not late and channel.follow(publication, now):
            return [*channel.audiences.values()], []
        readers, arrived, following, lost = channel.advance(publication, now, late)
        if lost:
            self.lose(channel, lost, before)
        if not arrived:
            return readers, following
        found = dict.fromkeys(readers)
        for audience in arrived:
            reader = audience if audience in following else self._promote(channel, audience, None)
            if reader.wants(publication.tags):
                found[reader] = None
        return [*found], following

    def _promote(self, channel: LocalChannel, audience: Audience, behind: Position | None) -> Audience:
        """The stream has reached those who were ahead of it: they join the others."""
        return self._move(channel, audience, replace(audience.key, behind=behind), audience.members)

    def _move(
        self, channel: LocalChannel, audience: Audience, key: AudienceKey, members: Collection[Subscriber]
    ) -> Audience:
        """Have members of an audience, or all, be in another one from now on. Answers which."""
        if not members or channel.audiences.get(audience.key) is not audience:
            return audience  # it has gone
        self._output.write_early(audience)
        target = channel.audiences.get(key)
        if target is not None:
            # both, while all members can be found: a write may have one take another way
            self._output.write_early(target)
        else:
            target = Audience(key, audience.delay, audience.address)
            channel.put(target)
        if len(members) == len(audience.members):
            target.members.update(audience.members)
            channel.drop(audience)
        else:
            target.members.update((each, audience.members.pop(each)) for each in members)
        return target

    def _excluded(self, name: str, exclude: Exclusion) -> set[Subscriber]:
        """Subscriptions of the channel that are not to get a publication."""
        connections = [self.connections[client] for client in exclude.clients if client in self.connections]
        for user in exclude.users:
            connections += self.of_user(user)
        return {each.subscriptions[name] for each in connections if name in each.subscriptions}
