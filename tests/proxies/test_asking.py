"""What a backend is asked about a client that speaks in bytes."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect
from gateway.metrics import Metrics
from gateway.proxies import envelopes
from gateway.proxies.asking import Asking
from gateway.proxies.envelopes import ConnectAsked, RPCAsked
from gateway.proxies.proxies import Proxies
from tests.proxies.backend import Backend


def session(**more: Any) -> Any:
    """One that speaks Protobuf."""
    protocol = SimpleNamespace(binary=True, unidirectional=False)
    found = {
        "client": "c",
        "user": "7",
        "meta": None,
        "headers": None,
        "closed": False,
        "transport": SimpleNamespace(name="http_stream"),
        "wire": SimpleNamespace(protocol=protocol),
        "handshake": SimpleNamespace(scope={}),
    }
    return SimpleNamespace(**found | more)


def node() -> Any:
    return SimpleNamespace(metrics=Metrics(), wheel=Wheel())


def settings(backend: Backend) -> Settings:
    proxy = {"endpoint": f"{backend.url}/"}
    rpc = {"proxy": proxy, "without_namespace": {"proxy_enabled": True}}
    return Settings.model_validate({"rpc": rpc, "client": {"proxy": {"connect": proxy}}})


async def test_bytes_go_as_base64_where_they_are_no_json(backend: Backend) -> None:
    asking = Asking(settings(backend), node)
    asking.start()
    for data in (b'{"a":1}', b"\x00\xff", b""):
        await asking.ask(envelopes.CONNECT, "default", session(), ConnectAsked, lambda answer: answer, data)
    await asking.close()
    first, second, third = (each.body for each in backend.asked)
    assert (first["encoding"], first["data"], "b64data" in first) == ("json", {"a": 1}, False)
    assert (second["encoding"], base64.b64decode(second["b64data"]), "data" in second) == ("binary", b"\x00\xff", False)
    assert (third["encoding"], third.keys() & {"data", "b64data"}) == ("json", set())
    assert (first["protocol"], first["transport"]) == ("protobuf", "http_stream")


async def test_bytes_come_to_those_who_can_read_them(backend: Backend) -> None:
    proxies = Proxies(settings(backend), node)
    proxies.start()
    backend.answers["/"] = [{"result": {"b64data": base64.b64encode(b"\x00\xff").decode()}}]
    request: Any = SimpleNamespace(method="x", data=b"")
    assert proxies.rpc is not None
    assert await proxies.rpc(session(), request) == b"\x00\xff"
    json = SimpleNamespace(protocol=SimpleNamespace(binary=False, unidirectional=False))
    with pytest.raises(Disconnect, match="inappropriate protocol"):
        await proxies.rpc(session(wire=json), request)
    await proxies.close()


async def test_who_has_left_is_not_asked_about(backend: Backend) -> None:
    asking = Asking(settings(backend), node)
    asking.start()
    with pytest.raises(Disconnect, match="connection closed"):
        await asking.ask(envelopes.RPC, "default", session(closed=True), RPCAsked, lambda answer: answer, method="x")
    assert not backend.asked
    await asking.close()
