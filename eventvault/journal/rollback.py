"""Detects that an old copy of `storage/` was put back: archives or journal hold events beyond the database's last one.

New events must not get sequences that those events have in the same generation: they would count as archived already.
So a new generation begins where the database ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups.catalogue import Catalogue
from eventvault.database.generation import Generation
from eventvault.database.registry import EventRegistry
from eventvault.errors import ArchiveError, BackupNotFound, EventVaultError
from eventvault.journal.folder import JournalFolder, segment_of

log = logging.getLogger("BackupManager")


def check_rolled_back(registry: EventRegistry, folder: JournalFolder, catalogue: Catalogue) -> None:
    """Begin a generation if events of the present one were recorded beyond the database. Call it before any append.

    Those events stay restorable and never mix with new ones. If BACKUP_DIR cannot be read, a generation begins too:
    nothing else is safe, and it costs only an entry in the list of generations.
    """
    identity, last = registry.identity, registry.last_sequence
    try:
        recorded = max(_recorded_sequences(identity.generation, folder, catalogue), default=0)
    except (EventVaultError, OSError) as error:
        log.warning("a new generation begins at event %s, as the archives and the journal of generation %s cannot be "
                    "read: %s", last, identity.generation, error)  # fmt: skip
        reason = "unchecked"
    else:
        if recorded <= last:
            return
        log.error("the database ends at event %s, but event %s was recorded before; the events beyond the database "
                  "can be restored from generation %s", last, recorded, identity.generation)  # fmt: skip
        reason = "rolled back"
    registry.begin_generation(identity.forked(at_sequence=last, reason=reason, instant=clock.now(), previous=None))


def _recorded_sequences(generation: str, folder: JournalFolder, catalogue: Catalogue) -> Iterator[int]:
    """Yield sequences of a generation, from segments, archives, the journal's record and generations that fork off."""
    generations: dict[str, Generation] = {}
    segments, damaged = folder.segments()
    for segment in segments:
        generations[segment.generation] = segment.header.generation
        if segment.generation == generation:
            yield segment.last
    unusable = [*map(segment_of, damaged), *folder.quarantined()]
    yield from (segment.last for segment in unusable if segment.generation == generation)
    record = folder.read_record()
    if record is not None:
        generations |= record.registry.by_id()
        if record.registry.generation == generation:
            yield record.sequence
    for entry in catalogue.entries():
        if not (entry.is_ours or entry.trusted) or entry.generation is None:
            continue
        if entry.generation == generation:
            yield entry.sequence or 0
        elif entry.generation not in generations:
            generations |= _generations_of(Path(entry.path))
    yield from (fork.fork_sequence for fork in generations.values() if fork.parent == generation)


def _generations_of(archive: Path) -> dict[str, Generation]:
    """Return the generations by id; none if the archive is damaged or has just been removed."""
    try:
        return {generation.id: generation for generation in reader.read_manifest(archive).generations}
    except (ArchiveError, BackupNotFound):
        return {}
