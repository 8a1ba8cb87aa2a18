"""Presence in Redis when commands get lost, names are changed and nodes are frozen: no orphans, no false leaves."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.presence.redis import RedisPresence
from gateway.redis import keys as key_names
from gateway.redis import link, owned
from gateway.redis.owned import Intervals
from gateway.redis.server import Server
from tests.presence.nodes import Members, cut, die, fail_at, node, noted, others_are_back
from tests.redis.owners import certain, doubt, freeze
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer
from tests.waiting import until

ANN = ClientInfo("ann", "c1")
BOB = ClientInfo("bob", "c2")


async def test_a_lease_that_survived_keeps_its_name(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first, node(server, "n2", swept, lease=5) as second:
        await first.add("news", ANN)
        with server.client() as client:
            client.config_resetstat()
            cut(first)
            await until(lambda: first._shard.reconnects and certain(first))
            assert client.info("commandstats").get("cmdstat_hset") is None  # nothing was in doubt
        assert first._owned.owner == "n1.1"
        assert await second.members("news") == {"c1": ANN}
        assert swept == []


async def test_a_member_that_left_while_redis_was_away_is_told_of_when_others_can_hear(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await first.add("news", ANN)
        await first.add("news", BOB)
        cut(first)
        with pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(partial(owes, first))
        assert swept == []
        assert await first.members("news") == {"c1": ANN}
        assert await first.stats("news") == (1, 1)
        others_are_back(first)
        assert swept == [("news", BOB)]


async def test_who_is_back_before_others_could_hear_of_its_leave_has_not_left(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await first.add("news", BOB)
        cut(first)
        with pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(partial(owes, first))
        await first.add("news", BOB)
        others_are_back(first)
        assert swept == []


async def test_a_leave_that_is_owed_is_told_by_itself_in_time(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=0.5) as first:
        await first.add("news", BOB)
        cut(first)
        with pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(lambda: swept)
        assert swept == [("news", BOB)]
        assert first._owned.others_back > 0


async def test_a_line_that_breaks_again_and_again_does_not_put_off_a_late_leave(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=1000) as first:  # so it puts off what waits for others for ever
        first._leaving["news", "c2"] = BOB
        first._owned.others_back = asyncio.get_running_loop().time() + 0.1
        first._owe(("news", "c2"))
        async with asyncio.timeout(10):
            while not swept:
                cut(first)
                await until(lambda: first._shard.connected and certain(first))
                first._leaving["news", "c1"] = ANN
                first._owe(("news", "c1"))
    assert swept[0] == ("news", BOB)


async def test_a_late_leave_waits_until_its_own_node_hears(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        first._leaving["news", "c2"] = BOB
        first._owe(("news", "c2"))
        assert isinstance(first._shard, Server)
        subscriber = first._shard._subscriber.connection
        assert subscriber is not None
        subscriber.drop("cut")
        others_are_back(first)
        assert swept == []
        await until(lambda: first._shard.connected)
        others_are_back(first)
        assert swept == [("news", BOB)]


async def test_a_store_that_was_closed_before_others_could_hear_is_let_go(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await first.add("news", BOB)
        cut(first)
        with pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(partial(owes, first))
        left = weakref.ref(first)
    assert swept == [("news", BOB)]
    del first
    gc.collect()
    assert left() is None  # no timer waits for a connection that will not come back


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_leave_is_told_of_whether_redis_had_carried_it_out_or_not(
    server: RedisServer, *, carried_out: bool
) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        await first.add("news", ANN)
        await first.add("news", BOB)
        with fail_at(first, 1, carried_out=carried_out):
            with pytest.raises(BrokerUnavailable):
                await first.remove("news", "c2")
            with pytest.raises(BrokerUnavailable):
                await first.add("news", BOB)  # who tries in vain to come back has left all the same
            with pytest.raises(BrokerUnavailable):
                await first.remove("news", "c2")
        await until(lambda: first._shard.connected)
        await until(partial(renewed, first))
        assert await first.members("news") == {"c1": ANN}
        others_are_back(first)
        assert swept == [("news", BOB)]


@pytest.mark.parametrize("by_another", [True, False])
async def test_a_leave_is_told_of_after_redis_has_lost_all_but_not_after_another_has_told_it(
    server: RedisServer, *, by_another: bool
) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        await first.add("news", ANN)
        await first.add("news", BOB)
        with fail_at(first, 1, carried_out=False), pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(lambda: first._shard.connected)
        with server.client() as client:
            client.flushall()
            if by_another:
                client.set("gateway:presence:swept:n1.1", "1")
        await until(partial(renewed, first))
        assert await first.members("news") == {"c1": ANN}
        others_are_back(first)
        assert swept == ([] if by_another else [("news", BOB)])


@pytest.mark.parametrize("by_another", [True, False])
async def test_who_leaves_as_its_node_wakes_up_leaves_once(server: RedisServer, *, by_another: bool) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        await first.add("news", BOB)
        with server.client() as client:
            client.flushall()
            if by_another:
                client.set("gateway:presence:swept:n1.1", "1")
        first._owned._held_until = 0.0
        with pytest.raises(BrokerUnavailable):  # so that it is not told by who removes it
            await first.remove("news", "c2")
        await until(partial(renewed, first))
        assert swept == ([] if by_another else [("news", BOB)])
        assert await first.members("news") == {}


async def test_a_node_that_stops_tells_late_leaves_first(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        await first.add("news", ANN)
        await first.add("news", BOB)
        with fail_at(first, 1, carried_out=False), pytest.raises(BrokerUnavailable):
            await first.remove("news", "c2")
        await until(lambda: first._shard.connected)
        await first.close()
        assert swept == [("news", BOB)]


async def test_nobody_is_seen_to_leave_who_was_never_let_in(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept, lease=5) as first:
        await freeze(first)
        await first.add("news", BOB)  # Redis knows the script
        with fail_at(first, 1, carried_out=True):
            with pytest.raises(BrokerUnavailable):
                await first.add("news", ANN)
            with pytest.raises(BrokerUnavailable):
                await first.remove("news", "c1")
        await until(lambda: first._shard.connected)
        assert len(await first.members("news")) == 2
        await until(partial(renewed, first))
        assert await first.members("news") == {"c2": BOB}
        assert swept == []


async def test_where_it_cannot_be_known_which_server_it_is_a_reconnect_is_a_new_life(server: RedisServer) -> None:
    with redis_url("fakeredis", server) as url:
        async with started_shard(url) as shard:
            await teach_scripts(shard)
            presence = await frozen(shard, "n1")
            await presence.add("news", ANN)
            await presence._owned._renew()
            assert presence._owned.owner == "n1.1"
            doubt(presence)
            await presence._owned._renew()
            assert presence._owned.owner == "n1.2"
            assert await presence.members("news") == {"c1": ANN}
            await presence.close()


async def test_an_add_that_is_cancelled_leaves_nothing(server: RedisServer) -> None:
    async with node(server, "n1") as first:
        adding = asyncio.create_task(first.add("news", ANN))
        await asyncio.sleep(0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert not certain(first)
        await until(lambda: certain(first))
        assert await first.members("news") == {}
        assert noted(server, "n1.1") == set()


async def test_however_long_bringing_over_takes_nobody_is_seen_to_leave(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "BATCH", 2)
    swept: Members = []
    async with (
        node(server, "n1", swept, lease=60, sweep=60) as first,
        node(server, "n2", swept, lease=60, sweep=60) as second,
    ):
        infos = {f"c{number}": ClientInfo(f"u{number % 3}", f"c{number}") for number in range(10)}
        for info in infos.values():
            await first.add("news", info)
        gate = asyncio.Semaphore(0)
        with server.client() as client, monkeypatch.context() as patch:
            patch.setattr(first, "write", gated(first.write, gate))
            client.delete("gateway:presence:lease:n1.1")
            first._owned._renew_now.set()
            for _ in range(len(infos) // 2):
                await until(lambda: first._owned.owner == "n1.2" and len(gate._waiters or ()) == 2)
                await second._owned._sweep_dead()
                assert await second.members("news") == infos
                assert await second.stats("news") == (10, 3)
                gate.release()
                gate.release()
            await until(lambda: certain(first))
        assert await second.members("news") == infos
        assert swept == []
        assert noted(server, "n1.1") == set()


def gated(write: Callable[..., Awaitable[Any]], gate: asyncio.Semaphore) -> Callable[..., Awaitable[Any]]:
    async def slow(*call: Any) -> Any:
        await gate.acquire()
        return await write(*call)

    return slow


async def test_a_name_that_is_taken_while_former_ones_are_left_is_brought_over_too(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server, "n1", lease=60, sweep=60) as first:
        await freeze(first)
        await first.add("news", ANN)
        with server.client() as client:
            client.delete("gateway:presence:lease:n1.1")
        ask, looked = first._owned.all, False

        async def lose_once(commands: Iterable[Sequence[Any]]) -> list[Any]:
            nonlocal looked
            asked = list(commands)
            answers = await ask(asked)
            if not looked and asked[0][0] == "EXISTS":
                looked = True
                with server.client() as client:
                    client.delete("gateway:presence:lease:n1.2")
                await first._owned._confirm(anew=True)
            return answers

        monkeypatch.setattr(first._owned, "all", lose_once)
        await until(partial(renewed, first))
        assert looked
        assert first._owned.owner == "n1.3"
        assert await first.stats("news") == (1, 1)
        assert noted(server, "n1.2") == set()


@pytest.mark.parametrize("limit", [1000, 4, 1])
@pytest.mark.parametrize("before", [1, 2, 3])
async def test_whoever_moves_over_while_members_are_read_is_read(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, limit: int, before: int
) -> None:
    """Also with nodes between its names in order, which are read after the former and before the new one, or not."""
    async with (
        node(server, "n1", lease=60, sweep=60) as first,
        node(server, "n2", lease=60, sweep=60) as second,
        node(server, "n3", lease=60, sweep=60) as third,
    ):
        infos = {f"c{number}": ClientInfo(f"u{number % 3}", f"c{number}") for number in range(18)}
        for number, info in enumerate(infos.values()):
            await (first, second, third)[number % 3].add("news", info)
        read, reads = first._read, 0

        async def moved(*call: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == before:
                for each in (second, third):
                    with server.client() as client:
                        client.delete(f"gateway:presence:lease:{each._owned.owner}")
                    await each._owned._renew()
            return await read(*call)

        monkeypatch.setattr(first, "_read", moved)
        found, cursor = await first.page("news", limit)
        while cursor:
            more, cursor = await first.page("news", limit, cursor)
            found |= more
        assert found == infos
        reads = 0
        assert await first.members("news") == infos


async def test_a_join_is_told_only_when_the_sweeper_has_told_its_leave(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60) as first, node(server, "n2", sweep=60) as second:
        returned: Members = []
        second._returned = lambda channel, info: returned.append((channel, info))
        await second.add("news", ANN)
        await second.add("news", BOB)
        await freeze(second)
        with server.client() as client:
            client.delete("gateway:presence:lease:n2.1")
            client.set("gateway:presence:sweeping:n2.1", "n1")
            client.set("gateway:presence:swept:n2.1", "1")
            client.hdel(first._part("news", "n2.1"), "c2")
            await second._owned._renew()
            assert await first.members("news") == {"c1": ANN, "c2": BOB}
            assert returned == []
            client.delete("gateway:presence:sweeping:n2.1")
            await second._owned._renew()
        assert returned == [("news", BOB)]


async def test_who_comes_right_after_waking_up_is_not_told_of_twice(server: RedisServer) -> None:
    async with node(server, "n1") as first, node(server, "n2") as second:
        returned: Members = []
        second._returned = lambda channel, info: returned.append((channel, info))
        await second.add("news", BOB)
        await freeze(second)
        with server.client() as client:
            await until(lambda: client.smembers("gateway:presence") == {b"n1.1"})
        await second.add("news", ANN)  # a join that its session tells
        await until(partial(renewed, second))
        assert await first.members("news") == {"c1": ANN, "c2": BOB}
        assert returned == [("news", BOB)]
        await second.remove("news", "c1")
        await second.add("news", ANN)
        assert not second._newcomers


async def test_who_came_right_after_waking_up_and_is_swept_with_the_next_name_returns(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60), node(server, "n2", sweep=60, lease=60) as second:
        returned: Members = []
        second._returned = lambda channel, info: returned.append((channel, info))
        await freeze(second)
        with server.client() as client:
            client.delete("gateway:presence:lease:n2.1")
            doubt(second)
            await second.add("news", ANN)
            assert second._owned.owner == "n2.2"
            client.delete("gateway:presence:lease:n2.2", second._part("news", "n2.2"))
            client.set("gateway:presence:swept:n2.2", "1")
        await until(partial(renewed, second))
        assert returned == [("news", ANN)]


async def test_what_redis_has_lost_itself_is_no_join(server: RedisServer) -> None:
    async with node(server, "n1") as first:
        returned: Members = []
        first._returned = lambda channel, info: returned.append((channel, info))
        await first.add("news", ANN)
        with server.client() as client:
            client.flushall()
        await until(lambda: first._owned.owner == "n1.2" and certain(first))
        assert await first.members("news") == {"c1": ANN}
        assert returned == []


async def test_no_mark_of_a_name_that_was_given_up_stays(server: RedisServer) -> None:
    async with node(server, "n1") as first:
        await first.add("news", ANN)
        with server.client() as client:
            client.delete("gateway:presence:lease:n1.1")
            await until(lambda: client.smembers("gateway:presence") == {b"n1.2"})
            await until(lambda: not client.keys("gateway:presence:swept:*"))
        assert await first.members("news") == {"c1": ANN}


async def test_a_name_that_was_given_up_and_is_revived_was_not_swept(server: RedisServer) -> None:
    async with node(server, "n1", sweep=60, lease=60) as first:
        returned: Members = []
        first._returned = lambda channel, info: returned.append((channel, info))
        await first.add("news", ANN)
        with server.client() as client:
            for number in (1, 2):
                client.delete(f"gateway:presence:lease:n1.{number}", first._part("news", f"n1.{number}"))
                doubt(first)
                await first._owned._renew()
                assert not first._owned.moving
                assert client.exists("gateway:presence:swept:n1.1")
        assert first._owned.owner == "n1.3"
        assert returned == []


async def test_a_name_is_not_used_for_longer_than_its_lease_lasts(server: RedisServer) -> None:
    swept: Members = []
    async with node(server, "n1", swept) as first, node(server, "n2", swept) as second:
        await second.add("news", BOB)
        await freeze(second)
        with server.client() as client:
            await until(lambda: client.smembers("gateway:presence") == {b"n1.1"})
        await second.add("news", ANN)  # awake again, before it looks at anything else
        assert second._owned.owner == "n2.2"
        assert await first.members("news") == {"c1": ANN}


@pytest.fixture
def few_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few partitions to look into, and connections that are made again at once."""
    monkeypatch.setattr(key_names, "PARTITIONS", 2)
    monkeypatch.setattr(link, "MAX_BACKOFF", 0.002)


@pytest.mark.parametrize("carried_out", [True, False])
async def test_whatever_command_is_the_last_all_that_exists_is_swept(
    server: RedisServer, few_commands: None, *, carried_out: bool
) -> None:
    """A node lives through joins, leaves and a lost lease, and dies at the first command, at the second, and so on."""
    async with node(server, "n1", lease=60, sweep=60) as sweeper, started_shard(server.url) as shard:
        for last in range(1, 200):
            dying = await frozen(shard, "n2")
            with fail_at(dying, last, carried_out=carried_out) as sent, suppress(BrokerUnavailable):
                await live(server, dying)
            await die(dying)
            await dying.close()
            with server.client() as client:
                client.delete("-", *client.keys("*lease:n2*"), *client.keys("*swept:n2*"))
                for _ in range(2):
                    await sweeper._owned._sweep_dead()
                assert client.keys("gateway:{*") == [], f"left after command {last}"
                assert client.smembers("gateway:presence") == {b"n1.1"}
            if sent() < last:
                return
            await until(lambda: shard.connected)
    raise AssertionError("it never lived to the end")


@pytest.mark.parametrize("carried_out", [True, False])
async def test_whatever_command_fails_the_truth_is_restored(
    server: RedisServer, few_commands: None, *, carried_out: bool
) -> None:
    async with node(server, "n1", lease=60, sweep=60) as other, started_shard(server.url) as shard:
        for failing in range(1, 200):
            one = await frozen(shard, "n2")
            with fail_at(one, failing, carried_out=carried_out, times=1) as sent, suppress(BrokerUnavailable):
                await live(server, one)
            await until(lambda: shard.connected)
            await until(partial(renewed, one))
            for channel in ("news", "other"):
                present = {client: info for (where, client), info in one._members.items() if where == channel}
                assert await other.members(channel) == present, f"after command {failing}"
                assert await other.stats(channel) == (len(present), len({i.user for i in present.values()}))
            assert noted(server, one._owned.owner) == {channel.encode() for channel, _ in one._members}
            await one.close()
            if sent() < failing:
                return
    raise AssertionError("it never lived to the end")


async def frozen(shard: Server, name: str) -> RedisPresence:
    presence = RedisPresence(shard, Intervals(lease=60))
    await presence.start(name, lambda _channel, _info: None)
    for task in presence._owned._tasks:
        task.cancel()
    return presence


async def live(server: RedisServer, presence: RedisPresence) -> None:
    """A life with everything in it."""
    await presence.add("news", ANN)
    await asyncio.gather(presence.add("news", BOB), presence.add("other", ANN), return_exceptions=True)
    await presence.remove("other", "c1")
    with server.client() as client:
        client.delete("-", *client.keys("*lease:n2*"))
    await presence._owned._renew()
    await presence.add("news", ClientInfo("bob", "c3"))
    await presence.remove("news", "c2")


def owes(presence: RedisPresence) -> bool:
    """Whether there is a leave to tell by and by, and all else is well."""
    return bool(presence._owed) and certain(presence)


async def renewed(presence: RedisPresence) -> bool:
    with suppress(BrokerUnavailable):
        await presence._owned._renew()
    return certain(presence)
