"""Opens the event database: finds damage that LevelDB would hide, and waits for another process that holds LOCK.

LevelDB checks the bytes that it reads and merges only with paranoid checks. These refuse the torn end of a log too, so
it is cut off first; a log that is damaged elsewhere is not opened. An opening without paranoid checks would write
unchecked bytes into new tables with right checksums. LOCK is locked with fcntl, and the kernel releases the lock when
its holder ends: a leftover LOCK file is harmless. A held one is never touched. Which process may open the live
database: `eventvault.store.process.ownership`.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import plyvel

from eventvault import data_folders
from eventvault.damage import as_answer, is_damage
from eventvault.database import unread_logs
from eventvault.database.cut_off import cut_torn_ends
from eventvault.database.registry import open_leveldb
from eventvault.database.unreadable_tables import check_if_distrusted
from eventvault.errors import DatabaseDamaged, DatabaseError, DatabaseLocked, EventVaultError
from eventvault.files import can_sync_folder
from eventvault.leveldb.examine import Examination, examine_database
from eventvault.leveldb.log import Ending
from eventvault.leveldb.manifest import HINT
from eventvault.small_files import rename_to_free
from eventvault.system_errors import is_lock_held_here, is_lock_refused, lock_holder, name_of, reason_of

log = logging.getLogger("EventBus")

MAX_OPENINGS = 3
"""Openings in which LevelDB may miss a log, before that counts as an error of the disk."""
ROOM_BYTES = 256 * 1024
"""Room for an opening, in addition to the size of the files that LevelDB rewrites."""
_WRITTEN = ("LOCK", "LOG", "LOG.old")
LOCK_TIMEOUT_SECONDS = 3.0
"""How long to wait for a held lock: the kernel may need a moment to release the lock of a killed process."""

_end_process: Callable[[str], None] | None = None


def set_end_of_process(end: Callable[[str], None]) -> None:
    """Let this process be ended by `end(reason)` if LevelDB does not let it open a database again.

    If the system refuses to unlock LOCK when a database is closed, LevelDB treats it as open until the process ends.
    """
    global _end_process  # one per process
    _end_process = end


def open_checked(folder: Path, *, retain_in: Path | None = None, write_buffer: int | None = None) -> Any:
    """Examine the database in `folder`, cut off the torn end of its log, and open it with plyvel.

    retain_in: the folder for the bytes that are cut off; None (for copies): they are not retained. write_buffer: as for
    `open_leveldb`. Raises DatabaseDamaged, DatabaseLocked (which names the holder's process id), plyvel.Error, or
    OSError. Call it for the live database only in the process that holds `owner.lock`.
    """
    _rename_non_files(folder)
    _wait_until_free(folder)  # the files of a database that another process writes change at any time
    examination = _examine(folder)
    check_if_distrusted(folder)
    if any(log.ending is Ending.TORN for log in examination.logs):
        cut_torn_ends(folder, examination.logs, retain_in)
        examination = _examine(folder)
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return _open_examined(folder, examination, write_buffer)
        except plyvel.IOError as error:
            if is_lock_held_here(error):
                if _end_process is not None:
                    _end_process(f"{name_of(folder)} was closed, but could not be unlocked")
                raise
            if not is_lock_refused(error) and lock_holder(folder / "LOCK") is None:
                raise
            if time.monotonic() > deadline:
                check_free(folder)
                raise
            time.sleep(0.05)
            _wait_until_free(folder)
            examination = _examine(folder)


def _rename_non_files(folder: Path) -> None:
    """Rename a pipe, folder or similar that has the name of a file of LevelDB: LevelDB would wait for a pipe."""
    for name in _WRITTEN:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / name).stat().st_mode):
                log.warning("%s is not a file; it is now %s", folder / name,
                            rename_to_free(folder / name, data_folders.DAMAGED_SUFFIX))  # fmt: skip


def _open_examined(folder: Path, examination: Examination, write_buffer: int | None) -> Any:
    """Open the database, and again if LevelDB missed a log: unlike the examination, it ignores errors of `readdir`."""
    if unread_logs.put_back_leftovers(folder, examination):
        examination = _examine(folder)
    for _ in range(MAX_OPENINGS):
        unread_logs.add_second_names(folder, examination)
        db = _open_listed(folder, write_buffer)
        try:
            missing = unread_logs.names_of_unread(folder, examination)
            if not missing:
                unread_logs.remove_second_names(folder, examination)
                return db
        except BaseException:
            db.close()
            raise
        db.close()
        log.warning("LevelDB did not see %s in %s; the database is opened again", ", ".join(missing), folder)
        unread_logs.put_back(folder)
        examination = _examine(folder)
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))


def _open_listed(folder: Path, write_buffer: int | None) -> Any:
    """Open the database. Only damage that LevelDB reports twice counts: it also reports it after a partial listing."""
    try:
        return open_leveldb(folder, write_buffer=write_buffer)
    except plyvel.CorruptionError:
        _examine(folder)
    try:
        return open_leveldb(folder, write_buffer=write_buffer)
    except plyvel.CorruptionError as error:
        raise damage_error(folder, reason_of(error)) from error


def _examine(folder: Path) -> Examination:
    examination = examine_database(folder)
    if examination.damaged:
        raise damage_error(folder, "; ".join(examination.problems))
    return examination


def _wait_until_free(folder: Path) -> None:
    """Wait until no other process has the database open. Raises DatabaseLocked after LOCK_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while lock_holder(folder / "LOCK") not in (None, os.getpid()):
        if time.monotonic() > deadline:
            check_free(folder)
        time.sleep(0.05)


def damage_error(folder: Path, what: str) -> DatabaseDamaged:
    return DatabaseDamaged(f"{name_of(folder)} is damaged: {what}", hint=HINT)


def opening_error(folder: Path, error: Exception) -> EventVaultError:
    """Return why the database in `folder` cannot be opened: damage, or the system's error."""
    if isinstance(error, EventVaultError):
        return error
    return (
        damage_error(folder, reason_of(error)) if is_damage(error) else as_answer(f"opening {name_of(folder)}", error)
    )


def check_room(database: Path) -> None:
    """Raise OSError unless the disk has room for the files that LevelDB writes when it opens `database`.

    LevelDB writes a table with the logs' content, a MANIFEST, CURRENT and a log. So four files are tried beside it.
    """
    needed = sum(file.stat().st_size for file in database.iterdir() if file.suffix not in (".ldb", ".sst"))
    with ExitStack() as probes:
        for size in (needed + ROOM_BYTES, 1, 1, 1):
            probe = probes.enter_context(
                tempfile.NamedTemporaryFile(dir=database.parent, prefix=".probe-", suffix=data_folders.TEMPORARY_SUFFIX)
            )
            os.posix_fallocate(probe.fileno(), 0, size)
            os.fdatasync(probe.fileno())


def check_syncs_folders(folder: Path) -> None:
    """Raise DatabaseError if the file system of `folder` cannot sync folders: LevelDB opens no database on it."""
    if not can_sync_folder(folder):
        raise DatabaseError(
            f"the file system of {folder} cannot sync folders, so LevelDB cannot keep a database there",
            hint="set STORAGE_DIR to a folder on a local file system, such as ext4 or XFS; BACKUP_DIR may stay",
        )


def check_free(folder: Path, then: str = "the service continues once the database is free") -> None:
    """Raise DatabaseLocked if a process has the database in `folder` open. then: the hint's second half."""
    holder = lock_holder(folder / "LOCK")
    if holder is not None:
        raise DatabaseLocked(
            f"{folder} is held by {process_name(holder)}; its LOCK file is in use and was not touched",
            hint=f"end that process; {then}",
            holder=holder or None,
        )


def process_name(holder: int) -> str:
    """Return what an error calls the process that `lock_holder` found."""
    return f"the process {holder}" if holder else "a process in another container"
