"""What programs read when something is wrong, and what clients are told."""

import logging
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import ChannelError, Client, Error, Gateway, Publisher, Settings
from gateway.channels import Channels
from gateway.errors import another
from gateway.messages import Position
from gateway.program.errors import find_channel
from gateway.testing import Kit, Refused
from tests.program.routes.clients import gateway_with, running

NAMESPACES: dict[str, Any] = {"namespaces": [{"name": "news"}, {"name": "objects", "publication_data_format": "json"}]}
PATTERNS = ("chat:{room}", "orders:{id:int}", "chats/{room}", "object", "kept:{room}")


def program(**settings: Any) -> Gateway:
    gateway = gateway_with(**settings)
    for pattern in PATTERNS:
        options: dict[str, Any] = {"history_size": 10} if pattern.startswith("kept") else {}
        if pattern == "object":
            options = {"publication_data_format": "json_object"}
        gateway.channel(pattern, **options)
    return gateway


async def advice(gateway: Gateway, call: str, *args: Any, **options: Any) -> tuple[int, str]:
    """Code and text of what is raised; the client's own text is not in it."""
    with pytest.raises(ChannelError) as caught:
        await getattr(gateway, call)(*args, **options)
    error = caught.value
    assert isinstance(error, Error)
    assert str(error) == f"{error.code} {error.message}: {error.advice}"
    assert str(another(error)) == str(error)
    return error.code, error.advice


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("chta:lobby", 'the nearest are "chat:{room}"'),
        ("cht:lobby", 'the nearest are "chat:{room}"'),
        ("chat:a:b", 'the nearest are "chat:{room}"'),
        ("order:7", 'the nearest are "orders:{id:int}"'),
        ("orders:seven", 'the nearest are "orders:{id:int}"'),
        ("new:today", 'the nearest are "news:"'),
        ("zzz:1", 'there are "chat:{room}", "orders:{id:int}", "chats/{room}", "object", "kept:{room}". '),
    ],
)
async def test_a_name_that_no_pattern_matches(name: str, found: str) -> None:
    async with running(gateway := program(channel=NAMESPACES)):
        for call in ("publish", "presence", "presence_stats", "history", "remove_history", "subscribe", "unsubscribe"):
            args = (name, 1) if call == "publish" else ("7", name) if "subscribe" in call else (name,)
            code, text = await advice(gateway, call, *args)
            assert (code, f'no pattern matches "{name}"' in text, found in text) == (102, True, True), text
        assert f'gateway.channel("{name.partition(":")[0]}:{{name}}")' in text
        with pytest.raises(ChannelError, match=r'no pattern matches "nowhere:1"'):
            await gateway.broadcast(["chat:a", "nowhere:1"], 1)


def test_where_nothing_is_declared() -> None:
    with pytest.raises(ChannelError, match=r'no pattern matches "chat:1"; there is none\.'):
        find_channel(Channels(Settings().channel), "chat:1")


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
async def test_what_is_no_name(name: str) -> None:
    async with running(gateway := program()):
        code, text = await advice(gateway, "publish", name, 1)
        assert (code, text.startswith(f"{name!r} is no channel's name")) == (107, True)


async def test_a_name_of_any_length_makes_a_text_that_can_be_read() -> None:
    async with running(gateway := program()):
        for name in ("chta:" + "x" * 10_000, "x" * 10_000 + ":a", "x\n" * 10_000):
            _, text = await advice(gateway, "publish", name, 1)
            assert len(text) < 1000
            assert "..." in text


async def test_a_route_is_no_name() -> None:
    gateway = program()
    route = gateway.channel("rooms:{room}")
    async with running(gateway):
        for wrong in (route, 7, None):
            with pytest.raises(TypeError, match=r'named by a str, as "chat:lobby", or chat\.name\(room="lobby"\)'):
                await gateway.publish(wrong, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "name", "text"),
    [
        ("presence", "chat:a", '"chat:a" has no presence; write gateway.channel("chat:{room}", presence=True)'),
        ("presence_stats", "news:a", '"news:a" has no presence; set presence = true for the namespace "news" in'),
        (
            "presence",
            "lobby",
            'write gateway.channel("lobby", presence=True), or set presence = true in channel.without',
        ),
        ("history", "chat:a", 'no history; write gateway.channel("chat:{room}", history_size=100, history_ttl=600)'),
        ("remove_history", "news:a", "set history_size = 100 and history_ttl = 600 for the namespace"),
    ],
)
async def test_an_option_that_is_off(call: str, name: str, text: str) -> None:
    async with running(gateway := program(channel=NAMESPACES)):
        code, found = await advice(gateway, call, name)
        assert (code, text in found) == (108, True), found


async def test_positions_that_history_does_not_know() -> None:
    async with running(gateway := program()):
        await gateway.publish("kept:a", 1)
        code, text = await advice(gateway, "history", "kept:a", since=Position(1, "other"))
        assert code == 112
        assert "\"kept:a\" does not hold Position(offset=1, epoch='other') any more" in text
        assert "read without since=" in text
        code, text = await advice(gateway, "history", "kept:a", since=Position(), reverse=True)
        assert (code, "nothing is before offset 0" in text) == (107, True)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("object", [1], '"object" takes JSON objects alone (publication_data_format="json_object"), which this is not'),
        ("objects:a", b"secret", '"objects:a" takes JSON alone (publication_data_format="json"), which this is not'),
        ("chat:a", b"", '"chat:a" takes data that is not empty, which this is not'),
    ],
)
async def test_data_that_a_channel_does_not_take(name: str, data: object, text: str) -> None:
    async with running(gateway := program(channel=NAMESPACES)):
        assert await advice(gateway, "publish", name, data) == (107, text)


def create_app() -> FastAPI:
    gateway = program()
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)

    @gateway.rpc("who")
    async def who() -> list[str]:
        return list(await gateway.presence("chat:a"))

    @gateway.rpc("join")
    async def join(client: Client) -> None:
        await client.subscribe("chta:a")

    @app.get("/who")
    async def http_who() -> list[str]:
        return list(await gateway.presence("chat:a"))

    return app


async def test_a_client_is_told_no_more_than_the_catalogue_has(caplog: pytest.LogCaptureFixture) -> None:
    async with Kit(create_app()) as kit:
        client = await kit.connect()
        for _ in range(3):
            with pytest.raises(Refused) as caught:
                await client.rpc("who")
            assert (caught.value.code, caught.value.message) == (108, "not available")
        with pytest.raises(Refused) as caught:
            await client.rpc("join")
        assert (caught.value.code, caught.value.message) == (102, "unknown channel")
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    told = [each for each in warnings if "failed: 1" in each]
    assert len(told) == 2, warnings  # not with each call
    assert 'failed: 108 not available: "chat:a" has no presence; write gateway.channel("chat:{room}"' in told[0]
    assert 'failed: 102 unknown channel: no pattern matches "chta:a"; the nearest are "chat:{room}"' in told[1]


async def test_a_route_fails_with_the_whole_text() -> None:
    async with Kit(create_app()) as kit:
        with pytest.raises(ChannelError, match='108 not available: "chat:a" has no presence; write gateway'):
            await kit.http.get("/who")


async def test_without_event_loop_it_is_the_same() -> None:
    settings = Settings(engine={"type": "redis"}, channel=NAMESPACES)
    with Publisher(settings) as publisher:
        with pytest.raises(ChannelError, match=r'no pattern matches "new:1"; the nearest are "news:"'):
            publisher.publish("new:1", 1)
        with pytest.raises(ChannelError, match='"objects:a" takes JSON alone'):
            publisher.publish("objects:a", b"\x00")


async def test_what_a_backend_is_polled_for_is_not_published() -> None:
    polled = {"name": "price", "subscription_type": "shared_poll", "shared_poll": {"mode": "versioned"}}
    sections: dict[str, Any] = {
        "channel": {"namespaces": [polled], "proxy": {"shared_poll_refresh": {"endpoint": "http://127.0.0.1:1/"}}},
        "shared_poll": {"hmac_secret_key": "a secret of more than thirty-two bytes, as all should be"},
    }
    async with running(gateway := program(**sections)):
        code, text = await advice(gateway, "publish", "price:all", 1)
        assert (code, "by shared_poll_publish of the server API" in text) == (107, True)
    with (
        Publisher(Settings(engine={"type": "redis"}, **sections)) as publisher,
        pytest.raises(ChannelError, match='107 bad request: "price:all" is polled'),
    ):
        publisher.publish("price:all", 1)
