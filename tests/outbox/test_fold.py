"""Whatever nodes do, and whichever die: a receiver that believes each event knows in the end who is there."""

import asyncio
import json
from collections.abc import Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.outbox.base import Event, Place, Rules
from gateway.outbox.redis import RedisOutbox
from gateway.redis.owned import Intervals
from tests.outbox.nodes import due, place
from tests.outbox.test_redis import die
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

PLACES = [place("a"), place("presence-b"), place("presence-b", "17"), place("presence-b", "23")]
NODES = 3
STEPS = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.sampled_from(["enter", "leave", "look"]), st.sampled_from(PLACES)),
    max_size=30,
)


def fold(events: Iterable[Event]) -> set[Place]:
    """Who is there, by what was told; each event must be news."""
    there: set[Place] = set()
    for event in events:
        body = json.loads(event.body)
        found = place(body["channel"], body.get("user_id", ""))
        if body["name"] in ("channel_occupied", "member_added"):
            assert found not in there, body
            there.add(found)
        else:
            assert found in there, body
            there.remove(found)
    return there


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS, dead=st.sets(st.integers(0, NODES - 1), max_size=NODES - 1), delay=st.sampled_from([0.0, 0.02]))
async def test_what_is_told_is_true_in_the_end(
    server: RedisServer, steps: list[tuple[int, str, Place]], dead: set[int], delay: float
) -> None:
    with server.client() as client:
        client.flushall()
    told: list[Event] = []
    truth: list[set[Place]] = [set() for _ in range(NODES)]
    async with started_shard(server.url) as shard:
        nodes = [RedisOutbox(shard, Rules(delay=delay), Intervals(0.2, 0.05, 0.05)) for _ in range(NODES)]
        for number, node in enumerate(nodes):
            await node.start(f"n{number}")

        async def tell() -> None:
            events = await due(nodes[0])
            told.extend(events)
            await nodes[0].sort("9001", [(event, []) for event in events])

        for number, what, where in steps:
            if what == "enter":
                truth[number].add(where)
                await nodes[number].enter(where, "key")
            elif what == "leave":
                truth[number].discard(where)
                await nodes[number].leave(where)
            else:
                await tell()
        await asyncio.gather(*(die(nodes[number]) for number in dead))
        expected = set().union(*(truth[number] for number in range(NODES) if number not in dead))

        async def right() -> bool:
            await tell()
            return fold(told) == expected

        await until(right)
        for node in nodes:
            await node.close()
