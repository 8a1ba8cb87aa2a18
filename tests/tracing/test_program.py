"""Spans of a program's handlers."""

import time
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import BaseModel

from gateway import HANDLED, Client, Credentials, Error, Gateway, Handled
from gateway.testing import Disconnected, Kit, Refused
from tests.tracing.traces import OPEN, SAMPLED, Traces, attributes, ids, make_app, make_gateway, parent


class Text(BaseModel):
    text: str


def make_program(**sections: Any) -> Gateway:
    gateway = make_gateway(**sections)
    chat = gateway.channel("chat:{room}", history_size=10, presence=True, message=Text)
    game = gateway.channel("game:{id}", **OPEN)

    @gateway.on_connect
    async def connect(client: Client) -> Credentials | bool:
        return client.query_params.get("user", "ann") != "eve" and Credentials("ann", info={"name": "Ann"})

    @gateway.on_disconnect
    async def gone() -> None: ...

    @gateway.rpc("count")
    async def count() -> int:
        publications, _ = await gateway.history("chat:lobby")
        return len(publications)

    @gateway.rpc("fail")
    async def fail() -> int:
        raise ZeroDivisionError("by zero")

    @chat.on_subscribe
    async def join(room: str, client: Client) -> None:
        assert client.info == {"name": "Ann"}  # the program's own, though spans stand around it
        if room == "closed":
            raise Error(403, "no member")
        await gateway.publish("chat:log", Text(text="joined"))

    @chat.on_publish
    async def say(message: Text) -> Text:
        return message

    @chat.on_presence
    async def look() -> None: ...

    @chat.on_unsubscribe
    async def leave() -> None: ...

    @game.event("move")
    async def move(step: Text) -> Text:
        return step

    @game.on_occupied
    async def begin() -> None:
        await gateway.publish("news:games", 1)

    return gateway


async def test_every_handler_has_a_span(traces: Traces) -> None:
    async with Kit(make_app(make_program())) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        await ann.publish("chat:lobby", {"text": "hi"})
        assert (await room.next()).data == {"text": "hi"}
        assert await ann.rpc("count") == 1
        await ann.presence("chat:lobby")
        await ann.unsubscribe("chat:lobby")
        await kit.wait_idle()
        client = ann.id
    expected = ("on_connect", "on_subscribe chat:{room}", "on_publish chat:{room}", "rpc count")
    for name in (*expected, "on_presence chat:{room}", "on_unsubscribe chat:{room}", "on_disconnect"):
        span = traces.one(name)
        assert (span.kind, span.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
        assert attributes(span)["messaging.client.id"] == client
    assert attributes(traces.one("rpc count"))["rpc.method"] == "count"
    assert attributes(traces.one("on_publish chat:{room}"))["messaging.destination.name"] == "chat:lobby"
    assert attributes(traces.one("on_publish chat:{room}"))["messaging.destination.template"] == "chat:{room}"


async def test_what_clients_write_in_a_map_has_spans(traces: Traces) -> None:
    gateway = make_gateway()
    board = gateway.channel("board:{id}", map={"mode": "persistent"}, publish="anyone", **OPEN)

    @board.on_publish
    async def put_up(key: str, text: Text) -> None: ...

    @board.on_remove
    async def take_down(key: str) -> None: ...

    async with Kit(make_app(gateway)) as kit:
        ann = await kit.connect()
        write = {"channel": "board:7", "type": 1, "key": "a"}
        await ann.ask("publish", {**write, "data": {"text": "hi"}})
        await ann.ask("publish", {**write, "removed": True})
    for name in ("on_publish board:{id}", "on_remove board:{id}"):
        assert attributes(traces.one(name))["messaging.destination.name"] == "board:7"


async def test_what_a_handler_asks_of_the_broker_is_a_part_of_it(traces: Traces) -> None:
    async with Kit(make_app(make_program())) as kit:
        ann = await kit.connect()
        await ann.subscribe("chat:lobby")
        await ann.rpc("count")
    join, count = traces.one("on_subscribe chat:{room}"), traces.one("rpc count")
    assert parent(traces.one("publish chat:{room}")) == ids(join)
    assert parent(traces.one("history chat:{room}")) == ids(count)


async def test_what_a_client_publishes_goes_on_from_the_handler(traces: Traces) -> None:
    async with Kit(make_app(make_program()), nodes=1) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:lobby")
        await ann.publish("chat:lobby", {"text": "hi"})
        await room.next()
    say = traces.one("on_publish chat:{room}")
    [publish] = [span for span in traces.of("publish chat:{room}") if parent(span) == ids(say)]
    assert parent(traces.one("deliver chat:{room}")) == ids(publish)


async def test_renewals_and_what_is_handled_without_being_published(traces: Traces) -> None:
    gateway = make_gateway()
    quiet = gateway.channel("quiet", **OPEN)

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("ann", expires=time.time() + 60)

    @gateway.on_refresh
    async def renew() -> Credentials:
        return Credentials("ann", expires=time.time() + 90)

    @quiet.on_publish
    async def take(message: Text) -> Handled:
        return HANDLED

    async with Kit(make_app(gateway)) as kit:
        ann = await kit.connect(token="first")
        await ann.refresh("second")
        await ann.subscribe("quiet")
        await ann.publish("quiet", {"text": "hi"})
    assert traces.names[:3] == ["on_connect", "on_refresh", "on_publish quiet"]


async def test_named_events_and_events_without_a_client(traces: Traces) -> None:
    async with Kit(make_app(make_program())) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("game:1")
        await ann.publish("game:1", {"event": "move", "data": {"text": "e4"}})
        await room.next()
        with pytest.raises(Refused, match="unknown event"):
            await ann.publish("game:1", {"event": "x" * 50, "data": {}})
        await kit.wait_idle()
    moved, unknown = traces.of("event game:{id}")
    assert attributes(moved)["gateway.event"] == "move"
    assert attributes(unknown)["error.type"] == "107"
    begin = traces.one("on_occupied game:{id}")
    assert (begin.kind, parent(begin)) == (SpanKind.INTERNAL, None)
    assert parent(traces.one("publish news:*")) == ids(begin)


async def test_failures_and_refusals(traces: Traces) -> None:
    async with Kit(make_app(make_program())) as kit:
        with pytest.raises(Disconnected):
            await kit.connect(query={"user": "eve"})
        ann = await kit.connect()
        with pytest.raises(Refused, match="403"):
            await ann.subscribe("chat:closed")
        with pytest.raises(Refused, match="100"):
            await ann.rpc("fail")
        with pytest.raises(Refused, match="104"):
            await ann.rpc("x" * 50)
    refused, _ = traces.of("on_connect")
    assert (attributes(refused)["error.type"], refused.status.status_code) == ("3507", StatusCode.UNSET)
    closed = traces.one("on_subscribe chat:{room}")
    assert (attributes(closed)["error.type"], closed.status.status_code) == ("403", StatusCode.UNSET)
    failed = traces.one("rpc fail")
    assert (attributes(failed)["error.type"], failed.status.status_code) == ("ZeroDivisionError", StatusCode.ERROR)
    assert [event.name for event in failed.events] == ["exception"]
    assert attributes(traces.one("rpc"))["error.type"] == "104"


async def test_a_client_that_no_handler_is_asked_about_makes_no_spans(traces: Traces) -> None:
    async with Kit(make_app(make_gateway())) as kit:
        room = await (await kit.connect()).subscribe("news:a")
        await kit.gateway.publish("news:a", 1)
        assert (await room.next()).data == 1
        await kit.gateway.publish("news:a", 2, tags={"traceparent": SAMPLED})
        assert (await room.next()).tags == {"traceparent": SAMPLED}
    assert traces.names == ["deliver news:*", "publish news:*"]


async def test_without_spans_of_handlers(traces: Traces) -> None:
    async with Kit(make_app(make_program(opentelemetry={"enabled": True, "handlers": False}))) as kit:
        ann = await kit.connect()
        await ann.subscribe("chat:lobby")
        await ann.subscribe("game:1")
        await kit.wait_idle()
    assert traces.names == []


async def test_a_program_may_run_again(traces: Traces) -> None:
    app = make_app(make_program())
    for _ in range(2):
        async with Kit(app) as kit:
            await (await kit.connect()).subscribe("chat:lobby")
    assert len(traces.of("on_subscribe chat:{room}")) == 2
