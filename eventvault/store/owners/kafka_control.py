"""The consumer of the events topics, joined with the registry: events and their offsets land in one write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventvault.database import keys
from eventvault.database.bus import Consumer, EventBus
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.operations.operation import Operation
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.kafka_control import KafkaControl


class KafkaControlOwner(KafkaControl):
    """Also the source of the problems of stopped partitions."""

    def __init__(self, lifecycle: Lifecycle, monitor: KafkaMonitor, consumers: Sequence[Consumer]) -> None:
        self._lifecycle = lifecycle
        self._monitor = monitor
        self._consumers = consumers

    def accept_loss(self, partition: int, topic: str | None, *, operation: Operation | None = None) -> None:
        """Sent again, it is passed on without a check: a consumer ignores it unless the partition is still stopped."""
        operation = operation or Operation()
        self._lifecycle.check()
        if "topic" not in operation.notes:
            operation.note("topic", self._monitor.find_stopped(partition, topic))
        self._resume(operation.notes["topic"], partition)

    def waiting(self) -> list[Problem]:
        return self._monitor.stopped_problems()

    def accept(self, problem: Problem) -> None:
        self._lifecycle.check()
        self._resume(problem.details["topic"], problem.details["partition"])

    def _resume(self, topic: str, partition: int) -> None:
        for consumer in self._consumers:
            consumer.accept_loss(topic, partition)


def consumers_of(settings: Settings, bus: EventBus, nonces: Nonces, monitor: KafkaMonitor) -> list[Consumer]:
    """What the bus starts once the database is open."""
    # Imported where it is used: a store without Kafka takes over sooner without the client library.
    from eventvault.kafka.consumer import EventsConsumer

    def begin() -> Callable[[Sequence[EventDraft], Sequence[tuple[bytes, bytes]]], AppendResult]:
        with bus.using() as registry:
            generation = registry.identity.generation

        def append(drafts: Sequence[EventDraft], metadata: Sequence[tuple[bytes, bytes]]) -> AppendResult:
            return bus.committer.append(AppendBatch(drafts, nonces.next(), metadata, generation))

        return append

    def metadata_of_kafka() -> dict[bytes, bytes]:
        with bus.using() as registry:
            return registry.scan_meta(keys.KAFKA)

    return [EventsConsumer(settings, begin=begin, load=metadata_of_kafka, monitor=monitor)]
