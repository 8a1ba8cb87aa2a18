"""Events of a channel that have names: each with its model and its handler."""

from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, Depends, HTTPException
from pydantic import BaseModel, Field, ValidationError

from gateway import HANDLED, ChannelRoute, ChannelRouter, Client, Error, Gateway, Handled, Message
from gateway.errors import SettingsError
from gateway.program.routes.named_events import Envelope
from gateway.program.routes.signatures import SignatureError
from tests.program.routes.clients import Client as RigClient
from tests.program.routes.clients import connected, gateway_with, running

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Typing(BaseModel):
    user: str


class Say(BaseModel):
    text: Annotated[str, Field(max_length=10)]


class ChatMessage(BaseModel):
    author: str
    text: str


class Row:
    """As an object of a database."""

    user = "row"
    secret = "s"


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


def chat_of(gateway: Gateway, **options: Any) -> ChannelRoute[Any]:
    return gateway.channel("chat:{room}", history_size=10, **OPEN, **options)


async def said(client: RigClient, data: Any) -> Any:
    """Publish, and answer what is heard; or the error."""
    before = len(client.data())
    reply = await client.ask("publish", channel="chat:a", data=data)
    if "error" in reply:
        return reply["error"]["code"], reply["error"]["message"]
    client.look()
    heard = client.data()[before:]
    return heard[0] if heard else None


async def test_each_event_has_its_handler_and_its_model(gateway: Gateway) -> None:
    chat = chat_of(gateway)

    @chat.event("typing")
    async def typing(room: str, data: Typing) -> None: ...

    @chat.event("message")
    async def say(room: str, message: Say, client: Client) -> ChatMessage:
        return ChatMessage(author=room, text=message.text)

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        sent = {"user": "ann", "forged": 1}
        assert await said(client, {"event": "typing", "data": sent}) == {"event": "typing", "data": {"user": "ann"}}
        assert await said(client, {"event": "message", "data": {"text": "hi"}}) == {
            "event": "message",
            "data": {"author": "a", "text": "hi"},
        }
        code, message = await said(client, {"event": "message", "data": {"text": "x" * 11}})
        assert (code, "text: " in message) == (107, True)
        code, message = await said(client, {"event": "typing"})
        assert (code, "Field required" in message) == (107, True)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"event": "nothing"}, 'bad request: unknown event "nothing"; there are typing'),
        ({"event": "joined", "data": {"user": "a"}}, 'bad request: unknown event "joined"; there are typing'),
        ({"event": "n" * 99}, f'bad request: unknown event "{"n" * 50}"; there are typing'),
        ({"event": 1}, 'bad request: an event is wanted, {"event": …, "data": …}'),
        ({"data": 1}, 'bad request: an event is wanted, {"event": …, "data": …}'),
        ([1], 'bad request: an event is wanted, {"event": …, "data": …}'),
        ("typing", 'bad request: an event is wanted, {"event": …, "data": …}'),
    ],
)
async def test_what_is_no_event_of_clients_is_refused(gateway: Gateway, data: Any, error: str) -> None:
    chat = chat_of(gateway)
    chat.event("joined", Typing)

    @chat.event("typing")
    async def typing(room: str) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        assert await said(client, data) == (107, error)
        assert client.data() == []


def test_what_is_nested_too_deeply_is_refused() -> None:
    """What the session takes at the edge of its stack may be too deep further down."""
    deep = b"[" * 5000 + b"]" * 5000
    for event in (b'{"event":"typing","data":%b}', b'{"event":"typing","more":%b}'):
        with pytest.raises(Error, match="an event is wanted"):
            Envelope("event").split(event % deep)


async def test_what_a_handler_returns_decides(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    answers: dict[str, Any] = {
        "false": False,
        "handled": HANDLED,
        "message": Message({"user": "m"}, tags={"a": "b"}),
        "row": Row(),
        "bytes": Message(b"\x00"),
    }

    @chat.event("any", Typing)
    async def decide(room: str, which: Annotated[str, Body()]) -> Typing | Message[Typing] | Handled:
        answer: Typing | Message[Typing] | Handled = answers[which]
        return answer

    async with connected(gateway) as client:
        await client.subscribe("chat:a")

        async def outcome(which: str) -> Any:
            return await said(client, {"event": "any", "data": which})

        assert await outcome("false") == (103, "permission denied")
        assert await outcome("handled") is None
        assert await outcome("message") == {"event": "any", "data": {"user": "m"}}
        assert client.pushes("chat:a")[-1]["pub"]["tags"] == {"a": "b"}
        assert await outcome("row") == {"event": "any", "data": {"user": "row"}}, "cut to the model"
        assert (await outcome("bytes"))[0] == 100


async def test_an_event_may_come_without_data(gateway: Gateway) -> None:
    chat = chat_of(gateway)

    @chat.event("wave")
    async def wave(room: str) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        for sent in ({"event": "wave"}, {"event": "wave", "data": {"forged": True}}):
            assert await said(client, sent) == {"event": "wave", "data": None}


async def test_dependencies_run_before_the_handler_and_may_refuse(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    order: list[str] = []

    async def first(room: str) -> None:
        order.append(f"first in {room}")

    async def second(client: Client) -> str:
        order.append("second")
        return "second"

    async def never() -> None:
        raise HTTPException(429, "slow down")

    @chat.event("typing", dependencies=[Depends(first)])
    async def typing(room: str, what: Annotated[str, Depends(second)]) -> None:
        order.append(f"handler after {what}")

    @chat.event("message", dependencies=[Depends(never)])
    async def say(room: str, message: Say) -> None:
        order.append("said")

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        assert await said(client, {"event": "typing"}) == {"event": "typing", "data": None}
        assert await said(client, {"event": "message", "data": {"text": "hi"}}) == (111, "slow down")
        assert order == ["first in a", "second", "handler after second"]


async def test_only_subscribers_are_heard(gateway: Gateway) -> None:
    chat = chat_of(gateway)

    @chat.event("typing")
    async def typing(room: str) -> None: ...

    async with connected(gateway) as client:
        assert await said(client, {"event": "typing"}) == (103, "permission denied")


async def test_the_field_that_names_it_may_be_another(gateway: Gateway) -> None:
    chat = chat_of(gateway, discriminator="type")

    @chat.event("typing")
    async def typing(room: str, data: Typing) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        sent = {"type": "typing", "data": {"user": "ann"}}
        assert await said(client, sent) == sent
        assert (await said(client, {"event": "typing"}))[1] == 'bad request: an event is wanted, {"type": …, "data": …}'


# — unions —


class Move(BaseModel):
    kind: Literal["move"] = "move"
    x: int


class Remark(BaseModel):
    kind: Literal["remark", "shout"]
    text: str


Board = Annotated[Move | Remark, Field(discriminator="kind")]


async def test_a_union_with_a_discriminator_dispatches(gateway: Gateway) -> None:
    chat = chat_of(gateway, message=Board)
    shout = chat.event("shout")

    @chat.event("move")
    async def move(room: str, move: Move) -> None: ...

    @chat.event("remark")
    async def remark(room: str, remark: Remark) -> Remark:
        return Remark(kind="shout", text=remark.text.upper())

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        assert await said(client, {"kind": "move", "x": 1, "forged": 2}) == {"kind": "move", "x": 1}
        assert await said(client, {"kind": "remark", "text": "a"}) == {"kind": "shout", "text": "A"}
        unknown = 'bad request: unknown event "shout"; there are move, remark'
        assert await said(client, {"kind": "shout", "text": "a"}) == (107, unknown)
        assert await said(client, {"x": 1}) == (107, 'bad request: an event is wanted, {"kind": …}')
        await gateway.publish_event("chat:a", shout, Remark(kind="shout", text="B"))
        kept, _ = await gateway.history("chat:a")
        assert [(each.event, each.data) for each in kept] == [
            ("move", Move(x=1)),
            ("shout", Remark(kind="shout", text="A")),
            ("shout", Remark(kind="shout", text="B")),
        ]


# — from the program —


async def test_the_program_publishes_events_and_reads_them(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    joined = chat.event("joined", Typing)

    @chat.event("message")
    async def say(room: str, message: Say) -> ChatMessage:
        raise AssertionError

    async with connected(gateway) as client:
        await client.subscribe("chat:a")
        await gateway.publish_event("chat:a", joined, Typing(user="ann"), tags={"a": "b"})
        await chat.at(room="a").publish_event(joined, Row())  # type: ignore[misc]  # as an object of a database
        await chat.at(room="a").publish_event("message", ChatMessage(author="b", text="hi"))
        await gateway.publish("chat:a", "no event")
        expected = [
            ("joined", {"user": "ann"}),
            ("joined", {"user": "row"}),
            ("message", {"author": "b", "text": "hi"}),
        ]
        await client.hears(*({"event": name, "data": data} for name, data in expected), "no event")
        kept, _ = await gateway.history("chat:a")
        assert [(each.event, each.data) for each in kept] == [
            ("joined", Typing(user="ann")),
            ("joined", Typing(user="row")),
            ("message", ChatMessage(author="b", text="hi")),
            ("", "no event"),
        ]
        assert kept[0].tags == {"a": "b"}


async def test_the_program_is_told_what_it_got_wrong(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    chat.event("joined", Typing)
    gateway.channel("plain")
    async with running(gateway):
        with pytest.raises(LookupError, match=r'"chat:\{room\}" has no event "join"; there are joined'):
            await gateway.publish_event("chat:a", "join", Typing(user="a"))
        with pytest.raises(ValidationError, match="Typing"):
            await gateway.publish_event("chat:a", "joined", {"name": "a"})
        with pytest.raises(TypeError, match=r'has events: write publish_event\("name", data\), of joined'):
            await chat.at(room="a").publish(Typing(user="a"))
        with pytest.raises(LookupError, match=r'"plain" has no events: declare .*\.event\("joined", Model\)'):
            await gateway.publish_event("plain", "joined", Typing(user="a"))


# — declarations —


def test_an_event_has_a_model_or_a_handler(gateway: Gateway) -> None:
    chat_of(gateway).event("typing")
    with pytest.raises(SettingsError, match=r'nothing says what "typing" is: write event\("typing", Model\)'):
        _ = gateway.running


def test_a_handler_that_could_not_be_called_is_refused_by_its_name(gateway: Gateway) -> None:
    with pytest.raises(SignatureError, match=r'event\("typing"\) of "chat:\{room\}": .* takes romm'):

        @chat_of(gateway).event("typing")
        async def typing(romm: str) -> None: ...


async def handler(room: str) -> None: ...


def test_an_event_has_a_name(gateway: Gateway) -> None:
    for chat in (chat_of(gateway), ChannelRouter().channel("chat:{room}")):
        for name in (handler, ""):
            with pytest.raises(TypeError, match=r'write @channel.event\("typing"\), not event\('):
                chat.event(name)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"write dependencies=\[Depends\(current_user\)\]"):
            chat.event("typing", dependencies=[handler])  # type: ignore[list-item]


def test_a_discriminator_is_for_events(gateway: Gateway) -> None:
    chat_of(gateway, discriminator="type")
    with pytest.raises(SettingsError, match='discriminator="type" names events, and there are none'):
        _ = gateway.running


def test_there_is_one_of_each(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    typing = chat.event("typing")
    typing(handler)
    with pytest.raises(SettingsError, match='"typing" has its handler already'):
        typing(handler)
    with pytest.raises(SettingsError, match='has its event "typing" already'):
        chat.event("typing")
    with pytest.raises(SettingsError, match="has events: what clients publish goes to their handlers"):
        chat.on_publish(handler)


def test_where_all_goes_to_one_handler_there_are_no_events(gateway: Gateway) -> None:
    chat = chat_of(gateway)
    chat.on_publish(handler)
    with pytest.raises(SettingsError, match="has an on_publish, to which all goes"):
        chat.event("typing")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"discriminator": "data"}, 'discriminator="data" is where the data is'),
        ({"message": ChatMessage}, "events have types of their own: leave out message="),
        ({"message": Board, "discriminator": "kind"}, "leave out discriminator="),
        ({"message": Board}, 'has no event "typing" in its message=; there are move, remark, shout'),
    ],
)
def test_what_cannot_have_events(gateway: Gateway, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        chat_of(gateway, **options).event("typing")
