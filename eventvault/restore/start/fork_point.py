"""Finds the last event that the database shares with what was recorded of its generation, if the two differ after it.

A copy of the installation that is used elsewhere stores other events of the same generation and sequences. If its
database replaces ours, the last event that both have differs. A damaged file decides nothing.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import plyvel

from eventvault.backups.entry import BackupEntry
from eventvault.backups.heads import ArchiveHead
from eventvault.chores import Chores
from eventvault.database.generation import ROLLED_BACK, UNCHECKED, StoreIdentity, lineage
from eventvault.database.registry import EventRegistry
from eventvault.errors import (
    ArchiveUnreadable,
    BackupsUnavailable,
    Cancelled,
    DiskFailed,
    EventVaultError,
    JournalDamaged,
    JournalUnreadable,
    NoSpace,
    TooBusy,
)
from eventvault.events.event import RECORDED_TIME
from eventvault.restore.start.head_replay import unpacked_archive
from eventvault.restore.start.recorded import RecordedHistory
from eventvault.system_errors import text_of

log = logging.getLogger("BackupManager")


_FAILED = (OSError, DiskFailed, NoSpace, TooBusy, JournalUnreadable, ArchiveUnreadable, BackupsUnavailable)
"""Errors after which a generation begins unchecked: the next opening of the database compares again."""


class Fork(NamedTuple):
    """Why a generation begins, and the last event that it shares with the one before."""

    reason: str
    sequence: int


class _Named(NamedTuple):
    """A segment by its name. common: the last event that it and the database have."""

    common: int
    first: int
    path: Path


class ForkFinder:
    """Compares one event, and reads more only if that differs. storage_dir: where an archive is unpacked."""

    def __init__(self, storage_dir: Path, chores: Chores, history: RecordedHistory) -> None:
        self._storage_dir = storage_dir
        self._chores = chores
        self._history = history

    def find(self, registry: EventRegistry, heads: Mapping[str, ArchiveHead]) -> Fork | None:
        """Return the fork if the database has other events than were recorded, or if that is not known now; else None.

        heads: the furthest archive of each generation. A generation that began unchecked is compared with what was
        recorded of its parent, too. Raises Cancelled.
        """
        for generation, bound in _unchecked_lineage(registry.identity):
            last = min(bound, registry.last_sequence)
            try:
                shared = self._find(registry, generation, last, heads.get(generation))
            except Cancelled:
                raise
            except (OSError, EventVaultError, ValueError, plyvel.Error) as error:
                log.warning("could not compare the database with what was recorded of generation %s: %s",
                            generation, text_of(error))  # fmt: skip
                is_new = generation == registry.generation
                if is_new and isinstance(error, _FAILED) and not isinstance(error, plyvel.Error):
                    return Fork(UNCHECKED, registry.last_sequence)
                shared = None
            if shared is not None:
                return Fork(ROLLED_BACK, shared)
        return None

    def _find(self, registry: EventRegistry, generation: str, last: int, archive: ArchiveHead | None) -> int | None:
        """Return the last common event; None if no difference is found in the first `last` events."""
        floor = registry.identity.by_id()[generation].fork_sequence
        named = self._history.segments_named(generation)
        names = sorted(_Named(min(end, last), first, path) for first, end, path in named if first <= last)
        journaled = 0
        while names and not journaled:
            common = names[-1].common
            tied = [name for name in names if name.common == common]
            del names[-len(tied) :]
            verdicts = [self._agrees(registry, name) for name in tied]
            if True in verdicts:  # a segment that differs is of a copy whose journal was merged into this one
                journaled = common
            elif False in verdicts:
                differing = tied[verdicts.index(False)]
                return self._find_in_segments(registry, generation, names, differing, floor)
        if archive is None or not journaled < archive.sequence <= last:
            return None
        return self._find_in_archive(registry, archive, generation, journaled, floor)

    def _agrees(self, registry: EventRegistry, name: _Named) -> bool | None:
        """Return whether the last event that segment and database have is the same; None if that cannot be read."""
        lines = self._lines(name)
        return None if lines is None else lines[name.common - name.first] == registry.at(name.common)

    def _lines(self, name: _Named) -> list[bytes] | None:
        try:
            return self._history.lines_if_ours(name.path)
        except JournalUnreadable:
            raise
        except (JournalDamaged, FileNotFoundError) as error:  # a missing one has just been merged
            log.warning("the database is not compared with %s: %s", name.path, text_of(error))
            return None

    def _find_in_segments(
        self, registry: EventRegistry, generation: str, earlier: list[_Named], differing: _Named, floor: int
    ) -> int:
        """Return the last common event before that of `differing`. earlier: other segments, in order.

        floor: all events up to this one are the same.
        """
        low, high = 0, len(earlier)
        while low < high:
            middle = (low + high) // 2
            agrees = self._agrees(registry, earlier[middle])
            if agrees is None:
                del earlier[middle]
                high -= 1
            elif agrees:
                low = middle + 1
            else:
                high = middle
        shared = earlier[low - 1].common if low else floor
        name = earlier[low] if low < len(earlier) else differing
        log.error("%s has another event %s than the database", name.path, name.common)
        lines = self._lines(name)
        if lines is None:
            return shared
        first = max(name.first, shared + 1)
        last = _last_common(registry, first - 1, name.common, lambda sequence: lines[sequence - name.first])
        if last >= first or first == shared + 1:
            return last
        return self._find_before_segments(registry, generation, shared, first, lines[0])

    def _find_before_segments(
        self, registry: EventRegistry, generation: str, shared: int, first: int, line: bytes
    ) -> int:
        """Return the last common event, where no segment has the events between `shared` and `first`.

        line: the event `first` as a segment has it. An archive is read in their place: the shortest one that has this
        event, or that ends with another event than the database has. Returns `shared` if there is none.
        """
        try:
            archives = sorted(self._archives(registry, generation), key=lambda entry: entry.sequence or 0)
            for entry in archives:
                end = ArchiveHead(entry.sequence or 0, entry.name)
                if end.sequence <= shared or (end.sequence < first and self._ends_alike(registry, end)):
                    continue
                with self._unpacked(registry, entry) as archived:
                    if end.sequence < first or archived.at(first) == line:
                        return _last_common(registry, shared, min(first, end.sequence), archived.at)
                break
        except Cancelled:
            raise
        except (OSError, EventVaultError) as error:
            log.warning("could not find the last common event after event %s: %s", shared, text_of(error))
        return shared

    def _archives(self, registry: EventRegistry, generation: str) -> list[BackupEntry]:
        archives = self._history.sources(registry.identity).archives
        return [entry for entry in archives if entry.generation == generation and entry.is_ours]

    def _unpacked(self, registry: EventRegistry, entry: BackupEntry) -> AbstractContextManager[EventRegistry]:
        proof = self._history.proof()
        return unpacked_archive(self._storage_dir, self._chores, registry.identity, entry, proof)

    def _find_in_archive(
        self, registry: EventRegistry, archive: ArchiveHead, generation: str, journaled: int, floor: int
    ) -> int | None:
        """Return the last event that the database shares with an archive; None if no difference is found.

        journaled: the last event that the journal and the database share. An archive with another event there is of a
        copy itself.
        """
        if self._ends_alike(registry, archive):
            return None
        tied = {
            entry.name: entry for entry in self._archives(registry, generation) if entry.sequence == archive.sequence
        }
        others = (ArchiveHead(archive.sequence, name) for name in tied if name != archive.archive)
        if archive.archive not in tied or any(self._ends_alike(registry, other) for other in others):
            return None
        with self._unpacked(registry, tied[archive.archive]) as archived:
            same_journal = not journaled or archived.at(journaled) == registry.at(journaled)
            if not same_journal or archived.at(archive.sequence) == registry.at(archive.sequence):
                return None
            log.error("%s has another event %s than the database", archive.archive, archive.sequence)
            return _last_common(registry, max(journaled, floor), archive.sequence, archived.at)

    def _ends_alike(self, registry: EventRegistry, archive: ArchiveHead) -> bool:
        """Return whether the database's event has the recorded time of the archive's last one, by its manifest."""
        end = self._history.end_of(archive)
        return end is None or end.encode() == registry.at(archive.sequence)[RECORDED_TIME]


def _unchecked_lineage(identity: StoreIdentity) -> Iterator[tuple[str, int]]:
    """Yield the current generation and those that it continues without a comparison, each with its last event."""
    generations = identity.by_id()
    for generation, bound in lineage(generations, identity.generation):
        yield generation, bound
        if generations[generation].reason != UNCHECKED:
            return


def _last_common(registry: EventRegistry, shared: int, differing: int, recorded: Callable[[int], bytes]) -> int:
    """Return the last event that is as recorded, from `shared` on and before `differing`; all before it are, too."""
    candidates = range(shared + 1, differing)
    return shared + bisect_left(candidates, True, key=lambda sequence: recorded(sequence) != registry.at(sequence))
