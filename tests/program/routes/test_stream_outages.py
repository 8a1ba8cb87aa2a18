"""Streams while the broker is away: late, but whole, in order and nothing twice; and the end is always told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import BrokerUnavailable, Gateway
from gateway.program.routes.streams import PAUSES, REMEMBERED
from gateway.testing import Kit
from tests.program.routes.clients import gateway_with
from tests.waiting import settle, until

LONG = 2 * sum(PAUSES)
"""Seconds after which nothing is tried any more."""


def create_app() -> FastAPI:
    gateway = gateway_with()
    everybody: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
    gateway.channel("answer:{id}", history_size=100, replay=True, **everybody)
    gateway.channel("object:{id}", history_size=100, replay=True, publication_data_format="json_object", **everybody)
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    return app


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with Kit(create_app()) as kit:
        yield kit


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class Source:
    """Words that come when the test says so."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self) -> AsyncIterator[Any]:
        while (word := await self.words.get()) is not None:
            yield word


async def whole(gateway: Gateway, channel: str = "answer:1") -> list[Any]:
    """Data of what the channel keeps, and the tag of its end."""
    publications, _ = await gateway.history(channel)
    return [each.tags["stream"] if each.tags else bytes(each.data) for each in publications]


async def test_a_broker_that_comes_back_gets_everything_once_in_order(kit: Kit) -> None:
    source = Source()
    stream = await kit.gateway.stream("answer:1", source())
    source.words.put_nowait("a")
    await kit.wait_idle()
    kit.broker.kill()
    for word in ("b", "c", None):
        source.words.put_nowait(word)
    await kit.clock.advance(sum(PAUSES) / 2)
    assert stream.running
    kit.broker.restore()
    await kit.clock.advance(LONG)
    assert await stream.wait() == "done"
    assert await whole(kit.gateway) == [b'"a"', b'"b"', b'"c"', "done"]


@pytest.mark.parametrize("accepted", [True, False])
async def test_what_was_accepted_though_it_seemed_lost_is_not_published_again(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    broker: Any = kit.gateway.node.broker
    publish, tries = broker.publish, 0

    async def unreliable(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        if accepted:
            answer = await publish(*args)
        if tries % 3:  # each is tried three times
            raise BrokerUnavailable
        return answer if accepted else await publish(*args)

    monkeypatch.setattr(broker, "publish", unreliable)
    stream = await kit.gateway.stream("answer:1", numbers(5))
    await kit.clock.advance(LONG)
    assert await stream.wait() == "done"
    assert tries == 3 * 6
    monkeypatch.undo()
    assert await whole(kit.gateway) == [b"%d" % number for number in range(5)] + ["done"]


async def test_one_that_stays_away_ends_it_in_bounded_time(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.broker.kill()
    stream = await kit.gateway.stream("answer:1", numbers(5))
    for _ in range(int(LONG)):
        if "stays away" in caplog.text:
            break
        await kit.clock.advance(1)
    assert stream.running  # the end is tried as long
    kit.broker.restore()
    await kit.clock.advance(LONG)
    assert await stream.wait() == "failed"
    assert await whole(kit.gateway) == ["failed"]
    assert [record.levelno for record in caplog.records if "streams" in record.name] == [logging.WARNING]


async def test_an_end_that_nobody_could_be_told_is_in_the_log(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.broker.kill()
    stream = await kit.gateway.stream("answer:1", numbers(0))
    await kit.clock.advance(LONG)
    assert await stream.wait() == "done"
    assert "stream answer:1: done, and nobody could be told: the broker is away" in caplog.text


async def test_a_stop_while_the_end_is_told_takes_it_from_nobody(kit: Kit) -> None:
    kit.broker.kill()
    stream = await kit.gateway.stream("answer:1", numbers(0))
    await settle()
    stream.stop()
    await settle()
    assert stream.running
    kit.broker.restore()
    await kit.clock.advance(LONG)
    assert await stream.wait() == "done"
    assert await whole(kit.gateway) == ["done"]


async def test_a_stop_while_a_piece_is_tried_again(kit: Kit) -> None:
    kit.broker.kill()
    stream = await kit.gateway.stream("answer:1", numbers(3))
    await kit.clock.advance(1)
    stream.stop()
    await kit.clock.advance(1)
    kit.broker.restore()
    await kit.clock.advance(LONG)
    assert await stream.wait() == "stopped"
    assert await whole(kit.gateway) == ["stopped"]


async def test_a_node_that_stops_while_the_broker_is_away_does_not_wait_for_it(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.program.routes.streams.CLOSING", 0.01)
    kit.broker.kill()
    stream = await kit.gateway.stream("answer:1", numbers(3))
    await kit.gateway.running.streams.close()
    await until(lambda: not stream.running)
    assert await stream.wait() == "stopped"


async def test_the_end_is_told_in_a_channel_of_any_format(kit: Kit) -> None:
    stream = await kit.gateway.stream("object:1", numbers(1))
    assert await stream.wait() == "failed"
    assert await whole(kit.gateway, "object:1") == ["failed"]


def test_the_broker_remembers_longer_than_anything_is_tried() -> None:
    assert 1.5 * sum(PAUSES) + 3 * 5.0 < REMEMBERED
