"""Maps of the program: what clients write is decided by its handlers, and it writes and reads by itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

import pytest
from fastapi import Depends
from pydantic import BaseModel, ValidationError

from gateway import HANDLED, ChannelRouter, Error, Gateway, Handled, MapHandle, Message
from gateway import Client as GatewayClient
from gateway.errors import ErrorCode, SettingsError
from gateway.messages import Payload, Position, Publication
from gateway.program.errors import ChannelError
from tests.program.routes.clients import Client, gateway_with, running
from tests.waiting import until

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
PERSISTENT: Any = {"mode": "persistent"}


class Card(BaseModel):
    text: str


async def entered(gateway: Gateway, channel: str = "board:7") -> Client:
    """A client that has loaded the map."""
    client = Client(gateway)
    await client.connect()
    await client.subscribe(channel, type=1, phase=2)
    return client


async def put(client: Client, key: str, data: Any, channel: str = "board:7") -> dict[str, Any]:
    return await client.ask("publish", channel=channel, type=1, key=key, data=data)


async def drop(client: Client, key: str, channel: str = "board:7") -> dict[str, Any]:
    return await client.ask("publish", channel=channel, type=1, key=key, removed=True)


async def held(gateway: Gateway, channel: str = "board:7") -> dict[str, Any]:
    entries, _ = await gateway.map(channel).entries()
    return {each.key: each.data for each in entries}


# — what clients write —


async def test_handlers_are_told_the_key_and_what_they_took_is_set() -> None:
    gateway = gateway_with()
    board = gateway.channel("board:{number:int}", map=PERSISTENT, **OPEN)
    told: list[Any] = []

    @board.on_publish
    async def put_up(number: int, key: str, card: Card, client: GatewayClient) -> None:
        told.append(("set", number, key, card.text, client.id))
        card.text = card.text.upper()

    @board.on_remove
    def take_down(number: int, key: str, client: GatewayClient) -> None:
        told.append(("removed", number, key, client.id))

    async with running(gateway):
        client = await entered(gateway)
        assert await put(client, "a", {"text": "hi", "more": 1}) == {"publish": {}}
        assert await held(gateway) == {"a": {"text": "HI"}}
        assert (await drop(client, "a"))["publish"] == {}
        assert await held(gateway) == {}
        me = client.session.client
        assert told == [("set", 7, "a", "hi", me), ("removed", 7, "a", me)]
        pushes = [each["pub"] for each in client.pushes("board:7")]
        assert [(each["key"], each.get("removed", False), each["offset"]) for each in pushes] == [
            ("a", False, 1),
            ("a", True, 2),
        ]
        assert pushes[0]["info"]["client"] == me
        assert (await client.error("publish", channel="board:7", type=1, key="b", data={}))[0] == 107
        assert await held(gateway) == {}


async def test_what_handlers_return_decides() -> None:
    gateway = gateway_with()
    board = gateway.channel("board:{id}", map={"mode": "persistent", "max_key_length": 9}, **OPEN)

    @board.on_publish
    async def put_up(key: str, text: Annotated[str, Depends(lambda: "x")]) -> Message[Card] | Card | Handled:
        match key:
            case "refused":
                raise Error(ErrorCode.PERMISSION_DENIED)
            case "swallowed":
                return HANDLED
            case "new":
                return Message(Card(text="1"), key="other", key_mode="if_new", tags={"t": "x"})
            case "long":
                return Message(Card(text="1"), key="more than nine")
            case "wrong":
                return Message(Card(text="1"), skip_history=True)
        return Card(text=key)

    @board.on_remove
    async def take_down(key: str) -> Handled | bool:
        return HANDLED if key == "swallowed" else key != "refused"

    async with running(gateway):
        client = await entered(gateway)
        for key in ("swallowed", "refused"):
            await gateway.map("board:7").publish(key, Card(text="kept"))
        assert (await put(client, "refused", 1))["error"]["code"] == 103
        assert (await put(client, "swallowed", 1))["publish"] == {}
        assert (await drop(client, "refused"))["error"]["code"] == 103
        assert (await drop(client, "swallowed"))["publish"] == {}
        assert (await put(client, "long", 1))["error"]["code"] == 107
        assert (await put(client, "wrong", 1))["error"]["code"] == 100
        for _ in range(2):
            assert (await put(client, "new", 1))["publish"] == {}, "it is a success, too, if it changes nothing"
        assert (await put(client, "a", 1))["publish"] == {}
        kept = {"text": "kept"}
        assert await held(gateway) == {"a": {"text": "a"}, "other": {"text": "1"}, "refused": kept, "swallowed": kept}
        other = await gateway.map("board:7").get("other")
        assert other is not None
        assert (other.offset, other.tags) == (3, {"t": "x"})


async def test_who_has_not_subscribed_is_not_heard_unless_anyone_is() -> None:
    gateway = gateway_with()
    publishers: dict[str, Any] = {"board": "subscribers", "open": "anyone"}
    for name, who in publishers.items():
        channel = gateway.channel(f"{name}:{{id}}", map=PERSISTENT, publish=who, **OPEN)

        @channel.on_publish
        async def put_up(key: str) -> None:
            pass

        @channel.on_remove
        async def take_down(key: str) -> None:
            pass

    async with running(gateway):
        client = Client(gateway)
        await client.connect()
        assert (await put(client, "a", 1))["error"]["code"] == 103
        assert (await drop(client, "a"))["error"]["code"] == 103
        assert (await put(client, "a", 1, "open:7"))["publish"] == {}
        assert await held(gateway, "open:7") == {"a": 1}
        assert (await drop(client, "a", "open:7"))["publish"] == {}


async def test_without_handlers_the_options_decide_after_the_dependencies() -> None:
    asked: list[str] = []

    def note(client: GatewayClient) -> None:
        asked.append(client.id)

    gateway = gateway_with()
    router = ChannelRouter(dependencies=[Depends(note)])
    allowed: Any = {f"allow_publish_for_{who}": True for who in ("subscriber", "anonymous")}
    router.channel("board:{id}", map=PERSISTENT | allowed, **OPEN)
    gateway.include(router)
    async with running(gateway):
        client = await entered(gateway)
        asked.clear()
        assert (await put(client, "a", 1))["publish"] == {}
        assert len(asked) == 1
        assert (await drop(client, "a"))["error"]["code"] == 103
        assert len(asked) == 1
        assert await held(gateway) == {"a": 1}


async def test_a_handler_beside_dependencies_takes_nothing_from_what_the_options_let() -> None:
    gateway = gateway_with()
    router = ChannelRouter(dependencies=[Depends(lambda: None)])
    allowed: Any = {f"allow_remove_for_{who}": True for who in ("client", "anonymous")}
    boards: Any = {"board": {}, "open": {"publish": "anyone"}}
    for name, options in boards.items():
        channel = router.channel(f"{name}:{{id}}", map=PERSISTENT | allowed, **options, **OPEN)

        @channel.on_publish
        async def put_up(key: str) -> None:
            pass

    gateway.include(router)
    async with running(gateway):
        await gateway.map("board:7").publish("a", 1)
        client = Client(gateway)
        await client.connect()
        assert (await drop(client, "a"))["publish"] == {}
        assert (await put(client, "a", 1))["error"]["code"] == 103
        assert (await put(client, "a", 1, "open:7"))["publish"] == {}
        await client.subscribe("board:7", type=1, phase=2)
        assert (await put(client, "a", 1))["publish"] == {}


async def test_keys_of_the_program_end_by_themselves() -> None:
    """The node sweeps though no namespace of the settings is a map."""
    gateway = gateway_with()
    brief: Any = {"mode": "ephemeral", "key_ttl": 0.01}
    gateway.channel("cursors:{id}", map=brief, **OPEN)
    async with running(gateway):
        client = await entered(gateway, "cursors:7")
        await gateway.map("cursors:7").publish("a", 1)
        await until(lambda: [each["pub"].get("removed", False) for each in client.pushes("cursors:7")] == [False, True])


# — declarations that cannot be —


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"map": {}}, "map.mode is needed"),
        ({"map": {"mode": "recoverable"}}, "map.key_ttl is needed"),
        ({"map": PERSISTENT, "history_size": 1}, "history_size is for streams"),
        ({"map_users_presence_channel_prefix": "online:"}, "must begin with a namespace of that type"),
    ],
    ids=["mode", "ttl", "stream", "presence"],
)
async def test_maps_that_cannot_be_are_refused_at_the_start(options: Any, text: str) -> None:
    gateway = gateway_with()
    gateway.channel("board:{id}", **options)
    with pytest.raises(SettingsError, match=text):
        async with running(gateway):
            pass


def test_what_is_not_for_maps_is_refused_as_it_is_declared() -> None:
    gateway = gateway_with()
    with pytest.raises(SettingsError, match="call the parameter of the pattern otherwise"):
        gateway.channel("board:{key}", map=PERSISTENT)
    with pytest.raises(TypeError, match="map= got an unexpected keyword argument 'mod'; did you mean 'mode'"):
        gateway.channel("wall:{id}", map=cast(Any, {"mod": 1}))
    with pytest.raises(SettingsError, match="Input should be"):
        gateway.channel("wall:{id}", map=cast(Any, {"mode": "else"}))
    board = gateway.channel("board:{id}", map=PERSISTENT)
    with pytest.raises(SettingsError, match="there are no events in it"):
        board.event("typing", Card)
    chat = gateway.channel("chat:{id}")
    with pytest.raises(SettingsError, match="the channel is no map"):
        chat.on_remove(lambda: None)


# — what the program does by itself —


@pytest.fixture
async def board() -> AsyncIterator[MapHandle[Card]]:
    gateway = gateway_with()
    gateway.channel(
        "board:{id}", map={"mode": "persistent", "max_key_length": 9, "stream_size": 2}, message=Card, **OPEN
    )
    gateway.channel("chat:{id}", **OPEN)
    async with running(gateway):
        yield gateway.map("board:7")


async def test_entries_are_written_and_read_with_their_type(board: MapHandle[Card]) -> None:
    first = await board.publish("b", Card(text="1"), tags={"t": "x"})
    assert (first.offset, first.suppressed) == (1, "")
    await board.publish("a", Card(text="2"))
    entry = await board.get("b")
    assert entry is not None
    assert (entry.key, entry.data, entry.tags, entry.offset, entry.removed) == (
        "b",
        Card(text="1"),
        {"t": "x"},
        1,
        False,
    )
    assert await board.get("c") is None
    entries, position = await board.entries()
    assert [each.key for each in entries] == [each.key async for each in board] == ["a", "b"]
    assert position == Position(2, first.epoch)
    assert await board.count() == 2
    gone = await board.remove("b")
    assert (gone.offset, (await board.remove("b")).suppressed) == (3, "key_not_found")
    changes, top = await board.changes(since=Position(1, first.epoch))
    assert [(each.key, each.removed) for each in changes] == [("a", False), ("b", True)]
    assert cast(Any, changes[1].data) is None
    assert top.offset == 3
    await board.publish("a", Card(text="3"))
    with pytest.raises(Error) as lost:
        await board.changes(since=Position(1, first.epoch))
    assert lost.value.code == ErrorCode.UNRECOVERABLE_POSITION


async def test_writes_may_depend_on_what_is_there(board: MapHandle[Card]) -> None:
    first = await board.publish("a", Card(text="1"), key_mode="if_new", version=2)
    assert (await board.publish("a", Card(text="2"), key_mode="if_new")).suppressed == "key_exists"
    assert (await board.publish("a", Card(text="2"), version=1)).suppressed == "version"
    mismatch = await board.remove("a", expected=Position(9, first.epoch))
    assert mismatch.suppressed == "position_mismatch"
    assert mismatch.current is not None
    assert mismatch.current.data == b'{"text":"1"}'
    assert (await board.remove("a", expected=Position(1, first.epoch), idempotency_key="once")).suppressed == ""
    assert (await board.publish("a", 1, idempotency_key="once")).suppressed == "idempotency"
    await board.publish("a", Payload(b'{"no": "text"}'))
    with pytest.raises(ValidationError):
        cast(Any, await board.get("a")).data  # noqa: B018  it is read when it is asked for


async def test_many_changes_leave_others_their_turn(board: MapHandle[Card], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.program.maps.AT_A_TIME", 2)
    for key in "ab":
        await board.publish(key, Card(text="1"))
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    assert len((await board.changes())[0]) == 2
    assert others
    asyncio.get_running_loop().call_soon(others.append, 2)
    assert len((await board.entries())[0]) == 2
    assert len(others) == 2


async def test_subscribers_of_a_cleared_map_load_it_anew() -> None:
    gateway = gateway_with()
    gateway.channel("board:{id}", map=PERSISTENT, **OPEN)
    async with running(gateway):
        await gateway.map("board:7").publish("a", 1)
        client = await entered(gateway)
        await gateway.map("board:7").clear()
        assert await held(gateway) == {}
        await until(lambda: [each["unsubscribe"]["code"] for each in client.pushes("board:7")] == [2502])


async def test_what_a_map_does_not_take_is_told_with_what_to_write() -> None:
    gateway = gateway_with()
    gateway.channel("board:{id}", map={"mode": "persistent", "max_key_length": 9}, **OPEN)
    gateway.channel("chat:{id}", **OPEN)
    async with running(gateway):
        for key in ("", "more than nine", 5):
            with pytest.raises(ChannelError, match="is a text of at most 9 bytes"):
                await gateway.map("board:7").publish(cast(Any, key), 1)
        with pytest.raises(ChannelError, match="takes data that is not empty"):
            await gateway.map("board:7").publish("a", b"")
        with pytest.raises(ChannelError, match='"chat:7" is no map'):
            gateway.map("chat:7")
        with pytest.raises(ChannelError, match=r'await gateway.map\("board:7"\).publish\(key, data\)'):
            await gateway.publish("board:7", 1)
        channel = gateway.node.channels.resolve("board:7")
        with pytest.raises(Error, match="the channel is a map, or polled"):
            await gateway.node.publish(channel, Publication(Payload(b"1")))


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"key": "\ud800"}, ChannelError, "is a text of at most 9 bytes"),
        ({"tags": {"a": "\ud800"}}, TypeError, "tags are text"),
        ({"key_mode": "if_nwe"}, ValueError, '"if_new" or "if_exists"'),
        ({"version": True}, TypeError, "version is a number"),
        ({"version": "7"}, TypeError, "version is a number"),
        ({"version": -1}, ValueError, "must lie between"),
        ({"version_epoch": None}, TypeError, "version_epoch is text"),
        ({"expected": 5}, TypeError, "expected is a position"),
        ({"idempotency_key": 7}, TypeError, "idempotency_key is text"),
        ({"idempotency_key": "\ud800"}, TypeError, "idempotency_key is text"),
    ],
)
async def test_what_only_a_type_checker_would_refuse(
    board: MapHandle[Card], wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    publish: Any = board.publish
    with pytest.raises(error, match=text):
        await publish(**{"key": "a", "data": Card(text="1"), **wrong})
    if wrong.keys() <= {"expected", "idempotency_key"}:
        remove: Any = board.remove
        with pytest.raises(error, match=text):
            await remove("a", **wrong)
    assert await board.count() == 0


@pytest.mark.parametrize("wrong", [{"key": "\ud800"}, {"key": 5}, {"key_mode": "if_nwe"}, {"idempotency_key": 7}])
async def test_what_handlers_return_is_held_to_the_same(wrong: dict[str, Any]) -> None:
    gateway = gateway_with()
    board = gateway.channel("board:{id}", map=PERSISTENT, **OPEN)

    @board.on_publish
    async def put_up(key: str, card: Card) -> Message[Card]:
        return Message(card, **wrong)

    async with running(gateway):
        client = await entered(gateway)
        assert (await put(client, "a", {"text": "hi"}))["error"]["code"] == ErrorCode.INTERNAL
        assert await held(gateway) == {}


async def test_a_listener_hears_the_changes() -> None:
    gateway = gateway_with()
    gateway.channel("board:{id}", map=PERSISTENT, message=Card, **OPEN)
    async with running(gateway), gateway.listen("board:7") as changes:
        await gateway.map("board:7").publish("a", Card(text="1"))
        await gateway.map("board:7").remove("a")
        heard = [await anext(aiter(changes)) for _ in range(2)]
        assert [(each.key, each.removed, each.data) for each in heard] == [
            ("a", False, Card(text="1")),
            ("a", True, None),
        ]
