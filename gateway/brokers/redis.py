"""The broker of many nodes: pub/sub and streams of a Redis server.

A node hears its own publications through Redis too, like those of all others.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from gateway.batches import batches
from gateway.brokers import envelope
from gateway.brokers.base import (
    NO_EXTRAS,
    BrokerEvents,
    BrokerHealth,
    Claim,
    Fenced,
    HistoryFilter,
    Posted,
    PublishOptions,
    StreamOptions,
    new_epoch,
)
from gateway.brokers.calls import (
    LINEAGE,
    LUA,
    PUBLISH,
    PUBLISH_ONCE,
    Call,
    control_call,
    message_call,
    publish_call,
    read_receipt,
)
from gateway.brokers.fence import FENCED_SCRIPTS, behind_fence
from gateway.brokers.redis_history import SCRIPTS, Part, RedisHistory
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Publication, Receipt, pack
from gateway.redis.keys import partition
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_VERIFY = Script(LUA / "verify.lua")
_RESTART = Script(*LINEAGE, LUA / "restart.lua")

CLAIMS_PER_CALL = 256
"""Claims that one script looks at: a millisecond of Redis, for which everybody else waits."""

CALLS_AT_ONCE = 8

logger = logging.getLogger(__name__)


class RedisBroker:
    """Carries publications over a started ``Shard``, which stays the caller's to close."""

    def __init__(self, shard: Shard, clock: Callable[[], float] = time.time) -> None:
        self._shard = shard
        shard.load(PUBLISH, PUBLISH_ONCE, *SCRIPTS, _VERIFY, _RESTART, *FENCED_SCRIPTS)
        self._keys = shard.keys
        self._clock = clock
        self._reader = envelope.Reader()
        self._history = RedisHistory(shard, self._reader)
        self._events: BrokerEvents | None = None

    async def start(self, node: str, events: BrokerEvents) -> None:
        self._events = events
        self._deliver = partial(self._reader.deliver, events)  # of which one for a channel is as quick, for it is flat
        self._shard.on_reconnect.append(events.on_gap)
        self._controls = [self._keys.shared("control"), self._keys.shared("control", node)]
        for name in self._controls:
            await self._shard.listen(name, events.on_control)

    async def close(self) -> None:
        if self._events is None:
            return
        self._shard.on_reconnect.remove(self._events.on_gap)
        self._events = None
        channels = [name for name in self._shard.names() if self._keys.is_of(b"c", name)]
        await self._shard.forget([*self._controls, *channels])

    def subscribe(self, channel: str) -> Awaitable[None]:
        return self._shard.subscribe(self._keys.of(b"c", channel), partial(self._deliver, channel))

    def unsubscribe(self, channel: str) -> Awaitable[None]:
        return self._shard.unsubscribe(self._keys.of(b"c", channel))

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        return await self._shard.hearers([self._keys.of(b"c", channel) for channel in channels])

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        call = publish_call(self._keys, channel, publication, stream, options, self._clock())
        if options.fence:
            call = behind_fence(self._keys, channel, call, options.fence)
        answer = await self._run(call)
        if answer is None:
            raise Fenced
        return read_receipt(answer)

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return self._run(publish_call(self._keys, channel, publication, stream, NO_EXTRAS, self._clock()))

    async def echo(self) -> None:
        await self._shard.echo()

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._run(message_call(self._keys, channel, envelope.JOIN + pack(info)))

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._run(message_call(self._keys, channel, envelope.LEAVE + pack(info)))

    def history(self, channel: str, which: HistoryFilter, stream: StreamOptions) -> asyncio.Future[Part]:
        return self._history.reads.ask((channel, which, stream))

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        """Batched by partition, so that all keys of a script have the same hash tag."""
        groups: defaultdict[tuple[int, StreamOptions], list[int]] = defaultdict(list)
        for number, claim in enumerate(claims):
            groups[partition(claim.channel), claim.stream].append(number)
        verdicts = [True] * len(claims)
        calls = [call for group in groups.values() for call in batches(group, CLAIMS_PER_CALL)]
        for some in batches(calls, CALLS_AT_ONCE):
            wrong = await asyncio.gather(*(self._mismatched([claims[number] for number in call]) for call in some))
            for call, found in zip(some, wrong, strict=True):
                for index in found:
                    verdicts[call[index]] = False
        return verdicts

    async def _mismatched(self, claims: list[Claim]) -> list[int]:
        """Which of these, all of one partition and kept alike, do not stand at the top of their streams."""
        args: list[Argument] = [milliseconds(claims[0].stream.history_meta_ttl)]
        for claim in claims:
            args += (claim.position.offset, claim.position.epoch, milliseconds(claim.hold))
        try:
            wrong = await self._shard.run(_VERIFY, [self._keys.of(b"m", claim.channel) for claim in claims], args)
            for number in wrong:
                if number < 0:
                    await self._restart(claims[-number - 1])
        except BrokerUnavailable:
            return []  # nobody knows
        except Exception:  # others are looked at together with these
            logger.exception("a check of positions failed")
            return []
        return [abs(number) - 1 for number in wrong]

    async def _restart(self, claim: Claim) -> None:
        lasts = milliseconds(claim.stream.unpublished_ttl)
        await self._shard.run(
            _RESTART,
            self._keys.stream(claim.channel),
            [claim.position.offset, claim.position.epoch, new_epoch(), lasts],
        )

    async def remove_history(self, channel: str) -> None:
        await self._shard.execute("DEL", self._keys.of(b"s", channel))

    async def publish_control(self, data: bytes, node: str = "") -> None:
        await self._run(control_call(self._keys, data, node))

    def health(self) -> BrokerHealth:
        shard = self._shard
        servers = tuple(shard.health())
        refusal = next((server.refusal for server in servers if server.refusal), "")
        return BrokerHealth(
            shard.connected,
            shard.deaf,
            shard.lag,
            shard.reconnects,
            refusal,
            servers,
            shard.refused,
            self._history.reads.reads,
        )

    def _run(self, call: Call) -> asyncio.Future[Any]:
        if call.script is None:
            return self._shard.publish(*call.keys, *call.args)
        return self._shard.run(call.script, call.keys, call.args)
