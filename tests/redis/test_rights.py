"""The rights that a user of Redis needs: none too many are documented, and one that is missing is named.

That they are enough the contract suites show, which run with them alone.
"""

from contextlib import suppress
from pathlib import Path

import pytest

import gateway
from gateway.brokers.base import HistoryFilter
from gateway.errors import BrokerUnavailable
from tests.redis.test_refusals import KEPT, joined, publish
from tests.redis_rights import PASSWORD, USER, documented_rights
from tests.redis_server import RedisServer
from tests.waiting import until


def test_none_too_many_are_documented() -> None:
    root = Path(gateway.__file__).parent
    source = (
        " ".join(path.read_text("utf-8") for path in root.rglob("*") if path.suffix in (".py", ".lua"))
        + " sentinel masters "
    )  # redis-py asks for these, by a module of its own
    for words in documented_rights():
        for right in [word for word in words if word.startswith("+")]:
            for part in right[1:].upper().split("|"):
                assert part in source or part.lower() in source, f"{right} is not needed"


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("+evalsha", "+evalsha"),
        ("+script|load", "+script|load"),
        ("+publish", "+publish"),
        ("+subscribe", "+subscribe"),
        ("+hincrby", "+hincrby"),
        ("+xrange", "+xrange"),
        ("~gateway:*", "~gateway:*"),
        ("&gateway:*", "&gateway:*"),
    ],
)
async def test_a_right_that_is_missing_is_named(missing: str, named: str) -> None:
    rights = [word for word in documented_rights()[0] if word != missing]
    with RedisServer("--user", USER, *rights) as server:
        async with joined(f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}") as (shard, broker, _):

            async def told() -> bool:
                with suppress(BrokerUnavailable):
                    await broker.subscribe("c")
                await publish(broker)
                with suppress(BrokerUnavailable):
                    await broker.history("c", HistoryFilter(limit=-1), KEPT)
                [health] = shard.health()
                return (
                    health.refusal == "NOPERM" and named in health.remedy.split("it lacks")[-1].replace(",", "").split()
                )

            await until(told, what=f"{missing} is said to be missing")
            assert not broker.health().ok


@pytest.mark.parametrize("missing", ["+info", "+role", "+client|setname", "+client|info", "+client|kill"])
async def test_some_rights_can_be_done_without(missing: str) -> None:
    rights = [word for word in documented_rights()[0] if word != missing]
    with RedisServer("--user", USER, *rights) as server:
        async with joined(f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}") as (shard, broker, heard):
            await broker.subscribe("c")
            assert await publish(broker) == "yes"
            await until(lambda: heard.publications)
            assert shard.health()[0].ok
