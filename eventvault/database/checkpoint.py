"""Takes checkpoints: consistent copies, made of hard links, of a LevelDB database that is being written.

The cost grows with the number of files, not with their bytes. Any other order of the steps loses events unnoticed:

1. Link every table, so that the next steps are short. LevelDB may remove some meanwhile.
2. Pause the writers (`pause_writes`).
3. List the folder. Open the logs in ascending order and note their sizes. If one has vanished, drop those before it.
4. After the logs, read CURRENT, open that MANIFEST and note its size. Let the writers continue.
5. Read the MANIFEST up to that size. It ends at a torn tail.
6. Link the tables that it names and that are not linked yet. If one is gone, start again. Their sizes must match.
7. Remove linked tables that it does not name, and drop logs that it no longer needs.
8. Copy the noted bytes of the logs, and write MANIFEST and CURRENT.

A complete table never changes, so a link is as good as a copy. LevelDB goes on writing to logs and MANIFEST, so the
checkpoint holds copies of them; a log that is open can be copied after LevelDB has removed it. The LOCK file is never
opened, because this process would lose its lock on it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from eventvault.damage import as_answer
from eventvault.errors import DatabaseDamaged, DatabaseError
from eventvault.files import copy_range
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import HINT, Version, read_current, read_version
from eventvault.regular_files import open_file
from eventvault.system_errors import name_of, reporting_no_space

MAX_TRIES = 20
"""Tries before a checkpoint fails, if in each of them a compaction removed a table in between."""

T = TypeVar("T")

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
)


@dataclass(frozen=True)
class CheckpointFile:
    """name: within the checkpoint's folder. size: in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Checkpoint(Generic[T]):
    """A copy in `folder` that LevelDB may open; its tables share their bytes with the original.

    context: the value that `pause_writes` yielded while nothing was written: it describes exactly this content.
    """

    folder: Path
    files: tuple[CheckpointFile, ...]
    context: T


class _Vanished(Exception):
    """A file that MANIFEST or CURRENT names is missing, because a compaction or an opening came in between."""


@dataclass(frozen=True)
class _Open:
    """An open file, and how many of its bytes belong to the checkpoint."""

    name: str
    file: BinaryIO
    size: int


def take_checkpoint(
    database: Path, staging: Path, pause_writes: Callable[[], AbstractContextManager[T]], *, max_tries: int = MAX_TRIES
) -> Checkpoint[T]:
    """Copy the LevelDB in `database`, which may be open and written to, into the new folder `staging`.

    `pause_writes` is entered once per try, for about a millisecond, while the sizes of logs and MANIFEST are read. No
    write through this process's handle may happen before it is left. `staging` should be on the same file system:
    tables are copied if they cannot be linked. Nothing is synced; the caller does that if the copy has to last.

    Raises DatabaseDamaged if the database's files contradict each other, DatabaseError if compactions interfered
    `max_tries` times, what the system says (`as_answer`), and what `pause_writes` raises; `staging` is removed then.
    Raises FileExistsError if `staging` exists, and does not touch it.
    """
    with reporting_no_space(f"making {name_of(staging)}"):
        staging.mkdir()
    try:
        with reporting_no_space(f"taking a checkpoint of {database}"):
            return _retry_until_complete(database, staging, pause_writes, max_tries)
    except OSError as error:
        _discard(staging)
        raise as_answer(f"taking a checkpoint of {database}", error) from error
    except BaseException:
        _discard(staging)
        raise


def _retry_until_complete(
    database: Path, staging: Path, pause_writes: Callable[[], AbstractContextManager[T]], max_tries: int
) -> Checkpoint[T]:
    """Try until complete. LevelDB drops a file in MANIFEST before it removes it: one missed twice is really missing."""
    missed = ""
    for _ in range(max_tries):
        try:
            return _try_once(database, staging, pause_writes)
        except _Vanished as vanished:
            if str(vanished) == missed:
                raise DatabaseDamaged(f"{database} is damaged: {missed} is missing", hint=HINT) from None
            missed = str(vanished)
    raise DatabaseError(
        f"taking a checkpoint of {database} failed: files were compacted away in between {max_tries} times",
        hint="try again; if it persists, the disk is too slow for what is being written",
    )


def _try_once(database: Path, staging: Path, pause_writes: Callable[[], AbstractContextManager[T]]) -> Checkpoint[T]:
    """Do steps 1 to 8. Tables that an earlier try linked are used again."""
    for name in file_numbers(_names(database), "ldb", "sst").values():
        with suppress(FileNotFoundError, FileExistsError):
            link_or_copy(database / name, staging / name)
    with ExitStack() as opened:
        with pause_writes() as context:
            logs = _open_logs(database, opened)
            manifest = _open_manifest(database, opened)
        version = read_version(manifest.file, manifest.size, name=str(database / manifest.name))
        _link_named_tables(database, staging, version)
        _remove_unnamed_tables(staging, version)
        for number, log in logs.items():
            if version.needs_log(number):
                _copy_bytes(log.file, staging / log.name, log.size)
        _copy_bytes(manifest.file, staging / manifest.name, version.manifest_size)
    with open_file(staging / "CURRENT", "xb") as current:
        current.write(f"{manifest.name}\n".encode())
    files = tuple(CheckpointFile(path.name, path.stat().st_size) for path in sorted(staging.iterdir()))
    return Checkpoint(staging, files, context)


def _open_logs(database: Path, opened: ExitStack) -> dict[int, _Open]:
    """Do step 3. The list must be complete before the first log is opened."""
    names = [name for name in _names(database) if name.endswith(".log")]
    logs: dict[int, _Open] = {}
    for number, name in file_numbers(names, "log").items():
        try:
            logs[number] = _open(database / name, opened)
        except FileNotFoundError:
            logs.clear()
    return logs


def _open_manifest(database: Path, opened: ExitStack) -> _Open:
    """Do step 4."""
    try:
        name = read_current(database, name=str(database / "CURRENT"))
    except FileNotFoundError:
        raise DatabaseDamaged(f"{database} has no CURRENT file", hint=HINT) from None
    try:
        return _open(database / name, opened)
    except FileNotFoundError:
        raise _Vanished(name) from None


def _open(path: Path, opened: ExitStack) -> _Open:
    file = opened.enter_context(open_file(path))
    return _Open(path.name, file, os.fstat(file.fileno()).st_size)


def _link_named_tables(database: Path, staging: Path, version: Version) -> None:
    """Do step 6. A linked table of another size was incomplete, or its number was used again: link it once more."""
    linked = file_numbers(_names(staging), "ldb", "sst")
    live: dict[int, str] | None = None
    for number, table in version.files.items():
        if number in linked and (staging / linked[number]).stat().st_size == table.size:
            continue
        live = file_numbers(_names(database), "ldb", "sst") if live is None else live
        name = live.get(number)
        if name is None:
            raise _Vanished(f"table {number:06d}")
        (staging / name).unlink(missing_ok=True)
        try:
            link_or_copy(database / name, staging / name)
        except FileNotFoundError:
            raise _Vanished(f"table {number:06d}") from None
        size = (staging / name).stat().st_size
        if size != table.size:
            raise DatabaseDamaged(
                f"{database / name} is damaged: it has {size} bytes instead of {table.size}", hint=HINT
            )


def _remove_unnamed_tables(staging: Path, version: Version) -> None:
    """Do step 7."""
    for number, name in file_numbers(_names(staging), "ldb", "sst").items():
        if number not in version.files:
            (staging / name).unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file of a database, or copy it if it cannot be linked. Raises FileNotFoundError if it is gone."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open_file(source) as file:
            _copy_bytes(file, target, os.fstat(file.fileno()).st_size)


def _copy_bytes(source: BinaryIO, target: Path, size: int) -> None:
    with open_file(target, "xb") as file:
        copied = copy_range(source.fileno(), 0, file.fileno(), 0, size)
    if copied < size:
        raise DatabaseDamaged(f"{source.name} shrank to {copied} bytes while it was copied", hint=HINT)


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _discard(staging: Path) -> None:
    shutil.rmtree(staging, ignore_errors=True)
