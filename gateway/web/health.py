"""Health and metrics, for balancers, orchestrators and operators."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from msgspec.structs import asdict

from gateway.brokers.base import BrokerHealth
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.health import ServerHealth


def health_router(source: Callable[[], Node], settings: Settings) -> APIRouter:
    """``/health/live``: the process runs. ``/health/ready``: send it connections. ``source`` gives the node."""
    router = APIRouter(tags=["operation"])

    async def live() -> dict[str, str]:
        """The process runs and its event loop turns."""
        return {"status": "ok"}

    async def ready() -> Response:
        """Whether this node wants new connections, how its broker connection is, and what it warns of."""
        node = source()
        broker = node.broker.health()
        leaving = node.lame_duck or node.draining
        wanted = not leaving and (broker.ok or settings.health.ready_without_broker)
        beside = node.presence_servers()
        well = broker.ok and not node.warnings and all(server.ok for server in beside)
        body = {
            "status": "draining" if leaving else "ok" if well else "degraded",
            "node": node.uid,
            "broker": _shown(broker),
            **({"presence": _each(beside)} if beside else {}),
            **({"warnings": node.warnings} if node.warnings else {}),
        }
        return JSONResponse(body, 200 if wanted else 503)

    if settings.health.enabled:
        router.add_api_route("/health", live, methods=["GET"])
        router.add_api_route("/health/live", live, methods=["GET"])
        router.add_api_route("/health/ready", ready, methods=["GET"])
        for path, check in (("/health", live), ("/health/live", live), ("/health/ready", ready)):
            router.add_api_route(path, check, methods=["HEAD"], include_in_schema=False)
    if settings.prometheus.enabled:
        router.add_api_route("/metrics", lambda: _metrics(source()), methods=["GET"], response_class=Response)
    return router


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
    return {key: value for key, value in body.items() if value != ""}


def _metrics(node: Node) -> Response:
    from gateway.web.exposition import CONTENT_TYPE_LATEST, render  # no program waits for Prometheus at its start

    return Response(render(node.metrics), media_type=CONTENT_TYPE_LATEST)
