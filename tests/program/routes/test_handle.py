"""One channel in the hands of the program, and what is read of it, with the declared types."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

import pytest
from pydantic import BaseModel, ValidationError

from gateway import ChannelRoute, Client, ClientInfo, Credentials, Gateway, Grant, Message, Receipt, Stream
from tests.program.routes.clients import connected, gateway_with, running

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Line(BaseModel):
    text: str


class Profile(BaseModel):
    nickname: str


class FullProfile(Profile):
    password: str = "secret"


class Seat(BaseModel):
    number: int


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


@pytest.fixture
def chat(gateway: Gateway) -> ChannelRoute[Line]:
    return gateway.channel("chat:{room}", message=Line, history_size=10, presence=True, **OPEN)


async def test_it_publishes_and_reads(gateway: Gateway, chat: ChannelRoute[Line]) -> None:
    lobby = chat.at(room="lobby")
    assert (lobby.name, repr(lobby)) == ("chat:lobby", "<ChannelHandle 'chat:lobby'>")
    async with connected(gateway) as client:
        await client.subscribe("chat:lobby")
        async with lobby.listen() as heard:
            first = await lobby.publish(Line(text="a"), tags={"k": "v"})
            await lobby.publish(Line(text="b"))
            publications, top = await lobby.history()
            assert_type(publications[0].data, Line)
            assert [each.data for each in publications] == [Line(text="a"), Line(text="b")]
            assert [each.data for each in (await lobby.history(since=first))[0]] == [Line(text="b")]
            assert [each.data for each in (await lobby.history(limit=1, reverse=True))[0]] == [Line(text="b")]
            assert top.offset == 2
            gateway.node.hub.flush()
            assert [(each.data, each.tags) for each in heard.take()] == [
                (Line(text="a"), {"k": "v"}),
                (Line(text="b"), {}),
            ]
        assert list(await lobby.presence()) == [client.session.client]


async def test_what_becomes_of_a_publication_is_told_as_by_the_gateway(
    gateway: Gateway, chat: ChannelRoute[Line]
) -> None:
    async with connected(gateway) as client:
        await client.subscribe("chat:lobby")
        receipt = await chat.at(room="lobby").publish(Line(text="a"), exclude=client.session.client)
        assert_type(receipt, Receipt)
        assert (receipt.offset, receipt.nodes) == (1, 1)
        client.look()
        assert client.data() == []


async def test_what_it_publishes_is_cut_to_the_type(gateway: Gateway, chat: ChannelRoute[Line]) -> None:
    class Row:
        text, secret = "row", "s"

    class More(Line):
        secret: str = "s"

    async with running(gateway):
        lobby = chat.at(room="lobby")
        await lobby.publish(More(text="more"))
        await lobby.publish(Row())  # type: ignore[arg-type]  # as an object of a database
        assert [each.raw for each in (await lobby.history())[0]] == [b'{"text":"more"}', b'{"text":"row"}']
        with pytest.raises(ValidationError, match="Line"):
            await lobby.publish("text")  # type: ignore[arg-type]


async def test_without_a_type_it_publishes_anything(gateway: Gateway) -> None:
    news = gateway.channel("news", history_size=5).at()
    async with running(gateway):
        await news.publish({"a": 1})
        await news.publish(b"\x00")
        assert [(each.data, each.binary) for each in (await news.history())[0]] == [({"a": 1}, False), (b"\x00", True)]


def test_names_are_checked(chat: ChannelRoute[Line]) -> None:
    with pytest.raises(ValueError, match=r'"chat:\{room\}" takes room'):
        chat.at()


async def test_only_while_the_gateway_runs(chat: ChannelRoute[Line]) -> None:
    with pytest.raises(RuntimeError, match="the gateway does not run"):
        await chat.at(room="a").publish(Line(text="a"))


async def test_streams_have_a_type_and_an_end(gateway: Gateway) -> None:
    answers = gateway.channel("answers:{id:int}", message=Stream[str], history_size=10, replay=True)

    async def words() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async with running(gateway):
        answer = answers.at(id=1)
        assert_type(answers, ChannelRoute[str | None])
        stream = await answer.stream(words())
        assert await stream.wait() == "done"
        assert [each.data for each in (await answer.history())[0]] == ["a", "b", None]


# — clients —


async def test_what_is_said_of_clients_is_of_the_declared_types(gateway: Gateway) -> None:
    @gateway.on_connect
    async def connect() -> Credentials[Profile]:
        return Credentials("ann", info=FullProfile(nickname="A."))

    table = gateway.channel("table:{number:int}", presence=True, history_size=5)

    @table.on_subscribe
    async def sit(number: int) -> Grant[Seat]:
        return Grant(info=Seat(number=number))

    @table.on_publish
    async def say(number: int, line: Line, client: Client) -> Message[Line]:
        assert client.info == Profile(nickname="A.")
        return Message(line, tags={"by": client.info.nickname})

    gateway.channel("open", presence=True, **OPEN)
    async with connected(gateway) as client:
        await client.subscribe("table:7")
        await client.subscribe("open")
        members: dict[str, ClientInfo[Profile, Seat]] = await table.at(number=7).presence()
        [ann] = members.values()
        assert (ann.user, ann.conn_info, ann.chan_info) == ("ann", Profile(nickname="A."), Seat(number=7))
        assert ann.raw_conn_info == b'{"nickname":"A."}', "cut to what is declared"
        [standing] = (await gateway.presence("open")).values()
        assert (standing.conn_info, standing.chan_info) == (Profile(nickname="A."), None)
        await client.result("publish", channel="table:7", data={"text": "hi", "forged": 1})
        [publication], _ = await gateway.history("table:7")
        assert (publication.raw, publication.tags) == (b'{"text":"hi"}', {"by": "A."})
        assert publication.info is not None
        assert publication.info.conn_info == Profile(nickname="A.")


async def test_what_a_handler_gives_of_another_type_is_a_defect(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    table = gateway.channel("table")

    @table.on_subscribe
    async def sit() -> Grant[Seat]:
        return Grant(info={"chair": 1})  # type: ignore[arg-type]

    async with connected(gateway) as client:
        assert await client.error("subscribe", channel="table") == (100, "internal server error")
    assert "Seat" in caplog.text


def test_generic_answers_can_be_made_with_their_type() -> None:
    assert Grant[Seat](info=Seat(number=1)) == Grant(info=Seat(number=1))
    assert Credentials[Profile]("a") == Credentials("a")
    assert Message[int](1) == Message(1)
