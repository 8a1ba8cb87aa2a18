"""A line on a real Kafka: what may happen to it."""

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest

from gateway.errors import BrokerUnavailable, Error
from tests.broadcast.lines import started_line
from tests.kafka_server import KafkaServer
from tests.waiting import until


@pytest.fixture(autouse=True)
def abandoned() -> Iterator[None]:
    """Clear away what aiokafka drops of connections that it was making when it was stopped."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def own() -> Iterator[KafkaServer]:
    """A broker that may be killed."""
    with KafkaServer() as server:
        yield server


async def test_lines_hear_each_other_in_order_after_a_kill_too(own: KafkaServer) -> None:
    async with started_line(own.url) as (one, _), started_line(own.url) as (two, _):
        heard: list[bytes] = []
        two.handlers["m", "news"] = heard.append
        await asyncio.gather(*(one.publish("m", "news", b"%d" % number) for number in range(300)))
        await until(lambda: len(heard) == 300)
        assert heard == [b"%d" % number for number in range(300)]
        own.kill()
        await until(lambda: not (one.connected or two.connected))
        with pytest.raises(BrokerUnavailable):
            await one.publish("m", "news", b"unheard")
        own.start()
        await until(lambda: one.connected and two.connected, deadline=60)
        await one.publish("m", "news", b"heard")
        await until(lambda: heard[300:] == [b"heard"])


async def test_more_than_it_takes_is_refused(own: KafkaServer) -> None:
    async with started_line(own.url) as (line, _):
        heard: list[bytes] = []
        line.handlers["m", "news"] = heard.append
        await line.publish("m", "news", b"x" * 700_000)
        with pytest.raises(Error, match="the backend takes"):
            await line.publish("m", "news", b"x" * 800_000)
        await until(lambda: len(heard) == 1)
        assert line.connected


async def test_a_topic_that_mixes_up_the_order_is_refused(own: KafkaServer, caplog: pytest.LogCaptureFixture) -> None:
    await own.create_topic("parted", 2)
    async with started_line(own.url, name="parted") as (line, _):
        assert not line.connected
    assert "the topic parted has 2 partitions" in caplog.text
