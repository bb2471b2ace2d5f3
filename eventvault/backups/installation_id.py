"""The files that hold the id of an installation: one with a checksum and, for EventVault 0.1.0, a plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.files import make_folder, write_durably
from eventvault.settings import Settings
from eventvault.small_files import NotAFile, SmallFileDamaged


class _IdFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    installation: str


def write_id(folder: Path, identity: str) -> None:
    """Write the files that do not have this id yet. Raises NoSpace, OSError."""
    make_folder(folder)
    if read_plain(folder) != identity:
        write_durably(folder / data_folders.INSTALLATION, identity.encode())
    if read_checked(folder) != identity:
        small_files.write(folder / data_folders.CHECKED_INSTALLATION, _IdFile(1, identity))


def read_checked(folder: Path) -> str | None:
    """Return the id; None if there is none. A damaged file is quarantined. Raises OSError."""
    document = small_files.read_or_quarantine(folder / data_folders.CHECKED_INSTALLATION, _IdFile)
    return document.installation if document else None


def read_plain(folder: Path, *, quarantine: bool = True) -> str | None:
    """Return the id of the file of 0.1.0; None if there is none. Raises OSError."""
    path = folder / data_folders.INSTALLATION
    try:
        return small_files.read_bytes(path).decode().strip() or None
    except NotAFile as error:
        if quarantine:
            small_files.quarantine_or_log(path, error)
    except (FileNotFoundError, SmallFileDamaged, UnicodeDecodeError):
        pass
    return None


def peek_id(folder: Path) -> str | None:
    """Return the id of either file; None if there is none. Changes nothing in the folder. Raises OSError."""
    try:
        return small_files.read(folder / data_folders.CHECKED_INSTALLATION, _IdFile).installation
    except (FileNotFoundError, SmallFileDamaged):
        return read_plain(folder, quarantine=False)


def has_no_database(settings: Settings) -> bool:
    """Return True if STORAGE_DIR is new or its database is lost; a swap that was interrupted has one elsewhere."""
    intent = settings.storage_dir / data_folders.INTENT
    return not (settings.database / "CURRENT").exists() and not intent.exists()


class _JournalRecord(msgspec.Struct):
    installation: str


def read_from_journal(backup_dir: Path) -> str | None:
    """Return the id in the journal's record: BACKUP_DIR may have been copied without its hidden files."""
    record = backup_dir / data_folders.JOURNAL / data_folders.JOURNAL_RECORD
    try:
        return small_files.read(record, _JournalRecord, earlier=_JournalRecord).installation
    except (FileNotFoundError, SmallFileDamaged):
        return None
