"""Spans around the handlers of a program."""

from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any

from opentelemetry.trace import SpanKind

from gateway.channels import Channel, Route
from gateway.messages import ConnectRequest, Payload, Publication, RefreshRequest, RPCRequest
from gateway.session import Session
from gateway.session.application import Accepted, Admission
from gateway.tracing.spans import Spans, traceparent

EVENTS = {
    "subscribe": "on_subscribe",
    "refresh": "on_refresh",
    "presence": "on_presence",
    "history": "on_history",
    "unsubscribe": "on_unsubscribe",
    "cache_empty": "on_cache_empty",
    "map_publish": "on_publish",
    "map_remove": "on_remove",
}
"""What a session asks of a route, beside publishing to a stream, and how the handler is called."""

Ask = Callable[..., Awaitable[Any]]


class TracedApplication:
    """Satisfies `session.application.Application`; all else that is asked of it is the program's."""

    def __init__(self, application: Any, spans: Spans) -> None:
        self._spans = spans
        self._application = application
        self.connect = self._connect if application.connect is not None else None
        self.refresh = self._refresh if application.refresh is not None else None
        self.disconnect = self._disconnect if application.disconnect is not None else None
        self.rpc = self._rpc if application.rpc is not None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    async def _connect(self, session: Session, request: ConnectRequest, known: Admission | None) -> Admission:
        with self._spans.current("on_connect", SpanKind.SERVER, of_client(session)):
            admission: Admission = await self._application.connect(session, request, known)
            return admission

    async def _refresh(self, session: Session, request: RefreshRequest, known: Admission | None) -> Admission:
        with self._spans.current("on_refresh", SpanKind.SERVER, of_client(session)):
            admission: Admission = await self._application.refresh(session, request, known)
            return admission

    async def _disconnect(self, session: Session) -> None:
        with self._spans.current("on_disconnect", SpanKind.SERVER, of_client(session)):
            await self._application.disconnect(session)

    async def _rpc(self, session: Session, request: RPCRequest) -> Payload | None:
        # a client may send any name: spans are called by those that there are
        known = request.method in self._application.procedures
        attributes = of_client(session) | {"rpc.system": "gateway", "rpc.method": request.method}
        with self._spans.current(f"rpc {request.method}" if known else "rpc", SpanKind.SERVER, attributes):
            answer: Payload | None = await self._application.rpc(session, request)
            return answer


def traced_route(route: Any, spans: Spans) -> Route:
    """A copy, whose handlers are in spans."""
    traced = copy(route)
    for name, event in EVENTS.items():
        if (ask := getattr(route, name)) is not None:
            setattr(traced, name, _asked(ask, event, route, spans))
    if route.publish is not None:
        traced.publish = _published(route, spans)
    found: Route = traced
    return found


def _asked(ask: Ask, event: str, route: Any, spans: Spans) -> Ask:
    async def traced(session: Session, channel: Channel, *request: Any) -> Any:
        with spans.current(f"{event} {route.text}", SpanKind.SERVER, _of_channel(session, channel)):
            return await ask(session, channel, *request)

    return traced


def _published(route: Any, spans: Spans) -> Ask:
    async def publish(session: Session, channel: Channel, publication: Publication) -> Accepted:
        attributes, called = _of_channel(session, channel), "on_publish"
        if event := route.types.event(publication.data):  # a client may send any name, so it is no part of the span's
            attributes["gateway.event"], called = event, "event"
        with spans.current(f"{called} {route.text}", SpanKind.SERVER, attributes) as span:
            accepted: Accepted = await route.publish(session, channel, publication)
            if accepted.publication is not None:  # it is published when this has ended
                accepted.publication.trace = traceparent(span)
            return accepted

    return publish


def of_client(session: Session) -> dict[str, str]:
    """Which connection it is about; not whose."""
    return {"messaging.client.id": session.client}


def _of_channel(session: Session, channel: Channel) -> dict[str, str]:
    assert channel.route is not None, "a handler is a route's"
    return of_client(session) | {
        "messaging.destination.name": channel.name,
        "messaging.destination.template": channel.route.text,
    }
