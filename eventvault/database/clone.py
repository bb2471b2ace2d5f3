"""Private copies of databases that no process has open, and the check that a copy is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

from eventvault.errors import DatabaseDamaged
from eventvault.files import remove_durably


def check_holds(database: Path, events: int, min_events: int) -> None:
    """Raise DatabaseDamaged if a previous database holds fewer events than when it was replaced."""
    if events < min_events:
        raise DatabaseDamaged(
            f"{database} holds only {events} events, {min_events} were in it when it was replaced",
            hint="it is no longer complete; GET /api/backup/timeline shows what else covers those moments",
        )


def copy_database(folder: Path, target: Path) -> None:
    """Copy a database that no process has open, tables by hard link, so that the copy can be opened.

    A table that cannot be linked is copied, whatever the error (`link_or_copy` of a checkpoint is stricter).
    """
    remove_durably(target)
    target.mkdir()
    for file in folder.iterdir():
        if file.suffix in (".ldb", ".sst"):
            try:
                (target / file.name).hardlink_to(file)
            except OSError:
                shutil.copyfile(file, target / file.name)
        elif file.name == "CURRENT" or file.name.startswith("MANIFEST-") or file.suffix == ".log":
            shutil.copyfile(file, target / file.name)
