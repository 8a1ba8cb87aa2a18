"""A real Prometheus scrapes a gateway of three workers, over rolls and deaths."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from tests.deploy.balancers import ROOT
from tests.integration.processes import program
from tests.integration.servers import GatewayServer, Server
from tests.redis_server import RedisServer
from tests.waiting import until, until_blocking

WORKERS = 3
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
SETTINGS: dict[str, Any] = {
    "client": {"insecure": True},
    "shutdown": {"drain_time": 0},
    "channel": {"without_namespace": {**OPEN, "history_size": 10, "history_ttl": "60s"}},
}
PATIENCE = 60.0


class Prometheus(Server):
    """One that scrapes a gateway every second, with the example's rules."""

    def __init__(self, directory: Path, gateway: Server) -> None:
        super().__init__("prometheus", directory)
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yml")]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{gateway.port}"]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> "Prometheus":
        path = program("prometheus", "prometheus")
        self.spawn(
            [
                path,
                f"--config.file={self.directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ]
        )
        with self.or_killed():
            self.wait("/-/ready")
        return self

    def ask(self, path: str, **params: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float | None:
        """The one value that a query gives; None if there is none."""
        result = self.ask("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def gateway(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    engine = {"engine": {"type": "redis", "redis": {"address": redis.url, "prefix": "scraped"}}}
    settings = {**SETTINGS, **engine}
    with GatewayServer("scraped", tmp_path_factory.mktemp("scraped"), settings, ["--workers", "3"]) as server:
        server.wait("/health/ready")
        until_blocking(lambda: "ready on" in server.log, deadline=30)  # which is said when all workers are
        yield server


@asynccontextmanager
async def clients(gateway: GatewayServer, count: int) -> AsyncIterator[list[ClientConnection]]:
    """So many that are subscribed to one channel."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            client = await stack.enter_async_context(connect(gateway.ws_url))
            await client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}')
            while '"id":2' not in str(await client.recv()):
                pass
            found.append(client)
        yield found


async def publish(client: ClientConnection, count: int) -> None:
    for number in range(count):
        await client.send(f'{{"id":{number + 10},"publish":{{"channel":"news","data":{number}}}}}')
    seen = ""
    while f'"id":{count + 9}' not in seen:
        seen += str(await client.recv())


async def scrape(gateway: GatewayServer) -> dict[str, dict[str, float]]:
    """The samples by name, and node; on a connection of its own, so that any worker may answer."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{gateway.url}/metrics")).text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("node", "")] = sample.value
    return found


async def test_any_worker_answers_for_all(gateway: GatewayServer) -> None:
    async with clients(gateway, 12) as connected:
        await publish(connected[0], 10)
        seen = []
        for _ in range(12):
            found = await scrape(gateway)
            assert found["gateway_workers"] == {"": WORKERS}
            assert found["gateway_workers_silent"] == {"": 0}
            seen.append({name: found[name] for name in ("gateway_connections", "gateway_publications_in_total")})
        assert all(each == seen[0] for each in seen)
        assert len(seen[0]["gateway_connections"]) == WORKERS
        assert sum(seen[0]["gateway_connections"].values()) == 12
        assert sum(seen[0]["gateway_publications_in_total"].values()) == 10


def workers_of(gateway: GatewayServer) -> list[int]:
    return [int(each) for each in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()]


async def test_one_that_hangs_is_missing_and_said_to_be(gateway: GatewayServer) -> None:
    async with clients(gateway, 1):
        frozen = workers_of(gateway)[0]
        os.kill(frozen, signal.SIGSTOP)
        try:

            async def counted() -> bool:
                try:
                    found = await asyncio.wait_for(scrape(gateway), 5)
                except TimeoutError:  # it came to the one that is frozen
                    return False
                assert found["gateway_workers"] == {"": WORKERS}
                return found["gateway_workers_silent"] == {"": 1} and len(found["gateway_connections"]) == WORKERS - 1

            await until(counted, PATIENCE, "it is missed")
        finally:
            os.kill(frozen, signal.SIGCONT)
        await until(lambda: whole(gateway), PATIENCE, "it answers again")


async def whole(gateway: GatewayServer) -> bool:
    found = await scrape(gateway)
    return (found["gateway_workers"], found["gateway_workers_silent"]) == ({"": WORKERS}, {"": 0})


async def test_prometheus_follows_rolls_and_deaths(gateway: GatewayServer, tmp_path: Path) -> None:
    with Prometheus(tmp_path, gateway) as prometheus:

        def shows(query: str, value: float | None) -> Any:
            return until(lambda: prometheus.value(query) == value, PATIENCE, f"{query} is {value}")

        async with clients(gateway, 6) as connected:
            before = prometheus.value("sum(gateway_publications_in_total)") or 0
            await publish(connected[0], 20)
            await shows("sum(gateway_connections)", 6)
            await shows("count(gateway_build_info)", WORKERS)
            total = (await scrape(gateway))["gateway_publications_in_total"]
            await shows("sum(gateway_publications_in_total)", sum(total.values()))
            assert sum(total.values()) >= before + 20
        await shows("sum(gateway_connections)", 0)
        first = set((await scrape(gateway))["gateway_connections"])

        gateway.signal(signal.SIGHUP)
        await until(lambda: "the rolling restart is done" in gateway.log, PATIENCE, "all are replaced")
        await shows("count(gateway_build_info)", WORKERS)
        second = set((await scrape(gateway))["gateway_connections"])
        assert not first & second

        deaths = gateway.log.count("starting another")
        os.kill(workers_of(gateway)[0], signal.SIGKILL)
        await until(lambda: gateway.log.count("starting another") > deaths, PATIENCE, "its death is seen")
        await until(lambda: whole(gateway), PATIENCE, "another has come")
        await shows("count(gateway_build_info)", WORKERS)
        third = set((await scrape(gateway))["gateway_connections"])
        assert len(second & third) == WORKERS - 1

        async with clients(gateway, 6) as connected:
            await publish(connected[0], 20)
            await shows("sum(gateway_connections)", 6)
        assert prometheus.value("max(resets(gateway_publications_in_total[10m]))") == 0
        [target] = prometheus.ask("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert len(rules) > 20
        assert {rule["health"] for rule in rules} == {"ok"}
        described = {name for name in prometheus.ask("metadata") if name.startswith("gateway_")}
        assert {"gateway_connections", "gateway_delivery_lag_seconds", "gateway_deliveries"} <= described
