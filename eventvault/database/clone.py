"""Private copies of databases that nobody has open, and whether what was kept is still all there."""

from __future__ import annotations

import shutil
from pathlib import Path

from eventvault.errors import DatabaseDamaged
from eventvault.files import remove_durably


def check_holds(database: Path, events: int, min_events: int) -> None:
    """Raises DatabaseDamaged where a kept database holds less than was in it when it was left."""
    if events < min_events:
        raise DatabaseDamaged(
            f"{database} holds {events} events only, and {min_events} were left behind in it",
            hint="it is not whole any more: GET /api/backup/timeline shows what else has those moments",
        )


def copy_database(folder: Path, target: Path) -> None:
    """A private, openable copy of a database that nobody has open: tables by hard link, the rest by bytes."""
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
