"""A gateway that has lost its broker, and hears none of the others that it knew."""

import asyncio
import json
from http.client import HTTPConnection
from typing import Any

import pytest

from gateway.brokers.base import BrokerHealth
from gateway.config.settings import Settings
from gateway.core import isolation
from gateway.core.cluster import NodeInfo, seal
from gateway.core.node import Node
from gateway.errors import DisconnectCode
from gateway.serve.app import create_app
from tests.callers import Caller
from tests.serving import on_uvicorn
from tests.waiting import until

OTHER = "x"
"""The id of a node that comes after this one, whose turn is the first."""

SETTINGS = Settings.model_validate({"client": {"insecure": True}, "health": {"isolated_after": 0.1}})


def ready(port: int) -> tuple[int, dict[str, Any]]:
    http = HTTPConnection("127.0.0.1", port, timeout=10)
    http.request("GET", "/health/ready")
    answer = http.getresponse()
    body = json.loads(answer.read())
    http.close()
    assert answer.headers["X-Gateway-Status"] == body["status"]
    return answer.status, body


async def test_sends_its_clients_away_and_takes_in_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SILENCE", 0.0)
    app = create_app(SETTINGS)
    node: Node = app.state.node
    async with on_uvicorn(app, SETTINGS) as port:
        node.cluster.receive(seal(OTHER, NodeInfo(OTHER, "the other", "1")))
        early = await asyncio.to_thread(Caller, port)
        await asyncio.to_thread(early.ask, connect={})
        monkeypatch.setattr(node.broker, "health", lambda: BrokerHealth(connected=False))
        assert await asyncio.to_thread(early.code) == DisconnectCode.FORCE_RECONNECT
        status, body = await asyncio.to_thread(ready, port)
        assert (status, body["status"]) == (503, "isolated")
        assert [each["reason"] for each in body["reasons"]] == ["isolated", "broker_away"]
        with await asyncio.to_thread(Caller, port) as late:
            assert "connect" in await asyncio.to_thread(late.ask, connect={})
            monkeypatch.setattr(node.broker, "health", BrokerHealth)
            await until(lambda: not node.isolation.out)
            assert (await asyncio.to_thread(ready, port))[1]["status"] == "ok"
            assert "error" in await asyncio.to_thread(late.ask, rpc={"method": "none"}), "it has stayed"
        early.drop()


async def test_a_full_node_is_not_ready() -> None:
    settings = Settings.model_validate({"client": {"insecure": True, "connection_limit": 1}})
    async with on_uvicorn(create_app(settings), settings) as port:
        with await asyncio.to_thread(Caller, port):
            status, body = await asyncio.to_thread(ready, port)
            assert (status, body["status"]) == (503, "full")
            assert [each["reason"] for each in body["reasons"]] == ["full"]
        await until(lambda: ready_again(port))


async def ready_again(port: int) -> bool:
    return (await asyncio.to_thread(ready, port))[0] == 200
