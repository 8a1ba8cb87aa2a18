"""A backend that is slow, busy or away: what that costs others, and what is told of it."""

import logging
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from gateway.config.settings import ProxySettings
from gateway.errors import Error
from gateway.metrics import Metrics
from gateway.proxies import backend as module
from gateway.proxies.failures import Failure
from gateway.recurring import Recurring
from tests.certificates import Authority
from tests.proxies.backend import Backend, Raw, backend_running
from tests.proxies.client import gateway_running, token
from tests.waiting import until

TEMPORARY = {"code": 100, "message": "internal server error", "temporary": True}
PROXIED = {"subscribe_proxy_enabled": True}


def settings(backend: Backend, **slow: Any) -> dict[str, Any]:
    slow = {"timeout": 60, **slow}
    proxies = [{"name": name, "endpoint": f"{backend.url}/{name}", **slow} for name in ("one", "two")]
    names = [{"name": name, "subscribe_proxy_name": name, **PROXIED} for name in ("one", "two")]
    connect = {"enabled": True, "endpoint": f"{backend.url}/connect", **slow}
    free = {"name": "free", "allow_subscribe_for_client": True, "allow_publish_for_client": True}
    return {
        "client": {"proxy": {"connect": connect}},
        "channel": {"namespaces": [*names, free]},
        "proxies": proxies,
        "prometheus": {"enabled": True},
    }


async def test_a_slow_backend_delays_nobody_else(backend: Backend) -> None:
    """Neither others, nor its client's other commands, nor what another backend decides."""
    backend.answers["/connect"] = [{"result": {"user": "7"}}]
    async with (
        gateway_running(settings(backend, concurrency=2)) as gateway,
        gateway.connected() as client,
        gateway.client() as stranger,
    ):
        backend.hold()
        slow = [await client.send("subscribe", channel=f"one:{n}") for n in range(2)]
        unknown = await stranger.send("connect")
        await until(lambda: backend.under_way == 3)
        assert await client.ask("subscribe", channel="free:1") == {}
        assert await client.ask("publish", channel="free:1", data=1) == {}
        async with gateway.connected() as other:
            assert await other.ask("subscribe", channel="free:1") == {}
            number = await other.send("subscribe", channel="two:1")
            await until(lambda: backend.under_way == 4)
            backend.release()
            assert await other.reply(number, "subscribe") == {}
        assert [await client.reply(each, "subscribe") for each in slow] == [{}, {}]
        assert "client" in await stranger.reply(unknown, "connect")


async def test_so_many_at_a_time_and_so_many_wait(backend: Backend) -> None:
    values = settings(backend, concurrency=2, queue_size=3)
    async with gateway_running(values) as gateway, gateway.connected() as client:
        backend.hold()
        numbers = [await client.send("subscribe", channel=f"one:{n}") for n in range(7)]
        await until(lambda: backend.under_way == 2)
        assert [await client.reply(each) for each in numbers[5:]] == [TEMPORARY, TEMPORARY]
        assert gateway.node.metrics.proxy_errors == {("subscribe", "one", "overload"): 2}
        assert gateway.node.metrics.proxy_calls == {("subscribe", "one"): 2}
        backend.release()
        assert [await client.reply(each, "subscribe") for each in numbers[:5]] == [{}] * 5
    assert backend.most == 2
    assert [each["channel"] for each in backend.of("/one")] == [f"one:{n}" for n in range(5)]


async def test_nobody_waits_longer_for_a_turn_than_for_an_answer(backend: Backend) -> None:
    values = settings(backend, timeout=0.2, concurrency=1)
    async with gateway_running(values) as gateway, gateway.connected() as client:
        backend.hold()
        numbers = [await client.send("subscribe", channel=f"one:{n}") for n in range(3)]
        assert [await client.reply(each) for each in numbers] == [TEMPORARY] * 3
        errors = gateway.node.metrics.proxy_errors
        assert errors["subscribe", "one", "timeout"] + errors["subscribe", "one", "overload"] == 3
        assert errors["subscribe", "one", "timeout"] >= 1


async def test_what_metrics_tell(backend: Backend) -> None:
    backend.answers["/one"] = [{}, Raw(500)]
    async with gateway_running(settings(backend)) as gateway, gateway.connected() as client:
        for n in range(2):
            await client.ask("subscribe", channel=f"one:{n}")

        async with httpx.AsyncClient() as http:
            text = (await http.get(f"http://127.0.0.1:{gateway.port}/metrics")).text.replace(".0\n", "\n")
    node = f'node="{gateway.node.uid}"'
    assert f'gateway_proxy_seconds_count{{event="subscribe",name="one",{node}}} 2' in text
    assert f'gateway_proxy_errors_total{{event="subscribe",kind="status",name="one",{node}}} 1' in text
    assert f'gateway_proxy_calls{{event="subscribe",name="one",{node}}} 0' in text


async def test_what_the_log_tells(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """Once when it begins, and when it is over; and no secret."""
    values = settings(backend)
    values["proxies"][0] |= {
        "endpoint": f"{backend.url}/one?key=hidden",
        "http_headers": ["Cookie"],
        "http": {"static_headers": {"Authorization": "hidden"}},
    }
    secret = Raw(500, headers={"X": "hidden"}, body=b"hidden")
    backend.answers["/one?key=hidden"] = [secret, secret, Raw(body=b'{"result":{"info":"hidden","data":}}'), {}]
    with caplog.at_level(logging.INFO):
        async with gateway_running(values) as gateway, gateway.client(Cookie="hidden") as client:
            await client.ask("connect", token=token("7"))
            for n in range(4):
                await client.ask("subscribe", channel=f"one:{n}", data="hidden")
    lines = [each.getMessage() for each in caplog.records if each.name == "gateway.proxies"]
    where = f"{backend.url}/one"
    assert lines[0] == (
        f"proxy one: subscribe is not decided by {where}: the status is 500, which http.status_to_code_transforms does "
        "not have"
    )
    assert lines[1].startswith(f"proxy one: subscribe is not decided by {where}: the answer cannot be read: ")
    assert lines[2].startswith(f"proxy one: subscribe is decided again by {where} (")
    assert len(lines) == 3
    assert "hidden" not in caplog.text


# — the backend by itself —


class Calls:
    """A backend's calls, one after the other."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.metrics = Metrics()
        telling = Recurring(logging.getLogger("gateway.proxies"), time.monotonic)
        made = ProxySettings.model_validate({"endpoint": url, "timeout": 30, **settings})
        self.backend = module.Backend("default", made, self.metrics, time.monotonic, telling)

    async def ask(self, event: str = "subscribe") -> bytes:
        return await self.backend.ask(event, b"{}", [("Content-Type", "application/json")], bytes, lambda: False)


async def failure(calls: Calls, event: str = "subscribe") -> str:
    with pytest.raises(Failure) as raised:
        await calls.ask(event)
    return raised.value.kind


@pytest.mark.parametrize(("event", "times"), [("subscribe", 2), ("connect", 2), ("publish", 1), ("rpc", 1)])
async def test_a_kept_connection_that_the_server_has_closed(backend: Backend, event: str, times: int) -> None:
    """A question is asked once more; what may have been done is not."""
    backend.answers["/"] = [{}, Raw(body=None), {}]
    calls = Calls(f"{backend.url}/")
    assert await calls.ask(event) == b"{}"
    if times == 2:
        assert await calls.ask(event) == b"{}"
    else:
        assert await failure(calls, event) == "connection"
    assert len(backend.asked) == 1 + times
    await calls.backend.close()


async def test_what_is_no_http(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    backend.answers["/?key=hidden"] = [Raw(0, b"hidden\r\n\r\n")]
    calls = Calls(f"{backend.url}/?key=hidden")
    assert await failure(calls) == "connection"
    assert caplog.messages == [f"proxy default: subscribe is not decided by {backend.url}/: ClientResponseError"]
    await calls.backend.close()


async def test_a_refusal_is_a_decision(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    backend.answers["/"] = [Raw(500), Raw(403)]
    meanings = [{"status_code": 403, "to_error": {"code": 403, "message": "forbidden"}}]
    calls = Calls(f"{backend.url}/", http={"status_to_code_transforms": meanings})
    assert await failure(calls) == "status"
    with pytest.raises(Error, match="403 forbidden"):
        await calls.ask()
    assert caplog.messages[-1].startswith(f"proxy default: subscribe is decided again by {backend.url}/ (")
    await calls.backend.close()


async def test_no_redirect_is_followed(backend: Backend) -> None:
    backend.answers["/"] = [Raw(307, headers={"Location": f"{backend.url}/elsewhere"})]
    calls = Calls(f"{backend.url}/")
    assert await failure(calls) == "status"
    assert [each.path for each in backend.asked] == ["/"]
    await calls.backend.close()


async def test_a_large_answer_is_not_read_to_its_end(backend: Backend) -> None:
    calls = Calls(f"{backend.url}/", response_size_limit=1000)
    for chunked in (False, True):
        backend.answers["/"] = [Raw(body=b"x" * 1001, chunked=chunked)]
        assert await failure(calls) == "size"
        backend.answers["/"] = [Raw(body=b"x" * 1000, chunked=chunked)]
        assert len(await calls.ask()) == 1000
    assert calls.metrics.proxy_errors == {("subscribe", "default", "size"): 2}
    await calls.backend.close()


async def test_connections_are_kept(backend: Backend) -> None:
    calls = Calls(f"{backend.url}/")
    for _ in range(5):
        await calls.ask()
    assert backend.connections == 1
    await calls.backend.close()


async def test_an_address_that_nobody_answers_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[bool] = []
    calls = Calls("http://127.0.0.1:9/")
    monkeypatch.setattr(aiohttp.TCPConnector, "clear_dns_cache", lambda _self: cleared.append(True))
    assert await failure(calls) == "connection"
    assert cleared == [True]
    await calls.backend.close()


async def test_tls(tmp_path: Path) -> None:
    """Whoever has no certificate for the name that is meant is not told anything."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("backend.example"))
    own: dict[str, Any] = {"enabled": True, "server_ca_pem": str(authority.path)}
    async with backend_running(context) as backend:
        for tls in ({}, own, {**own, "server_name": "other.example"}):
            calls = Calls(backend.url, http={"tls": tls})
            assert await failure(calls) == "connection"
            await calls.backend.close()
        assert not backend.asked
        for tls in ({**own, "server_name": "backend.example"}, {"enabled": True, "insecure_skip_verify": True}):
            calls = Calls(backend.url, http={"tls": tls})
            assert await calls.ask() == b"{}"
            await calls.backend.close()


def test_certificates_that_cannot_be_used() -> None:
    with pytest.raises(FileNotFoundError):
        Calls("https://127.0.0.1/", http={"tls": {"enabled": True, "server_ca_pem": "/nowhere.pem"}})
