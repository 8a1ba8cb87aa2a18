"""The lineage of epochs, at random: two servers that take over each other's data, of now or of before.

What a client has seen is kept beside the position that it holds. Who is told that it is recovered must have seen, with
what it is sent, exactly what the stream consists of; who is told that it is not, must have lost something.
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import NoScriptError

from gateway.brokers.base import Claim, Continued, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.core.recovery import recover_stream, resume
from gateway.messages import Payload, Position, Publication
from gateway.redis.keys import Keys
from gateway.redis.resp import Argument
from gateway.redis.script import UNIDENTIFIED, Script
from gateway.redis.shard import Shard
from tests.redis_server import RedisServer

ROOM = "room"
KEPT = StreamOptions(history_size=5, history_ttl=600.0)
MOST = 1_000_000
CLIENTS = 2

Dump = tuple[list[bytes | None], list[int]]


class World:
    """A server, and the truth about the stream there. In place of a ``Shard`` it runs a broker's scripts."""

    def __init__(self, server: RedisServer) -> None:
        self.redis = server.client()
        self.keys = Keys("test")
        self.spans = True
        self.broker = RedisBroker(cast(Shard, self))
        self.identity = b""
        self.stream: list[int] = []
        self.become(([None, None], []))

    def load(self, *scripts: Script) -> None:
        """They are sent whole."""

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            answer.set_result(self.execute(*script.by_digest(keys, args, self.identity)))
        except NoScriptError:
            answer.set_result(self.execute(*script.by_text(keys, args, self.identity)))
        return answer

    def execute(self, *command: Argument) -> Any:
        return self.redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so

    def dump(self) -> Dump:
        return [self.redis.dump(key) for key in self.keys.stream(ROOM)], self.stream.copy()

    def become(self, dump: Dump) -> None:
        """Start again with these data, or be promoted with them; nodes have to connect again."""
        self.execute("REPLICAOF", "127.0.0.1", "1")
        self.execute("REPLICAOF", "NO", "ONE")
        self.redis.flushall()
        for key, value in zip(self.keys.stream(ROOM), dump[0], strict=True):
            if value is not None:
                self.redis.restore(key, 600_000, value)
        self.stream = dump[1].copy()
        self.identity = self.redis.info("replication")["master_replid"][:16].encode()

    async def publish(self, value: int, *, identified: bool) -> Position:
        known, self.identity = self.identity, self.identity if identified else UNIDENTIFIED
        top = await self.broker.publish(ROOM, Publication(Payload(b"%d" % value)), KEPT, PublishOptions())
        self.identity = known
        self.stream.append(value)
        assert top.offset == len(self.stream)
        return Position(top.offset, top.epoch)


class Reader:
    """A client, and all that it has seen. It listens at one server; behind, it gets nothing until it comes back."""

    def __init__(self) -> None:
        self.at: World | None = None
        self.position = Position(0, "_")
        self.seen: list[int] = []

    def hear(self, world: World, value: int, top: Position) -> None:
        """What a hub does with a publication."""
        if self.at is world and top == Position(self.position.offset + 1, self.position.epoch):
            self.position = top
            self.seen.append(value)
            assert self.seen == world.stream, "delivered as a continuation of something else"
        elif self.at is world:
            self.at = None

    async def come_back(self, world: World) -> None:
        stream, top = await world.broker.history(ROOM, HistoryFilter(limit=-1, since=self.position), KEPT)
        since, now = resume(self.position, top)
        assert since is not None
        found = recover_stream(since, stream, now, MOST)
        offset, epoch = self.position.offset, self.position.epoch
        if found.recovered:
            self.seen += [int(each.data) for each in found.publications]
            assert self.seen == world.stream, "told that nothing is missing"
        else:
            known = isinstance(top, Continued) and epoch in [each.epoch for each in top.former]
            kept = len(world.stream) - offset <= KEPT.history_size
            whole = self.seen == world.stream[:offset] and kept
            assert not (whole and (known or epoch == top.epoch)), "told that something is missing"
            self.seen = world.stream.copy()
        self.at, self.position = world, found.position

    async def check(self) -> None:
        if self.at is not None:
            [good] = await self.at.broker.verify([Claim(ROOM, self.position, KEPT)])
            if good:
                assert self.seen == self.at.stream, "verified"
            else:
                self.at = None


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer() as one, RedisServer() as other:
        yield one, other


servers = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), servers, st.integers(1, 3), st.booleans()),
        st.tuples(st.just("become"), servers, st.integers(0, 3)),
        st.tuples(st.just("come back"), st.integers(0, CLIENTS - 1), servers),
        st.tuples(st.just("check"), st.integers(0, CLIENTS - 1)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_recovered_means_that_nothing_is_missing(
    pair: tuple[RedisServer, RedisServer], steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(_play([World(server) for server in pair], steps))


async def _play(worlds: list[World], steps: list[tuple[Any, ...]]) -> None:
    readers = [Reader() for _ in range(CLIENTS)]
    dumps = [worlds[0].dump()]
    values = count(1)
    for step in steps:
        match step:
            case "publish", number, times, identified:
                for value in islice(values, times):
                    top = await worlds[number].publish(value, identified=identified)
                    dumps.append(worlds[number].dump())
                    for reader in readers:
                        reader.hear(worlds[number], value, top)
            case "become", number, before:
                worlds[number].become(dumps[-1 - before % len(dumps)])
            case "come back", reader, number:
                await readers[reader].come_back(worlds[number])
                dumps.append(worlds[number].dump())  # with an epoch at least
            case "check", reader:
                await readers[reader].check()
    for reader in readers:
        for world in worlds:
            await reader.come_back(world)
    for world in worlds:
        world.redis.close()
