"""Health and metrics, for balancers, orchestrators and operators."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec.structs import asdict

from gateway.brokers.base import BrokerHealth
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.health import Condition, ServerHealth
from gateway.web.exposition import Family
from gateway.web.workers import apart, read_all

STATUSES = ("draining", "isolated", "full", "degraded")
"""What a node may be, the worst first, when it is not ``ok``."""

STATUS_HEADER = "X-Gateway-Status"


def health_router(source: Callable[[], Node], settings: Settings) -> APIRouter:
    """``/health/live``: the process runs. ``/health/ready``: send it connections. ``source`` gives the node.

    With ``?strict`` only a node that nothing is wrong with is ready. ``X-Gateway-Status`` is the status of the body.
    """
    router = APIRouter(tags=["operation"])

    async def live() -> dict[str, str]:
        """The process runs and its event loop turns."""
        return {"status": "ok"}

    async def ready(request: Request) -> Response:
        """Whether this node wants new connections, how its broker connection is, and what else is not as it should be.

        With `strict`, 503 unless the status is ok.
        """
        node = source()
        broker = node.broker.health()
        beside = node.presence_servers()
        conditions = find_conditions(node)
        status = status_of(conditions)
        lenient = status == "degraded" and (broker.ok or settings.health.ready_without_broker)
        wanted = status == "ok" or (lenient and "strict" not in request.query_params)
        body = {
            "status": status,
            "reasons": conditions,
            "node": node.uid,
            "broker": _shown(broker),
            **({"presence": _each(beside)} if beside else {}),
            **({"warnings": node.warnings} if node.warnings else {}),
        }
        return Response(
            msgspec.json.encode(body), 200 if wanted else 503, {STATUS_HEADER: status}, media_type="application/json"
        )

    if settings.health.enabled:
        router.add_api_route("/health", live, methods=["GET"])
        router.add_api_route("/health/live", live, methods=["GET"])
        router.add_api_route("/health/ready", ready, methods=["GET"])
        for path, check in (("/health", live), ("/health/live", live), ("/health/ready", ready)):
            router.add_api_route(path, check, methods=["HEAD"], include_in_schema=False)
    if settings.prometheus.enabled:

        async def metrics(request: Request) -> Response:
            """Of all processes that share the port, in the text format, or OpenMetrics for who accepts that."""
            families = await read_all(source(), settings.prometheus.directory)
            return await apart(_rendered, families, request.headers.get("accept", ""))

        router.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response)
    return router


def find_conditions(node: Node) -> list[Condition]:
    """What lasts and is not as it should be, if anything does."""
    found = [Condition("draining", "the node is stopping", "draining")] if node.draining or node.lame_duck else []
    found += [condition for each in node.conditions if (condition := each()) is not None]
    broker = node.broker.health()
    if not broker.ok:
        whole = ServerHealth("the broker", connected=broker.connected, deaf=broker.deaf, refusal=broker.refusal)
        found += [_condition("broker", each) for each in [each for each in broker.servers if not each.ok] or [whole]]
    found += [_condition("presence", each) for each in node.presence_servers() if not each.ok]
    return found + [Condition("warning", text) for text in node.warnings]


def status_of(conditions: Collection[Condition]) -> str:
    """The worst of what these make a node."""
    return next((name for name in STATUSES if any(each.status == name for each in conditions)), "ok")


def _condition(what: str, server: ServerHealth) -> Condition:
    if server.refusal:
        return Condition(f"{what}_refuses", f"{server.server}: {server.problem or server.refusal}")
    if not server.connected:
        return Condition(f"{what}_away", f"{server.server}: {server.problem or 'no connection'}")
    return Condition(f"{what}_deaf", f"{server.server}: nothing arrives of what is published")


def _shown(broker: BrokerHealth) -> dict[str, Any]:
    """What is wrong, if anything is, and each server where there are several."""
    worst = next((server for server in broker.servers if server.refusal or server.problem), None)
    body: dict[str, Any] = {
        "connected": broker.connected,
        "deaf": broker.deaf,
        "lag": round(broker.lag, 6),
        "reconnects": broker.reconnects,
        "refusal": broker.refusal,
        "problem": worst.problem if worst else "",
        "remedy": worst.remedy if worst else "",
    }
    if len(broker.servers) > 1:
        body["servers"] = _each(broker.servers)
    return _said(body)


def _each(servers: Iterable[ServerHealth]) -> list[dict[str, Any]]:
    return [_said({**asdict(server), "lag": round(server.lag, 6)}) for server in servers]


def _said(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value not in ("", -1)}


def _rendered(families: list[Family], accept: str) -> Response:
    from gateway.web.rendering import render  # no program waits for Prometheus at its start

    body, content_type = render(families, accept)
    return Response(body, headers={"content-type": content_type})
