"""Opening the event database: damage that LevelDB would hide, and a LOCK file that another process holds.

LevelDB silently drops log records with a wrong checksum, so the log is examined before it is opened. The LOCK file is
locked with fcntl, and the kernel releases the lock when its holder ends: a leftover LOCK file is harmless. A held one
is never touched. Which process may open the live database: `eventvault.store.process.ownership`.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import plyvel

from eventvault.damage import as_answer, is_damage
from eventvault.database.registry import open_leveldb
from eventvault.errors import DatabaseDamaged, DatabaseError, DatabaseLocked, EventVaultError
from eventvault.files import can_sync_folder
from eventvault.leveldb.examine import examine_database
from eventvault.leveldb.manifest import HINT
from eventvault.system_errors import is_lock_refused, lock_holder, text_of

log = logging.getLogger("EventBus")

LOCK_TIMEOUT_SECONDS = 3.0
"""How long to wait for a held lock: the kernel may need a moment to release that of a killed process."""


def open_checked(folder: Path) -> Any:
    """Examine the database in `folder` and open it with plyvel.

    Raises DatabaseDamaged, DatabaseLocked (it names the holder's process id), or plyvel.Error and OSError as they come.
    Call it for the live database only in the process that holds `owner.lock`.
    """
    _examine(folder)
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return _open_examined(folder)
        except plyvel.IOError as error:
            if not is_lock_refused(error) and lock_holder(folder / "LOCK") is None:
                raise
            if time.monotonic() > deadline:
                check_free(folder)
                raise
            time.sleep(0.05)


def _examine(folder: Path) -> None:
    examination = examine_database(folder)
    if examination.damaged:
        raise damaged(folder, "; ".join(examination.problems))


def _open_examined(folder: Path) -> Any:
    """Open it; damage is what LevelDB finds twice: it takes a folder that it could list in part only for a damaged one.

    LevelDB looks at no error of `readdir`, but the examination does.
    """
    try:
        return open_leveldb(folder)
    except plyvel.CorruptionError:
        _examine(folder)
    try:
        return open_leveldb(folder)
    except plyvel.CorruptionError as error:
        raise damaged(folder, text_of(error)) from error


def damaged(folder: Path, what: str) -> DatabaseDamaged:
    return DatabaseDamaged(f"{folder} is damaged: {what}", hint=HINT)


def opening_error(folder: Path, error: Exception) -> EventVaultError:
    """Return why the database in `folder` cannot be opened: damage, what the system says, or the error itself."""
    if isinstance(error, EventVaultError):
        return error
    return damaged(folder, text_of(error)) if is_damage(error) else as_answer(f"opening {folder}", error)


def check_syncs_folders(folder: Path) -> None:
    """Raise DatabaseError if the file system of `folder` cannot sync folders: LevelDB opens no database on it."""
    if not can_sync_folder(folder):
        raise DatabaseError(
            f"the file system of {folder} cannot sync folders, so LevelDB cannot keep a database there",
            hint="set STORAGE_DIR to a folder on a local file system, such as ext4 or XFS; BACKUP_DIR may stay",
        )


def check_free(folder: Path) -> None:
    """Raise DatabaseLocked if a process has the database in `folder` open."""
    holder = lock_holder(folder / "LOCK")
    if holder is not None:
        raise DatabaseLocked(
            f"{folder} is held by {process_name(holder)}; its LOCK file is in use and was not touched",
            hint="end that process; the service continues once the database is free",
            holder=holder or None,
        )


def process_name(holder: int) -> str:
    """Return what an error calls the process that `lock_holder` found."""
    return f"the process {holder}" if holder else "a process in another container"
