"""Presence in Redis when nodes die, leases are lost and Redis goes away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload
from gateway.presence import redis as module
from gateway.presence.redis import RedisPresence
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

ANN = ClientInfo("ann", "c1")
BOB = ClientInfo("bob", "c2")

Swept = list[tuple[str, ClientInfo]]


@asynccontextmanager
async def node(
    server: RedisServer, name: str, swept: Swept | None = None, *, lease: float = 0.5, sweep: float = 0.1
) -> AsyncIterator[RedisPresence]:
    seen: Swept = [] if swept is None else swept
    async with started_shard(server.url, io_timeout=0.5) as shard:
        presence = RedisPresence(shard, lease=lease, renew_interval=lease / 5, sweep_interval=sweep)
        await presence.start(name, lambda channel, info: seen.append((channel, info)))
        try:
            yield presence
        finally:
            await presence.close()


async def die(presence: RedisPresence) -> None:
    """End a node's presence as kill -9 would: nothing is given back."""
    for task in presence._tasks:
        task.cancel()
    await asyncio.gather(*presence._tasks, return_exceptions=True)


async def test_nodes_see_each_others_members(server: RedisServer) -> None:
    async with node(server, "n1") as first, node(server, "n2") as second:
        await first.add("news", ANN)
        await second.add("news", BOB)
        assert await first.members("news") == await second.members("news") == {"c1": ANN, "c2": BOB}
        await first.close()
        assert await second.members("news") == {"c2": BOB}


async def test_members_of_a_dead_node_vanish_and_are_swept_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    swept: Swept = []
    async with node(server, "n1", swept) as first, node(server, "n2", swept) as second, node(server, "n3") as third:
        await die(third)
        for number in range(10):
            await third.add(f"room{number}", ANN)
            await third.add("big", ClientInfo("u", f"x{number}"))
        await first.add("big", BOB)
        await until(lambda: len(swept) == 20)
        assert await second.members("big") == {"c2": BOB}
        assert await second.members("room3") == {}
        assert len({(channel, info.client) for channel, info in swept}) == 20
        await until(lambda: _keys(server, "*n3*") == [])
        with server.client() as client:
            assert client.smembers("gateway:presence") == {b"n1.1", b"n2.1"}
            assert client.hlen(first._keys.of(b"h", "big").decode()) == 1
            third._members.clear()
            third._owner = ""


async def test_readers_leave_out_members_without_lease(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60) as first, node(server, "n2", sweep=60) as second:
        await second.add("news", BOB)
        assert await first.members("news") == {"c2": BOB}
        await die(second)
        await until(lambda: _absent(first, "news"))
        with server.client() as client:
            assert client.hlen(first._keys.of(b"h", "news").decode()) == 1


async def test_lost_lease_brings_everything_back(server: RedisServer) -> None:
    async with node(server, "n1") as first, node(server, "n2") as second:
        await first.add("news", ANN)
        await first.add("other", ANN)
        with server.client() as client:
            client.flushall()
        await until(lambda: _has(second, "news", {"c1": ANN}))
        await until(lambda: _has(second, "other", {"c1": ANN}))
        with server.client() as client:
            assert client.smembers("gateway:presence:channels:n1.2") == {b"news", b"other"}


async def test_node_that_was_swept_while_paused_comes_back(server: RedisServer) -> None:
    swept: Swept = []
    async with node(server, "n1", swept) as first, node(server, "n2") as second:
        await second.add("news", BOB)
        await die(second)
        await until(lambda: swept == [("news", BOB)])
        second._tasks = [asyncio.create_task(second._keep_lease())]
        await until(lambda: _has(first, "news", {"c2": BOB}))
        assert swept == [("news", BOB)]


async def test_sweeper_spares_members_that_have_a_new_owner(server: RedisServer) -> None:
    swept: Swept = []
    async with node(server, "n1", swept, sweep=60) as first, node(server, "n2", sweep=60) as second:
        await second.add("news", BOB)
        former = second._owner
        second._sure = False
        await until(lambda: second._owner != former and second._sure)
        await until(lambda: not _keys(server, f"*lease:{former}"))
        await first._sweep()
        assert swept == []
        # Likewise if the member has changed hands after the sweeper had looked.
        key = first._keys.of(b"h", "news")
        assert await first._shard.run(module._SWEEP, [key], [former, "c2"]) == []
        assert _keys(server, f"*{former}*") == []
        assert await first.members("news") == {"c2": BOB}


async def test_index_forgets_a_channel_with_its_last_member(server: RedisServer) -> None:
    async with node(server, "n1") as first:
        for info in (ANN, BOB):
            await first.add("news", info)
        with server.client() as client:
            await first.remove("news", "c1")
            assert client.smembers("gateway:presence:channels:n1.1") == {b"news"}
            await first.remove("news", "c2")
            assert client.smembers("gateway:presence:channels:n1.1") == set()


async def test_every_key_expires(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(server, "n1") as first:
        await first.add("news", ANN)
        await first.add("news", BOB)
        with server.client() as client:
            assert {key: client.ttl(key) for key in client.keys("*") if client.ttl(key) < 0} == {}
            # Each key is armed again long before it runs out.
            hash_key = first._keys.of(b"h", "news").decode()
            client.persist(hash_key)
            await until(lambda: client.ttl(hash_key) > 0)


async def test_unanswered_commands_fail_and_are_made_good(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1", lease=5) as first, node(own, "n2", lease=5) as second:
            await first.add("news", ANN)
            await first.add("news", ClientInfo("u", "c3"))
            own.pause()
            results = await asyncio.gather(
                first.add("news", BOB), first.remove("news", "c3"), first.members("news"), return_exceptions=True
            )
            assert [type(result) for result in results] == [BrokerUnavailable] * 3
            own.resume()
            # Redis carries the commands out after all; the node starts over and its former self is swept.
            await until(lambda: first._owner == "n1.2" and first._sure)
            await until(lambda: _has(second, "news", {"c1": ANN}))


async def test_starts_and_closes_without_redis() -> None:
    with RedisServer() as own:
        own.kill()
        async with node(own, "n1") as first, node(own, "n2") as second:
            with pytest.raises(BrokerUnavailable):
                await first.add("news", ANN)
            assert first._members == {}
            own.start()
            await until(lambda: first._sure and second._sure)
            await first.add("news", ANN)
            assert await second.members("news") == {"c1": ANN}
            own.kill()


async def test_empty_restart_of_redis(server: RedisServer) -> None:
    with RedisServer() as own:
        async with node(own, "n1") as first, node(own, "n2") as second:
            await first.add("news", ANN)
            own.kill()
            own.start()
            await until(lambda: _has(second, "news", {"c1": ANN}))


async def test_closing_a_store_that_never_started(server: RedisServer) -> None:
    async with started_shard(server.url) as shard:
        await RedisPresence(shard).close()


def _keys(server: RedisServer, pattern: str) -> list[bytes]:
    with server.client() as client:
        found: list[bytes] = client.keys(pattern)
        return found


async def _has(presence: RedisPresence, channel: str, expected: dict[str, ClientInfo]) -> bool:
    try:
        return await presence.members(channel) == expected
    except BrokerUnavailable:
        return False


async def _absent(presence: RedisPresence, channel: str) -> bool:
    return await _has(presence, channel, {})


@pytest.mark.parametrize(("work", "told"), [("_sweep", "sweeping failed"), ("_renew", "lease could not be renewed")])
async def test_a_failure_nobody_thought_of_does_not_end_the_watch(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, work: str, told: str
) -> None:
    async with node(server, "n1") as presence:
        calls = 0

        async def fails(*_: object) -> None:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError

        monkeypatch.setattr(presence, work, fails)
        await until(lambda: calls >= 2)
        assert told in caplog.text


async def shows(presence: RedisPresence, members: dict[str, ClientInfo]) -> bool:
    with suppress(BrokerUnavailable):
        return await presence.members("news") == members
    return False


async def test_redis_comes_back_with_an_older_state(server: RedisServer) -> None:
    """No command has failed and the lease still runs, but what Redis holds is not what it was told last."""
    with RedisServer() as own:
        async with started_shard(own.url) as shard:
            presence = RedisPresence(shard, renew_interval=0.1)
            await presence.start("n1", lambda _channel, _info: None)
            await presence.add("news", ANN)
            with own.client() as client:
                client.save()
            await presence.remove("news", ANN.client)
            await presence.add("news", BOB)
            own.kill()
            own.start()

            await until(partial(shows, presence, {"c2": BOB}))
            await presence.close()


async def test_one_that_could_not_be_shown_anew_stays_present(server: RedisServer) -> None:
    with RedisServer() as own:
        async with started_shard(own.url) as shard:
            presence = RedisPresence(shard, renew_interval=0.1)
            await presence.start("n1", lambda _channel, _info: None)
            await presence.add("news", ANN)
            own.kill()
            renewed = ClientInfo("ann", "c1", chan_info=Payload(b"1"))
            with pytest.raises(BrokerUnavailable):
                await presence.add("news", renewed)
            own.start()

            await until(partial(shows, presence, {"c1": renewed}))
            await presence.close()


async def test_what_cannot_be_read_is_nobody_and_is_swept(server: RedisServer) -> None:
    async with node(server, "n1") as living:
        shard = living._shard
        await shard.execute("SADD", shard.keys.shared("presence"), "dead.1")
        await shard.execute("SADD", shard.keys.shared("presence", "channels", "dead.1"), "news")
        await shard.execute("HSET", shard.keys.of(b"h", "news"), "z", b"dead.1\n\x92unreadable")
        await shard.execute("HSET", shard.keys.of(b"h", "news"), "y", b"n1.1\n\x92unreadable")
        await living.add("news", ANN)
        assert await living.members("news") == {"c1": ANN}

        async def swept() -> bool:
            return not await shard.execute("HEXISTS", shard.keys.of(b"h", "news"), "z")

        await until(swept)
