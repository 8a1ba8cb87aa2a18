"""Spans of the server API, and what a caller's trace becomes of on its way to the nodes that deliver."""

from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from gateway.testing import Kit
from gateway.tracing.broker import operation
from tests.redis_server import RedisServer
from tests.tracing.traces import (
    CALLER,
    SAMPLED,
    TRACE,
    UNSAMPLED,
    Traces,
    attributes,
    headers,
    ids,
    make_app,
    make_gateway,
    parent,
)

API = "POST /api/publish"


async def test_a_call_goes_on_from_the_callers_span_to_the_delivery(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        room = await (await kit.connect()).subscribe("news:a")
        body = {"channel": "news:a", "data": {"n": 1}, "tags": {"kind": "x"}}
        answer = await kit.http.post("/api/publish", json=body, headers=headers(SAMPLED))
        publication = await room.next()
    assert answer.json()["result"]["offset"] == publication.offset == 1
    call, publish, deliver = traces.one(API), traces.one("publish news:*"), traces.one("deliver news:*")
    assert (call.kind, publish.kind, deliver.kind) == (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert [parent(each) for each in (call, publish, deliver)] == [(TRACE, CALLER), ids(call), ids(publish)]
    assert attributes(call) == {
        "messaging.system": "memory",
        "http.request.method": "POST",
        "http.route": "/api/publish",
        "http.response.status_code": 200,
        "gateway.api.method": "publish",
        "messaging.destination.name": "news:a",
    }
    message = attributes(publish)["messaging.message.id"]
    assert message.endswith(":1")
    common = {
        "messaging.system": "memory",
        "messaging.destination.name": "news:a",
        "messaging.destination.template": "news:*",
        "messaging.message.id": message,
        "gateway.node": kit.nodes[0].gateway.settings.node.name or attributes(publish)["gateway.node"],
    }
    assert attributes(publish) == common | {
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "gateway.nodes": 1,
    }
    assert attributes(deliver) == common | {
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "gateway.subscribers": 1,
    }


async def test_clients_get_the_tags_of_the_publisher_and_no_others(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("news:a")
        for tags in ({"kind": "x"}, {"traceparent": SAMPLED}):
            body = {"channel": "news:a", "data": 1, "tags": tags}
            await kit.http.post("/api/publish", json=body, headers=headers(SAMPLED))
            assert (await room.next()).tags == tags
        stored = await kit.http.post("/api/history", json={"channel": "news:a", "limit": -1}, headers=headers())
        publications = stored.json()["result"]["publications"]
    assert publications == [
        {"data": 1, "offset": 1, "tags": {"kind": "x"}},
        {"data": 1, "offset": 2, "tags": {"traceparent": SAMPLED}},
    ]


async def test_a_publisher_that_can_set_no_header_gives_its_span_as_a_tag(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        body = {"channel": "news:a", "data": 1, "tags": {"traceparent": SAMPLED}}
        await kit.http.post("/api/publish", json=body, headers=headers())
        await kit.http.post("/api/publish", json=body | {"tags": {"traceparent": "nonsense"}}, headers=headers())
    first, second = traces.of(API)
    assert (parent(first), parent(second)) == ((TRACE, CALLER), None)


async def test_an_unsampled_trace_makes_no_spans_and_is_not_carried(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        room = await (await kit.connect()).subscribe("news:a")
        body = {"channel": "news:a", "data": 1, "tags": {"traceparent": UNSAMPLED}}
        await kit.http.post("/api/publish", json=body, headers=headers(UNSAMPLED))
        assert (await room.next()).data == 1
    assert traces.names == []


async def test_one_delivery_for_a_node_however_many_subscribers_it_has(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        rooms = [await (await kit.connect()).subscribe("news:a") for _ in range(3)]
        await kit.http.post("/api/publish", json={"channel": "news:a", "data": 1}, headers=headers())
        assert [(await room.next()).data for room in rooms] == [1, 1, 1]
    assert attributes(traces.one("deliver news:*"))["gateway.subscribers"] == 3


async def test_a_trace_goes_on_at_other_nodes_over_redis(traces: Traces, server: RedisServer) -> None:
    def create_app() -> Any:
        return make_app(make_gateway())

    async with Kit(create_app, nodes=2, redis_url=server.url) as kit:
        room = await (await kit.connect(node=1)).subscribe("news:a")
        await kit.http.post("/api/publish", json={"channel": "news:a", "data": 1}, headers=headers(SAMPLED))
        publication = await room.next()
        [stored], _ = await kit.gateway.history("news:a")
        names = [node.gateway.name for node in kit.nodes]
    assert (publication.data, publication.tags, stored.tags) == (1, None, {})
    publish, deliver = traces.one("publish news:*"), traces.one("deliver news:*")
    assert parent(deliver) == ids(publish)
    assert [attributes(span)["gateway.node"] for span in (publish, deliver)] == names


async def test_refusals_are_told_in_the_span(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        body = {"channel": "nowhere:a", "data": 1}
        await kit.http.post("/api/publish", json=body, headers=headers())
        transport = headers() | {"X-Centrifugo-Error-Mode": "transport"}
        assert (await kit.http.post("/api/publish", json=body, headers=transport)).status_code == 404
    for span, status in zip(traces.of(API), (200, 404), strict=True):
        assert attributes(span)["error.type"] == "102"
        assert attributes(span)["http.response.status_code"] == status
        assert span.status.status_code is StatusCode.UNSET  # the caller's fault is none of ours


async def test_a_broker_that_is_away_is_a_failure(traces: Traces) -> None:
    engine = {"publish_wait": 0}
    async with Kit(make_app(make_gateway(engine=engine))) as kit:
        kit.broker.kill()
        await kit.http.post("/api/publish", json={"channel": "news:a", "data": 1}, headers=headers())
        kit.broker.restore()
    call, publish = traces.one(API), traces.one("publish news:*")
    for span in (call, publish):
        assert attributes(span)["error.type"] == "100"
        assert span.status.status_code is StatusCode.ERROR


async def test_a_batch_is_one_call_with_a_round_trip_for_each_publication(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        commands = [{"publish": {"channel": f"news:{name}", "data": 1}} for name in "ab"]
        await kit.http.post("/api/batch", json={"commands": commands, "parallel": True}, headers=headers())
        body = {"channels": ["news:c", "other:d"], "data": 1}
        await kit.http.post("/api/broadcast", json=body, headers=headers())
    batch, broadcast = traces.one("POST /api/batch"), traces.one("POST /api/broadcast")
    assert [parent(span) for span in traces.of("publish news:*")] == [ids(batch), ids(batch), ids(broadcast)]


async def test_history_and_presence_of_a_call(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        for _ in range(2):
            await kit.http.post("/api/publish", json={"channel": "news:a", "data": 1}, headers=headers(UNSAMPLED))
        await kit.http.post("/api/history", json={"channel": "news:a", "limit": -1}, headers=headers())
    history = traces.one("history news:*")
    assert (history.kind, parent(history)) == (SpanKind.CLIENT, ids(traces.one("POST /api/history")))
    assert attributes(history)["messaging.batch.message_count"] == 2


async def test_names_without_namespace_do_not_make_names_of_spans(traces: Traces) -> None:
    options = {"without_namespace": {"history_size": 0}}
    async with Kit(make_app(make_gateway(channel=options))) as kit:
        await kit.http.post("/api/publish", json={"channel": "some-id", "data": 1}, headers=headers())
    publish = attributes(traces.one("publish"))
    assert publish["messaging.destination.name"] == "some-id"
    assert "messaging.destination.template" not in publish
    assert "messaging.message.id" not in publish


async def test_a_channel_that_only_other_nodes_know(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:  # in a rolling deploy, say
        name, found = operation("deliver", "process", kit.gateway.node, "unheard:a")
    assert (name, found["messaging.destination.name"]) == ("deliver", "unheard:a")
    assert "messaging.destination.template" not in found


@pytest.mark.parametrize("given", [{}, {"X-API-Key": "another"}])
async def test_who_does_not_know_the_key_makes_no_spans(traces: Traces, given: dict[str, str]) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        answer = await kit.http.post("/api/publish", json={}, headers=given | {"traceparent": SAMPLED})
    assert (answer.status_code, traces.names) == (401, [])


async def test_within_the_servers_own_span_a_call_is_a_part_of_it(traces: Traces) -> None:
    from opentelemetry import trace
    from starlette.types import Receive, Scope, Send

    app = make_app(make_gateway())

    class Instrumented:
        state = app.state

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            with trace.get_tracer("gateway").start_as_current_span("the server's"):
                await app(scope, receive, send)

    async with Kit(Instrumented()) as kit:
        await kit.http.post("/api/publish", json={"channel": "news:a", "data": 1}, headers=headers(SAMPLED))
    call = traces.one("api publish")
    assert (call.kind, parent(call)) == (SpanKind.INTERNAL, ids(traces.one("the server's")))


async def test_without_spans_of_the_api(traces: Traces) -> None:
    settings = {"enabled": True, "api": False}
    async with Kit(make_app(make_gateway(opentelemetry=settings))) as kit:
        body = {"channel": "news:a", "data": 1}
        await kit.http.post("/api/publish", json=body, headers=headers(SAMPLED))
        assert traces.names == []
        await kit.http.post("/api/publish", json=body | {"tags": {"traceparent": SAMPLED}}, headers=headers())
    assert parent(traces.one("publish news:*")) == (TRACE, CALLER)
