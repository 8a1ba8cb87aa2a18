"""Presence in Redis when nodes die, leases are lost and Redis goes away."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo, Payload
from gateway.presence import redis as module
from gateway.presence.redis import RedisPresence
from gateway.redis.owned import Intervals
from tests.presence.nodes import Members, die, node, noted
from tests.redis.owners import certain, freeze, keys
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

ANN = ClientInfo("ann", "c1")
BOB = ClientInfo("bob", "c2")


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
    monkeypatch.setattr(module, "SWEPT", 3)
    swept: Members = []
    async with node(server, "n1", swept) as first, node(server, "n2", swept) as second, node(server, "n3") as third:
        for number in range(10):
            await third.add(f"room{number}", ANN)
            await third.add("big", ClientInfo("u", f"x{number}"))
        await die(third)
        await first.add("big", BOB)
        await until(lambda: len(swept) == 20)
        assert await second.members("big") == {"c2": BOB}
        assert await second.members("room3") == {}
        assert len({(channel, info.client) for channel, info in swept}) == 20
        await until(lambda: keys(server, "*n3*") == [b"gateway:presence:swept:n3.1"])
        with server.client() as client:
            await until(lambda: client.smembers("gateway:presence") == {b"n1.1", b"n2.1"})
            assert client.hgetall(first._keys.of(b"h", "big")) == {b"": b"n1.1", b":bob": b"1"}


async def test_readers_leave_out_members_without_lease(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60) as first, node(server, "n2", sweep=60) as second:
        await second.add("news", BOB)
        assert await first.members("news") == {"c2": BOB}
        await die(second)
        await until(lambda: _absent(first, "news"))
        assert await first.stats("news") == (0, 0)
        with server.client() as client:
            assert client.hlen(first._part("news", "n2.1")) == 1


async def test_lost_lease_brings_everything_back(server: RedisServer) -> None:
    async with node(server, "n1") as first, node(server, "n2") as second:
        await first.add("news", ANN)
        await first.add("other", ANN)
        with server.client() as client:
            client.flushall()
        await until(lambda: _has(second, "news", {"c1": ANN}))
        await until(lambda: _has(second, "other", {"c1": ANN}))
        assert noted(server, "n1.2") == {b"news", b"other"}
        await until(lambda: certain(first))
        assert noted(server, "n1.1") == set()


async def test_node_that_was_swept_while_paused_comes_back_and_tells(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept) as first, node(server, "n2") as second:
        returned: Members = []
        second._returned = lambda channel, info: returned.append((channel, info))
        await second.add("news", BOB)
        await second.add("news", ANN)
        await freeze(second)
        await until(lambda: len(swept) == 2)
        second._owned._tasks = [asyncio.create_task(second._owned._keep_lease())]
        await until(lambda: len(returned) == 2)
        assert sorted(returned, key=str) == sorted(swept, key=str)
        assert await first.members("news") == {"c1": ANN, "c2": BOB}
        assert await first.stats("news") == (2, 2)


async def test_index_forgets_a_channel_with_its_last_member(server: RedisServer) -> None:
    async with node(server, "n1") as first:
        for info in (ANN, BOB):
            await first.add("news", info)
        await first.remove("news", "c1")
        assert noted(server, "n1.1") == {b"news"}
        await first.remove("news", "c2")
        assert noted(server, "n1.1") == set()
        assert keys(server, "gateway:{*") == []


async def test_every_key_expires(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(server, "n1") as first:
        await first.add("news", ANN)
        await first.add("news", BOB)
        with server.client() as client:
            assert {key: client.ttl(key) for key in client.keys("*") if client.ttl(key) < 0} == {}
            # Each key is armed again long before it runs out.
            armed = [*client.keys("gateway:{*"), "gateway:presence"]
            assert len(armed) == 4
            for key in armed:
                client.persist(key)
            await until(lambda: all(client.ttl(key) > 0 for key in armed))


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
            # Redis carries the commands out after all; what they were about is written again, and nothing else.
            await until(lambda: certain(first))
            assert first._owned.owner == "n1.1"
            assert await second.members("news") == {"c1": ANN}
            assert await second.stats("news") == (1, 1)


async def test_starts_and_closes_without_redis() -> None:
    with RedisServer() as own:
        own.kill()
        async with node(own, "n1") as first, node(own, "n2") as second:
            with pytest.raises(BrokerUnavailable):
                await first.add("news", ANN)
            assert first._members == {}
            own.start()
            await until(lambda: certain(first) and certain(second))
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


async def _has(presence: RedisPresence, channel: str, expected: dict[str, ClientInfo]) -> bool:
    try:
        return await presence.members(channel) == expected
    except BrokerUnavailable:
        return False


async def _absent(presence: RedisPresence, channel: str) -> bool:
    return await _has(presence, channel, {})


@pytest.mark.parametrize(
    ("work", "told"), [("_sweep_dead", "sweeping failed"), ("_renew", "lease could not be renewed")]
)
async def test_a_failure_nobody_thought_of_does_not_end_the_watch(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, work: str, told: str
) -> None:
    async with node(server, "n1") as presence:
        calls = 0

        async def fails(*_: object) -> None:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError

        monkeypatch.setattr(presence._owned, work, fails)
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
            presence = RedisPresence(shard, Intervals(renew=0.1))
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
            presence = RedisPresence(shard, Intervals(renew=0.1))
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
        names = shard.keys
        await shard.execute("SADD", names.shared("presence"), "dead.1")
        await shard.execute("HSET", names.of(b"h", "news"), "", "dead.1 n1.1")
        for owner, client in (("dead.1", "z"), ("n1.1", "y")):
            await shard.execute("SADD", names.index(b"x", "news", owner), "news")
            await shard.execute("HSET", names.owned(b"e", "news", owner), client, b"\x92unreadable")
        await living.add("news", ANN)
        assert await living.members("news") == {"c1": ANN}
        await until(lambda: keys(server, "*:e:dead.1:*") == [])
        await until(lambda: noted(server, "dead.1") == set())


def goes_by(presence: RedisPresence, name: str) -> bool:
    return presence._owned.owner.endswith(name) and certain(presence)


async def test_nobody_leaves_when_redis_comes_back_twice_with_the_same_older_state() -> None:
    """What it holds then is under a name before the last one."""
    swept: Members = []
    with RedisServer() as own:
        async with node(own, "n1", swept) as first, node(own, "n2", swept) as second:
            await first.add("news", ANN)
            with own.client() as client:
                client.save()
            for name in (".2", ".3"):
                own.kill()
                own.start()
                for each in (first, second):
                    await until(partial(goes_by, each, name))
            with own.client() as client:
                await until(lambda: client.smembers("gateway:presence") == {b"n1.3", b"n2.3"})
            assert swept == []
            assert await second.members("news") == {"c1": ANN}


async def test_a_sweeper_waits_for_others_to_find_back_to_a_redis_that_was_away() -> None:
    swept: Members = []
    with RedisServer() as own:
        async with node(own, "n1", lease=60) as first, node(own, "n2", swept, lease=60, sweep=60) as second:
            await first.add("news", ANN)
            await freeze(first)
            with own.client() as client:
                client.delete("gateway:presence:lease:n1.1")  # as in a state that is older than a lease
                client.save()
            own.kill()
            own.start()
            await until(lambda: second._owned.owner == "n2.2" and certain(second))
            await second._owned._sweep_in_turn()
            assert swept == []
            async with node(own, "n3", swept, sweep=60) as newcomer:
                await newcomer._owned._sweep_in_turn()
                assert swept == [("news", ANN)]
