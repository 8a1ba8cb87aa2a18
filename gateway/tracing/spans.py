"""Spans: how they begin, what becomes of failures, and how a trace goes on elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.errors import Disconnect, Error

TRACEPARENT = "traceparent"
"""The header, and the tag of a publication, that continue a trace (W3C Trace Context, section 3.2)."""

NOWHERE = Context()
"""For a span that begins a trace."""

_w3c = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of one node."""

    def __init__(self, tracer: Tracer, common: Mapping[str, str]) -> None:
        """``common`` attributes are those of all spans."""
        self._tracer = tracer
        self._common = dict(common)

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, str], parent: Context | None = None
    ) -> Iterator[Span]:
        """A span for the length of a block, under ``parent``, or what is current.

        It does not become current: a block that waits may go on in another context than it began in, because
        commands are carried out on the spot up to where they wait.
        """
        span = self._tracer.start_span(name, parent, kind, {**self._common, **attributes})
        try:
            yield span
        except (Error, Disconnect) as refusal:
            refused(span, refusal.code, str(refusal), failed=isinstance(refusal, Error) and refusal.temporary)
            raise
        except Exception as failure:
            span.record_exception(failure)
            span.set_attribute("error.type", type(failure).__qualname__)
            span.set_status(Status(StatusCode.ERROR, str(failure)))
            raise
        finally:
            span.end()

    @contextmanager
    def current(
        self, name: str, kind: SpanKind, attributes: Mapping[str, str], parent: Context | None = None
    ) -> Iterator[Span]:
        """The same, under which stands what the block makes. For blocks that run in a task of their own."""
        with (
            self.span(name, kind, attributes, parent) as span,
            trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield span


def refused(span: Span, code: int, text: str, *, failed: bool) -> None:
    """Note an answer by one of the catalogues; it is a failure of ours if the same would be right another time."""
    span.set_attribute("error.type", str(code))
    if failed:
        span.set_status(Status(StatusCode.ERROR, text))


def is_traced() -> bool:
    """Whether there is a trace, so that a span would be a part of it."""
    return trace.get_current_span().get_span_context().is_valid


def traceparent(span: Span) -> str:
    """By which another node goes on; empty unless the trace is sampled."""
    context = span.get_span_context()
    if not context.trace_flags.sampled:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def remote(text: str) -> Context | None:
    """The parent that a traceparent names; None for what is none (which begins no trace: that is for its sender)."""
    context = _w3c.extract({TRACEPARENT: text}, NOWHERE)
    return context if is_valid(context) else None


def is_valid(context: Context) -> bool:
    """Whether there is a span in it."""
    return trace.get_current_span(context).get_span_context().is_valid


def sampled(text: str) -> Context | None:
    """The parent that a traceparent names, if its trace is sampled."""
    context = remote(text)
    if context is None or not trace.get_current_span(context).get_span_context().trace_flags.sampled:
        return None
    return context
