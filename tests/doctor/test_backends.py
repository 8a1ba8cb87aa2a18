"""Backends of proxies, as the doctor finds them."""

import ssl
from pathlib import Path
from typing import Any

from gateway.config.settings import Settings
from gateway.doctor.backends import examine_backends
from gateway.doctor.program import examine_namespaces
from gateway.serve.listening import bind
from tests.certificates import Authority
from tests.proxies.backend import backend_running


def settings(url: str, **more: Any) -> Settings:
    room = {"name": "room", "subscribe_proxy_enabled": True}
    proxy = {event: {"endpoint": url, **more} for event in ("subscribe", "publish")}
    return Settings.model_validate({"channel": {"proxy": proxy, "namespaces": [room]}})


async def test_somebody_is_there() -> None:
    async with backend_running() as backend:
        (finding,) = await examine_backends(settings(backend.url))
        assert (finding.level, finding.about) == ("ok", "channel.proxy.subscribe"), (
            "of what is asked about nothing, none"
        )
        assert finding.text == f"somebody is at {backend.url.removeprefix('http://')}"
        assert not backend.asked


async def test_nobody_is_there() -> None:
    with bind("127.0.0.1", 0) as silent:
        port = silent.getsockname()[1]
    (finding,) = await examine_backends(settings(f"http://127.0.0.1:{port}/x"))
    assert (finding.level, finding.about) == ("problem", "channel.proxy.subscribe")
    assert f"127.0.0.1:{port}: " in finding.text


async def test_somebody_else_is_there() -> None:
    """A server without TLS never answers as one with it."""
    async with backend_running() as backend:
        backend.hold()
        (finding,) = await examine_backends(settings(backend.url.replace("http", "https"), timeout=0.1))
        assert finding.level == "problem"


async def test_the_name_that_is_meant(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("backend.example"))
    own: dict[str, Any] = {"enabled": True, "server_ca_pem": str(authority.path)}
    async with backend_running(context) as backend:
        for name, level in (("backend.example", "ok"), ("", "problem")):
            (finding,) = await examine_backends(settings(backend.url, http={"tls": {**own, "server_name": name}}))
            assert finding.level == level


def test_a_namespace_that_asks_is_not_closed() -> None:
    assert not list(examine_namespaces(settings("http://127.0.0.1:1")))
