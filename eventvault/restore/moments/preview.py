"""Describes a restore without doing it: its sources, duration, room on disk, and the events that it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.event_types import count_types
from eventvault.database.generation import last_common
from eventvault.database.registry import EventRegistry
from eventvault.database.values import TypesQuery
from eventvault.errors import ArchiveDamaged, ArchiveError, DatabaseDamaged
from eventvault.files import free_bytes
from eventvault.kafka import quarantine_format
from eventvault.kafka.offsets import Offsets
from eventvault.kafka.replayable import ArchivedOffsets
from eventvault.restore import estimate
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.offsets_of_moment import live_offsets, read_again_from
from eventvault.restore.moments.plan import Plan, Sources, Target
from eventvault.restore.swap import undo
from eventvault.restore.swap.previous import list_previous
from eventvault.restore.values import Moment
from eventvault.settings import Settings

MOST_TYPES = 5
"""Types of the events that a restore replaces, in its plan."""


class RestorePreview:
    """Describes restores of archives and moments. Builds and changes nothing."""

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        catalogue: Catalogue,
        locator: MomentLocator,
        moments: MomentBuilder,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._locator = locator
        self._moments = moments

    def describe(self, wanted: Moment | str) -> dict[str, Any]:
        """See `eventvault.store.ports.restores.Restores.plan_restore`. wanted: a moment, or the name of an archive."""
        if isinstance(wanted, str):
            entry = self._catalogue.entry(wanted)
            check_entry(entry)
            sources = self._locator.find_sources()
            plan, common = self._plan_archive(entry, sources)
        else:
            planned = self._moments.plan(wanted)
            plan, sources = planned.plan, planned.sources
            common = self._common(plan.target, sources)
        offsets = _offsets_of(entry) if isinstance(wanted, str) else None
        size, needed = self._moments.bytes_to_read(plan), self._moments.disk_needed(plan)
        sequence = plan.target.sequence
        instant = None if sequence is None else self._locator.time_of(sources, plan.target.generation, sequence)
        return {
            "generation": plan.target.generation or None,
            "sequence": sequence,
            "time": clock.optional_microseconds(instant),
            "archive": plan.archive.name if plan.archive else None,
            "checked": plan.archive.check_to_restore if plan.archive else "records",
            "proven": plan.archive is None or plan.archive.origin_proven,
            "segments": [segment.path.name for segment in plan.segments],
            "presentDatabase": plan.live,
            "bytesToRead": size,
            "diskNeeded": needed,
            "diskFree": free_bytes(self._settings.storage_dir),
            "predictedSeconds": estimate.predict(estimate.read_durations(self._settings.storage_dir), size),
            **self._replaced_events(common),
            "quarantineLeaves": 0 if offsets is None else self._leaving_quarantine(offsets),
            "undo": self._undo(),
        }

    def offsets_at(self, wanted: Moment | str) -> ArchivedOffsets | None:
        """Return how far an archive, or a moment, goes in Kafka; None if that is not known."""
        if isinstance(wanted, str):
            return self._offsets_of(self._catalogue.entry(wanted))
        planned = self._moments.plan(wanted)
        plan, sources, sequence = planned.plan, planned.sources, planned.plan.target.sequence
        if sequence is None:
            return None
        of_archive = None if plan.archive is None else self._offsets_of(plan.archive)
        archived: Offsets = {} if of_archive is None else of_archive.as_offsets()
        live = live_offsets(self._bus)
        return ArchivedOffsets.of_registry(
            read_again_from(plan, sources, sequence, based=archived, archived=archived, live=live)
        )

    def _offsets_of(self, entry: BackupEntry) -> ArchivedOffsets | None:
        catalogued = self._catalogue.offsets_of(entry.name)
        path = Path(entry.path)
        if catalogued is not None or reader.kind(path) != "own":
            return catalogued
        manifest = reader.read_manifest(path)  # it was entered by an earlier version
        return ArchivedOffsets.of(manifest.kafka, manifest.kafka_topics)

    def _plan_archive(self, entry: BackupEntry, sources: Sources) -> tuple[Plan, int]:
        """Return the plan for a named archive, and how many of the live events the archive holds."""
        is_known = entry.generation is not None and entry.generation in sources.generations
        target = Target(generation=entry.generation or "", sequence=entry.sequence)
        # Nothing of what an archive claims about its generation counts before that is proven.
        common = self._common(target, sources) if is_known and entry.origin_proven else 0
        return Plan(target=target, archive=entry, base=entry.sequence or 0), common

    def _common(self, target: Target, sources: Sources) -> int:
        """Return the last live event that the target has too."""
        if sources.live is None:
            return 0
        shared = last_common(sources.generations, target.generation, sources.live.generation)
        return min(shared, sources.live.sequence if target.sequence is None else target.sequence)

    def _leaving_quarantine(self, offsets: Mapping[str, Mapping[str, int]]) -> int:
        """Return how many messages leave the quarantine: those after the offsets of an archive, which lacks them."""
        if self._bus.registry is None:
            return 0
        try:
            with self._bus.using() as registry:
                listed = registry.scan_meta(keys.QUARANTINE_LIST)
        except DatabaseDamaged:
            return 0
        return quarantine_format.count_at_or_after((quarantine_format.read_list_key(key)[1] for key in listed), offsets)

    def _undo(self) -> dict[str, Any]:
        """Return whether the live database stays for an undo, and which previous ones the next backup removes then."""
        keep, previous = self._settings.keep_undo, list_previous(self._settings.storage_dir)
        staying = [database for database in previous if not database.undone][: max(0, keep - 1)]
        return {"kept": keep > 0, "drops": [database.name for database in previous if database not in staying]}

    def _replaced_events(self, common: int) -> dict[str, Any]:
        if self._bus.registry is None:
            nothing = {"eventsLeftBehind": 0, "firstLeftBehind": None, "lastLeftBehind": None, "lastKept": None}
            return {**nothing, "types": [], "typesComplete": False}
        with self._bus.using() as registry:
            replaced, last_common_event = undo.replaced_events(registry, common), undo.event_at(registry, common)
            types, are_all = _types_after(registry, common)
        return {
            "lastKept": last_common_event,
            "types": types,
            "typesComplete": are_all,
            "eventsLeftBehind": replaced.count,
            "firstLeftBehind": replaced.first,
            "lastLeftBehind": replaced.last,
        }


def _types_after(registry: EventRegistry, sequence: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the most frequent types of the later events, and whether all events were counted. It is only shown."""
    try:
        counted = count_types(registry, TypesQuery(after=sequence, limit=MOST_TYPES))
    except (plyvel.Error, DatabaseDamaged):
        return [], False
    return [{"type": count.type, "events": count.events} for count in counted.types], counted.complete


def _offsets_of(entry: BackupEntry) -> Mapping[str, Mapping[str, int]]:
    """Return the next offsets in the manifest of an archive; none if it is not one of ours."""
    path = Path(entry.path)
    try:
        return msgspec.convert(reader.read_manifest(path).kafka, dict[str, dict[str, int]])
    except (ArchiveError, msgspec.ValidationError):
        return {}


def check_entry(entry: BackupEntry) -> None:
    """Raise the ArchiveError that a restore would, as far as the manifest and earlier checks tell."""
    path = Path(entry.path)
    if reader.kind(path) == "own":
        reader.read_manifest(path)
    if entry.problem is not None:
        raise ArchiveDamaged(
            entry.problem, hint="restore another archive; POST /api/backup/<name>/verify checks this one again"
        )
