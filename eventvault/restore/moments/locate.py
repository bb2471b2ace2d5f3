"""Locates a moment: what there is to restore from, and which event of which generation the moment means.

A moment is a state of the registry: the events 1 to some sequence of a generation.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from eventvault import clock
from eventvault.archive import reader
from eventvault.archive.proof import Proof
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.database.bus import EventBus
from eventvault.database.generation import Generation, StoreIdentity, last_common, lineage, oldest_first
from eventvault.database.registry import EventRegistry
from eventvault.errors import (
    ArchiveError,
    BackupNotFound,
    DatabaseDamaged,
    EventVaultError,
    MomentUnavailable,
    RestoreRunning,
)
from eventvault.events import event
from eventvault.journal import coverage
from eventvault.journal.folder import JournalFolder, JournalRecord, segment_of
from eventvault.journal.segment import Segment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.plan import Live, Plan, Sources, Target
from eventvault.restore.moments.replay import lines_of
from eventvault.restore.moments.unavailable import unavailable
from eventvault.restore.values import Moment

log = logging.getLogger("BackupManager")


class LiveWindow(NamedTuple):
    """The end of the open database, and what can be restored of it."""

    generation: str
    window: dict[str, Any]


class MomentLocator:
    """Safe to use from many threads. Methods may raise OSError, and BackupsUnavailable if BACKUP_DIR is missing."""

    def __init__(self, bus: EventBus, catalogue: Catalogue, journal: JournalFolder) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._journal = journal

    def find_sources(self, *, doubtful: bool = False, entries: Sequence[BackupEntry] | None = None) -> Sources:
        """Return all that can be restored from now. doubtful: including archives with a known problem.

        entries: the archives, if they were just listed.
        """
        live_identity, live = self._identity_and_live()
        segments, damaged = self._journal.segments()
        listed = self._catalogue.entries() if entries is None else entries
        entries = [entry for entry in listed if entry.generation and (doubtful or not entry.problem)]
        generations = self._own_generations(segments, entries, live_identity)
        own = generations.keys()
        others = [segment.header.generation for segment in segments]
        generations = {**{generation.id: generation for generation in others}, **generations}
        for entry in entries:
            if entry.generation not in generations:
                generations = {**self._generations_of(entry), **generations}
        lost = [segment_of(error)[1:] for error in damaged]
        return Sources(generations, entries, segments, live, tuple(lost), frozenset(generations.keys() - own))

    def _own_generations(
        self, segments: Sequence[Segment], entries: Sequence[BackupEntry], live: StoreIdentity | None
    ) -> dict[str, Generation]:
        """Return the generations of this installation's own files and of the open database, which counts most."""
        own = [segment.header.generation for segment in segments if self._is_own(segment)]
        generations = {generation.id: generation for generation in own}
        record = self.our_record()
        for identity in (record.registry if record else None, live):
            generations |= identity.by_id() if identity is not None else {}
        for entry in entries:
            if entry.is_ours and entry.generation not in generations:
                generations = {**self._generations_of(entry), **generations}
        return generations

    def _is_own(self, segment: Segment) -> bool:
        return segment.header.installation == self._catalogue.installation

    def proof(self) -> Proof:
        """Return what proves that an archive was made here."""
        return self._catalogue.proof()

    def identity(self) -> StoreIdentity | None:
        """Return the identity of the open database; if none is open, the one in the journal's record."""
        identity, _ = self._identity_and_live()
        record = self._journal.read_record()
        return identity or (record.registry if record else None)

    @property
    def installation(self) -> str:
        return self._catalogue.installation

    def our_record(self) -> JournalRecord | None:
        """Return the journal's record, if it is of this installation's registry."""
        record = self._journal.read_record()
        return record if record is not None and record.installation == self._catalogue.installation else None

    def only_ours(self, sources: Sources) -> Sources:
        """Return the segments and archives that this installation made; others may hold the same generations."""
        return plans.only_made_by(sources, self._catalogue.installation)

    def current_generation(self, sources: Sources) -> str | None:
        """Return the generation of the open database; if none is open, the last one of this installation's journal.

        Without the journal's record it is the newest generation that this installation made. Other installations do not
        count.
        """
        if sources.live is not None:
            return sources.live.generation
        record = self.our_record()
        if record is not None and record.registry.generation in sources.generations:
            return record.registry.generation
        ours = self.only_ours(sources)
        archived = [entry.generation for entry in ours.archives if entry.generation in sources.generations]
        candidates = {*archived, *(segment.generation for segment in ours.segments)}
        ordered = reversed(oldest_first(sources.generations.values()))
        return next((generation.id for generation in ordered if generation.id in candidates), None)

    def locate(self, moment: Moment, sources: Sources) -> Target:
        """Return the event that a moment ends with. Raises MomentUnavailable, with the window and the nearest moments.

        A moment without an event and an instant ends with the generation, whatever the clock says. Raises
        JournalDamaged for a segment that must be read, and RestoreRunning if the database was swapped meanwhile.
        """
        generation = moment.generation or self.current_generation(sources)
        if generation is None or generation not in sources.generations:
            raise self.unavailable(f"generation {generation} is not known, or was pruned", sources, None)
        reach = plans.last_reachable(sources, generation)
        if moment.sequence is not None:
            if not 0 <= moment.sequence <= reach:
                before = moment.sequence < 0
                raise self.unavailable(
                    f"event {moment.sequence} cannot be restored", sources, generation, before=before
                )
            return Target(generation=generation, sequence=moment.sequence)
        if moment.instant is None:
            target = Target(generation=generation, sequence=reach)
        else:
            target = self._locate_instant(generation, moment.instant, reach, sources)
        if target.sequence is not None:
            self.check_end(sources, generation, target.sequence)
        return target

    def plan_for(self, moment: Moment, sources: Sources) -> tuple[Plan, Sources]:
        """Return the plan for a moment, and the sources that it was made from. Errors as for `locate`.

        First choice: files that this installation made, because another one may continue a copy in the same generation
        with other events. Second: also archives that an operator trusts. Third, if neither reaches the moment: all.
        """
        for preferred in (self.only_ours(sources), plans.only_proven(sources)):
            with suppress(MomentUnavailable):
                return self._find_plan(self.locate(moment, preferred), preferred), preferred
        return self._find_plan(self.locate(moment, sources), sources), sources

    def check_end(self, sources: Sources, generation: str, sequence: int) -> None:
        """Raise MomentUnavailable if the instant that led to event `sequence` may have had later events.

        That is so if `sequence` is the last event that can be restored, and its successors are lost: in a gap of the
        journal, before a later fork, or after the fork of a previous generation of which nothing else is there.
        """
        reach = plans.last_reachable(sources, generation)
        if sequence < reach:
            return
        if plans.has_gap_after(sources, generation, reach):
            raise self.unavailable("that moment is in a gap of the journal", sources, generation)
        if plans.had_more_than(sources.generations, generation, reach):
            raise self.unavailable(f"the events after event {reach}, up to that moment, are lost", sources, generation)
        current = self.current_generation(sources)
        if current is not None and plans.end_is_unknown(sources, generation, current, reach):
            raise self.unavailable(
                f"no file has events of generation {generation} after event {reach}, and a restore has replaced it",
                sources,
                generation,
            )

    def time_of(self, sources: Sources, generation: str, sequence: int) -> int | None:
        """Return when an event was recorded; None if only the inside of a segment or an archive tells it.

        Sequence 0: when the lineage began, or its first event if that is older, as replayed and imported events are.
        """
        line = lineage(sources.generations, generation)
        if sequence == 0:
            began = sources.generations[line[-1][0]].at
            return min(began, self.time_of(sources, generation, 1) or began)
        live = sources.live
        if live and sequence <= _last_in_live(live, sources, generation):
            with suppress(DatabaseDamaged), self._open(live) as registry:
                return event.recorded_of(registry.at(sequence))
        for first, _, segment in coverage.in_lineage(sources.segments, line):
            if sequence in (first, segment.last):
                return segment.last_time if sequence == segment.last else segment.first_time
        return None

    def live_window(self) -> LiveWindow | None:
        """Return the current generation with its window; None if no database is open."""
        try:
            with self._bus.using() as registry:
                return LiveWindow(registry.identity.generation, window_of(registry))
        except EventVaultError:
            return None

    def describe_window(self, sources: Sources, generation: str) -> dict[str, Any]:
        """Return {oldest, newest}, each {time, sequence}: every moment between them can be restored."""
        reach = plans.last_reachable(sources, generation)
        return {
            "oldest": self.describe_moment(sources, generation, 0),
            "newest": self.describe_moment(sources, generation, reach),
        }

    def unavailable(
        self, why: str, sources: Sources, generation: str | None, *, before: bool = False
    ) -> MomentUnavailable:
        """Return the error for a moment. before: it is before everything that can be restored."""
        asked = generation or self.current_generation(sources)
        if asked is None:
            return MomentUnavailable(why, hint="there is neither an archive nor a journal", window=None, nearest=[])
        hint = "choose a moment of the window; GET /api/backup/timeline shows them all"
        return unavailable(why, hint=hint, generation=asked, window=self.describe_window(sources, asked), before=before)

    def _find_plan(self, target: Target, sources: Sources) -> Plan:
        """Return the best plan. Raises MomentUnavailable if the sources do not suffice."""
        best = plans.find_plan(sources, target)
        if best is None:
            raise self.unavailable("the archives and segments of that time do not suffice", sources, target.generation)
        return best

    def describe_moment(self, sources: Sources, generation: str, sequence: int) -> dict[str, Any]:
        """Return {time, sequence} of an event."""
        instant = self.time_of(sources, generation, sequence)
        return {"time": clock.optional_microseconds(instant), "sequence": sequence}

    def _identity_and_live(self) -> tuple[StoreIdentity | None, Live | None]:
        try:
            with self._bus.using() as registry:
                return registry.identity, Live(registry.identity.generation, registry.last_sequence)
        except EventVaultError:
            return None, None

    @contextmanager
    def _open(self, live: Live) -> Iterator[EventRegistry]:
        """Yield the open database. Raises RestoreRunning if it is not `live` any more."""
        with self._bus.using() as registry:
            check_unchanged(live, registry)
            yield registry

    def _generations_of(self, entry: BackupEntry) -> dict[str, Generation]:
        try:
            generations = reader.read_manifest(Path(entry.path)).generations
        except (ArchiveError, BackupNotFound, OSError):
            return {}
        return {generation.id: generation for generation in generations}

    def _locate_instant(self, generation: str, instant: int, reach: int, sources: Sources) -> Target:
        oldest = self.time_of(sources, generation, 0)
        newest = self.time_of(sources, generation, reach)
        if instant < min(filter(None, (oldest, newest))):
            raise self.unavailable("that moment is before the registry began", sources, generation, before=True)
        if instant > max(clock.now(), newest or 0):
            raise self.unavailable("that moment is in the future", sources, generation)
        live = sources.live
        upto = _last_in_live(live, sources, generation) if live else 0
        sequence = self._count_recorded_by(live, instant, upto) if live is not None and upto else 0
        if sequence is not None and sequence < upto:
            return Target(generation=generation, sequence=sequence)
        return self._locate_in_segments(generation, instant, reach, sources, sequence or 0)

    def _count_recorded_by(self, live: Live, instant: int, upto: int) -> int | None:
        """Return how many of the first `upto` events were recorded by `instant`; None if the database is damaged there.

        A damaged database is when a restore is needed most; the journal and the archives can tell it too.
        """
        try:
            with self._open(live) as registry:
                return registry.first_recorded_at_or_after(instant + 1, upto) - 1
        except DatabaseDamaged as error:
            log.warning("the moment is located without the open database: %s", error)
            return None

    def _locate_in_segments(self, generation: str, instant: int, reach: int, sources: Sources, recorded: int) -> Target:
        """Return the event if the instant lies within or right after a segment; else only an archive can tell it.

        recorded: how many events of the open database were recorded by the instant.
        """
        line = lineage(sources.generations, generation)
        ranges = [entry for entry in coverage.in_lineage(sources.segments, line) if entry[0] <= reach]
        begun = [entry for entry in ranges if entry[1] > recorded and entry[2].first_time <= instant]
        last = recorded
        if begun:
            first, last, newest = max(begun, key=lambda entry: entry[1])
            lines = lines_of(newest)[first - newest.first : last - newest.first + 1]
            recorded = first - 1 + bisect.bisect_right(lines, instant, key=event.recorded_of)
        if recorded < last or recorded >= reach or any(entry[0] == recorded + 1 for entry in ranges):
            return Target(generation=generation, sequence=min(recorded, reach))
        return Target(generation=generation, instant=instant)


def window_of(registry: EventRegistry) -> dict[str, Any]:
    """Return the window of the current generation: every moment of it is a prefix of the open database.

    Replayed and imported events are older than their generation.
    """
    identity = registry.identity
    born = identity.origin_time(identity.generation)
    oldest, newest = min(born, registry.first_recorded or born), registry.last_recorded or born
    return {
        "oldest": {"time": clock.format_microseconds(min(oldest, newest)), "sequence": 0},
        "newest": {"time": clock.format_microseconds(newest), "sequence": registry.last_sequence},
    }


def check_unchanged(live: Live, registry: EventRegistry | None) -> None:
    """Raise RestoreRunning if the open database is not the one that `live` describes."""
    if registry is None or registry.identity.generation != live.generation or registry.last_sequence < live.sequence:
        raise RestoreRunning("a restore replaced the database meanwhile", hint="check the current state and ask again")


def _last_in_live(live: Live, sources: Sources, generation: str) -> int:
    """Return the last event of a generation that the open database holds."""
    return min(live.sequence, last_common(sources.generations, live.generation, generation))
