"""The double of the Kafka control: the partitions that a test calls stopped."""

from __future__ import annotations

from eventvault.errors import PartitionNotStopped
from eventvault.store.ports.kafka_control import KafkaControl


class MemoryKafkaControl(KafkaControl):
    def __init__(self) -> None:
        self.stopped_partitions: set[int] = set()

    def accept_loss(self, partition: int) -> None:
        if partition not in self.stopped_partitions:
            raise PartitionNotStopped(
                f"partition {partition} is not stopped", hint="GET /api/health names those that are"
            )
        self.stopped_partitions.remove(partition)
