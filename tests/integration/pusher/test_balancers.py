"""The deployed configurations of balancers pass on what clients and backends of the Pusher protocol ask for."""

from asyncio import to_thread
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from tests.integration.pusher import apps
from tests.integration.pusher.apps import MAIN
from tests.integration.pusher.raw import raw
from tests.integration.servers import Balancer, Server, caddy, cluster, haproxy, nginx
from tests.redis_server import RedisServer

EVENT = "pusher_internal:subscription_succeeded"


@pytest.mark.parametrize("balance", [haproxy, nginx, caddy])
async def test_events_reach_who_is_connected(
    balance: Callable[[Path, Sequence[Server]], Balancer], redis: RedisServer, tmp_path: Path
) -> None:
    settings = apps.settings(redis.url, "http://127.0.0.1:9/webhooks", prefix=f"through-{balance.__name__}")
    with cluster(tmp_path, settings, balance) as nodes:
        balancer = nodes.balancer
        async with raw(balancer) as one, raw(balancer) as other:
            for client in (one, other):
                await client.subscribe("private-orders.7")
                await client.wait(EVENT)
            backend = MAIN.backend(balancer)
            await to_thread(backend.trigger, "private-orders.7", "paid", {"id": 7})
            for client in (one, other):
                assert (await client.wait("paid"))["data"] == '{"id": 7}'
            await to_thread(backend.terminate_user_connections, "17")  # at /users/17/…
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{balancer.url}/up")).status_code == 200
