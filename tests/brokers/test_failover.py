"""Servers whose data go back in time: who has seen what was lost is told, and nobody else loses anything.

In each case another node, or a publisher that is none, may come first and publish as many as were lost, or more.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.brokers.base import Claim, HistoryFilter, PublishOptions, StreamOptions
from gateway.config.settings import Settings
from gateway.errors import Error, ErrorCode
from gateway.messages import Payload, Position, Publication
from gateway.program.publisher import Publisher
from gateway.redis.server import Server
from tests.brokers.failover import (
    AT_ONCE,
    RedisNode,
    follow,
    node_at,
    promote,
    received,
    replica_of,
    synced,
    told_to_come_back,
)
from tests.redis_server import RedisServer
from tests.session.rig import NAMESPACES, Client
from tests.waiting import until

ROOM = "room:1"
CELL = "cell:1"
KEPT = StreamOptions(history_size=10, history_ttl=60.0)
ALL = HistoryFilter(limit=-1)


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    with RedisServer(*AT_ONCE) as old, replica_of(old) as new:
        synced(old)
        yield old, new


async def published(node: RedisNode, channel: str, *values: object) -> Position:
    top = await node.publish(channel, *values)
    return Position(top.offset, top.epoch)


async def live(node: RedisNode, channel: str) -> Client:
    client = await node.connected()
    await client.subscribe(channel)
    return client


async def by_a_node(first: RedisNode, server: RedisServer, channel: str, values: list[str]) -> None:
    await first.move(server)
    await first.publish(channel, *values)


async def by_a_publisher(first: RedisNode, server: RedisServer, channel: str, values: list[str]) -> None:
    settings = Settings(engine={"type": "redis", "redis": {"address": server.url}}, channel={"namespaces": NAMESPACES})
    with Publisher(settings) as publisher:
        for value in values:
            publisher.publish(channel, value)
    await first.move(server)


First = Callable[[RedisNode, RedisServer, str, list[str]], Awaitable[None]]


def known(shard: Server) -> bytes:
    """Which history of data its connection holds the server to have."""
    connection = shard._commands.connection
    return b"" if connection is None else connection.identity


@pytest.fixture(params=[by_a_node, by_a_publisher])
def publish_first(request: pytest.FixtureRequest) -> First:
    """Who publishes at the promoted server before the other node is back."""
    first: First = request.param
    return first


# — a replica that lagged is promoted —


@pytest.mark.parametrize("channel", [ROOM, CELL])
@pytest.mark.parametrize("more", [3, 5, 6])
async def test_a_lossy_failover(publish_first: First, channel: str, more: int) -> None:
    """Five were kept and five lost; so many were published over them before the subscriber's node is back."""
    async with servers() as (old, new), node_at(old) as one, node_at(old) as other:
        client = await live(one, channel)
        kept = await published(one, channel, *range(1, 6))
        synced(old)
        promote(new)
        seen = await published(one, channel, *range(6, 11))
        await received(client, *range(1, 11))
        assert (kept.offset, seen) == (5, Position(10, kept.epoch))
        anew = [f"new {number}" for number in range(more)]
        await publish_first(other, new, channel, anew)

        await one.move(new)
        await told_to_come_back(client)
        newest = anew if channel == ROOM else anew[-1:]
        for node in (one, other):
            recovered, data, epoch = await node.returning(channel, kept.offset, kept.epoch)
            assert (recovered, data) == (True, newest)
            assert epoch != kept.epoch
            assert await node.returning(channel, seen.offset, seen.epoch) == (
                (False, [], epoch) if channel == ROOM else (True, newest, epoch)
            )
            assert await node.returning(channel, 5 + more, epoch) == (True, [], epoch)


async def test_who_has_seen_nothing_that_was_lost_is_not_disturbed_before_something_is_published() -> None:
    async with servers() as (old, new), node_at(old) as one, node_at(old) as other:
        kept = await published(one, ROOM, *range(1, 6))
        client = await live(one, ROOM)
        synced(old)
        promote(new)
        await one.move(new)
        await other.move(new)
        claim = Claim(ROOM, kept, KEPT)
        assert await one.redis.verify([claim]) == [True]
        assert await other.returning(ROOM, 5, kept.epoch) == (True, [], kept.epoch)
        assert client.take() == []
        top = await published(other, ROOM, "new")
        assert top.epoch != kept.epoch
        await told_to_come_back(client)
        assert await one.redis.verify([claim]) == [False]
        assert await one.returning(ROOM, 5, kept.epoch) == (True, ["new"], top.epoch)


async def test_a_subscriber_that_is_ahead_of_a_quiet_stream() -> None:
    """Nobody has published since: those who have seen what was lost are told, and no others."""
    async with servers() as (old, new), node_at(old) as one:
        client = await live(one, ROOM)
        kept = await published(one, ROOM, *range(1, 6))
        synced(old)
        promote(new)
        await one.publish(ROOM, *range(6, 11))
        await received(client, *range(1, 11))
        await one.move(new)
        await told_to_come_back(client)
        recovered, data, epoch = await one.returning(ROOM, 10, kept.epoch)
        assert (recovered, data) == (False, [])
        assert await one.returning(ROOM, 4, kept.epoch) == (True, [5], epoch)
        assert await published(one, ROOM, "new") == Position(6, epoch), "once is enough"


async def test_history_since_a_former_epoch() -> None:
    async with servers() as (old, new), node_at(old) as one:
        kept = await published(one, ROOM, *range(1, 6))
        synced(old)
        promote(new)
        await one.publish(ROOM, *range(6, 11))
        await one.move(new)
        top = await published(one, ROOM, "new")
        room = one.node.channels.resolve(ROOM)

        async def offsets(offset: int, *, reverse: bool = False) -> list[int]:
            which = HistoryFilter(-1, Position(offset, kept.epoch), reverse)
            publications, found = await one.node.history(room, which)
            assert found == top
            return [each.offset for each in publications]

        assert await offsets(3) == [4, 5, 6]
        assert await offsets(5) == [6]
        assert await offsets(5, reverse=True) == [4, 3, 2, 1]
        for reverse in (False, True):
            with pytest.raises(Error) as refused:
                await offsets(6, reverse=reverse)
            assert refused.value.code == ErrorCode.UNRECOVERABLE_POSITION


async def test_a_stream_that_has_only_been_read(publish_first: First) -> None:
    """Its epoch came to the replica, and nothing that was published under it."""
    async with servers() as (old, new), node_at(old) as one, node_at(old) as other:
        client = await live(one, ROOM)
        synced(old)
        promote(new)
        seen = await published(one, ROOM, 1, 2)
        await received(client, 1, 2)
        await publish_first(other, new, ROOM, ["new 1", "new 2", "new 3"])
        await one.move(new)
        await told_to_come_back(client)
        recovered, data, epoch = await one.returning(ROOM, 2, seen.epoch)
        assert (recovered, data) == (False, [])
        assert await one.returning(ROOM, 0, seen.epoch) == (True, ["new 1", "new 2", "new 3"], epoch)


async def test_promoted_twice_in_a_row(publish_first: First) -> None:
    async with servers() as (first, second), node_at(first) as one, node_at(first) as other:
        kept = await published(one, ROOM, 1, 2, 3)
        synced(first)
        promote(second)
        lost = await published(one, ROOM, 4, 5)
        await one.move(second)
        then = await published(one, ROOM, "second 4", "second 5")
        assert lost.offset == then.offset == 5
        with replica_of(second) as third:
            synced(second)
            promote(third)
            lost_again = await published(one, ROOM, "lost again")
            assert lost_again == Position(6, then.epoch)
            await publish_first(other, third, ROOM, ["third 6", "third 7"])
            await one.move(third)
            for node in (one, other):
                news: list[object] = ["second 4", "second 5", "third 6", "third 7"]
                epoch = (await node.returning(ROOM, 0, ""))[2]
                assert await node.returning(ROOM, 3, kept.epoch) == (True, news, epoch)
                assert await node.returning(ROOM, 4, kept.epoch) == (False, [], epoch)
                assert await node.returning(ROOM, 5, lost.epoch) == (False, [], epoch)
                assert await node.returning(ROOM, 4, then.epoch) == (True, news[1:], epoch)
                assert await node.returning(ROOM, 5, then.epoch) == (True, news[2:], epoch)
                assert await node.returning(ROOM, 6, then.epoch) == (False, [], epoch)


async def test_two_masters_at_a_time() -> None:
    """The old one goes on for a node that is cut off with it, then follows the new one."""
    async with servers() as (old, new), node_at(old) as cut_off, node_at(old) as other:
        client = await live(cut_off, ROOM)
        kept = await published(cut_off, ROOM, 1, 2)
        synced(old)
        promote(new)
        await other.move(new)
        for number in range(3, 6):
            theirs = await published(cut_off, ROOM, f"old {number}")
            ours = await published(other, ROOM, f"new {number}")
        assert (theirs.epoch, theirs.offset) == (kept.epoch, ours.offset)
        await received(client, 1, 2, "old 3", "old 4", "old 5")
        follow(old, new)
        await cut_off.move(new)
        await told_to_come_back(client)
        assert await cut_off.returning(ROOM, 5, theirs.epoch) == (False, [], ours.epoch)
        assert await cut_off.returning(ROOM, 2, kept.epoch) == (True, ["new 3", "new 4", "new 5"], ours.epoch)


# — a server that comes back —


async def test_restart_from_an_older_dump(publish_first: First) -> None:
    with RedisServer() as server:
        async with node_at(server) as one, node_at(server) as other:
            client = await live(one, ROOM)
            kept = await published(one, ROOM, 1, 2)
            with server.client() as redis:
                redis.save()
            seen = await published(one, ROOM, 3, 4)
            await received(client, 1, 2, 3, 4)
            one.cable.pull()
            server.kill()
            server.start()
            await publish_first(other, server, ROOM, ["new 3", "new 4"])
            await one.move(server)
            await told_to_come_back(client)
            recovered, data, epoch = await one.returning(ROOM, 4, seen.epoch)
            assert (recovered, data) == (False, [])
            assert await one.returning(ROOM, 2, kept.epoch) == (True, ["new 3", "new 4"], epoch)


async def test_restart_with_everything(publish_first: First) -> None:
    """Nobody has lost anything, and everybody is told the new epoch."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with node_at(server) as one, node_at(server) as other:
            client = await live(one, ROOM)
            kept = await published(one, ROOM, 1, 2)
            await received(client, 1, 2)
            one.cable.pull()
            server.kill()
            server.start()
            await publish_first(other, server, ROOM, ["new"])
            await one.move(server)
            await told_to_come_back(client)
            for offset, missed in enumerate([[1, 2, "new"], [2, "new"], ["new"]]):
                recovered, data, epoch = await one.returning(ROOM, offset, kept.epoch)
                assert (recovered, data) == (True, missed)
            assert await one.returning(ROOM, 3, epoch) == (True, [], epoch)


async def test_a_live_master_becomes_a_replica_and_a_master_again() -> None:
    """By hand, under open connections: who publishes without one asks; nodes look with each probe."""
    async with servers() as (server, other_server), node_at(server, probe_interval=0.05) as one:
        await published(one, ROOM, 1, 2)
        synced(server)
        promote(other_server)
        seen = await published(one, ROOM, 3, 4)
        one.cable.pull()  # so that nothing is refused meanwhile
        await until(lambda: not one.shard.connected)
        follow(server, other_server)
        one.cable.plug(server.port)
        await until(lambda: one.shard.connected)
        assert known(one.shard) == b"?"
        reconnects = one.shard.reconnects
        promote(server)
        top = await published(one, ROOM, "new 3", "new 4")
        assert one.shard.reconnects == reconnects
        assert (top.offset, top.epoch) != (seen.offset, seen.epoch)
        assert await one.returning(ROOM, 4, seen.epoch) == (False, [], top.epoch)
        assert await one.returning(ROOM, 2, seen.epoch) == (True, ["new 3", "new 4"], top.epoch)


async def test_a_live_master_that_lost_its_data_under_an_open_connection() -> None:
    async with servers() as (server, other_server), node_at(server, probe_interval=0.05) as one:
        await published(one, ROOM, 1, 2)
        synced(server)
        promote(other_server)
        seen = await published(one, ROOM, 3, 4)
        reconnects = one.shard.reconnects
        follow(server, other_server)
        promote(server)
        with server.client() as redis:
            now = redis.info("replication")["master_replid"][:16].encode()
        await until(lambda: known(one.shard) == now)
        assert one.shard.reconnects == reconnects
        top = await published(one, ROOM, "new 3", "new 4")
        assert top.epoch != seen.epoch
        assert await one.returning(ROOM, 4, seen.epoch) == (False, [], top.epoch)
        assert await one.returning(ROOM, 2, seen.epoch) == (True, ["new 3", "new 4"], top.epoch)


# — keys that go —


async def test_everything_is_flushed(publish_first: First) -> None:
    with RedisServer() as server:
        async with node_at(server) as one, node_at(server) as other:
            client = await live(one, ROOM)
            seen = await published(one, ROOM, 1, 2)
            await received(client, 1, 2)
            with server.client() as redis:
                redis.flushall()
            await publish_first(other, server, ROOM, ["new 1", "new 2", "new 3"])
            await told_to_come_back(client)
            assert (await one.returning(ROOM, 2, seen.epoch))[0] is False


@pytest.mark.parametrize("kind", [b"m", b"s"])
async def test_a_key_is_evicted(kind: bytes) -> None:
    """Without its meta data a stream begins anew; without what it kept it goes on, and who missed something is told."""
    with RedisServer() as server:
        async with node_at(server) as one:
            client = await live(one, ROOM)
            seen = await published(one, ROOM, 1, 2)
            await received(client, 1, 2)
            with server.client() as redis:
                assert redis.delete(one.shard.keys.of(kind, ROOM))
            if kind == b"s":
                assert await one.returning(ROOM, 1, seen.epoch) == (False, [], seen.epoch)
                assert await one.returning(ROOM, 2, seen.epoch) == (True, [], seen.epoch)
                assert await published(one, ROOM, 3) == Position(3, seen.epoch)
                await received(client, 3)
            else:
                top = await published(one, ROOM, "new 1", "new 2", "new 3")
                assert (top.offset, top.epoch == seen.epoch) == (3, False)
                await told_to_come_back(client)
                assert await one.returning(ROOM, 2, seen.epoch) == (False, [], top.epoch)


# — the epoch is bound to the server's history of data —


async def test_streams_of_an_older_release_keep_their_epoch(publish_first: First) -> None:
    """It has not said under which history of data it wrote: from here on that is known."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with node_at(server) as one, node_at(server) as other:
            seen = await published(one, ROOM, 1)
            meta = one.shard.keys.of(b"m", ROOM)
            with server.client() as redis:
                assert redis.hdel(meta, "r") == 1
                server.stop()
                server.start()
                await publish_first(other, server, ROOM, ["known"])
                assert redis.hget(meta, "r") == redis.info("replication")["master_replid"][:16].encode()
            await one.move(server)
            assert await one.returning(ROOM, 1, seen.epoch) == (True, ["known"], seen.epoch)


async def test_what_was_learnt_of_a_server_may_be_outdated() -> None:
    """A master that gets its first replica has another id, and all its data. Nodes learn that one after the other."""
    with RedisServer(*AT_ONCE) as server:
        async with node_at(server, probe_interval=60.0) as one:
            seen = await published(one, ROOM, 1)
            with replica_of(server):
                synced(server)
                async with node_at(server) as other:
                    epochs = [(await published(node, ROOM, "new")).epoch for _ in range(5) for node in (one, other)]
            former, anew = dict.fromkeys(epochs)
            assert epochs == [former] + [anew] * 9, "a new epoch once, not in turns"
            assert former == seen.epoch


async def test_the_server_is_asked_only_where_it_is_not_known() -> None:
    with RedisServer() as server:
        async with node_at(server, probe_interval=60.0) as one:
            with server.client() as redis:
                await until(lambda: one.shard._flushes[0], what="the first probe has asked")
                redis.config_resetstat()
                for stream in (ROOM, CELL, "room:2"):
                    await one.publish(stream, *range(20))
                assert "cmdstat_info" not in redis.info("commandstats")


async def test_as_many_former_epochs_are_known_as_are_of_use() -> None:
    with RedisServer() as server:
        async with node_at(server) as one:
            positions = []
            for number in range(11):
                positions.append(await published(one, ROOM, number))
                with server.client() as redis:
                    redis.execute_command("REPLICAOF", "127.0.0.1", "1")
                promote(server)
                await one.move(server)
            assert len({position.epoch for position in positions}) == 11
            recovered = [(await one.returning(ROOM, each.offset, each.epoch))[0] for each in positions]
            assert recovered == [False, False] + [True] * 9


async def test_a_stream_that_moves_to_another_server() -> None:
    """As a slot of a cluster does, or what a tool copies."""
    with RedisServer() as one_server, RedisServer() as other_server:
        async with node_at(one_server) as one:
            seen = await published(one, ROOM, 1, 2)
            with one_server.client() as source, other_server.client() as target:
                for key in one.shard.keys.stream(ROOM):
                    target.restore(key, 60_000, source.dump(key))
            await one.move(other_server)
            top = await published(one, ROOM, 3)
            assert (top.offset, top.epoch == seen.epoch) == (3, False)
            assert await one.returning(ROOM, 1, seen.epoch) == (True, [2, 3], top.epoch)


# — the ways to publish —


@pytest.mark.parametrize("stream", [KEPT, StreamOptions(history_size=1, history_ttl=60.0)])
@pytest.mark.parametrize("fence", ["", "mine"])
async def test_fences_versions_and_repeats_across_a_failover(stream: StreamOptions, fence: str) -> None:
    async with servers() as (old, new), node_at(old) as one:

        async def say(text: str, key: str = "", version: int = 0) -> Position:
            options = PublishOptions(idempotency_key=key, version=version, fence=fence)
            return await one.redis.publish(ROOM, Publication(Payload(text.encode())), stream, options)

        with old.client() as redis:
            redis.set(one.shard.keys.of(b"l", ROOM), "mine")
        first = await say("a", key="k1", version=5)
        synced(old)
        promote(new)
        lost = await say("lost", key="k2", version=7)
        await one.move(new)
        assert await say("a again", key="k1", version=5) == first
        dropped = await say("too old", version=5)
        assert (dropped.offset, dropped.epoch) == (1, first.epoch)
        [kept], top = await one.redis.history(ROOM, ALL, stream)
        assert (kept.data, top.offset, top.epoch) == (b"a", 1, first.epoch), "nothing has been published"

        again = await say("again", key="k2", version=6)
        assert again.offset == lost.offset == 2
        assert again.epoch != lost.epoch == first.epoch
        assert await say("again", key="k2", version=6) == again
        publications, top = await one.redis.history(ROOM, ALL, stream)
        assert [each.data for each in publications][-1] == b"again"
        assert len(publications) == min(stream.history_size, 2)
        with new.client() as redis:
            redis.set(one.shard.keys.of(b"l", ROOM), "another's")
        if fence:
            with pytest.raises(Error):
                await say("fenced")


async def test_where_the_server_does_not_tell_everything_is_as_before() -> None:
    right = ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-info", "--appendonly", "yes")
    with RedisServer(*right, "--appendfsync", "always") as server:
        async with node_at(server) as one:
            seen = await published(one, ROOM, 1)
            server.stop()
            server.start()
            await one.move(server)
            assert await published(one, ROOM, 2) == Position(2, seen.epoch)
