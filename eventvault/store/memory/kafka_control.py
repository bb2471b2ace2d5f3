"""The double of the Kafka control: the partitions that a test calls stopped, and a quarantine in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eventvault.database.values import AppendResult
from eventvault.errors import PartitionNotStopped, TopicNotNamed
from eventvault.events.event import EventDraft
from eventvault.kafka.quarantine import Change, Quarantine, check_count
from eventvault.kafka.values import (
    MessageContent,
    Mode,
    QuarantinedMessage,
    QuarantineFilter,
    QuarantinePage,
    Reference,
    Replayed,
)
from eventvault.store.memory.event_log import MemoryEventLog
from eventvault.store.ports.kafka_control import KafkaControl


class MemoryRows:
    """Keys and values in order. fetched: the messages that a test puts into Kafka."""

    generation = "0" * 16

    def __init__(self, event_log: MemoryEventLog) -> None:
        self.fetched: dict[Reference, MessageContent] = {}
        self._by_key: dict[bytes, bytes] = {}
        self._event_log = event_log

    def get_value(self, key: bytes) -> bytes | None:
        return self._by_key.get(key)

    @contextmanager
    def rows(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        yield iter(sorted(((k, v) for k, v in self._by_key.items() if start < k < stop), reverse=reverse))

    def append(
        self, drafts: Sequence[EventDraft], changes: Sequence[Change], leaving: Sequence[Sequence[bytes]] = ()
    ) -> AppendResult:
        result = self._event_log.append(drafts)
        pairs = zip(leaving, result.results, strict=False)
        removed = [key for keys, appended in pairs if not appended.differs for key in keys]
        for key, value in [*changes, *((key, None) for key in removed)]:
            if value is None:
                self._by_key.pop(key, None)
            else:
                self._by_key[key] = value
        return result

    @contextmanager
    def using(self) -> Iterator[MemoryRows]:
        yield self


class MemoryKafkaControl(KafkaControl):
    """topics: those that events are consumed from. stopped_partitions: (topic, number)."""

    def __init__(self, event_log: MemoryEventLog) -> None:
        self.rows = MemoryRows(event_log)
        self.quarantine = Quarantine(self.rows.using, lambda: self.rows.append, self.rows.fetched.__getitem__)
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

    def list_quarantine(self, wanted: QuarantineFilter, limit: int, before: str | None = None) -> QuarantinePage:
        return self.quarantine.page(wanted, limit, before)

    def quarantined_message(self, message_id: str) -> QuarantinedMessage:
        return self.quarantine.message(message_id)

    def replay_quarantined(self, ids: Sequence[str], mode: Mode | None = None) -> list[Replayed]:
        return self.quarantine.replay(ids, mode)

    def drop_quarantined(self, wanted: QuarantineFilter, count: int | None = None) -> int:
        selection = self.quarantine.select(wanted)
        check_count(selection.count, count)
        return self.quarantine.drop(wanted, selection)
