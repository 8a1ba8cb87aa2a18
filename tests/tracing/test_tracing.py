"""Whether there are traces, where they go, and what they cost where there are none."""

import asyncio
import importlib.util
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from gateway import Gateway, Settings
from gateway.errors import SettingsError
from gateway.serve.app import create_app
from gateway.tracing import tracing
from gateway.tracing.tracing import OpenTelemetry, find_exporter, find_provider
from tests.tracing.collector import collecting
from tests.tracing.traces import KEY, SAMPLED, Traces, headers, make_app, make_gateway
from tests.waiting import until

OFF = """
import asyncio, builtins, sys

real, importers = builtins.__import__, set()

def record(name, globals=None, *rest, **options):
    if name.partition(".")[0] == "opentelemetry":
        importers.add((globals or {}).get("__name__", ""))
    return real(name, globals, *rest, **options)

builtins.__import__ = record

from gateway import Settings
from gateway.program.gateway import Gateway
from gateway.serve.app import create_app

async def main():
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        node = app.state.node
        await node.broker.subscribe("a")
        from gateway.messages import Payload, Publication
        await node.publish(node.channels.resolve("a"), Publication(Payload(b"1")))

asyncio.run(main())
ours = sorted(name for name in importers if name.startswith("gateway"))
parts = sorted(name for name in sys.modules if name.startswith("gateway.tracing."))
print(ours, parts)
"""


def test_where_they_are_not_wanted_nothing_is_imported() -> None:
    # later releases of FastAPI import what there is by themselves, so that it is asked who does
    run = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] []"


def test_where_they_are_not_wanted_nothing_stands_around_anything() -> None:
    gateway = Gateway(channel={"namespaces": [{"name": "news"}]})
    chat = gateway.channel("chat:{room}")

    @gateway.on_connect
    async def connect() -> None: ...

    @chat.on_subscribe
    async def join() -> None: ...

    running = gateway.running
    assert running.node.broker is running.engine.broker
    assert running.node.channels.resolve("chat:a").route is chat.route
    assert running.acceptor._application is gateway._program


async def test_a_collector_gets_them_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        settings = Settings(opentelemetry={"enabled": True}, http_api={"key": KEY}, node={"name": "n1"})
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        ):
            await http.post("/api/publish", json={"channel": "a", "data": 1}, headers=headers(SAMPLED))
    assert sorted(collector.spans) == ["POST /api/publish", "publish"]  # those of the end are not lost
    [(path, _)] = collector.requests
    assert path == "/v1/traces"
    resource = collector.resource
    assert resource["service.name"] == "gateway"
    assert resource["service.instance.id"] == "n1"
    assert resource["deployment.environment.name"] == "test"
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)  # the process's is not taken


def test_the_name_of_the_service_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    _, own = find_provider("")
    assert own is not None
    assert own.resource.attributes["service.name"] == "chat"
    own.shutdown()


async def test_what_a_program_has_configured_is_used_and_left_running(traces: Traces) -> None:
    gateway = make_gateway()
    app = make_app(gateway)
    async with app.router.lifespan_context(app):
        pass
    provider = trace.get_tracer_provider()
    with provider.get_tracer("gateway").start_as_current_span("later"):
        pass
    assert traces.names == ["later"]


async def test_a_collector_that_is_away_holds_up_no_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setattr(tracing, "LAST_EXPORT", 0.0)
    answers, ended = threading.Event(), threading.Event()
    opened = OpenTelemetry(Settings(opentelemetry={"enabled": True}), lambda: pytest.fail("no node is asked"))

    class Slow:
        def shutdown(self) -> None:
            answers.wait()
            ended.set()

    slow: Any = Slow()
    opened._own = slow
    await opened.close()
    assert not ended.is_set()
    answers.set()
    await until(ended.is_set)


def test_the_last_spans_may_come_when_the_loop_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setattr(tracing, "LAST_EXPORT", 0.0)
    answers = threading.Event()
    opened = OpenTelemetry(Settings(opentelemetry={"enabled": True}), lambda: pytest.fail("no node is asked"))
    slow: Any = type("Slow", (), {"shutdown": lambda _: answers.wait()})()
    opened._own = slow
    asyncio.run(opened.close())
    [thread] = [each for each in threading.enumerate() if each.name == "gateway-last-spans"]
    answers.set()
    thread.join(10)  # a failure in it would be a warning, which is an error here
    assert not thread.is_alive()


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
@pytest.mark.parametrize("with_parent", [True, False])
def test_without_the_libraries_it_says_what_to_install(
    missing: str, with_parent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def lacking(name: str, package: str | None = None) -> Any:
        if name == missing:
            if with_parent:
                return None
            raise ModuleNotFoundError(name)
        return find(name, package)

    monkeypatch.setattr("gateway.config.contradictions.find_spec", lacking)
    with pytest.raises(
        SettingsError, match=r'^opentelemetry.enabled = true .program.: needs .* pip install "wsgateway\[otel\]"$'
    ):
        make_gateway()
    make_gateway(opentelemetry={"enabled": False})


def test_exporters_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert isinstance(find_exporter(), ConsoleSpanExporter)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "None")
    assert find_exporter() is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(SettingsError, match=r'OTEL_TRACES_EXPORTER = "zipkin" .* otlp, console or none'):
        find_exporter()


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_another_protocol_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "grpc")
    with pytest.raises(SettingsError, match=f'{name} = "grpc": the gateway sends http/protobuf alone'):
        find_exporter()
    monkeypatch.setenv(name, "http/protobuf")
    exporter = find_exporter()
    assert exporter is not None
    exporter.shutdown()
