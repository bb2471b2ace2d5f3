"""Whether the database is lost, and what it can be recovered from: this installation's archives and journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.journal.folder import JournalFolder
from eventvault.restore.swap.in_place import has_files


class RecoverySources(NamedTuple):
    """What a lost database can be recovered from; false if there is nothing. Other installations do not count.

    archives: in the order to try: first those made here without a known problem, newest first, then those with one,
    then the unreadable ones that may be ours, last those that claim to be and are not proven. journaled: this
    installation has, or had, a journal with an event in it.
    """

    archives: list[BackupEntry]
    journaled: bool

    def __bool__(self) -> bool:
        return bool(self.archives) or self.journaled

    def __str__(self) -> str:
        counted = f"{len(self.archives)} archive{'' if len(self.archives) == 1 else 's'}" if self.archives else ""
        return " and ".join(filter(None, [counted, "the journal" if self.journaled else ""]))


def is_lost(database: Path, find_sources: Callable[[], RecoverySources]) -> bool:
    """Return True if there is no database: no folder, an empty one, or remains of one that was removed.

    A database always has CURRENT. A store whose folder is removed while it runs creates other files again. Such remains
    count as a database if there is nothing to recover from: nothing else may exist.
    """
    if not database.exists():
        return True
    if not database.is_dir():
        return False
    return not has_files(database) or (not (database / "CURRENT").exists() and bool(find_sources()))


def find_recovery_sources(catalogue: Catalogue, journal: JournalFolder) -> RecoverySources:
    """Return what BACKUP_DIR holds of this installation. May raise BackupsUnavailable or OSError."""
    catalogue.reread()
    entries = catalogue.entries()
    ours = [entry for entry in entries if entry.is_ours]
    ours.sort(key=lambda entry: entry.problem is not None)
    claims = [entry for entry in entries if not entry.is_ours and entry.installation == catalogue.installation]
    return RecoverySources([*ours, *catalogue.unattributed(), *claims], _is_journaled(catalogue, journal))


def _is_journaled(catalogue: Catalogue, journal: JournalFolder) -> bool:
    segments, damaged = journal.segments()
    record = journal.read_record()
    ours = record is not None and record.installation == catalogue.installation
    had_events = ours and record is not None and (record.sequence > 0 or bool(damaged))
    return had_events or any(segment.header.installation == catalogue.installation for segment in segments)
