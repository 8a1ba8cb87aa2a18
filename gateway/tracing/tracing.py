"""The traces of one node: where its spans go, and what they stand around."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import Response

from gateway.brokers.base import Broker
from gateway.channels import Route
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.session import NO_APPLICATION
from gateway.tracing import A, Tell
from gateway.tracing.api import answered
from gateway.tracing.broker import TracedBroker, operation
from gateway.tracing.program import TracedApplication, traced_route
from gateway.tracing.spans import Spans
from gateway.version import __version__
from gateway.web.api import Answer

if TYPE_CHECKING:
    from gateway.core.node import Node

LAST_EXPORT = 5.0
"""Seconds that a node which stops gives to its last spans: a collector that is away holds up nothing."""


class OpenTelemetry:
    """Satisfies `Tracing`. Raises ``SettingsError`` for ``OTEL_…`` variables that name what is not there."""

    def __init__(self, settings: Settings, node: "Callable[[], Node]") -> None:
        self._settings = settings.opentelemetry
        self._node = node
        provider, self._own = find_provider(settings.node.name)
        tracer = provider.get_tracer("gateway", __version__)
        self._spans = Spans(tracer, {"messaging.system": settings.engine.type})

    def broker(self, broker: Broker) -> Broker:
        return TracedBroker(broker, self._spans, self._node)

    def application(self, application: A) -> A:
        if not self._settings.handlers or application is NO_APPLICATION:
            return application
        return cast(A, TracedApplication(application, self._spans))

    def route(self, route: Route) -> Route:
        return traced_route(route, self._spans) if self._settings.handlers else route

    def told(self, tell: Tell) -> Tell:
        if not self._settings.handlers:
            return tell

        async def traced(channel: str, event: Any) -> None:
            name, attributes = operation(event.name, "process", self._node(), channel)
            with self._spans.current(name, SpanKind.INTERNAL, attributes):
                await tell(channel, event)

        return traced

    def api(self, name: str, answer: Answer) -> Answer:
        async def traced(command: Any, request: Request) -> Response:
            return await answered(self._spans, name, answer, command, request)

        return traced

    async def close(self) -> None:
        """Send what is there, if nobody else does."""
        own = self._own
        if own is None:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            own.shutdown()
            with suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(ended.set)

        # not in a pool, whose threads Python joins in the end
        threading.Thread(target=shut_down, name="gateway-last-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_EXPORT):
                await ended.wait()


def find_provider(name: str) -> tuple[trace.TracerProvider, TracerProvider | None]:
    """What the process has configured already, or one of our own, which is ours to shut down."""
    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider):
        return present, None
    given = {"service.name": "gateway", "service.version": __version__}
    if name:
        given["service.instance.id"] = name
    said = OTELResourceDetector().detect().attributes  # comes before what we would say
    own = TracerProvider(resource=Resource.create({**given, **said}), shutdown_on_exit=False)
    if (exporter := find_exporter()) is not None:
        own.add_span_processor(BatchSpanProcessor(exporter))
    return own, own


def find_exporter() -> SpanExporter | None:
    """What ``OTEL_TRACES_EXPORTER`` names; it reads the other variables itself."""
    match os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower():
        case "none":
            return None
        case "console":
            return ConsoleSpanExporter()
        case "" | "otlp":
            return _otlp()
        case other:
            raise SettingsError(
                f'OTEL_TRACES_EXPORTER = "{other}" is not one that the gateway brings; write otlp, console or none, or '
                "configure a TracerProvider before the gateway starts, for example by opentelemetry-instrument"
            )


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # slow, and others do without

    names = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    key = next((name for name in names if os.environ.get(name)), "")
    protocol = os.environ.get(key, "").strip().lower()
    if protocol not in ("", "http/protobuf"):
        raise SettingsError(
            f'{key} = "{protocol}": the gateway sends http/protobuf alone; give the collector\'s address for that, for '
            "example OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318, and leave the protocol out"
        )
    return OTLPSpanExporter()
