"""Merging and retention of segments on disk; `coverage` plans them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, StoreIdentity, lineage
from eventvault.errors import EventVaultError, JournalDamaged
from eventvault.journal import coverage, segment
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import Segment
from eventvault.journal.writer import is_good

log = logging.getLogger("BackupManager")

REMOVALS_PER_STEP = 100


class Compaction:
    """Removes what the oldest kept archive makes needless, and merges small neighbours, step by step.

    installation: whose segments; those of others were put there by hand and stay as they are. go_on: is asked before
    each step, which reads and writes no more than one merged segment.
    """

    def __init__(self, folder: JournalFolder, installation: str, go_on: Callable[[], bool] = lambda: True) -> None:
        self.removed = 0
        self.merged = 0
        """How many segments became part of another."""
        self._folder = folder
        self._installation = installation
        self._go_on = go_on

    def run(self, entries: Sequence[BackupEntry], identity: StoreIdentity) -> bool:
        """Whether all was done. Raises OSError or NoSpace."""
        steps = self._steps(entries, identity)
        while self._go_on():
            if next(steps, None) is None:
                return True
        return False

    def _steps(self, entries: Sequence[BackupEntry], identity: StoreIdentity) -> Iterator[bool]:
        ours = self._folder.segments_of(self._installation)
        yield from self._remove(_find_unneeded(self._folder, ours, entries, identity))
        yield from self._merge(self._folder.segments_of(self._installation))

    def _remove(self, gone: Sequence[Segment]) -> Iterator[bool]:
        for start in range(0, len(gone), REMOVALS_PER_STEP):
            some = gone[start : start + REMOVALS_PER_STEP]
            self._folder.remove(some)
            self.removed += len(some)
            yield True

    def _merge(self, there: list[Segment]) -> Iterator[bool]:
        """One that is damaged is set aside: the next survey finds that its events are missing."""
        while run := coverage.plan_merge(there):
            place = there.index(run[0])
            try:
                there[place : place + len(run)] = [merge(self._folder, run)]
                self.merged += len(run)
            except JournalDamaged as error:
                log.warning("segments were not merged: %s", error)
                self._folder.quarantine(error)
                del there[place : place + len(run)]
            yield True


def merge(folder: JournalFolder, run: Sequence[Segment]) -> Segment:
    """One segment in the place of several; they go once it is on disk and was read back.

    Raises JournalDamaged where one is damaged; then they stay.
    """
    lines = [line for each in run for line in segment.read_lines(each)]
    first, last = run[0].header, run[-1].header
    kafka = next((each.header.kafka for each in reversed(run) if each.header.kafka), {})
    about = msgspec.structs.replace(last, first=first.first, previous=first.previous, kafka=kafka,
                                    merged=sum(each.header.merged for each in run))  # fmt: skip
    written = segment.write_segment(run[0].path.parent, about, lines)
    try:
        good = segment.read_lines(segment.read_header(written.path)) == lines
    except JournalDamaged:
        good = False
    if not good:
        folder.remove([written])
        raise JournalDamaged(f"{written.path} was read back otherwise than it was written", segment=str(written.path))
    folder.remove(run)
    return written


def _find_unneeded(
    folder: JournalFolder, segments: Sequence[Segment], entries: Sequence[BackupEntry], identity: StoreIdentity
) -> list[Segment]:
    """Retention follows the archives made here; while the oldest was not verified, nothing goes."""
    ours = sorted((entry for entry in entries if entry.origin == "created"), key=lambda entry: entry.created)
    if not ours or not is_good(ours[0]):
        return []
    known = identity.by_id()
    good = [entry for entry in ours if is_good(entry) and entry.generation in known]
    try:
        manifests = [
            reader.read_manifest(folder.root.parent / name) for name in {ours[0].name, *_earliest(good, known)}
        ]
    except (EventVaultError, OSError):
        return []
    present = lineage(known, identity.generation)
    needless = list(segments)
    quarantined = folder.quarantined()
    for manifest in manifests:
        holds = _bounds_in_archive(
            {each.id: each for each in manifest.generations}, manifest.generation.id, manifest.last_sequence
        )
        since = clock.parse(manifest.last_time) if manifest.last_time else 0
        needless = coverage.plan_removal(needless, holds.items(), present, since)
        quarantined = [each for each in quarantined if each.last <= holds.get(each.generation, 0)]
    folder.remove(quarantined)
    return needless


def _earliest(archives: Sequence[BackupEntry], known: Mapping[str, Generation]) -> Iterator[str]:
    """Names of those that hold less than any other: one of each branch. A clock that was set back does not matter."""
    by_sequence = sorted(archives, key=lambda each: each.sequence or 0, reverse=True)
    first = {each.generation or "": each for each in by_sequence}  # of a generation the last one put there is the first
    holds = {each.name: _bounds_in_archive(known, generation, each.sequence or 0) for generation, each in first.items()}
    for name, mine in holds.items():
        others = (other for other in holds.values() if other != mine)
        if not any(all(bound <= mine.get(each, 0) for each, bound in other.items()) for other in others):
            yield name


def _bounds_in_archive(known: Mapping[str, Generation], generation: str, last: int) -> dict[str, int]:
    """Generation → the last of its events in an archive of that generation that ends at `last`."""
    return {each: min(bound, last) for each, bound in lineage(known, generation)}
