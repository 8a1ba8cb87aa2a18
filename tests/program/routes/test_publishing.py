"""What is published where `on_publish` returns no data, and who may publish and read at all."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field

from gateway import HANDLED, Client, Credentials, Gateway, Handled, Message
from gateway.errors import SettingsError
from gateway.program.routes.signatures import SignatureError
from tests.program.routes.clients import Client as Peer
from tests.program.routes.clients import connected, gateway_with, running
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Say(BaseModel):
    text: str
    n: int = Field(default=0, alias="number")


class Loud(Say):
    volume: int = 11


class Shown(BaseModel):
    text: str


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


# — what is published —

SENT = {"text": "hi", "number": "7", "volume": "5", "author": "admin"}


async def nothing(message: Say) -> None: ...
async def unannotated(message: Say): ...  # type: ignore[no-untyped-def]
async def anything(message: Say) -> Any: ...
def in_a_thread(message: Say) -> None: ...
async def agrees(message: Say) -> bool:
    return True


async def perhaps(message: Say) -> Handled | None: ...
async def mends(message: Say) -> None:
    message.text = message.text.upper()


async def by_keys(data: dict[str, Any]) -> None: ...
async def by_a_dependency_too(message: Say, _: Annotated[None, Depends(nothing)]) -> None: ...
async def raw() -> None: ...
async def allowed() -> bool:
    return True


async def louder(message: Loud) -> None: ...
async def other(message: Say) -> Shown:
    return Shown(text="other")


CUT = {"text": "hi", "number": 7}


@pytest.mark.parametrize(
    ("handler", "message", "published"),
    [
        (nothing, None, CUT),
        (unannotated, None, CUT),
        (anything, None, CUT),
        (in_a_thread, None, CUT),
        (agrees, None, CUT),
        (perhaps, None, CUT),
        (mends, None, {"text": "HI", "number": 7}),
        (by_keys, None, SENT),
        (by_a_dependency_too, None, CUT),
        (raw, None, SENT),
        (allowed, None, SENT),
        (nothing, Say, CUT),
        (nothing, Say | Shown, CUT),
        (nothing, Annotated[Say | Shown, "any of them"], CUT),
        (nothing, Any, CUT),
        (louder, None, {**CUT, "volume": 5}),
        (louder, Say, CUT),
        (other, Say, {"text": "other"}),
    ],
)
async def test_what_was_checked_is_published(
    gateway: Gateway, handler: Callable[..., Any], message: Any, published: Any
) -> None:
    gateway.channel("chat", message=message, **OPEN).on_publish(handler)
    async with connected(gateway) as client:
        await client.subscribe("chat")
        await client.result("publish", channel="chat", data=SENT)
        await client.hears(published)


async def keys_of_its_own(message: Say):  # type: ignore[no-untyped-def]
    return {"text": message.text, "author": "of nobody's business"}


async def options_of_its_own(message: Say) -> Message:
    return Message({"text": message.text, "author": "of nobody's business"}, tags={"a": "b"})


@pytest.mark.parametrize("handler", [keys_of_its_own, options_of_its_own])
async def test_where_the_handler_says_nothing_the_channel_does(gateway: Gateway, handler: Callable[..., Any]) -> None:
    gateway.channel("chat", message=Shown, **OPEN).on_publish(handler)
    async with connected(gateway) as client:
        await client.subscribe("chat")
        await client.result("publish", channel="chat", data=SENT)
        await client.hears({"text": "hi"})


async def forgets_data(client: Client) -> Shown: ...  # type: ignore[empty-body]
async def forgets_what_it_took(message: Say) -> Shown: ...  # type: ignore[empty-body]
async def forgets_to_allow(client: Client) -> bool: ...  # type: ignore[empty-body]
async def forgets_that_it_has(client: Client) -> Handled: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("handler", [forgets_data, forgets_what_it_took, forgets_to_allow, forgets_that_it_has])
async def test_a_forgotten_return_publishes_nothing(gateway: Gateway, handler: Callable[..., Any]) -> None:
    gateway.channel("chat", history_size=5, **OPEN).on_publish(handler)
    async with connected(gateway) as client:
        await client.subscribe("chat")
        assert (await client.error("publish", channel="chat", data=SENT))[0] == 100
        assert (await gateway.history("chat"))[0] == []


async def test_data_that_may_be_missing(gateway: Gateway) -> None:
    @gateway.channel("chat", **OPEN).on_publish
    async def say(message: Say | None) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat")
        for sent in (None, SENT):
            await client.result("publish", channel="chat", data=sent)
        await client.hears(None, CUT)


async def test_extra_fields_are_as_the_model_says(gateway: Gateway) -> None:
    class Free(Shown):
        model_config = ConfigDict(extra="allow")

    @gateway.channel("chat", **OPEN).on_publish
    async def say(message: Free) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("chat")
        await client.result("publish", channel="chat", data={"text": "hi", "more": 1})
        await client.hears({"text": "hi", "more": 1})


async def data_or_none(message: Say) -> Shown | None: ...
async def the_same_or_none(message: Say) -> Say | None: ...
async def message_or_none(message: Say) -> Message | None: ...
async def data_or_true() -> Shown | bool:
    return True


async def silent(): ...  # type: ignore[no-untyped-def]
async def silently_any() -> Any: ...
async def checked(message: Say) -> Say:
    return message


async def checked_elsewhere(message: Annotated[Say, Depends(checked)]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "message", "problem"),
    [
        (data_or_none, None, "may return data or not: return what is to be published, HANDLED"),
        (the_same_or_none, None, "may return data or not"),
        (message_or_none, None, "may return data or not"),
        (data_or_true, None, "may return data or not"),
        (silent, None, "does not say what is published: take the client's data as a model"),
        (silently_any, None, "does not say what is published"),
        (raw, Say, "lets pass whatever clients send, while subscribers receive Say: take that as data"),
        (allowed, Say, "lets pass whatever clients send, while subscribers receive Say"),
        (checked_elsewhere, None, "lets pass whatever clients send, though a dependency checks the data"),
        (nothing, Shown, "takes Say, while subscribers receive Shown: return one"),
        (nothing, Loud, "takes Say, while subscribers receive Loud: return one"),
        (nothing, Shown | int, "takes Say, while subscribers receive"),
    ],
)
def test_what_would_be_a_surprise_is_refused(
    gateway: Gateway, handler: Callable[..., Any], message: Any, problem: str
) -> None:
    route = gateway.channel("chat:{room}", message=message)
    with pytest.raises(SignatureError) as caught:
        route.on_publish(handler)
    assert problem in str(caught.value)
    assert "    async def say(room: str, message: ChatMessage, client: Client) -> ChatMessage: ..." in str(caught.value)
    assert route.handlers == {}


async def test_refusing_and_handling_need_no_data(gateway: Gateway) -> None:
    answers: list[Any] = [False, HANDLED]

    @gateway.channel("chat", history_size=5, **OPEN).on_publish
    async def say(client: Client) -> bool | Handled:
        found: bool | Handled = answers.pop(0)
        return found

    async with connected(gateway) as client:
        await client.subscribe("chat")
        assert await client.error("publish", channel="chat", data=1) == (103, "permission denied")
        assert await client.result("publish", channel="chat", data=1) == {}
        assert (await gateway.history("chat"))[0] == []


# — who may publish and read —


def staff_room(gateway: Gateway, asked: list[str], **options: Any) -> None:
    """Nobody but ann gets in; whoever gets in may do everything."""
    staff = gateway.channel("staff", history_size=5, presence=True, **options)

    @gateway.on_connect
    async def connect(client: Client) -> Credentials:
        user = client.headers["x-user"]
        return Credentials(user, channels=["staff"] if user == "boss" else [])

    @staff.on_subscribe
    async def join(client: Client) -> bool:
        return client.user == "ann"

    @staff.on_publish
    async def say(message: Shown, client: Client) -> None:
        asked.append(f"publish {client.user}")

    @staff.on_presence
    @staff.on_history
    async def look(client: Client) -> None:
        asked.append(f"read {client.user}")


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("publish", {"data": {"text": "hi"}}),
    ("presence", {}),
    ("presence_stats", {}),
    ("history", {"limit": 5}),
]


async def test_who_may_not_subscribe_may_neither_publish_nor_read(gateway: Gateway) -> None:
    asked: list[str] = []
    staff_room(gateway, asked)
    async with running(gateway) as opened:
        bob = opened(x_user="bob")
        await bob.connect()
        assert (await bob.error("subscribe", channel="staff"))[0] == 103
        for kind, body in COMMANDS:
            assert await bob.error(kind, channel="staff", **body) == (103, "permission denied")
        assert asked == []
        assert (await gateway.history("staff"))[0] == []
        assert gateway.node.metrics.errors[103] == 5


@pytest.mark.parametrize("user", ["ann", "boss", "guest"])
async def test_who_is_subscribed_by_itself_or_by_the_server_may(gateway: Gateway, user: str) -> None:
    asked: list[str] = []
    staff_room(gateway, asked)
    async with running(gateway) as opened:
        client: Peer = opened(x_user=user)
        await client.connect()
        if user == "ann":
            await client.subscribe("staff")
        if user == "guest":
            await gateway.subscribe("guest", "staff")
            await until(lambda: client.pushes("staff"))
        for kind, body in COMMANDS:
            await client.result(kind, channel="staff", **body)
        assert asked == [f"publish {user}", *[f"read {user}"] * 3]
        await gateway.unsubscribe(user, "staff")
        await until(lambda: not client.session.subscriptions)
        assert await client.error("publish", channel="staff", data={"text": "hi"}) == (103, "permission denied")
        assert len(asked) == 4


async def test_a_subscribe_that_is_under_way_is_waited_for(gateway: Gateway) -> None:
    asked: list[str] = []
    staff_room(gateway, asked)
    async with running(gateway) as opened:
        ann = opened(x_user="ann")
        await ann.connect()
        frame = b'{"id":2,"subscribe":{"channel":"staff"}}\n{"id":3,"publish":{"channel":"staff","data":{"text":"hi"}}}'
        await ann.session.receive(frame)
        assert "publish" in await ann.reply(3)
        assert asked == ["publish ann"]


@pytest.mark.parametrize(("option", "commands"), [("publish", COMMANDS[:1]), ("read", COMMANDS[1:])])
async def test_a_channel_may_ask_for_anyone(
    gateway: Gateway, option: str, commands: list[tuple[str, dict[str, Any]]]
) -> None:
    asked: list[str] = []
    staff_room(gateway, asked, **{option: "anyone"})
    async with running(gateway) as opened:
        bob = opened(x_user="bob")
        await bob.connect()
        for kind, body in COMMANDS:
            reply = await bob.ask(kind, channel="staff", **body)
            assert (kind in reply) is ((kind, body) in commands)
        assert len(asked) == len(commands)


async def test_the_program_itself_is_no_client(gateway: Gateway) -> None:
    staff_room(gateway, [])
    async with running(gateway):
        await gateway.publish("staff", Shown(text="from the server"))
        assert await gateway.presence("staff") == {}
        assert len((await gateway.history("staff"))[0]) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"publish": "anybody"}, "publish='anybody': it must be one of 'subscribers', 'anyone'"),
        ({"read": True}, "read=True: it must be one of 'subscribers', 'anyone'"),
    ],
)
def test_who_that_there_is_not(gateway: Gateway, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        gateway.channel("chat", **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"publish": "anyone"}, 'publish="anyone" says for whom on_publish is asked, and there is none'),
        ({"read": "anyone"}, 'read="anyone" says for whom on_presence and on_history are asked, and there are none'),
    ],
)
async def test_options_without_their_handler_stop_the_start(
    gateway: Gateway, options: dict[str, Any], problem: str
) -> None:
    gateway.channel("chat", **options)
    with pytest.raises(SettingsError) as caught:
        async with gateway.lifespan():
            raise AssertionError
    assert problem in str(caught.value)
    assert "test_publishing.py:" in str(caught.value)
