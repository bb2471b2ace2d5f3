"""Whether the database is gone, and what is left of it: the archives of this installation, and its journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.journal.folder import JournalFolder


class Left(NamedTuple):
    """archives: in the order in which they are to be tried: those made here with which nothing is known to be wrong,
    newest first, then the others, and at last those that cannot be read and may be ours. journaled: there is, or was, a
    journal of this installation with an event in it.

    It is true where anything can be recovered. What other installations left there counts for nothing.
    """

    archives: list[BackupEntry]
    journaled: bool

    def __bool__(self) -> bool:
        return bool(self.archives) or self.journaled

    def __str__(self) -> str:
        counted = f"{len(self.archives)} archive{'' if len(self.archives) == 1 else 's'}" if self.archives else ""
        return " and ".join(filter(None, [counted, "the journal" if self.journaled else ""]))


def is_lost(database: Path, left: Callable[[], Left]) -> bool:
    """Whether there is no database: no folder, an empty one, or what a removal under a running store left of it.

    LevelDB writes CURRENT when it makes a database, and is never without it afterwards; a store that still runs makes
    other files anew. Where nothing is left to recover from (`left`), such a folder may be all that there is: it stays.
    """
    if not database.exists():
        return True
    if not database.is_dir():
        return False
    return not any(database.iterdir()) or (not (database / "CURRENT").exists() and bool(left()))


def left_of(catalogue: Catalogue, journal: JournalFolder) -> Left:
    """May raise BackupsUnavailable or OSError."""
    ours = [entry for entry in catalogue.entries() if entry.origin == "created"]
    ours.sort(key=lambda entry: entry.problem is not None)
    return Left([*ours, *catalogue.unattributed()], _is_journaled(catalogue, journal))


def _is_journaled(catalogue: Catalogue, journal: JournalFolder) -> bool:
    found, damaged = journal.segments()
    record = journal.read_record()
    ours = record is not None and record.installation == catalogue.installation
    had_events = ours and record is not None and (record.sequence > 0 or bool(damaged))
    return had_events or any(each.header.installation == catalogue.installation for each in found)
