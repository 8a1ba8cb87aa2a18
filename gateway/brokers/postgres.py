"""The broker of many nodes: streams in tables of PostgreSQL, and notifications of what is committed.

A node hears its own publications through PostgreSQL too, like those of all others. What lies in a stream is the
envelope's publication; what is told is the envelope's message.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gateway.batches import batches
from gateway.brokers import envelope
from gateway.brokers.base import (
    BrokerEvents,
    BrokerHealth,
    Claim,
    Continued,
    Fenced,
    HistoryFilter,
    Posted,
    PublishOptions,
    StreamOptions,
    outgoing,
)
from gateway.brokers.rules import Rule
from gateway.brokers.single_flight import SingleFlight
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import ClientInfo, Position, Publication, Receipt, pack
from gateway.postgres.batch import HURRY, Batch
from gateway.postgres.database import Database, seconds, within
from gateway.postgres.failures import text
from gateway.postgres.listener import Handler
from gateway.postgres.owners import INTERVALS, Intervals, Owners
from gateway.postgres.statements import Script

PUBLICATIONS_AT_ONCE = 500
READS_AT_ONCE = 50
CLAIMS_PER_CALL = 500
HEARD_AT_ONCE = 1000
CLEANED_AT_ONCE = 1000

HIGHEST = 2**63 - 1
"""The highest version, and the highest number of a bigint."""

MOST_READ = 2**31 - 1

_SQL = Path(__file__).parent / "sql"
_SCRIPTS = Script(_SQL / "broker.sql"), Script(_SQL / "programs.sql")

_PUBLISH = "SELECT * FROM gateway_publish_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_READ = "SELECT * FROM gateway_history_many($1, $2, $3, $4, $5, $6)"
_VERIFY = "SELECT * FROM gateway_verify_many($1, $2, $3, $4, $5)"

Read = tuple[str, HistoryFilter, StreamOptions]
Part = tuple[list[Publication], Position]

logger = logging.getLogger(__name__)


class _Publish(NamedTuple):
    topic: str
    data: bytes
    stream: StreamOptions | None
    options: PublishOptions


class PostgresBroker:
    """Carries publications over a ``Database``, to be made before that is started; it stays the caller's to close."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        intervals: Intervals = INTERVALS,
    ) -> None:
        self._database = database
        database.install(*_SCRIPTS)
        self._rules: Sequence[Rule] = ()
        self._clock = clock
        self._events: BrokerEvents | None = None
        self._reader = envelope.Reader()
        self._subscribed: set[str] = set()
        self._doubtful: set[str] = set()
        self._owners = Owners(database, "hearing", self, intervals)
        self._publishes: Batch[_Publish, Receipt | None] = Batch(
            self._publish_all, PUBLICATIONS_AT_ONCE, key=lambda item: item.topic, size=lambda item: 256 + len(item.data)
        )
        self._held = asyncio.Semaphore(database.pool_size // 2)
        self._reads: Batch[Read, Part] = Batch(self._read_all, READS_AT_ONCE)
        self._equal_reads: SingleFlight[Read, Part] = SingleFlight()
        self._hearing: Batch[str, None] = Batch(self._hear_all, HEARD_AT_ONCE)
        self._cleaner: asyncio.Task[None] | None = None

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Have those who publish by SQL keep streams as nodes do. To be called before ``start``."""
        self._rules = rules

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._events = events
        self._database.on_reconnect.append(events.on_gap)
        for topic in ("ncontrol", f"ncontrol:{node}"):
            self._database.listen(topic, events.on_control)
        await self._owners.start(node)
        self._cleaner = asyncio.create_task(self._keep_clean())

    async def close(self) -> None:
        if self._events is None:
            return
        self._database.on_reconnect.remove(self._events.on_gap)
        self._events = None
        if self._cleaner is not None:
            self._cleaner.cancel()
            await asyncio.gather(self._cleaner, return_exceptions=True)
        topics = [topic for topic in self._database.topics() if topic[0] == "c" or topic.startswith("ncontrol")]
        for topic in topics:
            self._database.forget(topic)
        self._subscribed.clear()
        await self._owners.close()
        try:
            await within(self._database.fetch("DELETE FROM gateway_hearing WHERE owner = $1", self._owners.name))
            await self._owners.end()
        except BrokerUnavailable:
            logger.debug("what this node heard ends with its lease")

    def subscribe(self, channel: str) -> Awaitable[None]:
        assert self._events is not None, "start() comes first"
        topic = "c" + text(channel)
        handler = partial(self._reader.deliver, self._events, channel)
        self._subscribed.add(topic)
        self._database.listen(topic, handler)
        return self._confirmed(topic, handler, self._hearing.ask(topic))

    async def _confirmed(self, topic: str, handler: Handler, answer: "asyncio.Future[None]") -> None:
        """Who is refused has nothing of it; who has subscribed again since then keeps what is his."""
        try:
            await answer
            if not self._database.connected:
                raise BrokerUnavailable
        except BaseException:
            self._doubtful.add(topic)
            if self._database.listens(topic, handler):
                self._subscribed.discard(topic)
                self._database.forget(topic)
            raise

    def unsubscribe(self, channel: str) -> Awaitable[None]:
        topic = "c" + channel
        if topic not in self._subscribed:
            return asyncio.sleep(0)
        self._subscribed.discard(topic)
        self._database.forget(topic)
        return self._unsubscribed(topic, self._hearing.ask(topic))

    async def _unsubscribed(self, topic: str, answer: "asyncio.Future[None]") -> None:
        try:
            await answer
        except BrokerUnavailable:
            self._doubtful.add(topic)

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        statement = "SELECT gateway_hearers(topic) FROM unnest($1::text[]) WITH ORDINALITY AS t (topic, n) ORDER BY n"
        counts: list[int] = []
        for some in batches(channels, HEARD_AT_ONCE):
            counts += [row[0] for row in await within(self._database.fetch(statement, ["c" + each for each in some]))]
        return counts

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        if options.version > HIGHEST:
            raise Error(ErrorCode.BAD_REQUEST, f"bad request: version must be {HIGHEST} at most")
        # Position stays out of the stored bytes: PostgreSQL decides it.
        data = pack(outgoing(publication, stream, options, self._clock()))
        keeps = stream.keeps_history and not options.skip_history
        for word in (options.idempotency_key, options.version_epoch, options.fence):
            text(word)
        message = data if keeps else envelope.WITHOUT_OFFSET + data
        item = _Publish("c" + text(channel), message, stream if keeps else None, options)
        receipt = await self._publishes.ask(item)
        if receipt is None:
            raise Fenced
        return receipt

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return False

    async def echo(self) -> None:
        await self._database.echo()

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._database.send("c" + text(channel), envelope.JOIN + pack(info))

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._database.send("c" + text(channel), envelope.LEAVE + pack(info))

    async def history(self, channel: str, which: HistoryFilter, stream: StreamOptions) -> Part:
        read = (text(channel), which, stream)
        publications, top = await self._equal_reads.ask(read, lambda: self._reads.ask(read))
        return publications.copy(), top

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        verdicts = [True] * len(claims)
        for some in batches(range(len(claims)), CLAIMS_PER_CALL):
            try:
                wrong = await self._mismatched([claims[number] for number in some])
            except BrokerUnavailable:
                continue  # nobody knows
            for place in wrong:
                verdicts[some[place]] = False
        return verdicts

    async def _mismatched(self, claims: list[Claim]) -> list[int]:
        rows = await within(
            self._database.fetch(
                _VERIFY,
                [claim.channel for claim in claims],
                [claim.position.offset for claim in claims],
                [claim.position.epoch for claim in claims],
                [seconds(claim.hold) for claim in claims],
                [seconds(claim.stream.history_meta_ttl) for claim in claims],
            )
        )
        return [row[0] - 1 for row in rows]

    async def remove_history(self, channel: str) -> None:
        await within(self._database.fetch("SELECT gateway_remove_history($1)", text(channel)))

    async def publish_control(self, data: bytes, node: str = "") -> None:
        await self._database.send(f"ncontrol:{node}" if node else "ncontrol", data)

    def health(self) -> BrokerHealth:
        database = self._database
        return BrokerHealth(
            database.connected,
            database.deaf,
            database.lag,
            database.reconnects,
            database.refusal,
            reads=self._equal_reads.reads,
        )

    # — statements for all who ask in a tick —

    async def _publish_all(self, items: list[_Publish], patience: str) -> list[Receipt | None]:
        """Those of a row that somebody holds wait for it, and leave connections to the others."""
        if patience == HURRY:
            return await self._publish_sorted(items, patience)
        async with self._held:
            return await self._publish_sorted(items, patience)

    async def _publish_sorted(self, items: list[_Publish], patience: str) -> list[Receipt | None]:
        """Sorted by channel, so that no two statements wait for each other."""
        order = sorted(range(len(items)), key=lambda number: items[number].topic)
        ordered = [items[number] for number in order]
        plain = StreamOptions()
        streams = [item.stream or plain for item in ordered]
        rows = await self._database.fetch(
            _PUBLISH,
            [item.topic for item in ordered],
            [item.data for item in ordered],
            [stream.history_size for stream in streams],
            [seconds(stream.history_ttl) for stream in streams],
            [seconds(stream.history_meta_ttl) for stream in streams],
            [item.options.version for item in ordered],
            [item.options.version_epoch for item in ordered],
            [item.options.idempotency_key for item in ordered],
            [seconds(item.options.idempotency_ttl) for item in ordered],
            [item.options.fence for item in ordered],
            patience,
        )
        receipts: list[Receipt | None] = [None] * len(items)
        for number, (top, epoch, nodes) in zip(order, rows, strict=True):
            receipts[number] = None if nodes < 0 else Receipt(top, epoch, nodes)
        return receipts

    async def _read_all(self, reads: list[Read], _patience: str) -> list[Part]:
        order = sorted(range(len(reads)), key=lambda number: reads[number][0])
        ordered = [reads[number] for number in order]
        rows = await self._database.fetch(
            _READ,
            [channel for channel, _, _ in ordered],
            [min(which.limit, MOST_READ) for _, which, _ in ordered],
            [None if which.since is None else which.since.offset for _, which, _ in ordered],
            [which.reverse for _, which, _ in ordered],
            [seconds(stream.history_meta_ttl) for _, _, stream in ordered],
            [seconds(stream.unpublished_ttl) for _, _, stream in ordered],
        )
        parts: dict[int, Part] = {}
        for number, row in zip(order, rows, strict=True):
            stored = zip(row["messages"] or (), row["offsets"] or (), strict=True)
            read = (self._reader.stored(*each) for each in stored)
            parts[number] = [each for each in read if each is not None], _top(row)
        return [parts[number] for number in range(len(reads))]

    # — what this node hears, as owned entries —

    async def _hear_all(self, topics: list[str], _patience: str) -> Sequence[None]:
        names = list(dict.fromkeys(topics))

        async def write(owner: str) -> object:
            hears = [topic in self._subscribed for topic in names]
            return (await self._database.fetch("SELECT gateway_hear($1, $2, $3)", owner, names, hears))[0][0]

        await self._owners.write(write)
        self._doubtful.difference_update(names)
        return [None] * len(topics)

    async def repair(self) -> None:
        await self._write_rules()
        for some in batches(list(self._doubtful), HEARD_AT_ONCE):
            await asyncio.gather(*(self._hearing.ask(topic) for topic in some))

    def moved(self, swept: bool) -> None:
        self._doubtful |= self._subscribed

    async def sweep(self, owner: str) -> bool:
        statement = (
            "DELETE FROM gateway_hearing WHERE owner = $1 AND topic IN"
            " (SELECT topic FROM gateway_hearing WHERE owner = $1 LIMIT 1000) RETURNING 1"
        )
        return bool(await within(self._database.fetch(statement, owner)))

    def returned(self) -> None:
        """Nobody is told of who hears what."""

    async def _write_rules(self) -> None:
        rules = self._rules
        if not rules:
            return
        await within(
            self._database.fetch(
                "SELECT gateway_set_rules($1, $2, $3, $4)",
                [rule.pattern for rule in rules],
                [rule.stream.history_size for rule in rules],
                [seconds(rule.stream.history_ttl) for rule in rules],
                [seconds(rule.stream.history_meta_ttl) for rule in rules],
            )
        )
        self._rules = ()

    async def _keep_clean(self) -> None:
        while True:
            await asyncio.sleep(self._database.cleanup_interval)
            try:
                more = True
                while more:
                    [(more,)] = await self._database.fetch("SELECT gateway_clean($1)", CLEANED_AT_ONCE)
            except BrokerUnavailable:
                logger.debug("what has expired is removed when PostgreSQL is back")
            except Exception:
                logger.exception("what has expired could not be removed")


def _top(row: Any) -> Position:
    """The top of a stream, with those of the epochs that it had before."""
    former = zip(row["former_tops"], row["former_epochs"], strict=True)
    links = tuple(Position(top, epoch) for top, epoch in former)
    return Continued(row["top"], row["epoch"], links) if links else Position(row["top"], row["epoch"])
