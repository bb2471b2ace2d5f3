"""The double of the Kafka control: the partitions that a test calls stopped."""

from __future__ import annotations

from eventvault.errors import PartitionNotStopped, TopicNotNamed
from eventvault.store.ports.kafka_control import KafkaControl


class MemoryKafkaControl(KafkaControl):
    """topics: those that events are consumed from. stopped_partitions: (topic, number)."""

    def __init__(self) -> None:
        self.topics = ["events"]
        self.stopped_partitions: set[tuple[str, int]] = set()

    def accept_loss(self, partition: int, topic: str | None) -> None:
        if topic is None and len(self.topics) > 1:
            raise TopicNotNamed(f"partition {partition} may be of several topics", hint="name the topic")
        place = (topic or self.topics[0], partition)
        if place not in self.stopped_partitions:
            raise PartitionNotStopped(
                f"partition {partition} of the topic {place[0]} is not stopped",
                hint="GET /api/health names those that are",
            )
        self.stopped_partitions.remove(place)
