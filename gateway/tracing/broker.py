"""Spans around the broker: round trips that are a part of a trace, and the delivery of publications that are.

A publication carries its trace to other nodes in its field ``trace``, which clients never see; a publisher that can
set no header gives it the tag ``traceparent``, which is a tag like any other, and stays.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from gateway.brokers.base import Broker, BrokerEvents, HistoryFilter, Posted, PublishOptions, StreamOptions
from gateway.channels import Channel
from gateway.errors import Error
from gateway.messages import Position, Publication, Receipt
from gateway.tracing.spans import TRACEPARENT, Spans, is_traced, remote, sampled, traceparent

if TYPE_CHECKING:
    from gateway.core.node import Node


class TracedBroker:
    """Satisfies `brokers.base.Broker`. What makes no spans is the broker's own method."""

    def __init__(self, broker: Broker, spans: Spans, node: "Callable[[], Node]") -> None:
        self._broker = broker
        self._spans = spans
        self._node = node
        self.close = broker.close
        self.subscribe = broker.subscribe
        self.unsubscribe = broker.unsubscribe
        self.hearers = broker.hearers
        self.echo = broker.echo
        self.publish_join = broker.publish_join
        self.publish_leave = broker.publish_leave
        self.verify = broker.verify
        self.remove_history = broker.remove_history
        self.publish_control = broker.publish_control
        self.health = broker.health

    async def start(self, node: str, events: BrokerEvents) -> None:
        await self._broker.start(node, TracedEvents(events, self._spans, self._node))

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        parent = _parent(publication)
        if parent is None and not is_traced():
            return await self._broker.publish(channel, publication, stream, options)
        name, attributes = operation("publish", "send", self._node(), channel)
        with self._spans.span(name, SpanKind.PRODUCER, attributes, parent) as span:
            # a copy: one publication may be on its way to many channels
            carrying = replace(publication, trace=traceparent(span))
            receipt = await self._broker.publish(channel, carrying, stream, options)
            if receipt.offset:
                span.set_attribute("messaging.message.id", f"{receipt.epoch}:{receipt.offset}")
            span.set_attribute("gateway.nodes", receipt.nodes)
            return receipt

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        return _parent(publication) is None and not is_traced() and self._broker.post(channel, publication, stream)

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        if not is_traced():
            return await self._broker.history(channel, which, stream)
        name, attributes = operation("history", "receive", self._node(), channel)
        with self._spans.span(name, SpanKind.CLIENT, attributes) as span:
            publications, top = await self._broker.history(channel, which, stream)
            span.set_attribute("messaging.batch.message_count", len(publications))
            return publications, top


class TracedEvents:
    """Satisfies `brokers.base.BrokerEvents`: one span for each publication of a sampled trace, whoever hears it."""

    def __init__(self, events: BrokerEvents, spans: Spans, node: "Callable[[], Node]") -> None:
        self._deliver = events.on_publication
        self._spans = spans
        self._node = node
        self.on_join = events.on_join
        self.on_leave = events.on_leave
        self.on_control = events.on_control
        self.on_gap = events.on_gap

    def on_publication(self, channel: str, publication: Publication) -> None:
        text = publication.trace or (publication.tags and publication.tags.get(TRACEPARENT))
        parent = sampled(text) if text else None
        if parent is None:
            self._deliver(channel, publication)
            return
        node = self._node()
        name, attributes = operation("deliver", "process", node, channel)
        with self._spans.span(name, SpanKind.CONSUMER, attributes, parent) as span:
            span.set_attribute("gateway.subscribers", node.hub.subscribers(channel))
            if publication.offset:
                span.set_attribute("messaging.message.id", f"{publication.epoch}:{publication.offset}")
            self._deliver(channel, publication)


def operation(name: str, kind: str, node: "Node", channel: str) -> tuple[str, dict[str, str]]:
    """A span's name, which is one for all channels of a namespace, and what tells them apart."""
    attributes = {
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": channel,
        "gateway.node": node.name,
    }
    try:
        pattern = template(node.channels.resolve(channel), node.settings.channel.namespace_boundary)
    except Error:  # of another node's program, in a rolling deploy
        pattern = ""
    if not pattern:
        return name, attributes
    attributes["messaging.destination.template"] = pattern
    return f"{name} {pattern}", attributes


def template(channel: Channel, boundary: str) -> str:
    """How the channel's name is made: its route's pattern, or its namespace; empty for a name without."""
    if channel.route is not None:
        return channel.route.text
    return f"{channel.namespace}{boundary}*" if channel.namespace else ""


def _parent(publication: Publication) -> Context | None:
    """The trace that a publication brings along."""
    text = publication.trace or (not is_traced() and publication.tags and publication.tags.get(TRACEPARENT))
    return remote(text) if text else None
