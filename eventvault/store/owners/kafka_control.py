"""The consumer of the events topics, joined with the registry: events and their offsets land in one write."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventvault.database import keys
from eventvault.database.bus import Consumer, EventBus
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.offset_check import cause_of
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.quarantine import Append, Change, Quarantine, Selection, check_count
from eventvault.kafka.quarantine_format import DeadLetter
from eventvault.kafka.values import (
    MessageContent,
    Mode,
    QuarantinedMessage,
    QuarantineFilter,
    QuarantinePage,
    Reference,
    Replayed,
)
from eventvault.operations.operation import Operation
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.kafka_control import KafkaControl


class KafkaControlOwner(KafkaControl):
    """This is also the source of the problems of stopped partitions."""

    def __init__(
        self, lifecycle: Lifecycle, monitor: KafkaMonitor, consumers: Sequence[Consumer], quarantine: Quarantine
    ) -> None:
        self._lifecycle = lifecycle
        self._monitor = monitor
        self._consumers = consumers
        self._quarantine = quarantine

    def accept_loss(self, partition: int, topic: str | None, *, operation: Operation | None = None) -> None:
        """A repeated call is not checked again: a consumer ignores it unless the partition is still stopped."""
        operation = operation or Operation()
        self._lifecycle.check()
        if "stopped" not in operation.notes:
            problem = self._monitor.find_stopped(partition, topic)
            operation.note("stopped", {"topic": problem.details["topic"], "cause": cause_of(problem)})
        stopped = operation.notes["stopped"]
        self._resume(stopped["topic"], partition, stopped["cause"])

    def list_quarantine(self, wanted: QuarantineFilter, limit: int, before: str | None = None) -> QuarantinePage:
        self._lifecycle.check_readable()
        return self._quarantine.page(wanted, limit, before)

    def quarantined_message(self, message_id: str) -> QuarantinedMessage:
        self._lifecycle.check_readable()
        return self._quarantine.message(message_id)

    def replay_quarantined(
        self, ids: Sequence[str], mode: Mode | None = None, *, operation: Operation | None = None
    ) -> list[Replayed]:
        operation = operation or Operation()
        self._lifecycle.check()
        began = {message_id: (event[0], event[1]) for message_id, event in operation.notes.get("began", {}).items()}
        return self._quarantine.replay(ids, mode, began, lambda begun: operation.note("began", dict(begun)))

    def drop_quarantined(
        self, wanted: QuarantineFilter, count: int | None = None, *, operation: Operation | None = None
    ) -> int:
        operation = operation or Operation()
        self._lifecycle.check()
        noted = operation.notes.get("drop")
        if noted is None:
            selected = self._quarantine.select(wanted)
            check_count(selected.count, count)
            noted = msgspec.to_builtins(selected)
            operation.note("drop", noted)
        selection = msgspec.convert(noted, Selection)
        self._quarantine.drop(wanted, selection)
        return selection.count

    def waiting(self) -> list[Problem]:
        return self._monitor.stopped_problems()

    def accept(self, problem: Problem) -> None:
        self._lifecycle.check()
        self._resume(problem.details["topic"], problem.details["partition"], cause_of(problem))

    def _resume(self, topic: str, partition: int, cause: str) -> None:
        for consumer in self._consumers:
            consumer.accept_loss(topic, partition, cause)


def quarantine_of(settings: Settings, bus: EventBus, nonces: Nonces) -> Quarantine:
    def fetch(reference: Reference) -> MessageContent:
        # Imported where it is used: it loads the client library.
        from eventvault.kafka.fetching import fetch

        return fetch(settings, reference)

    return Quarantine(bus.using, lambda: _append_to(bus, nonces), fetch)


def consumers_of(
    settings: Settings, bus: EventBus, nonces: Nonces, monitor: KafkaMonitor, quarantine: Quarantine
) -> list[Consumer]:
    """Return the consumers that the bus starts once the database is open."""
    # Imported where it is used: a store without Kafka takes over sooner without the client library.
    from eventvault.kafka.consumer import EventsConsumer
    from eventvault.kafka.consuming import Sink

    def begin() -> Sink:
        append = _append_to(bus, nonces, from_kafka=True)

        def store(
            drafts: Sequence[EventDraft], metadata: Sequence[tuple[bytes, bytes]], letters: Sequence[DeadLetter]
        ) -> AppendResult:
            return quarantine.add(letters, lambda changes: append(drafts, [*metadata, *changes]))

        return store

    def metadata_of_kafka() -> dict[bytes, bytes]:
        with bus.using() as registry:
            return registry.scan_meta(keys.KAFKA)

    return [EventsConsumer(settings, begin=begin, load=metadata_of_kafka, monitor=monitor)]


def _append_to(bus: EventBus, nonces: Nonces, *, from_kafka: bool = False) -> Append:
    """Return a function that appends, but not to a later generation. from_kafka: the events are not published."""
    with bus.using() as registry:
        generation = registry.identity.generation

    def append(
        drafts: Sequence[EventDraft], changes: Sequence[Change], leaving: Sequence[Sequence[bytes]] = ()
    ) -> AppendResult:
        return bus.committer.append(
            AppendBatch(drafts, nonces.next(), changes, generation, from_kafka=from_kafka, leaving=leaving)
        )

    return append


def publisher_of(settings: Settings, bus: EventBus, nonces: Nonces, monitor: PublishMonitor) -> Consumer:
    """Return the publisher of the outbox; the bus starts and stops it as it does the consumers."""
    from eventvault.kafka.publish.publisher import Publisher

    return Publisher(settings, bus, nonces, monitor)
