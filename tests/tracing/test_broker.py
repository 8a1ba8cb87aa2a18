"""Spans around a broker, by themselves."""

import asyncio
from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry import trace

from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.messages import Payload, Publication, pack
from gateway.testing import Kit
from gateway.tracing.broker import TracedBroker
from gateway.tracing.spans import Spans, remote, sampled
from tests.tracing.traces import SAMPLED, UNSAMPLED, Traces, attributes, ids, make_app, make_gateway, parent


def test_what_names_a_parent() -> None:
    assert sampled(SAMPLED) is not None
    assert (sampled(UNSAMPLED), remote(UNSAMPLED) is None) == (None, False)
    for text in ("", "nonsense", SAMPLED.replace("1", "0"), SAMPLED + "-"):
        assert (remote(text), sampled(text)) == (None, None)


async def test_what_goes_to_many_channels_at_once_has_a_trace_for_each(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        ann = await kit.connect()
        rooms = [await ann.subscribe(f"news:{name}") for name in "ab"]
        with trace.get_tracer("gateway").start_as_current_span("whole"):
            await kit.gateway.broadcast(["news:a", "news:b"], 1)
        assert [(await room.next()).data for room in rooms] == [1, 1]
    published = {attributes(span)["messaging.destination.name"]: span for span in traces.of("publish news:*")}
    delivered = {attributes(span)["messaging.destination.name"]: span for span in traces.of("deliver news:*")}
    assert published.keys() == delivered.keys() == {"news:a", "news:b"}
    for name, span in delivered.items():
        assert parent(span) == ids(published[name])
        assert parent(published[name]) == ids(traces.one("whole"))


def test_nodes_of_earlier_releases_pass_a_trace_by() -> None:
    class Earlier(Struct, omit_defaults=True):
        data: bytes
        tags: dict[str, str] | None = None

    sent = pack(Publication(Payload(b"1"), tags={"a": "b"}, trace=SAMPLED))
    assert msgspec.msgpack.decode(sent, type=Earlier) == Earlier(b"1", {"a": "b"})
    assert b"trace" not in pack(Publication(Payload(b"1")))


class Slow:
    """A broker that does not answer."""

    def __getattr__(self, name: str) -> Any:
        return None

    async def publish(self, *_: object) -> None:
        await asyncio.get_running_loop().create_future()


async def test_a_round_trip_does_not_become_current(traces: Traces) -> None:
    # commands are carried out by hand up to where they wait, in whatever context, and go on in another
    async with Kit(make_app(make_gateway())) as kit:
        slow: Any = Slow()
        node = kit.gateway.node
        broker = TracedBroker(slow, Spans(trace.get_tracer("gateway"), {}), lambda: node)
        with trace.get_tracer("gateway").start_as_current_span("outer") as outer:
            publishing = broker.publish("news:a", Publication(Payload(b"1")), StreamOptions(), PublishOptions())
            publishing.send(None)
            assert trace.get_current_span() is outer
            publishing.close()
    assert parent(traces.one("publish news:*")) == ids(traces.one("outer"))
