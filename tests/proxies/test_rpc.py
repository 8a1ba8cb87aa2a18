"""Calls that a backend answers."""

import base64
from typing import Any

import pytest

from tests.proxies.backend import Backend, Raw
from tests.proxies.client import gateway_running

TEMPORARY = {"code": 100, "message": "internal server error", "temporary": True}


def settings(backend: Backend, **proxy: Any) -> dict[str, Any]:
    return {
        "rpc": {
            "proxy": {"endpoint": f"{backend.url}/rpc", "timeout": 30, **proxy},
            "without_namespace": {"proxy_enabled": True},
            "namespaces": [{"name": "orders", "proxy_enabled": True, "proxy_name": "orders"}, {"name": "closed"}],
        },
        "proxies": [{"name": "orders", "endpoint": f"{backend.url}/orders", "timeout": 30}],
    }


async def test_a_call(backend: Backend) -> None:
    backend.answers["/rpc"] = [{"result": {"data": {"sum": 3}}}]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("rpc", method="add", data=[1, 2]) == {"data": {"sum": 3}}
        session = gateway.session()
    assert backend.of("/rpc") == [
        {
            "client": session.client,
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "7",
            "method": "add",
            "data": [1, 2],
        }
    ]


@pytest.mark.parametrize(
    ("method", "expected", "path"),
    [
        ("orders:list", {}, "/orders"),
        ("", {}, "/rpc"),
        (":list", {}, "/rpc"),
        ("nope:list", {"code": 104, "message": "method not found"}, ""),
        ("closed:list", {"code": 108, "message": "not available"}, ""),
    ],
)
async def test_which_backend_is_asked(backend: Backend, method: str, expected: Any, path: str) -> None:
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("rpc", method=method) == expected
    assert [each.path for each in backend.asked] == ([path] if path else [])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, {}),
        ({"result": {}}, {}),
        ({"result": {"data": None}}, {"data": None}),
        ({"result": {"b64data": base64.b64encode(b"[ 1 ]").decode()}}, {"data": [1]}),
        ({"result": {"b64data": base64.b64encode(b"\xff").decode()}}, (3506, "inappropriate protocol")),
        ({"error": {"code": 404, "message": "no such order"}}, {"code": 404, "message": "no such order"}),
        ({"disconnect": {"code": 4500, "reason": "out"}}, (4500, "out")),
        (Raw(500), TEMPORARY),
        (Raw(body=None), TEMPORARY),
    ],
)
async def test_what_the_caller_gets_for_an_answer(backend: Backend, answer: Any, expected: Any) -> None:
    backend.answers["/rpc"] = [answer]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        assert await client.ask("rpc", method="x") == expected
    assert len(backend.asked) == 1


async def test_a_call_has_no_method_where_nobody_is_asked(backend: Backend) -> None:
    values = {"rpc": {"proxy": {"endpoint": backend.url}}}
    async with gateway_running(values) as gateway, gateway.connected() as client:
        assert (await client.ask("rpc", method="x"))["code"] == 104
