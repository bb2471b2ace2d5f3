"""A database that holds less than what was kept of it: an old copy of `storage/` was put back.

Its next events must not take the sequences of those that the archives and the journal have beyond it, in the same
generation: they would count as kept already. So a generation begins where it ends.
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
    """Begin a generation where more was kept of the present one than the database holds. Call it before any append.

    What was kept stays restorable, and never mixes with what comes. Where BACKUP_DIR cannot be read now, one begins
    too: nothing else is safe before it is known, and it costs no more than an entry among the generations.
    """
    identity, last = registry.identity, registry.last_sequence
    try:
        kept = max(_recorded(identity.generation, folder, catalogue), default=0)
    except (EventVaultError, OSError) as error:
        log.warning("another generation begins at event %s: what was kept of generation %s cannot be "
                    "read: %s", last, identity.generation, error)  # fmt: skip
        reason = "unchecked"
    else:
        if kept <= last:
            return
        log.error("the database ends at event %s, and there was event %s already; what was kept of "
                  "them can be restored from generation %s", last, kept, identity.generation)  # fmt: skip
        reason = "rolled back"
    registry.begin_generation(identity.forked(at_sequence=last, reason=reason, instant=clock.now(), previous=None))


def _recorded(generation: str, folder: JournalFolder, catalogue: Catalogue) -> Iterator[int]:
    """Sequences that there were of a generation, as segments, archives, the record, and what forks off it tell."""
    known: dict[str, Generation] = {}
    found, damaged = folder.segments()
    for each in found:
        known[each.generation] = each.header.generation
        if each.generation == generation:
            yield each.last
    names = [*map(segment_of, damaged), *folder.quarantined()]
    yield from (each.last for each in names if each.generation == generation)
    record = folder.read_record()
    if record is not None:
        known |= record.registry.by_id()
        if record.registry.generation == generation:
            yield record.sequence
    for entry in catalogue.entries():
        if entry.origin != "created" or entry.generation is None:
            continue
        if entry.generation == generation:
            yield entry.sequence or 0
        elif entry.generation not in known:
            known |= _generations_of(Path(entry.path))
    yield from (each.fork_sequence for each in known.values() if each.parent == generation)


def _generations_of(archive: Path) -> dict[str, Generation]:
    """None of an archive that is damaged or has just gone."""
    try:
        return {each.id: each for each in reader.read_manifest(archive).generations}
    except (ArchiveError, BackupNotFound):
        return {}
