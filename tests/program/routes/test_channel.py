"""What may happen in the channels of a pattern, decided by handlers."""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from inspect import currentframe
from typing import Annotated, Any, Literal, cast, get_type_hints
from unittest.mock import AsyncMock

import pytest
from fastapi import Body
from pydantic import BaseModel

from gateway import HANDLED, Client, Gateway, Grant, Message
from gateway.config.settings import ChannelOptions
from gateway.config.settings.maps import MapSettings
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.messages import Payload
from gateway.program.routes.options import MapKeywords, Options
from tests.program.routes.clients import Client as Peer
from tests.program.routes.clients import assert_empty, connected, gateway_with, running, settled
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
WRITABLE: dict[str, Any] = {"allow_publish_for_client": True, "allow_publish_for_anonymous": True}


class Line(BaseModel):
    text: str


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


# — options and names —


def test_history_is_recovered_and_kept_for_a_while(gateway: Gateway) -> None:
    options = gateway.channel("a", history_size=5).options
    assert (options.history_ttl, options.force_recovery) == (600, True)
    options = gateway.channel("b", history_size=5, history_ttl="10s", force_recovery=False).options
    assert (options.history_ttl, options.force_recovery) == (10, False)
    assert gateway.channel("c").options.force_recovery is False


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"history_size": -1}, "history_size: Input should be greater than or equal to 0"),
        ({"channel_regex": "^[a-z]$"}, "the pattern itself says which names there are"),
    ],
)
def test_options_that_there_are_not(gateway: Gateway, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        gateway.channel("chat:{room}", **options)
    assert problem in str(caught.value)
    assert 'gateway.channel("' in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [("histroy_size", "did you mean 'history_size'? "), ("pubish", "did you mean 'publish'? "), ("colour", "")],
)
def test_keywords_that_there_are_not(gateway: Gateway, keyword: str, meant: str) -> None:
    with pytest.raises(TypeError) as caught:
        gateway.channel("chat:{room}", **cast(Any, {keyword: 5}))
    unexpected = f"gateway.channel() got an unexpected keyword argument '{keyword}'; {meant}it takes message, publish, "
    assert str(caught.value).startswith(unexpected)


OF_POLLS = {"subscription_type", "shared_poll"}
"""Settings alone make channels that are polled."""


def test_editors_know_all_options() -> None:
    fields = {
        name: each.annotation
        for name, each in ChannelOptions.model_fields.items()
        if name != "channel_regex" and "_proxy_" not in name and name not in OF_POLLS
    }
    durations = {name for name in fields if "duration" in repr(ChannelOptions.model_fields[name].metadata)}
    expected = {name: float | str if name in durations else kind for name, kind in fields.items()}
    expected["map"] = MapKeywords
    expected["allowed_delta_types"] = Sequence[Literal["fossil"]]  # a list will do
    assert len(durations) == 4
    assert get_type_hints(Options) == expected


def test_editors_know_all_of_maps() -> None:
    fields = {name: each.annotation for name, each in MapSettings.model_fields.items() if "_proxy_" not in name}
    durations = {name for name in fields if "duration" in repr(MapSettings.model_fields[name].metadata)}
    expected = {name: float | str if name in durations else kind for name, kind in fields.items()}
    assert get_type_hints(MapKeywords) == expected


def test_names(gateway: Gateway) -> None:
    chat = gateway.channel("chat:{room}")
    assert chat.name(room="lobby") == "chat:lobby"
    with pytest.raises(ValueError, match="is not a channel"):
        chat.name(room="a:b")


def test_nothing_is_declared_twice(gateway: Gateway) -> None:
    chat = gateway.channel("chat:{room}")

    @chat.on_subscribe
    async def join() -> None: ...

    with pytest.raises(SettingsError, match=r'"chat:\{room\}" has its on_subscribe already: .*test_channel.py:\d+'):
        chat.on_subscribe(join)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("chat:{room}", "chat:{room}"),
        ("chat:{room}", "chat:{name}"),
        ("chat:{room}:{user}", "chat:{a}:{b}"),
        ("news", "news"),
        ("news:{kind}", "news:sports"),
        ("day:{name}", "day:{number:int}"),
        ("day:{at:float}", "day:{number:int}"),
        ("{all:path}", "files:{name:path}"),
        ("{all:path}", "files:{id:uuid}:{name}"),
        ("{kind}:{id}", "{kind}:7"),
        ("#{user}", "#{id}"),
    ],
)
def test_channels_that_others_take_are_refused_with_both_places(gateway: Gateway, earlier: str, later: str) -> None:
    gateway.channel("other:{name}:{place}:{more}")
    here = f"{__file__}:{currentframe().f_lineno}"  # type: ignore[union-attr]
    gateway.channel(earlier)
    with pytest.raises(SettingsError) as caught:
        gateway.channel(later)
    first, second = (re.sub(r"\d+$", lambda line, n=n: str(int(line[0]) + n), here) for n in (1, 3))  # type: ignore[misc]
    assert f'gateway.channel("{earlier}") at {first}' in str(caught.value)
    assert f'gateway.channel("{later}") at {second}' in str(caught.value)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("news:sports", "news:{kind}"),
        ("day:{number:int}", "day:{name}"),
        ("day:7", "day:{number:int}"),
        ("day:{tens:int}{ones:int}", "day:{number:int}"),
        ("{a}:{b:path}", "{all:path}"),
        ("{name}", "${name}"),
        ("chat:{name}", "chat:#{user}"),
        ("{kind}-{id}", "{kind}"),
    ],
)
def test_channels_of_which_others_take_a_part(gateway: Gateway, earlier: str, later: str) -> None:
    gateway.channel(earlier)
    gateway.channel(later)


def test_a_private_prefix_of_letters() -> None:
    gateway = gateway_with(channel={"private_prefix": "private-"})
    gateway.channel("{name}")
    gateway.channel("private-{name}")
    with pytest.raises(SettingsError):
        gateway.channel("public-{name}")


async def test_the_first_pattern_counts(gateway: Gateway) -> None:
    @gateway.channel("chat:{number:int}").on_subscribe
    async def first(number: int) -> Grant:
        return Grant(data=["first", number])

    @gateway.channel("chat:{room}").on_subscribe
    async def second(room: str) -> Grant:
        return Grant(data=["second", room])

    @gateway.channel("{kind}:{room}:{number:int}").on_subscribe
    async def third(kind: str, number: int, room: str) -> Grant:
        return Grant(data=[kind, room, number])

    async with connected(gateway) as client:
        assert (await client.subscribe("chat:7"))["data"] == ["first", 7]
        assert (await client.subscribe("chat:lobby"))["data"] == ["second", "lobby"]
        assert (await client.subscribe("a:b:7"))["data"] == ["a", "b", 7]
        assert await client.error("subscribe", channel="a:b:c:d") == (102, "unknown channel")


async def test_parameters_are_checked(gateway: Gateway) -> None:
    @gateway.channel("day:{day}").on_subscribe
    async def join(day: Annotated[Literal["mon", "tue"], "a day"]) -> None: ...

    async with connected(gateway) as client:
        await client.subscribe("day:mon")
        assert await client.error("subscribe", channel="day:sun") == (
            107,
            "bad request: day: Input should be 'mon' or 'tue'",
        )


# — subscribe —


@pytest.mark.parametrize(("answer", "allowed"), [(None, True), (True, True), (False, False), (Grant(), True)])
async def test_on_subscribe_lets_in_or_not(gateway: Gateway, answer: Any, allowed: bool) -> None:
    @gateway.channel("chat").on_subscribe
    async def join() -> Any:
        return answer

    async with connected(gateway) as client:
        reply = await client.ask("subscribe", channel="chat")
        assert reply == ({"subscribe": {}} if allowed else {"error": {"code": 103, "message": "permission denied"}})
        assert gateway.node.hub.subscribers("chat") == allowed


@pytest.mark.parametrize("answer", ["alice", 1, {"info": 1}, 0])
async def test_on_subscribe_returns_nothing_else(
    gateway: Gateway, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @gateway.channel("chat").on_subscribe
    async def join() -> Any:
        return answer

    async with connected(gateway) as client:
        assert await client.error("subscribe", channel="chat") == (100, "internal server error")
        await assert_no_subscription(gateway)
    assert f"on_subscribe must return None, a bool or a Grant, not {answer!r}" in caplog.text


async def assert_no_subscription(gateway: Gateway) -> None:
    await settled(gateway)
    assert gateway.node.hub.channels == {}


async def test_a_grant_says_how_the_client_is_in(gateway: Gateway) -> None:
    chat = gateway.channel("chat:{room}", history_size=10, presence=True, join_leave=True)
    moment = datetime.now(UTC) + timedelta(hours=1)

    @chat.on_subscribe
    async def join(room: str, wish: Annotated[str | None, Body()] = None) -> Grant:
        return Grant(info={"wish": wish}, data=Payload(b"[1]"), expires=moment, recovery=False, positioning=room == "b")

    async with connected(gateway) as client:
        result = await client.subscribe("chat:a", data="tea")
        assert result == {"data": [1]}
        member = (await gateway.presence("chat:a"))[client.session.client]
        assert member.chan_info == {"wish": "tea"}
        assert client.session.subscriptions["chat:a"].expire_at == int(moment.timestamp())
        assert (await client.subscribe("chat:b"))["positioned"] is True
        assert (await gateway.presence("chat:b"))[client.session.client].chan_info == {"wish": None}
        await client.leave()
        await assert_empty(gateway)


async def test_a_grant_that_is_over_is_asked_for_again(gateway: Gateway) -> None:
    calls: list[float] = []

    @gateway.channel("chat").on_subscribe
    async def join() -> Grant:
        calls.append(time.time())
        return Grant(expires=time.time() - 10 if len(calls) == 1 else time.time() + 60)

    async with connected(gateway) as client:
        assert await client.error("subscribe", channel="chat") == (109, "token expired")
        assert "expires" not in await client.subscribe("chat")
        assert await client.disconnected("sub_refresh", channel="chat", token="x") == (3501, "bad request")


async def test_without_a_handler_the_options_decide(gateway: Gateway) -> None:
    gateway.channel("open", **OPEN, **WRITABLE)
    gateway.channel("closed").on_publish(_say)
    async with connected(gateway) as client:
        await client.subscribe("open")
        await client.result("publish", channel="open", data={"text": "hi"})
        await client.hears({"text": "hi"})
        assert await client.error("subscribe", channel="closed") == (103, "permission denied")


async def _say(line: Line) -> Line:
    return line


# — publish —


async def test_what_on_publish_returns_is_published(gateway: Gateway) -> None:
    answers: dict[str, Any] = {
        "none": None,
        "true": True,
        "false": False,
        "handled": HANDLED,
        "model": Line(text="instead"),
        "text": "instead",
        "number": 0,
        "empty": "",
        "list": [],
        "payload": Payload(b'{"raw":1}'),
        "tagged": Message(Line(text="tagged"), tags={"a": "b"}),
        "unkept": Message("unkept", skip_history=True),
    }
    chat = gateway.channel("chat", history_size=20, **OPEN)

    @chat.on_publish
    async def say(kind: Annotated[str, Body()]) -> Any:
        return answers[kind]

    async with connected(gateway) as client:
        await client.subscribe("chat")
        for kind in answers:
            reply = await client.ask("publish", channel="chat", data=kind)
            expected = {"error": {"code": 103, "message": "permission denied"}} if kind == "false" else {"publish": {}}
            assert reply == expected, kind
        said = ["none", "true", {"text": "instead"}, "instead", 0, "", [], {"raw": 1}, {"text": "tagged"}, "unkept"]
        await client.hears(*said)
        tagged = client.pushes("chat")[-2]["pub"]
        assert tagged["tags"] == {"a": "b"}
        assert tagged["info"]["client"] == client.session.client
        kept, _ = await gateway.history("chat")
        assert kept[-1].data == {"text": "tagged"}
        assert kept[-1].info is not None
        assert kept[-1].info.client == client.session.client


async def test_what_is_published_goes_by_the_annotation(gateway: Gateway) -> None:
    class Shown(BaseModel):
        model_config = {"from_attributes": True}
        text: str

    class Row:
        text = "of a database"
        secret = 1

    chat = gateway.channel("chat", **OPEN)

    @chat.on_publish
    async def say(data: Annotated[int, Body()]) -> Shown | Message | bool:
        return cast(Shown, Row())

    async with connected(gateway) as client:
        await client.subscribe("chat")
        await client.result("publish", channel="chat", data=1)
        await client.hears({"text": "of a database"})


async def test_a_sender_may_be_excluded(gateway: Gateway) -> None:
    chat = gateway.channel("chat", history_size=10, **OPEN)

    @chat.on_publish
    async def say(line: Annotated[str, Body()], client: Client) -> Message:
        return Message(line, exclude=client)

    async with running(gateway) as opened:
        clients: list[Peer] = [opened() for _ in range(3)]
        for client in clients:
            await client.connect()
            await client.subscribe("chat")
        await clients[0].result("publish", channel="chat", data="hello")
        await clients[1].hears("hello")
        await clients[2].hears("hello")
        assert clients[0].data() == []
        # positioned as it is, it stands behind what it was spared, and is not told to come again
        await clients[1].result("publish", channel="chat", data="back")
        await clients[0].hears("back")
        assert clients[0].closed is None
        assert len((await gateway.history("chat"))[0]) == 2


async def test_a_message_may_say_what_it_is_called(gateway: Gateway) -> None:
    chat = gateway.channel("chat", history_size=10, **OPEN)

    @chat.on_publish
    async def say(line: Annotated[str, Body()]) -> Message:
        return Message(line, idempotency_key="once")

    async with connected(gateway) as client:
        await client.subscribe("chat")
        for _ in range(2):
            await client.result("publish", channel="chat", data="hello")
        assert len((await gateway.history("chat"))[0]) == 1


async def test_nothing_is_published_that_was_not_accepted(gateway: Gateway) -> None:
    chat = gateway.channel("chat", history_size=10, publication_data_format="json_object", **OPEN)
    called: list[Any] = []

    @chat.on_publish
    async def say(data: Annotated[dict[str, int], Body()]) -> Any:
        called.append(data)
        return object() if data else None

    async with connected(gateway) as client:
        await client.subscribe("chat")
        assert (await client.error("publish", channel="chat", data=[1]))[0] == 107
        assert called == []
        assert (await client.error("publish", channel="chat", data={"a": "x"}))[0] == 107
        assert (await client.error("publish", channel="chat", data={"a": 1}))[0] == 100
        assert (await gateway.history("chat"))[0] == []


# — presence and history —


@pytest.mark.parametrize(("answer", "allowed"), [(None, True), (True, True), (False, False)])
async def test_who_may_read(gateway: Gateway, answer: Any, allowed: bool) -> None:
    chat = gateway.channel("chat", presence=True, history_size=10, **OPEN)

    @chat.on_presence
    @chat.on_history
    async def read() -> Any:
        return answer

    async with connected(gateway) as client:
        await client.subscribe("chat")
        for kind in ("presence", "presence_stats", "history"):
            reply = await client.ask(kind, channel="chat")
            assert (kind in reply) is allowed
            assert allowed or reply["error"]["code"] == 103


async def test_what_is_not_kept_cannot_be_read(gateway: Gateway) -> None:
    bare = gateway.channel("bare")
    asked: list[str] = []

    @bare.on_presence
    @bare.on_history
    async def read() -> None:
        asked.append("")

    async with connected(gateway) as client:
        for kind in ("presence", "presence_stats", "history"):
            assert (await client.error(kind, channel="bare"))[0] == 108
    assert asked == []


# — unsubscribe —


async def test_each_end_of_a_subscription_is_heard_once(gateway: Gateway) -> None:
    ended: list[tuple[str, str, bool]] = []
    room = gateway.channel("room:{name}", **OPEN)

    @room.on_unsubscribe
    async def leave(name: str, client: Client) -> None:
        ended.append((name, client.user, client.connected))

    @gateway.on_connect
    async def connect() -> str:
        return "alice"

    async with connected(gateway) as client:
        for name in "abcd":
            await client.subscribe(f"room:{name}")
        await client.result("unsubscribe", channel="room:a")
        await client.result("unsubscribe", channel="room:a")
        await gateway.unsubscribe("alice", "room:b")
        await until(lambda: len(ended) == 2)
        assert ended == [("a", "alice", True), ("b", "alice", True)]
        await client.leave()
        assert sorted(ended[2:]) == [("c", "alice", False), ("d", "alice", False)]
        await client.session.end()
        await assert_empty(gateway)
    assert len(ended) == 4


async def test_who_was_refused_does_not_leave(gateway: Gateway) -> None:
    room = gateway.channel("room")
    ended: list[str] = []

    @room.on_subscribe
    def join() -> bool:
        return False

    @room.on_unsubscribe
    def leave() -> None:
        ended.append("")

    async with connected(gateway) as client:
        assert (await client.error("subscribe", channel="room"))[0] == 103
        await client.leave()
    assert ended == []


@pytest.mark.parametrize("ending", ["leave", "unsubscribe"])
async def test_leaving_while_a_handler_decides(gateway: Gateway, ending: str) -> None:
    go_on, called, ended = asyncio.Event(), asyncio.Event(), []
    room = gateway.channel("room", presence=True, join_leave=True)

    @room.on_subscribe
    async def join() -> None:
        called.set()
        await go_on.wait()

    @room.on_unsubscribe
    async def leave() -> None:
        ended.append("")

    async with connected(gateway) as client:
        await client.send("subscribe", channel="room")
        await called.wait()
        if ending == "leave":
            gateway.running.acceptor.close(client.session)
            go_on.set()
            await assert_empty(gateway)
        else:
            reply = await client.send("unsubscribe", channel="room")
            go_on.set()
            assert "unsubscribe" in await client.reply(reply)
            await settled(gateway)
            assert gateway.node.hub.channels == {}
        assert ended == [""]


async def test_the_server_may_be_quicker_than_a_handler(gateway: Gateway) -> None:
    go_on, called = asyncio.Event(), asyncio.Event()

    @gateway.channel("room").on_subscribe
    async def join(client: Client) -> None:
        called.set()
        await go_on.wait()

    async with connected(gateway) as client:
        command = await client.send("subscribe", channel="room")
        await called.wait()
        await gateway.subscribe("", "room", client=client.session.client)
        await until(lambda: client.pushes("room"))
        go_on.set()
        assert (await client.reply(command))["error"]["code"] == 105
        assert gateway.node.hub.subscribers("room") == 1


async def test_whom_the_server_could_not_subscribe_meanwhile_may_try_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, called = asyncio.Event(), asyncio.Event()

    @gateway.channel("room").on_subscribe
    async def join() -> None:
        called.set()
        await go_on.wait()

    async with connected(gateway) as client:
        command = await client.send("subscribe", channel="room")
        await called.wait()
        with monkeypatch.context() as patched:
            patched.setattr(gateway.node.broker, "subscribe", AsyncMock(side_effect=BrokerUnavailable))
            await gateway.subscribe("", "room", client=client.session.client)
            await until(lambda: not client.session.ending and not client.session.subscriptions)
        go_on.set()
        assert (await client.reply(command))["error"]["temporary"]
        assert "subscribe" in await client.ask("subscribe", channel="room")


async def test_a_handler_may_be_the_server_and_its_program_hears_of_one_end(gateway: Gateway) -> None:
    """Whom it lets in and subscribes has one subscription, which ends once."""
    room = gateway.channel("room")
    ended: list[str] = []

    @room.on_subscribe
    async def join(client: Client) -> None:
        await client.subscribe("room")

    @room.on_unsubscribe
    def leave() -> None:
        ended.append("")

    async with connected(gateway) as client:
        assert (await client.error("subscribe", channel="room"))[0] == 105
        await settled(gateway)
        assert (ended, gateway.node.hub.subscribers("room")) == ([], 1)
        await client.leave()
        await assert_empty(gateway)
    assert ended == [""]


# — caches —


async def test_a_cache_begins_with_what_the_program_says(gateway: Gateway) -> None:
    called: list[str] = []
    state = gateway.channel("state:{name}", history_size=1, force_recovery_mode="cache", replay=True, **OPEN)

    @state.on_cache_empty
    async def fill(name: str) -> Line | None:
        called.append(name)
        return Line(text=name) if name != "nothing" else None

    async with running(gateway) as opened:
        first, second = opened(), opened()
        await first.connect()
        await second.connect()
        result = await first.subscribe("state:a")
        assert [each["data"] for each in result["publications"]] == [{"text": "a"}]
        assert [each["data"] for each in (await second.subscribe("state:a"))["publications"]] == [{"text": "a"}]
        assert called == ["a"]
        assert "publications" not in await first.subscribe("state:nothing")
        await gateway.publish("state:a", {"text": "new"})
        await second.hears({"text": "new"})


async def test_a_returning_client_gets_the_cached_value(gateway: Gateway) -> None:
    state = gateway.channel("state", history_size=1, force_recovery_mode="cache", **OPEN)

    @state.on_cache_empty
    def fill() -> Line:
        return Line(text="first")

    async with connected(gateway) as client:
        result = await client.subscribe("state", recover=True)
        assert result["recovered"] is True
        assert [each["data"] for each in result["publications"]] == [{"text": "first"}]


async def test_a_cache_that_cannot_be_filled_fails_its_subscribe_alone(gateway: Gateway) -> None:
    state = gateway.channel("state", history_size=1, force_recovery_mode="cache", **OPEN)

    @state.on_cache_empty
    async def fill() -> Line:
        raise RuntimeError("no database")

    async with connected(gateway) as client:
        assert (await client.error("subscribe", channel="state"))[0] == 100
        await assert_no_subscription(gateway)


def test_what_is_no_cache_is_never_empty(gateway: Gateway) -> None:
    with pytest.raises(SettingsError, match='history_size=1, force_recovery_mode="cache"'):
        gateway.channel("chat", history_size=1).on_cache_empty(_say)
