"""Looking at spans, and an application that makes them."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import Gateway

CALLER = "2" * 16
TRACE = "1" * 32
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
KEY = "a key of the server API"

OPEN: Any = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Traces:
    """The gateway's own spans that have ended; those of FastAPI, which makes some by itself, are left out."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        every = self._exporter.get_finished_spans()
        return [span for span in every if span.instrumentation_scope and span.instrumentation_scope.name == "gateway"]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def of(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        found = self.of(name)
        assert len(found) == 1, f"{len(found)} spans {name} among {self.names}"
        return found[0]


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Of the trace, and of the span."""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(span: ReadableSpan) -> tuple[str, str] | None:
    """The ids of its parent."""
    return span.parent and (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def make_app(gateway: Gateway) -> FastAPI:
    # its own spans would stand between those that are looked at
    app = FastAPI(lifespan=gateway.lifespan, telemetry={"tracing": False})
    app.include_router(gateway.router)
    app.state.gateway = gateway
    return app


def make_gateway(**sections: Any) -> Gateway:
    given: dict[str, Any] = {
        "opentelemetry": {"enabled": True},
        "client": {"allow_anonymous_connect_without_token": True},
        "http_api": {"key": KEY},
        "channel": {"namespaces": [{"name": "news", "history_size": 10, "history_ttl": 60, **OPEN}]},
    }
    return Gateway(**(given | sections))


def headers(traceparent: str = "") -> dict[str, str]:
    return {"X-API-Key": KEY} | ({"traceparent": traceparent} if traceparent else {})
