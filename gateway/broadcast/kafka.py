"""Kafka as `broadcaster` drives it, with a look at the topic."""

from broadcaster._backends.kafka import KafkaBackend

LARGEST = 1_000_000
"""Bytes of a message: brokers and clients take a megabyte unless told otherwise, head included."""


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
