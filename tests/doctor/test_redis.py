"""Real servers, and what is wrong with them."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.config.settings import RedisSettings
from gateway.doctor import server as server_module
from gateway.doctor.finding import Finding, Level
from gateway.doctor.redis import RedisExamination
from gateway.doctor.rights import USEFUL, commands
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import Keys
from gateway.redis.opening import open_shards
from tests.doctor.looking import bad, one, texts
from tests.ports import free_port
from tests.redis_rights import PASSWORD, USER, documented_rights
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterTopology, SentinelTopology

GENEROUS = ("--client-output-buffer-limit", "pubsub 256mb 64mb 30", "--maxmemory", "100mb")


@pytest.fixture
def well() -> Iterator[RedisServer]:
    """A server as the documentation wants it."""
    with RedisServer(*GENEROUS) as server:
        yield server


async def examine(address: str, **options: Any) -> list[Finding]:
    return await RedisExamination(RedisSettings(address=address, **options)).run()


async def test_a_server_that_does(well: RedisServer) -> None:
    found = await examine(well.url)
    assert [finding.level for finding in found] == [Level.OK] * len(found)
    assert one(found, "Redis ").about == f"redis 127.0.0.1:{well.port}"
    assert one(found, "has all rights").text == "the user default has all rights"
    for text in ("may be 256 MB behind", "% of its memory is used, and nothing is dropped", "this one agree"):
        assert one(found, text).level is Level.OK
    with well.client() as client:
        assert client.keys("*") == []  # nothing stays of it


async def test_what_a_server_comes_with_is_not_what_it_should_have(server: RedisServer) -> None:
    found = await examine(server.url)
    [output] = bad(found)
    assert (output.level, output.text[:35]) == (Level.WARNING, "a node that stalls is cut off when ")
    assert output.remedy.startswith("CONFIG SET client-output-buffer-limit 'pubsub 268435456")
    assert one(found, "no maxmemory").level is Level.NOTE


async def test_one_that_drops_what_is_in_use(well: RedisServer) -> None:
    with well.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    [found] = bad(await examine(well.url))
    assert found.text == "maxmemory-policy allkeys-lru drops streams and members that are in use, without a word"


async def test_one_that_is_nearly_full(well: RedisServer) -> None:
    with well.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", int(used * 1.1))
    found = await examine(well.url)
    assert one(found, "% of its memory is used").level is Level.WARNING


async def test_a_database_that_others_use(well: RedisServer) -> None:
    with well.client() as client:
        client.mset({f"{name}:secret": "x" for name in ("celery", "cache", "a", "b", "c", "d")})
        client.set("gateway:{p1}:s:news", "x")
        client.set("gateway@3:{p1}:s:news", "x")
    [found] = bad(await examine(well.url))
    assert found.text == "others keep keys in the database: a, b, c, cache, celery, …"
    [found] = bad(await examine(well.url, prefix="celery"))
    assert "celery" not in found.text
    assert bad(await examine(f"{well.url}/1")) == []


@pytest.mark.parametrize(("ahead", "where"), [(90.0, "behind"), (-90.0, "ahead of")])
async def test_clocks_that_differ(well: RedisServer, monkeypatch: pytest.MonkeyPatch, ahead: float, where: str) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    [found] = bad(await examine(well.url))
    assert found.text == f"its clock is 90.0 s {where} this one"


async def test_one_that_is_too_old(well: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "OLDEST", (99, 1))
    [found] = bad(await examine(well.url))
    assert (found.level, found.text.endswith("is too old")) == (Level.PROBLEM, True)
    assert found.remedy == "update it to 99.1 or later, or to Valkey"


def test_valkey_says_its_own_version() -> None:
    examination = server_module.ServerExamination(RedisSettings(), Endpoint(), "engine.redis")
    [found] = examination._version({"redis_version": "7.2.4", "valkey_version": "8.0.1"})
    assert found.text == "Valkey 8.0.1"


async def test_a_replica(well: RedisServer) -> None:
    with well.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))
    [found] = bad(await examine(well.url))
    assert (found.level, found.text) == (Level.PROBLEM, "it is a slave")
    assert found.remedy.startswith("the server is a replica: give the address of its master")


async def test_one_that_takes_no_writes(well: RedisServer) -> None:
    with well.client() as client:
        client.config_set("min-replicas-to-write", 1)
    [found] = bad(await examine(well.url))
    assert (found.level, found.text[:22]) == (Level.PROBLEM, "it refuses: NOREPLICAS")


# — logging in, and rights —


def test_what_is_tried_is_what_the_documentation_says() -> None:
    server, cluster, _ = documented_rights()
    keys = Keys("gateway")
    plain = {f"+{right}" for right in (*commands(keys, sharded=False), *USEFUL)}
    given = {word for word in server if word.startswith("+")}
    assert plain == given - {"+select"}
    assert {f"+{right}" for right in commands(keys, sharded=True)} - plain == {w for w in cluster if w.startswith("+")}


async def test_the_documented_rights_are_enough(well: RedisServer) -> None:
    with well.client() as client:
        client.execute_command("ACL", "SETUSER", USER, "reset", *documented_rights()[0])
    found = await examine(f"redis://{USER}:{PASSWORD}@127.0.0.1:{well.port}")
    assert bad(found) == []
    assert one(found, f"the user {USER} has all rights").level is Level.OK
    assert one(found, "cut off cannot be seen by this user").level is Level.NOTE
    assert one(found, "whose its keys are (?) cannot be seen").level is Level.NOTE


async def test_rights_that_are_missing_are_named_as_acl_setuser_takes_them(well: RedisServer) -> None:
    rights = documented_rights()[0]
    without = [word for word in rights if word not in ("+xadd", "+zadd", "+role", "+time", "+info", "~gateway:*")]
    with well.client() as client:
        client.execute_command("ACL", "SETUSER", USER, "reset", *without, "resetchannels", "~gateway:{p1}:*", "~other")
    found = await examine(f"redis://{USER}:{PASSWORD}@127.0.0.1:{well.port}")
    lacking, late = bad(found)
    assert (lacking.level, late.level) == (Level.PROBLEM, Level.WARNING)
    assert set(lacking.remedy.split()) == {
        *("ACL", "SETUSER", USER, "+xadd", "+zadd", "+time", "~gateway:*", "&gateway:*"),
    }
    assert late.remedy == f"ACL SETUSER {USER} +info +role"
    assert one(found, "who it is cannot be seen").remedy == "give its user +info"


async def test_a_password_that_is_wrong_or_missing(well: RedisServer) -> None:
    with well.client() as client:
        client.config_set("requirepass", "secret")
    [found] = await examine(well.url)
    assert (found.level, found.text[:6]) == (Level.PROBLEM, "NOAUTH")
    [found] = await examine(f"redis://:wrong@127.0.0.1:{well.port}")
    assert "engine.redis.user and password" in found.remedy


async def test_nobody_there() -> None:
    [found] = await examine(f"redis://127.0.0.1:{free_port()}")
    assert (found.level, found.remedy) == (Level.PROBLEM, "start it, or correct engine.redis.address")


async def test_one_that_goes_away_meanwhile(well: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(_self: object) -> Any:
        well.kill()
        return await _self._ask("ROLE")  # type: ignore[attr-defined]

    monkeypatch.setattr(server_module.ServerExamination, "_role", dies)
    [found] = await examine(well.url)
    assert found.text.startswith("the connection was lost: ")


# — nodes —


@pytest.fixture
async def listening(well: RedisServer) -> AsyncIterator[str]:
    [shard] = open_shards(RedisSettings(address=well.url))
    await shard.start()
    await shard.listen(shard.keys.shared("control"), lambda _: None)
    yield well.url
    await shard.close()


async def test_nodes_that_listen_are_counted(listening: str) -> None:
    examination = RedisExamination(RedisSettings(address=listening))
    await examination.run()
    assert examination.nodes == 1
    examination = RedisExamination(RedisSettings(address=listening, prefix="other"))
    await examination.run()
    assert examination.nodes == 0


async def test_of_several_shards_each_hears_all_nodes(listening: str, server: RedisServer) -> None:
    examination = RedisExamination(RedisSettings(address=[listening, server.url]))
    await examination.run()
    assert examination.nodes == 0
    away = RedisExamination(RedisSettings(address=f"redis://127.0.0.1:{free_port()}"))
    await away.run()
    assert away.nodes is None


# — other forms —


async def test_sentinels(shared_group: SentinelTopology) -> None:
    found = await examine(shared_group.url)
    assert one(found, "has all rights").about == f"redis {shared_group.master().address}"
    assert [finding for finding in found if finding.level is Level.PROBLEM] == []


async def test_sentinels_that_are_away_or_know_no_such_master(shared_group: SentinelTopology) -> None:
    first = shared_group.sentinels[0].address
    nobody = f"127.0.0.1:{free_port()}"
    found = await examine(f"redis+sentinel://{first}?sentinel_master_name={shared_group.master_name}&addr={nobody}")
    assert one(found, f"{nobody} does not answer").level is Level.WARNING
    assert one(found, "the address names 2 of them").level is Level.NOTE
    [unknown] = await examine(f"redis+sentinel://{first}?sentinel_master_name=nobody")
    assert unknown.text == "none of them knows such a master"
    away, none = await examine(f"redis+sentinel://{nobody}?sentinel_master_name=x")
    assert (away.level, none.text) == (Level.WARNING, "none of them answers")


async def test_an_address_of_another_kind(shared_group: SentinelTopology, server: RedisServer) -> None:
    [found] = await examine(f"redis://{shared_group.sentinels[0].address}")
    assert (found.level, "is a Sentinel" in found.text) == (Level.PROBLEM, True)
    *_, refused = await examine(f"redis+sentinel://127.0.0.1:{server.port}?sentinel_master_name=x")
    assert refused.text == "none of them answers"
    told, nobody = await examine(f"redis+cluster://127.0.0.1:{server.port}")
    assert "no part of a cluster" in told.text
    assert nobody.text == "nobody tells of it"


async def test_sentinels_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 1)])

    async def ask(*_: object) -> tuple[str, int]:
        return next(answers)

    monkeypatch.setattr(RedisExamination, "_ask", ask)
    found = await examine("redis+sentinel://a:1?sentinel_master_name=x&addr=b:1&addr=c:1")
    assert one(found, "several masters: 127.0.0.1:1, 127.0.0.1:2").level is Level.PROBLEM


async def test_a_cluster(shared_cluster: ClusterTopology) -> None:
    found = await examine(shared_cluster.url)
    assert one(found, "all slots are served, by 3 primaries").level is Level.OK
    assert len([finding for finding in found if "has all rights" in finding.text]) == 3
    assert [finding for finding in found if finding.level is Level.PROBLEM] == []


async def test_a_cluster_with_slots_that_nobody_serves() -> None:
    with RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        found = await examine(f"redis+cluster://127.0.0.1:{server.port}")
    assert one(found, "nobody serves 16384 of its slots").level is Level.PROBLEM
    assert texts(found)[1:] == []
