"""Examines the files of the database and of `jobs_db`. If no store runs, it counts the events in a temporary view.

A running store or dispatcher writes its files at any time, so apparent damage then counts only if it stays.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault import data_folders, environment
from eventvault.database.opening import process_name
from eventvault.database.view import fill_view
from eventvault.doctor.database_head import DatabaseHead
from eventvault.doctor.facts import Database, Jobs
from eventvault.errors import EventVaultError
from eventvault.files import temporary_folder
from eventvault.jobs import unfinished
from eventvault.leveldb.dialect import OtherDialect
from eventvault.leveldb.examine import Examination, examine_database
from eventvault.leveldb.log import Ending
from eventvault.leveldb.manifest import BYTEWISE
from eventvault.restore.swap.in_place import has_files
from eventvault.settings import PROJECT, Settings
from eventvault.small_files import SmallFileDamaged
from eventvault.system_errors import lock_holder, reason_of

HEAD_SECONDS = 7.0
"""How long the count of the events may take; LevelDB reads the log, which has 32 MB at most."""
_TRIES = 3
_PAUSE_SECONDS = 0.1


def look_at_database(settings: Settings, *, is_open: bool) -> Database:
    """Return the state of the files. is_open: a store has the database open. Raises OSError."""
    folder = settings.database
    if not has_files(folder):
        return Database()
    if not (folder / "CURRENT").exists():
        return Database(kind="rest")
    try:
        examination = _examine(folder, is_open=is_open)
    except OtherDialect as other:
        return Database(kind="foreign", unread=other.message)
    database = Database(
        kind="ours",
        tables=examination.tables,
        torn=0 if is_open else _torn(examination),
        problems=examination.problems,
    )
    if is_open or examination.damaged:
        return database
    if examination.comparator != BYTEWISE:
        return msgspec.structs.replace(database, kind="foreign")
    holder = lock_holder(folder / "LOCK")
    if holder is not None:
        return msgspec.structs.replace(database, holder=process_name(holder))
    is_marked = (folder / data_folders.DATABASE_MARK).exists()
    return _with_head(database, _head_of(settings, examination), is_marked=is_marked)


def look_at_jobs(settings: Settings) -> Jobs | None:
    """Return the state of the files of `jobs_db`; None if JOBS_ENABLED is false. Raises OSError."""
    folder = settings.storage_dir / data_folders.JOBS_DATABASE
    if not settings.jobs_enabled:
        return None
    if not folder.exists():
        return Jobs(returns=_has_jobs(settings.backup_dir / data_folders.JOBS / data_folders.UNFINISHED_JOBS))
    try:
        examination = _examine(folder, is_open=True)  # a dispatcher may begin or end meanwhile
    except OtherDialect as other:
        return Jobs(exists=True, problems=(other.message,))
    is_open = lock_holder(folder / "LOCK") is not None
    return Jobs(
        exists=True, is_open=is_open, tables=examination.tables, torn=0 if is_open else _torn(examination),
        problems=examination.problems,
    )  # fmt: skip


def _has_jobs(copy: Path) -> bool:
    """Return whether the copy of the unfinished jobs has any; True for a damaged copy, which may have some."""
    try:
        return any(isinstance(line, unfinished.JobLine) for line in unfinished.read(copy))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except SmallFileDamaged:
        return True


def _torn(examination: Examination) -> int:
    return sum(log.size - log.offset for log in examination.logs if log.ending is Ending.TORN)


def _examine(folder: Path, *, is_open: bool) -> Examination:
    for _ in range(_TRIES - 1 if is_open else 0):
        with suppress(FileNotFoundError):
            examination = examine_database(folder)
            if not examination.damaged:
                return examination
        time.sleep(_PAUSE_SECONDS)
    return examine_database(folder)


def _with_head(database: Database, head: DatabaseHead, *, is_marked: bool) -> Database:
    return msgspec.structs.replace(
        database,
        kind="foreign" if head.foreign and not is_marked else "ours",
        events=head.events, generation=head.generation, last_recorded=head.last_recorded, unread=head.unread,
        problems=database.problems if head.problem is None else (*database.problems, head.problem),
    )  # fmt: skip


def _head_of(settings: Settings, examination: Examination) -> DatabaseHead:
    """Return the head, which a child process reads from a view of the database in the temporary folder."""
    place = temporary_folder()
    if any(
        place.is_relative_to(folder) for folder in (settings.storage_dir, settings.backup_dir, settings.restore_dir)
    ):
        return DatabaseHead(unread=f"there is no temporary folder besides {place}")
    try:
        with tempfile.TemporaryDirectory(prefix="eventvault-doctor-", dir=place, ignore_cleanup_errors=True) as view:
            fill_view(settings.database, Path(view), examination)
            return _ask_child(view)
    except EventVaultError as error:
        return DatabaseHead(unread=error.message)
    except OSError as error:
        return DatabaseHead(unread=reason_of(error))


def _ask_child(view: str) -> DatabaseHead:
    try:
        done = subprocess.run(  # nosec B603  # no shell, and no word of a client
            [sys.executable, "-m", "eventvault.doctor.database_head", view],
            cwd=PROJECT, env=environment.for_child({}), stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=HEAD_SECONDS,
        )  # fmt: skip
        return msgspec.json.decode(done.stdout, type=DatabaseHead)
    except subprocess.TimeoutExpired:
        return DatabaseHead(unread=f"counting them takes longer than {HEAD_SECONDS:.0f} s")
    except msgspec.MsgspecError:
        reason = signal.strsignal(-done.returncode) if done.returncode < 0 else f"exit status {done.returncode}"
        return DatabaseHead(unread=f"LevelDB ended with {reason}: the disk may not read a table")
