"""Forgets generations of the registry that nothing refers to, so that neither archives nor the start grow with them."""

from __future__ import annotations

import logging
from pathlib import Path

from eventvault.backups.catalogue import Catalogue
from eventvault.database.generation import has_many_generations, without_forgotten
from eventvault.database.registry import EventRegistry
from eventvault.errors import EventVaultError
from eventvault.journal.folder import JournalFolder
from eventvault.restore.swap.previous import list_previous

log = logging.getLogger("BackupManager")


def forget_generations(
    registry: EventRegistry, catalogue: Catalogue, journal: JournalFolder, storage_dir: Path
) -> None:
    """Forget generations without an archive, a segment or a previous database, if the registry has thousands.

    Call it only while nothing is appended. If BACKUP_DIR cannot be read, nothing is forgotten.
    """
    if not has_many_generations(registry.identity):
        return
    try:
        referenced = {entry.generation for entry in catalogue.entries()} | set(journal.generations())
        referenced |= {previous.generation for previous in list_previous(storage_dir)}
    except (EventVaultError, OSError) as error:
        log.warning("no generation is forgotten, because references to them cannot be read: %s", error)
        return
    shorter = without_forgotten(registry.identity, {name for name in referenced if name is not None})
    count = len(registry.identity.generations) - len(shorter.generations)
    if count:
        registry.begin_generation(shorter)
        log.info("%s generations are forgotten", count)
