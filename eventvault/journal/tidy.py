"""Merging and retention of segments on disk; `coverage` plans them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from eventvault import clock
from eventvault.backups.archive import reader
from eventvault.errors import EventVaultError, JournalDamaged
from eventvault.journal import coverage, segment
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import Segment
from eventvault.journal.writer import is_good
from eventvault.store.generation import NO_BOUND, StoreIdentity, lineage
from eventvault.store.interface import BackupEntry

log = logging.getLogger("BackupManager")


def tidy(
    folder: JournalFolder,
    entries: Sequence[BackupEntry],
    identity: StoreIdentity | None,
    go_on: Callable[[], bool] = lambda: True,
) -> tuple[int, int]:
    """Remove what the oldest kept archive makes needless, and merge small neighbours, as long as `go_on`.

    Returns how many segments were removed, and how many became part of another. Raises OSError or NoSpace.
    """
    if identity is None:
        return 0, 0
    removed = _remove(folder, entries, identity)
    merged = 0
    while go_on() and (run := coverage.plan_merge(folder.segments()[0])):
        if not merge(folder, run):
            break
        merged += len(run)
    return removed, merged


def merge(folder: JournalFolder, run: Sequence[Segment]) -> bool:
    """One segment in the place of several; they go once it is on disk and was read back. False where one is damaged."""
    try:
        lines = [line for each in run for line in segment.read_lines(each)]
        first, last = run[0].header, run[-1].header
        kafka = next((each.header.kafka for each in reversed(run) if each.header.kafka), {})
        about = msgspec.structs.replace(last, first=first.first, previous=first.previous, kafka=kafka,
                                        merged=sum(each.header.merged for each in run))  # fmt: skip
        written = segment.write_segment(run[0].path.parent, about, lines)
        if segment.read_lines(segment.read_header(written.path)) != lines:
            raise JournalDamaged(f"{written.path} was read back otherwise than it was written")
    except JournalDamaged as error:
        log.warning("BackupManager: segments were not merged: %s", error)
        return False
    folder.remove(run)
    return True


def _remove(folder: JournalFolder, entries: Sequence[BackupEntry], identity: StoreIdentity) -> int:
    """Retention follows the archives made here; while the oldest was not verified, nothing goes."""
    ours = sorted((entry for entry in entries if entry.origin == "created"), key=lambda entry: entry.created)
    if not ours or not is_good(ours[0]):
        return 0
    try:
        manifest = reader.read_manifest(folder.root.parent / ours[0].name)
    except (EventVaultError, OSError):
        return 0
    known = {generation.id: generation for generation in manifest.generations}
    holds = [
        (generation, min(bound, manifest.last_sequence)) for generation, bound in lineage(known, manifest.generation.id)
    ]
    since = clock.parse(manifest.last_time) if manifest.last_time else 0
    present = [(name, min(bound, NO_BOUND)) for name, bound in lineage(identity.by_id(), identity.generation)]
    gone = coverage.plan_removal(folder.segments()[0], holds, present, since)
    folder.remove(gone)
    return len(gone)
