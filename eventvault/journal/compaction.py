"""Compaction: merges segments, and removes the ones that retention does not need. `coverage` plans both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, StoreIdentity, lineage
from eventvault.database.outbox import joined, within
from eventvault.errors import EventVaultError, JournalDamaged
from eventvault.journal import coverage, segment
from eventvault.journal.folder import JournalFolder, JournalRecord, QuarantinedSegment
from eventvault.journal.segment import Segment, published_of
from eventvault.journal.writer import is_good

log = logging.getLogger("BackupManager")

REMOVALS_PER_STEP = 100


class Compaction:
    """Removes segments that the oldest archive makes unnecessary, and merges small neighbours, step by step.

    installation: the owner of the segments; other installations' segments were copied in and stay. go_on: called before
    each step, which reads and writes at most one merged segment.
    """

    def __init__(self, folder: JournalFolder, installation: str, go_on: Callable[[], bool] = lambda: True) -> None:
        self.removed = 0
        self.merged = 0
        """How many segments were merged into others."""
        self._folder = folder
        self._installation = installation
        self._go_on = go_on

    def run(self, entries: Sequence[BackupEntry], identity: StoreIdentity) -> bool:
        """Return True if all steps were done. Raises OSError or NoSpace."""
        steps = self._steps(entries, identity)
        while self._go_on():
            if next(steps, None) is None:
                return True
        return False

    def _steps(self, entries: Sequence[BackupEntry], identity: StoreIdentity) -> Iterator[bool]:
        ours = self._folder.segments_of(self._installation)
        unneeded = find_unneeded(self._folder, ours, entries, identity)
        self._folder.remove(unneeded.quarantined)
        yield from self._remove(unneeded.segments)
        yield from self._merge(self._folder.segments_of(self._installation))

    def _remove(self, unneeded: Sequence[Segment]) -> Iterator[bool]:
        for start in range(0, len(unneeded), REMOVALS_PER_STEP):
            batch = unneeded[start : start + REMOVALS_PER_STEP]
            self._folder.remove(batch)
            self.removed += len(batch)
            yield True

    def _merge(self, segments: list[Segment]) -> Iterator[bool]:
        """Merge runs; a damaged segment is quarantined, and the next survey finds its events missing."""
        while run := coverage.plan_merge(segments):
            start = segments.index(run[0])
            try:
                segments[start : start + len(run)] = [merge(self._folder, run)]
                self.merged += len(run)
            except JournalDamaged as error:
                log.warning("segments were not merged: %s", error)
                self._folder.quarantine(error)
                del segments[start : start + len(run)]
            yield True


def merge(folder: JournalFolder, run: Sequence[Segment]) -> Segment:
    """Replace segments by one, once that was read back. Raises JournalDamaged if one is damaged; then all stay."""
    contents = [segment.read_content(source) for source in run]
    lines = [line for content in contents for line in content.lines]
    answers = [answer for content in contents for answer in content.answers]
    first, last = run[0].header, run[-1].header
    published = published_of(source.header for source in run)
    runs = (run for content in contents for run in content.pending)
    pending = joined(within(runs, published or 0, last.last))
    kafka = next((source.header.kafka for source in reversed(run) if source.header.kafka), {})
    info = msgspec.structs.replace(last, first=first.first, previous=first.previous, kafka=kafka,
                                    published=msgspec.UNSET if published is None else published,
                                    merged=sum(source.header.merged for source in run))  # fmt: skip
    written = segment.write_segment(run[0].path.parent, info, lines, answers, pending)
    try:
        good = segment.read_content(segment.read_header(written.path)) == (lines, answers, pending)
    except JournalDamaged:
        good = False
    if not good:
        folder.remove([written])
        raise JournalDamaged(f"{written.path} has other bytes on disk than were written", segment=str(written.path))
    folder.remove(run)
    return written


class Unneeded(NamedTuple):
    """The segments that may be removed, and the quarantined ones."""

    segments: Sequence[Segment] = ()
    quarantined: Sequence[QuarantinedSegment] = ()


def find_unneeded(
    folder: JournalFolder, segments: Sequence[Segment], entries: Sequence[BackupEntry], identity: StoreIdentity
) -> Unneeded:
    """Return what the archives made here make unnecessary; nothing until the oldest archive is verified.

    A segment with events that wait to be published stays: a restore may take them out of the registry, and after a
    loss of `storage/` only the journal has them.
    """
    ours = sorted((entry for entry in entries if entry.origin == "created"), key=lambda entry: entry.created)
    if not ours or not is_good(ours[0]):
        return Unneeded()
    generations = identity.by_id()
    good = [entry for entry in ours if is_good(entry) and entry.generation in generations]
    try:
        manifests = [
            reader.read_manifest(folder.root.parent / name) for name in {ours[0].name, *_earliest(good, generations)}
        ]
    except (EventVaultError, OSError):
        return Unneeded()
    current = lineage(generations, identity.generation)
    record, bounds = folder.read_record(), dict(current)
    if record is not None and record.registry.generation != identity.generation:
        record = None  # a restore came in between; the next survey writes it
    unneeded = [source for source in segments if not _may_be_unpublished(source, record, bounds)]
    quarantined = list(folder.quarantined())
    for manifest in manifests:
        holds = _bounds_in_archive(
            {generation.id: generation for generation in manifest.generations},
            manifest.generation.id,
            manifest.last_sequence,
        )
        since = clock.parse(manifest.last_time) if manifest.last_time else 0
        unneeded = coverage.plan_removal(unneeded, holds.items(), current, since)
        quarantined = [damaged for damaged in quarantined if damaged.last <= holds.get(damaged.generation, 0)]
    return Unneeded(unneeded, quarantined)


def _may_be_unpublished(source: Segment, record: JournalRecord | None, bounds: Mapping[str, int]) -> bool:
    """Return whether events of a segment may still wait to be published.

    record: the journal's record of the current generation; None if it has none yet. bounds: of the current lineage.
    """
    if not source.header.has_outbox or record is None:
        return source.header.has_outbox
    bound = bounds.get(source.generation, 0)
    last = min(source.last, bound)
    if source.first <= last and isinstance(record.published, int) and record.published < last:
        return True
    since = record.waiting_since
    return source.last > bound and isinstance(since, int) and source.last_time >= since


def _earliest(archives: Sequence[BackupEntry], generations: Mapping[str, Generation]) -> Iterator[str]:
    """Yield the archives that hold the least, one for every branch, by sequence and not by the clock."""
    by_sequence = sorted(archives, key=lambda archive: archive.sequence or 0, reverse=True)
    first = {archive.generation or "": archive for archive in by_sequence}  # the lowest sequence of a generation wins
    holds = {
        archive.name: _bounds_in_archive(generations, generation, archive.sequence or 0)
        for generation, archive in first.items()
    }
    for name, mine in holds.items():
        others = (other for other in holds.values() if other != mine)
        if not any(all(bound <= mine.get(generation, 0) for generation, bound in other.items()) for other in others):
            yield name


def _bounds_in_archive(generations: Mapping[str, Generation], generation: str, last: int) -> dict[str, int]:
    """Return generation → its last event in an archive of `generation` that ends at `last`."""
    return {ancestor: min(bound, last) for ancestor, bound in lineage(generations, generation)}
