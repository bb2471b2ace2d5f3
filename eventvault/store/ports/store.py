"""The whole store: all of its ports in one.

`eventvault.store.service.StoreService` implements it in the process that owns the database,
`eventvault.store.rpc.client.StoreClient` over `STORAGE_DIR/store.sock`, `eventvault.store.memory.store.MemoryStore` in
memory; the contract tests run against all three.
"""

from __future__ import annotations

from typing import Protocol

from eventvault.store.ports.audit import Audit
from eventvault.store.ports.backups import Backups
from eventvault.store.ports.event_log import EventLog
from eventvault.store.ports.health import Health
from eventvault.store.ports.kafka_control import KafkaControl
from eventvault.store.ports.notifications import Notifications
from eventvault.store.ports.operations import Operations
from eventvault.store.ports.past_reader import PastReader
from eventvault.store.ports.problems import Problems
from eventvault.store.ports.rehearsals import Rehearsals
from eventvault.store.ports.restores import Restores


class Store(
    EventLog,
    Backups,
    Restores,
    Rehearsals,
    PastReader,
    KafkaControl,
    Problems,
    Notifications,
    Operations,
    Audit,
    Health,
    Protocol,
):
    """Safe to use from many threads. Methods may raise StoreUnavailable, StoreRestoring or a DatabaseError."""
