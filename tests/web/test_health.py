"""Health and metrics, as balancers and Prometheus see them."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from msgspec.structs import replace

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.base import BrokerHealth
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.health import Condition, ServerHealth
from gateway.presence.memory import MemoryPresence
from gateway.web.health import health_router


class Broker(MemoryBroker):
    """As healthy as the test says."""

    state = BrokerHealth(lag=0.1234567891, reconnects=3)

    def health(self) -> BrokerHealth:
        return self.state


class Operator:
    """One who asks a node how it is."""

    def __init__(self, **settings: Any) -> None:
        self.broker = Broker()
        configured = Settings.model_validate(settings)
        self.node = Node(configured, self.broker, MemoryPresence(), blocks=MemoryBlocks())
        app = FastAPI()
        app.include_router(health_router(lambda: self.node, configured))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")

    async def status(self, path: str) -> int:
        return (await self.http.get(path)).status_code

    async def ready(self) -> tuple[int, str]:
        response = await self.http.get("/health/ready")
        return response.status_code, response.json()["status"]


async def test_lives() -> None:
    operator = Operator()
    for path in ("/health", "/health/live"):
        response = await operator.http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_says_what_its_broker_refuses() -> None:
    operator = Operator()
    operator.broker.state = BrokerHealth(refusal="OOM")
    response = await operator.http.get("/health/ready")
    assert (response.json()["status"], response.json()["broker"]["refusal"]) == ("degraded", "OOM")


async def test_says_what_to_do_about_it() -> None:
    operator = Operator()
    server = ServerHealth(
        "10.0.0.1:6379", refusal="OOM", problem="OOM command not allowed", remedy="give it more memory"
    )
    operator.broker.state = BrokerHealth(refusal="OOM", servers=(server,))
    body = (await operator.http.get("/health/ready")).json()
    assert body["status"] == "degraded"
    told = {"refusal": "OOM", "problem": "OOM command not allowed", "remedy": "give it more memory"}
    assert body["broker"] == {"connected": True, "deaf": False, "lag": 0, "reconnects": 0, **told}


async def test_says_how_each_of_several_servers_is() -> None:
    operator = Operator()
    well = ServerHealth("10.0.0.1:6379", lag=0.0012345678)
    away = ServerHealth("10.0.0.2:6379", "1", connected=False, problem="Connection refused")
    operator.broker.state = BrokerHealth(connected=False, servers=(well, away))
    broker = (await operator.http.get("/health/ready")).json()["broker"]
    assert broker["problem"] == "Connection refused"
    assert broker["servers"] == [
        {"server": "10.0.0.1:6379", "shard": "0", "connected": True, "deaf": False, "lag": 0.001235, "reconnects": 0},
        {
            "server": "10.0.0.2:6379",
            "shard": "1",
            "connected": False,
            "deaf": False,
            "lag": 0,
            "reconnects": 0,
            "problem": "Connection refused",
        },
    ]


async def test_says_how_the_servers_are_that_presence_has_for_itself() -> None:
    operator = Operator(health={"ready_without_broker": False})
    away = ServerHealth("10.0.0.3:6379", "presence:0", connected=False, problem="Connection refused")
    operator.node.presence_servers = lambda: [away]
    assert await operator.ready() == (200, "degraded"), "publications are served"
    [shown] = (await operator.http.get("/health/ready")).json()["presence"]
    assert (shown["server"], shown["problem"]) == ("10.0.0.3:6379", "Connection refused")
    assert b'server="10.0.0.3:6379",shard="presence:0"} 0.0' in (await operator.http.get("/metrics")).content


async def test_says_how_its_broker_is() -> None:
    operator = Operator()
    response = await operator.http.get("/health/ready")
    assert response.headers["x-gateway-status"] == "ok"
    assert response.json() == {
        "status": "ok",
        "reasons": [],
        "node": operator.node.uid,
        "broker": {"connected": True, "deaf": False, "lag": 0.123457, "reconnects": 3},
    }


async def test_tells_what_an_operator_has_to_see_to() -> None:
    operator = Operator(health={"ready_without_broker": False})
    operator.node.warnings.append("set GATEWAY_REDIS_URL")
    response = await operator.http.get("/health/ready")
    assert response.status_code == 200, "or nobody would be served at all"
    assert (response.json()["status"], response.json()["warnings"]) == ("degraded", ["set GATEWAY_REDIS_URL"])
    assert response.json()["reasons"] == [
        {"reason": "warning", "detail": "set GATEWAY_REDIS_URL", "status": "degraded"}
    ]


DOWN = ServerHealth("10.0.0.1:6379", connected=False, problem="Connection refused")


@pytest.mark.parametrize(
    ("broker", "beside", "reason", "detail"),
    [
        (BrokerHealth(connected=False), [], "broker_away", "the broker: no connection"),
        (BrokerHealth(deaf=True), [], "broker_deaf", "the broker: nothing arrives of what is published"),
        (BrokerHealth(refusal="OOM"), [], "broker_refuses", "the broker: OOM"),
        (
            BrokerHealth(connected=False, servers=(ServerHealth("10.0.0.2:6379"), DOWN)),
            [],
            "broker_away",
            "10.0.0.1:6379: Connection refused",
        ),
        (BrokerHealth(), [DOWN], "presence_away", "10.0.0.1:6379: Connection refused"),
        (BrokerHealth(), [replace(DOWN, connected=True, deaf=True)], "presence_deaf", ""),
        (BrokerHealth(), [replace(DOWN, refusal="NOPERM")], "presence_refuses", "10.0.0.1:6379: Connection refused"),
    ],
)
async def test_says_why_it_is_degraded(
    broker: BrokerHealth, beside: list[ServerHealth], reason: str, detail: str
) -> None:
    operator = Operator()
    operator.broker.state = broker
    operator.node.presence_servers = lambda: beside
    [condition] = (await operator.http.get("/health/ready")).json()["reasons"]
    assert condition["reason"] == reason
    assert detail in condition["detail"]
    assert condition["status"] == "degraded"


async def test_a_balancer_may_ask_for_those_that_nothing_is_wrong_with() -> None:
    operator = Operator()
    assert await operator.status("/health/ready?strict") == 200
    operator.node.warnings.append("alone")
    assert await operator.status("/health/ready") == 200
    assert await operator.status("/health/ready?strict") == 503
    assert (await operator.http.get("/health/ready?strict")).headers["x-gateway-status"] == "degraded"


@pytest.mark.parametrize("status", ["full", "isolated"])
async def test_a_node_that_wants_nobody_says_so(status: str) -> None:
    operator = Operator()
    operator.node.warnings.append("alone")
    operator.node.conditions.append(lambda: Condition("a reason", "told", status))
    assert await operator.ready() == (503, status), "it is worse than degraded"
    operator.node.draining = True
    assert await operator.ready() == (503, "draining")
    reasons = (await operator.http.get("/health/ready")).json()["reasons"]
    assert [each["reason"] for each in reasons] == ["draining", "a reason", "warning"]


@pytest.mark.parametrize("state", [BrokerHealth(connected=False), BrokerHealth(deaf=True), BrokerHealth(refusal="OOM")])
async def test_without_broker_the_settings_decide(state: BrokerHealth) -> None:
    patient, strict = Operator(), Operator(health={"ready_without_broker": False})
    assert await strict.ready() == (200, "ok")
    for operator in (patient, strict):
        operator.broker.state = state
    assert await patient.ready() == (200, "degraded")
    assert await strict.ready() == (503, "degraded")
    assert await strict.status("/health/live") == 200


@pytest.mark.parametrize("state", ["lame_duck", "draining"])
async def test_a_node_that_stops_wants_nobody(state: str) -> None:
    operator = Operator()
    setattr(operator.node, state, True)
    assert await operator.ready() == (503, "draining")
    assert await operator.status("/health/live") == 200


async def test_metrics_are_for_prometheus() -> None:
    operator = Operator()
    response = await operator.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert f'gateway_broker_reconnects_total{{node="{operator.node.uid}"}} 3.0' in response.text
    open_metrics = await operator.http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


async def test_both_can_be_switched_off() -> None:
    operator = Operator(health={"enabled": False}, prometheus={"enabled": False})
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert await operator.status(path) == 404


async def test_balancers_may_ask_for_the_head_alone() -> None:
    operator = Operator()
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await operator.http.head(path)).status_code == 200
