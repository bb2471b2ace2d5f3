"""Opening the event database: stale LOCK, damage that LevelDB would hide, a registry that is missing.

LevelDB drops records that do not match their checksum without a word, so the log is looked at before it is opened.
Its LOCK file is locked with fcntl, which the kernel releases with its holder: a file that is left over is harmless,
and 'stale' means that the lock could be taken. A held one is never touched.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import plyvel

from eventvault.database.registry import open_leveldb
from eventvault.errors import DatabaseDamaged, DatabaseLocked
from eventvault.leveldb.examine import examine_database

log = logging.getLogger("EventBus")

LOCK_TIMEOUT_SECONDS = 3.0
"""After a kill the kernel may need a moment to release the lock."""


def open_checked(folder: Path) -> Any:
    """A plyvel handle on the sound database in `folder`.

    Raises DatabaseDamaged, DatabaseLocked (it names the holder's process id), or plyvel.Error and OSError as the disk
    gives them. Only the process that holds the store's `owner.lock` may call this.
    """
    examination = examine_database(folder)
    if examination.damaged:
        raise damaged(folder, "; ".join(examination.problems))
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return open_leveldb(folder)
        except plyvel.IOError as error:
            if "lock" not in str(error).lower():
                raise
            if time.monotonic() > deadline:
                raise _locked(folder) from error
            time.sleep(0.05)
        except plyvel.CorruptionError as error:
            raise damaged(folder, str(error)) from error


def damaged(folder: Path, what: str) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"{folder} is damaged: {what}",
        hint="restore the newest good backup with POST /api/backup/restore; the damaged database is kept",
    )


def lock_holder(lock: Path) -> int | None:
    """The process id that holds an fcntl lock on `lock`, from `/proc/locks`, without opening the file.

    Opening and closing it would drop a lock that this process holds on it.
    """
    try:
        found = lock.stat()
        rows = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for row in rows:
        match = re.search(r"POSIX +\S+ +WRITE +(\d+) (\S+) ", row)
        if match and match[2] == device:
            return int(match[1])
    return None


def check_free(folder: Path) -> None:
    """Raises DatabaseLocked where another process has the database in `folder` open, whatever else is wrong with it."""
    if lock_holder(folder / "LOCK") is not None:
        raise _locked(folder)


def _locked(folder: Path) -> DatabaseLocked:
    holder = lock_holder(folder / "LOCK")
    who = f"the process {holder}" if holder else "another process"
    return DatabaseLocked(
        f"{folder} is held by {who}; its LOCK is in use and was left alone",
        hint="end that process; the service goes on by itself once the database is free",
        holder=holder,
    )
