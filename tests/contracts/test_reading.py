"""What is read from the routes of a program."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel

from gateway import HANDLED, Gateway, Message, Settings, Stream
from gateway.contracts.contract import ChannelContract, Contract
from gateway.contracts.reading import contract_of
from gateway.contracts.schemas import Schema
from gateway.program.routes.returns import Handled
from tests.contracts import program

INTEGER: Schema = {"type": "integer"}
TEXT: Schema = {"type": "string"}


class Whole(BaseModel):
    """The same, whether sent or received."""

    text: str


WHOLE: Schema = {"$ref": "#/components/schemas/Whole"}


KEYED = {"token": {"hmac_secret_key": "a-secret-of-sufficient-length-for-hs256"}}


def empty(**settings: Any) -> Gateway:
    return Gateway(Settings.model_validate(settings))


def read(gateway: Gateway) -> Contract:
    return contract_of(gateway._program, gateway.settings)


def only(gateway: Gateway) -> ChannelContract:
    [channel] = read(gateway).channels
    return channel


def test_every_route_has_a_name_of_its_own() -> None:
    contract = read(program.gateway)
    assert [each.name for each in contract.channels] == [
        *("chat", "orders", "ticks", "chatTyping", "files", "placeThing", "state", "chatByRoomUser"),
        *("talk", "answers", "parts"),
    ]
    assert [each.name for each in contract.procedures] == ["rooms", "callChat", "adminCloseRoom", "callDelete"]


def test_names_of_nothing_but_signs_are_found_as_well() -> None:
    gateway = empty()
    for pattern in ("#!", "#?", "connection", "{class}"):
        gateway.channel(pattern)
    gateway.rpc("!")(lambda: None)
    contract = read(gateway)
    assert [each.name for each in contract.channels] == ["channel", "channel2", "connectionChannel", "channel3"]
    assert contract.procedures[0].name == "call"


def test_maps_are_left_out() -> None:
    gateway = empty()
    gateway.channel("board:{id}", map={"mode": "persistent"})
    gateway.channel("chat:{room}")
    assert only(gateway).pattern == "chat:{room}"


def test_types_are_no_part_of_an_address() -> None:
    gateway = empty()
    gateway.channel("a:{x:int}:{y}:{z:path}")
    assert only(gateway).address == "a:{x}:{y}:{z}"


async def as_it_is(text: Annotated[str, Body()]) -> None: ...
async def maybe(text: Annotated[str, Body()]) -> bool:
    return True


async def another(text: Annotated[str, Body()]) -> int:
    return 1


async def other_or_same(text: Annotated[str, Body()]) -> int | bool:
    return 1


async def somehow(text: Annotated[str, Body()]) -> Message:
    return Message(text)


async def somehow_or_not(text: Annotated[str, Body()]) -> int | Handled:
    return HANDLED


async def somehow_typed(text: Annotated[str, Body()]) -> Message[int]:
    return Message(1)


async def nothing(text: Annotated[str, Body()]) -> Handled:
    return HANDLED


async def untold(text: Annotated[str, Body()]): ...  # type: ignore[no-untyped-def]
async def unseen() -> None: ...
async def whole(message: Whole) -> Whole | bool:
    return True


async def anything(text: Annotated[str, Body()]) -> Any: ...


@pytest.mark.parametrize(
    ("handler", "receives"),
    [
        (as_it_is, TEXT),
        (maybe, TEXT),
        (another, INTEGER),
        (other_or_same, {"anyOf": [INTEGER, TEXT]}),
        (somehow, TEXT),
        (somehow_or_not, INTEGER),
        (somehow_typed, INTEGER),
        (nothing, {}),
        (untold, TEXT),
        (unseen, {}),
        (whole, WHOLE),
        (anything, {}),
    ],
)
def test_subscribers_receive_what_on_publish_returns_or_takes(handler: Any, receives: Schema) -> None:
    gateway = empty()
    gateway.channel("a").on_publish(handler)
    assert only(gateway).receives == receives


def test_the_route_has_the_last_word_on_what_is_received() -> None:
    gateway = empty()
    gateway.channel("a", message=int).on_publish(untold)
    channel = only(gateway)
    assert (channel.sends, channel.receives) == (TEXT, INTEGER)


def test_live_sources_and_beginnings_are_received_too() -> None:
    gateway = empty()
    route = gateway.channel("a", history_size=1, force_recovery_mode="cache")

    @route.live
    async def count() -> AsyncIterator[int]:
        yield 1

    @route.on_cache_empty
    async def begin() -> str | None: ...

    route.on_publish(whole)
    assert only(gateway).receives == {"anyOf": [WHOLE, INTEGER, TEXT]}


def test_events_are_a_union_of_what_they_are_called() -> None:
    talk = next(each for each in read(program.gateway).channels if each.name == "talk")

    def event(name: str, data: Schema, *, required: bool = True) -> Schema:
        fields = ["event", "data"] if required else ["event"]
        return {"type": "object", "properties": {"event": {"const": name}, "data": data}, "required": fields}

    nothing, file = {"type": "null"}, "#/components/schemas/Attachment"
    sent = [event("typing", nothing, required=False), event("remark", TEXT), event("file", {"$ref": f"{file}-Input"})]
    assert talk.sends == {"anyOf": sent}
    received = [event("typing", nothing), event("remark", TEXT), event("file", {"$ref": f"{file}-Output"})]
    assert talk.receives == {"anyOf": [event("arrived", {"$ref": "#/components/schemas/Join"}), *received]}
    assert talk.descriptions["on_publish"] == "`typing`: Somebody is at the keys."


def test_events_of_the_program_alone_are_not_published_by_clients() -> None:
    gateway = empty()
    gateway.channel("a").event("told", Whole)
    assert only(gateway).sends is None


def test_streams_end_with_nothing() -> None:
    gateway = empty()
    gateway.channel("a", message=Stream[str], history_size=1, replay=True)
    assert only(gateway).receives == {"anyOf": [TEXT, {"type": "null"}]}


def test_live_sources_that_do_not_say_yield_anything() -> None:
    gateway = empty()
    route = gateway.channel("a", history_size=1, force_recovery_mode="cache")

    @route.live
    async def count():  # type: ignore[no-untyped-def]
        yield 1

    @route.on_cache_empty
    async def begin() -> None: ...

    assert only(gateway).receives == {}


@pytest.mark.parametrize(
    ("options", "sends"),
    [
        ({}, None),
        ({"allow_publish_for_client": True}, {}),
        ({"allow_publish_for_subscriber": True, "message": int}, INTEGER),
    ],
)
def test_without_a_handler_options_say_whether_clients_publish(options: dict[str, Any], sends: Schema | None) -> None:
    gateway = empty()
    gateway.channel("a", **options)
    assert only(gateway).sends == sends


def test_presence_and_history_are_read_where_they_are_kept_and_allowed() -> None:
    def reads(**options: Any) -> tuple[bool, bool]:
        gateway = empty()
        gateway.channel("a", **options)
        channel = only(gateway)
        return channel.reads_presence, channel.reads_history

    allowed = {"allow_presence_for_client": True, "allow_history_for_client": True}
    assert reads(**allowed) == (False, False)
    assert reads(presence=True, history_size=1) == (False, False)
    assert reads(presence=True, history_size=1, **allowed) == (True, True)


def test_handlers_open_presence_and_history() -> None:
    gateway = empty()
    route = gateway.channel("a", presence=True, history_size=1)
    route.on_presence(unseen)
    route.on_history(unseen)
    channel = only(gateway)
    assert (channel.reads_presence, channel.reads_history) == (True, True)


def test_where_everything_is_open_everything_is_possible() -> None:
    gateway = empty(client={"insecure": True})
    gateway.channel("a", presence=True, history_size=1)
    channel = only(gateway)
    assert (channel.sends, channel.reads_presence, channel.reads_history) == ({}, True, True)


def test_data_may_be_optional() -> None:
    contract = read(program.gateway)
    rooms, chat, _, delete = contract.procedures
    assert rooms.takes is not None
    assert chat.takes is not None
    assert (rooms.takes.required, chat.takes.required, delete.takes) == (False, True, None)


def test_procedures_may_return_nothing_or_not_say() -> None:
    rooms, chat, close, delete = read(program.gateway).procedures
    assert (close.returns, delete.returns) == (None, {})
    assert chat.returns == {"anyOf": [TEXT, {"type": "null"}]}
    assert rooms.description == "The rooms that there are."


class Callable:
    """Speaks of the class."""

    async def __call__(self) -> None: ...


def test_only_functions_speak_for_themselves() -> None:
    gateway = empty()
    gateway.channel("a").on_subscribe(Callable())
    assert only(gateway).descriptions == {}


@pytest.mark.parametrize(
    ("settings", "host", "path"),
    [
        ({}, "127.0.0.1:8000", "/connection/websocket"),
        ({"address": "::1", "port": 81, "root_path": "/a/"}, "[::1]:81", "/a/connection/websocket"),
    ],
)
def test_the_address_comes_from_the_settings(settings: dict[str, Any], host: str, path: str) -> None:
    contract = read(empty(http_server=settings))
    assert (contract.host, contract.path) == (host, path)


def test_a_token_is_wanted_by_keys_or_by_the_program() -> None:
    gateway = empty()
    assert read(gateway).security == {}
    gateway.on_connect(unseen)
    assert read(gateway).security == {"token": None}
    assert read(empty(client=KEYED)).security == {"token": None}


@pytest.mark.parametrize("client", [{}, KEYED])
def test_schemes_are_those_of_on_connect(client: Any) -> None:
    gateway, scheme = empty(client=client), OAuth2PasswordBearer(tokenUrl="login")

    def current_user(token: Annotated[str, Depends(scheme)]) -> str:
        return token

    @gateway.on_connect
    async def connect(
        user: Annotated[str, Depends(current_user)], token: Annotated[str, Depends(gateway.token)]
    ) -> None: ...

    token = {"token": None} if client else {}
    assert read(gateway).security == {**token, "ClientToken": gateway.token, "OAuth2PasswordBearer": scheme}
