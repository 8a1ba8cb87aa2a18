"""Kafka as `broadcaster` drives it, with a look at the topic, and an end also where the broker has gone."""

import asyncio
from contextlib import suppress

from broadcaster._backends.kafka import KafkaBackend

LARGEST = 1_000_000
"""Bytes of a message: brokers and clients take a megabyte unless told otherwise, head included."""

FLUSHING = 1.0
"""Seconds that the producer has for what it has not sent yet."""


class Kafka(KafkaBackend):
    """One topic, of one partition: order is kept within a partition alone."""

    async def subscribe(self, channel: str) -> None:
        await super().subscribe(channel)
        partitions = self._consumer.partitions_for_topic(channel) or {0}
        if len(partitions) > 1:
            raise ValueError(
                f"the topic {channel} has {len(partitions)} partitions, which would mix up the order of publications: "
                f"give engine.broadcaster.name a topic of its own, made with kafka-topics.sh --partitions 1"
            )

    async def disconnect(self) -> None:
        await asyncio.gather(self._stop_producer(), self._stop_consumer())

    async def _stop_producer(self) -> None:
        try:
            async with asyncio.timeout(FLUSHING):
                await self._producer.stop()
        except TimeoutError:  # the broker has gone, and the producer would wait for it
            with suppress(asyncio.CancelledError):  # its own, which it lets escape
                await self._producer._sender.close()
            await self._producer.client.close()

    async def _stop_consumer(self) -> None:
        if hasattr(self, "_consumer"):  # not if the producer could not connect
            await self._consumer.stop()
