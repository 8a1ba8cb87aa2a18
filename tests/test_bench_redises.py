"""The bench finds what the gateway keeps where the gateway keeps it."""

import os
from contextlib import closing

import pytest
from redis import Redis
from redis.exceptions import MovedError

from bench.injection import Injection
from bench.redises import KEYS, Layout, owner
from gateway.redis.keys import SLOTS

CORE = min(os.sched_getaffinity(0))
CHANNELS = [f"room:{number}" for number in range(50)]


def test_a_cluster_keeps_a_channel_where_the_layout_says() -> None:
    layout = Layout(3, cluster=True)
    with layout.running(CORE) as redises:
        for channel in CHANNELS:
            there = layout.place(channel)
            for number, server in enumerate(redises.servers):
                with closing(Redis(port=server.port)) as redis:
                    if number == there:
                        assert redis.get(KEYS.of(b"s", channel)) is None
                    else:
                        with pytest.raises(MovedError, match=f":{redises.servers[there].port}$"):
                            redis.get(KEYS.of(b"s", channel))
        assert len(redises.cpu()) == 3


def test_a_server_that_is_restarted_is_empty_and_at_the_same_port() -> None:
    with Layout(2).running(CORE) as redises, closing(Redis(port=redises.servers[1].port)) as redis:
        redis.set("key", "value")
        redises.servers[1].restart()
        assert redis.get("key") is None


def test_what_is_injected_goes_by_the_names_that_nodes_have_subscribed_to() -> None:
    """Those of another release may be others."""
    with Layout().running(CORE) as redises:
        port = redises.servers[0].port
        with closing(Redis(port=port)) as redis, redis.pubsub() as node:  # type: ignore[no-untyped-call]
            node.subscribe("another:{p007}:c:room:7", "another:{p008}:c:room:8")
            assert [each and each["type"] for each in (node.get_message(timeout=5) for _ in range(2))] == [
                "subscribe"
            ] * 2
            with closing(Injection(port, ["room:8", "room:7"])) as injection:
                injection.publish(1, b'{"n":1}')
                injection.flush()
            message = node.get_message(timeout=5)
            assert message
            assert message["channel"] == b"another:{p007}:c:room:7"
            assert b'{"n":1}' in message["data"]


@pytest.mark.parametrize("servers", [1, 2, 3, 5, 7])
def test_slots_are_dealt_out_in_equal_ranges(servers: int) -> None:
    owners = [owner(place, servers) for place in range(SLOTS)]
    assert owners == sorted(owners)
    edges = [owners.index(number) for number in range(servers)]
    assert edges == [SLOTS * number // servers for number in range(servers)]
