"""Spans around calls of the server API."""

from http import HTTPStatus
from typing import Any

import msgspec
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import Response

from gateway.tracing.spans import NOWHERE, TRACEPARENT, Spans, is_traced, is_valid, refused, remote
from gateway.web.api import Answer
from gateway.web.api_messages import ErrorBody


class _Failed(msgspec.Struct):
    """What an answer says of a call that has failed."""

    error: ErrorBody


_failed = msgspec.json.Decoder(_Failed)
_transported = msgspec.json.Decoder(ErrorBody)


async def answered(spans: Spans, name: str, answer: Answer, command: Any, request: Request) -> Response:
    """The answer to a call that knows the key, in a span; who does not know it makes none."""
    path = getattr(request.scope.get("route"), "path", request.url.path)
    attributes = {"http.request.method": request.method, "http.route": path, "gateway.api.method": name}
    if channel := getattr(command, "channel", ""):
        attributes["messaging.destination.name"] = channel
    # the application may have made the server's span itself
    around = trace.get_current_span().get_span_context()
    kind = SpanKind.INTERNAL if around.is_valid and not around.is_remote else SpanKind.SERVER
    parent = None if is_traced() else _parent(command, request)
    called = f"{request.method} {path}" if kind is SpanKind.SERVER else f"api {name}"
    with spans.current(called, kind, attributes, parent) as span:
        response = await answer(command, request)
        span.set_attribute("http.response.status_code", response.status_code)
        if (error := _error(response)) is not None:
            refused(span, error.code, error.message, failed=error.temporary)
        return response


def _error(response: Response) -> ErrorBody | None:
    """What a call was answered in place of a result, in either of the two ways (http_api.error_mode)."""
    body = bytes(response.body)
    if response.status_code != HTTPStatus.OK:
        return _transported.decode(body)
    first, _, _ = body.partition(b"\n")  # of several commands
    return _failed.decode(first).error if body.startswith(b'{"error":') else None


def _parent(command: Any, request: Request) -> Context:
    """The caller's span: by its headers, or else by the tag of what it publishes."""
    found = propagate.extract(dict(request.headers), NOWHERE)
    if is_valid(found):
        return found
    tags = getattr(command, "tags", None) or {}
    return remote(tags.get(TRACEPARENT, "")) or NOWHERE
