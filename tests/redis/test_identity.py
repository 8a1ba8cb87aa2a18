"""Which history of data a server holds, and that scripts are told."""

from pathlib import Path

import pytest

from gateway.redis.script import UNIDENTIFIED, Script
from gateway.redis.shard import Shard
from tests.redis_fixtures import fake_redis, started_shard
from tests.redis_server import RedisServer
from tests.waiting import until


@pytest.fixture
def told(tmp_path: Path) -> Script:
    """Answers the arguments that it was given."""
    path = tmp_path / "told.lua"
    path.write_text("return ARGV")
    return Script(path, identified=True)


async def identity(shard: Shard, told: Script) -> bytes:
    *_, last = await shard.run(told, [], [])
    return bytes(last)


def replication_id(server: RedisServer) -> bytes:
    with server.client() as client:
        found: str = client.info("replication")["master_replid"]
    return found[:16].encode()


async def test_scripts_are_told_where_they_run_by_text_and_by_digest(told: Script, tmp_path: Path) -> None:
    plain = Script(tmp_path / "told.lua")
    with RedisServer() as server:
        async with started_shard(server.url) as shard:
            expected = replication_id(server)
            assert len(expected) == 16
            for _ in range(2):  # the first is not known yet
                assert await shard.run(told, ["k"], ["a"]) == [b"a", expected]
            assert await shard.run(plain, ["k"], ["a"]) == [b"a"]
            server.stop()
            await until(lambda: not shard.connected)
            server.start()
            await until(lambda: shard.connected)
            assert await identity(shard, told) == replication_id(server) != expected


async def test_who_has_no_connection_has_the_script_ask(told: Script) -> None:
    assert told.by_digest(["k"], ["a"]) == ("EVALSHA", told.sha, 1, "k", "a", UNIDENTIFIED)


async def test_a_replica_has_none_of_its_own_until_it_is_promoted(told: Script) -> None:
    with RedisServer() as master, RedisServer("--replicaof", f"127.0.0.1 {master.port}") as server:
        await until(lambda: replication_id(server) == replication_id(master))
        async with started_shard(server.url, probe_interval=0.05) as shard:
            assert await identity(shard, told) == UNIDENTIFIED
            with server.client() as client:
                client.script_flush()
                client.execute_command("REPLICAOF", "NO", "ONE")

            async def promoted() -> bool:
                return await identity(shard, told) == replication_id(server)

            await until(promoted)
            assert shard.reconnects == 0, "learnt under the open connection"
            assert replication_id(server) != replication_id(master)


async def test_where_it_is_not_told_it_is_empty(told: Script) -> None:
    with RedisServer("--user", "gw", "on", ">pw", "~*", "&*", "+@all", "-info") as server:
        async with started_shard(f"redis://gw:pw@127.0.0.1:{server.port}") as shard:
            assert await identity(shard, told) == b""
            assert shard.refusal == ""
            with server.client() as client:
                client.acl_setuser("gw", enabled=True, commands=["-eval"])
            shard._commands.connection.drop("again")  # type: ignore[union-attr]
            await until(lambda: shard.connected and shard.reconnects == 1)
            assert shard._commands.connection.identity == b""  # type: ignore[union-attr]
    with fake_redis() as url:  # which knows no INFO
        async with started_shard(url) as shard:
            await shard.execute("SCRIPT", "LOAD", told.text)
            assert await identity(shard, told) == b""
