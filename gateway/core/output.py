"""What is to be written in this tick of the event loop: to single connections, and to audiences.

Everything that comes for one connection, or for one audience, within a tick leaves as one frame.
"""

import asyncio
import logging
from collections.abc import Callable, Set

from gateway.core.audience import NOBODY, Audience, Connection, Subscriber
from gateway.metrics import Metrics
from gateway.protocols.base import FRAME_SIZE

log = logging.getLogger(__name__)


class Output:
    """Replies and pushes that wait for the end of the tick. Writing never waits, and never raises."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._outboxes: list[Connection] = []
        self._written: list[Audience] = []
        self._plain: list[Audience] = []
        """Those of plain clients, which are told what comes in the order in which it does, across channels."""
        self._scheduled = False
        self._published = 0
        """When the pending publication of which the lag is taken was published (Unix ms)."""

    def post(self, connection: Connection, message: bytes) -> None:
        """Send one message to one connection, joined with others of this tick."""
        if connection.outbox:
            connection.outbox.append(message)
        else:
            connection.outbox = [message]
            self._outboxes.append(connection)
            if not self._scheduled:
                self._schedule()
        if len(message) >= FRAME_SIZE:
            self._flush_outboxes()  # so that the transport's limit is looked at before there is more of it

    def post_in_turn(self, connection: Connection, message: bytes) -> None:
        """Like ``post``, but behind the publications that have come before it in this tick."""
        if self._written or self._plain:
            self.flush()
        self.post(connection, message)

    def send(self, connection: Connection, message: bytes) -> None:
        """Write one message to one connection at once, after what is posted to it."""
        connection.outbox = [*(connection.outbox or ()), message]
        self._write_out([connection])

    def append(self, audience: Audience, message: bytes, excluded: Set[Subscriber] = NOBODY) -> None:
        """Append for all members but those ``excluded``, who get what else there is in this tick by themselves."""
        if audience.size + len(message) > FRAME_SIZE:
            self.write_early(audience)
        if excluded:
            for subscriber in excluded & audience.members.keys():
                audience.apart = audience.apart or {}
                audience.apart.setdefault(subscriber, audience.pending.copy())
        if not audience.pending:
            if audience.delay:
                asyncio.get_running_loop().call_later(audience.delay, self._end_delay, audience)
            else:
                (self._plain if audience.plain else self._written).append(audience)
                if not self._scheduled:
                    self._schedule()
        audience.pending.append(message)
        audience.size += len(message)
        if audience.apart:
            for subscriber, own in audience.apart.items():
                if subscriber not in excluded:
                    own.append(message)

    def write_early(self, audience: Audience) -> None:
        """Write it before the tick ends: behind what plain clients are to hear before, of other channels."""
        if audience.plain:
            self.flush_plain(audience)
        else:
            self._write(audience)

    def measure(self, published: int) -> bool:
        """Take the lag of what is pending, of which some was ``published`` then (Unix ms). False if nothing is."""
        if self._scheduled:
            self._published = published
        return self._scheduled

    def flush(self) -> None:
        """Write everything that is pending: replies first, for pushes may depend on them."""
        self._scheduled = False
        audiences, self._written = self._written, []
        shared: list[Audience] = []
        for audience in audiences:
            if len(audience.members) == 1:
                self._join_outbox(audience)
            else:
                shared.append(audience)
        if self._outboxes:
            self._flush_outboxes()
        for audience in shared:
            self._write(audience)
        if self._plain:
            self.flush_plain()
        if self._published:
            self._metrics.delivery_lag.observe(max(0.0, self._clock() - self._published / 1000))
            self._published = 0

    def flush_plain(self, *others: Audience) -> None:
        """Write what is pending for plain clients, as it came, then for ``others``."""
        audiences, self._plain = self._plain, []
        for audience in (*audiences, *others):
            self._write(audience)

    def _end_delay(self, audience: Audience) -> None:
        (self._plain if audience.plain else self._written).append(audience)
        self.flush()

    def _schedule(self) -> None:
        if not self._scheduled:
            asyncio.get_running_loop().call_soon(self._gather)
            self._scheduled = True

    def _gather(self) -> None:
        """Look at the sockets once more before writing: it costs little, and what has come meanwhile goes along."""
        asyncio.get_running_loop().call_soon(self.flush)

    def _join_outbox(self, audience: Audience) -> None:
        """Let what is for one connection alone leave with whatever else it gets in this tick."""
        messages = audience.pending
        if not messages:
            return
        [subscriber] = audience.members
        if audience.apart:
            _, _, apart = audience.take()
            assert apart is not None
            messages = apart.get(subscriber, messages)
        else:
            audience.pending, audience.size = [], 0
        self._hand(subscriber.connection, messages)

    def _hand(self, connection: Connection, messages: list[bytes]) -> None:
        """Let messages, which nobody else needs, leave with whatever the connection gets in this tick."""
        if not messages:
            return
        if not connection.outbox:
            self._outboxes.append(connection)
            connection.outbox = messages
        else:
            connection.outbox += messages
        self._metrics.deliveries += len(messages)

    def _flush_outboxes(self) -> None:
        connections, self._outboxes = self._outboxes, []
        self._write_out(connections)

    def _write_out(self, connections: list[Connection]) -> None:
        for connection in connections:
            messages, connection.outbox = connection.outbox, None
            if not messages:
                continue
            wire, transport, size = connection.wire, connection.transport, 0
            for message in messages:
                size += len(message)
            self._metrics.bytes_out += size
            try:
                if size <= FRAME_SIZE or len(messages) == 1:
                    transport.write(wire.pack(messages))
                else:
                    for frame in wire.frames(messages):
                        transport.write(frame)  # which may be another one after the first
            except Exception:  # one connection's trouble is not to be everybody's
                log.exception("%s: a frame could not be made", str(connection))

    def _write(self, audience: Audience) -> None:
        if not audience.pending:
            return
        if self._outboxes:
            self._flush_outboxes()
        messages, size, apart = audience.take()
        members = audience.members
        if apart:
            members = {each: write for each, write in members.items() if each not in apart}
            for subscriber in apart.keys() & audience.members.keys():
                self._hand(subscriber.connection, apart[subscriber])
            self._flush_outboxes()
        try:
            frame = audience.key.wire.pack(messages)
        except Exception:
            log.exception("a frame could not be made")
            return
        self._metrics.delivered(len(messages) * len(members), size * len(members))
        for write in members.values():
            try:
                write(frame)
            except Exception:  # it must not, but everybody after it would suffer
                log.exception("a frame could not be written")
