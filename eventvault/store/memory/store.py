"""The in-memory double of the store: the contract of the ports, without LevelDB and without a process."""

from __future__ import annotations

from pathlib import Path

from eventvault import clock
from eventvault.audit.deeds import Deeds
from eventvault.operations.registry import OperationRegistry
from eventvault.past.exports import Exports
from eventvault.store.composed import ComposedStore
from eventvault.store.memory.audit import MemoryAudit
from eventvault.store.memory.backups import MemoryBackups
from eventvault.store.memory.event_log import MemoryEventLog
from eventvault.store.memory.health import MemoryHealth
from eventvault.store.memory.kafka_control import MemoryKafkaControl
from eventvault.store.memory.notifications import MemoryNotifications
from eventvault.store.memory.past_reader import MemoryPastReader
from eventvault.store.memory.problems import MemoryProblems
from eventvault.store.memory.rehearsals import MemoryRehearsals
from eventvault.store.memory.restores import MemoryRestores
from eventvault.store.memory.state import MemoryState
from eventvault.store.owners.operations import OperationsOwner


class MemoryStore(ComposedStore):
    """folder: where the archives are written; it must exist. now: the clock, in microseconds."""

    def __init__(self, folder: Path, now: clock.Clock = clock.now) -> None:
        self.state = MemoryState(folder, now)
        self.problems = MemoryProblems()
        self.notifications = MemoryNotifications()
        event_log = MemoryEventLog(self.state)
        self.kafka_control = MemoryKafkaControl(event_log)
        registry = OperationRegistry(None, now)
        audit = MemoryAudit()
        registry.deeds = Deeds(audit.note_deed)
        super().__init__(
            registry,
            event_log,
            MemoryBackups(self.state),
            MemoryRestores(self.state),
            MemoryRehearsals(self.state),
            MemoryPastReader(self.state, event_log, Exports(folder, event_log, registry.state_of, now)),
            self.kafka_control,
            self.problems,
            self.notifications,
            OperationsOwner(registry),
            audit,
            MemoryHealth(self.state, self.problems),
        )
