"""Puts dead letters into the quarantine of a store, as its Kafka consumer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventvault.database.registry import AppendBatch
from eventvault.events.event import EventDraft
from eventvault.kafka import offsets
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.quarantine_format import DeadLetter
from eventvault.kafka.values import QuarantineFilter
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports.store import Store
from eventvault.store.service import StoreService

EVERYTHING = QuarantineFilter()
SENT = 1_767_225_600_123


def message(offset: int, value: bytes | None = b'{"id": "no type"}', **changed: Any) -> KafkaRecord:
    plain = KafkaRecord("events", 0, offset, SENT, b"key", value, [("h", b"v"), ("bytes", b"\xff")])
    return plain._replace(**changed)


def letter(
    offset: int, value: bytes | None = b'{"id": "no type"}', reason: str = "no type", **changed: Any
) -> DeadLetter:
    return DeadLetter(message(offset, value, **changed), reason)


def take_letters(service: StoreService, *letters: DeadLetter, drafts: Sequence[EventDraft] = ()) -> None:
    """Store events and dead letters, and that the partition was taken up to the last one."""
    last = letters[-1].message
    put = offsets.offset_put(last.topic, last.partition, StoredOffset(next=last.offset + 1))
    service.quarantine.add(
        letters,
        lambda changes: service.bus.committer.append(AppendBatch(drafts, last.offset.to_bytes(8), [put, *changes])),
    )


def put_letters(store: MemoryStore, *letters: DeadLetter) -> None:
    store.kafka_control.quarantine.add(letters, lambda changes: store.kafka_control.rows.append((), changes))


def ids_of(store: Store) -> list[str]:
    """What is in quarantine, the newest first."""
    return [entry.id for entry in store.list_quarantine(EVERYTHING, 1_000).messages]
