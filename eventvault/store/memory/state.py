"""The state that the doubles share: the events of each generation, the archives, and the newest restore."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eventvault import clock
from eventvault.backups.entry import Check
from eventvault.database.values import AppendResult
from eventvault.events.event import indexed_of
from eventvault.restore.values import Restored, RestoredMoment
from eventvault.store.memory.archives import MemoryArchives
from eventvault.store.memory.undo import UndoList


class KeyedAppend(NamedTuple):
    """The answer to a request with an `Idempotency-Key`. at: in microseconds. events: all events of that time."""

    at: int
    content: str
    events: list[bytes]
    answer: AppendResult


class MemoryState:
    def __init__(self, folder: Path, now: clock.Clock) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified of appends and restores, and by tests that change `published`."""
        self.archives = MemoryArchives(folder, now)
        self.generation = secrets.token_hex(8)
        self.generations: dict[str, list[bytes]] = {self.generation: []}
        """The events of each generation that can be read."""
        self.forks: dict[str, int] = {}
        """The last sequence that an earlier generation shares with the current one."""
        self.published = 0
        """Set by tests: all events up to this sequence are published."""
        self.refused: tuple[int, ...] = ()
        """Set by tests: the sequences that Kafka refuses."""
        self.leases: Counter[str] = Counter()
        self.sequences: dict[tuple[str, str], int] = {}
        """(source, id) → sequence of each present event."""
        self.answers: defaultdict[bytes, list[KeyedAppend]] = defaultdict(list)
        """Id of a request → its answers in all generations."""
        self.undo_list = UndoList()
        self.staged: Restored | None = None
        self.last_restore: Restored | None = None

    @property
    def events(self) -> list[bytes]:
        """The events of the current generation."""
        return self.generations[self.generation]

    def begin_generation(
        self,
        events: list[bytes],
        source: str,
        began: int,
        checked: Check | None = None,
        *,
        proven: bool = True,
        reason: str = "restored",
        moment: RestoredMoment | None = None,
    ) -> Restored:
        undo = self.undo_list.push(self.generation, len(self.events), began, source, len(events), moment)
        common = common_length(self.events, events)
        self.forks = {generation: min(fork, common) for generation, fork in self.forks.items()}
        self.forks[self.generation] = common
        self.generation = secrets.token_hex(8)
        self.generations[self.generation] = events
        self.changed.notify_all()
        self.sequences = sequences_of(events)
        self.last_restore = Restored(
            source=source,
            at=began,
            events=len(events),
            not_json=0,
            duration=(self.now() - began) // 1000,
            generation=self.generation,
            undo=undo,
            notes=self._dropped(),
            checked=checked,
            proven=proven,
            reason=reason,
            moment=moment,
        )
        self.staged = None
        return self.last_restore

    def stage(self, events: list[bytes], source: str, checked: Check, *, proven: bool) -> Restored:
        self.staged = Restored(
            source=source,
            at=self.now(),
            events=len(events),
            not_json=0,
            duration=0,
            staged=True,
            notes=self._dropped(),
            checked=checked,
            proven=proven,
        )
        return self.staged

    def _dropped(self) -> list[str]:
        if self.staged is None:
            return []
        return [f"a restore of {self.staged.source} that was staged was dropped for this one"]


def sequences_of(events: Sequence[bytes]) -> dict[tuple[str, str], int]:
    indexed = map(indexed_of, events)
    return {(attributes.source, attributes.id): sequence for sequence, attributes in enumerate(indexed, 1)}


def common_length(one: list[bytes], other: list[bytes]) -> int:
    """Return how many events both have at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (old, new) in pairs if old != new), min(len(one), len(other)))
