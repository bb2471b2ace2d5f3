"""Finds tables that the disk cannot read: LevelDB maps tables into memory, so a bad sector kills the process (SIGBUS).

After such a death, the next process calls `distrust_tables`. From then on it reads the tables of each database with
`pread` before it opens the database. So it names the table that fails, and is not killed again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from eventvault.errors import DiskFailed
from eventvault.files import read_at
from eventvault.leveldb.examine import file_numbers
from eventvault.regular_files import open_file, open_handle

_PIECE = 2**20
_PAGE = 4096

_distrusted = False
_failed: dict[Path, str] = {}
"""Folder → its table that could not be read. It is tried first, so that not all tables are read each second."""


class UnreadableRange(NamedTuple):
    """A range of a table's bytes that cannot be read, and the system's reason."""

    offset: int
    length: int
    reason: str


def distrust_tables() -> None:
    """Read the tables of every database from now on before it is opened in this process."""
    global _distrusted
    _distrusted = True


def are_distrusted() -> bool:
    return _distrusted


def check_if_distrusted(folder: Path) -> None:
    """`check_readable`, if tables are distrusted in this process."""
    if _distrusted:
        check_readable(folder)


def check_readable(folder: Path) -> None:
    """Raise DiskFailed, which names the table, if a byte of a table of the database in `folder` cannot be read."""
    failed_before = _failed.get(folder)
    tables = file_numbers((path.name for path in folder.iterdir()), "ldb", "sst")
    for name in sorted(tables.values(), key=lambda name: (name != failed_before, name)):
        with closing(unreadable_ranges(folder / name)) as ranges:
            unreadable = next(ranges, None)
        if unreadable is not None:
            _failed[folder] = name
            raise DiskFailed(
                f"the table {folder / name} cannot be read at byte {unreadable.offset}: {unreadable.reason}",
                hint="the disk of STORAGE_DIR has a bad sector there, or is away; it is tried again each second. All "
                "other events can be read. If it does not come back, restore the newest backup",
            )
    _failed.pop(folder, None)


def unreadable_ranges(table: Path) -> Generator[UnreadableRange]:
    """Yield the pages of a table that cannot be read. Raises OSError if the table cannot be opened."""
    handle = open_handle(table)
    try:
        size = os.fstat(handle).st_size
        for offset in range(0, size, _PIECE):
            if _read_error_at(handle, offset, _PIECE) is not None:
                yield from _unreadable_pages(handle, offset, min(size, offset + _PIECE))
    finally:
        os.close(handle)


def copy_readable(table: Path, target: Path) -> bool:
    """Copy the readable pages of a table, with zeros for the others. Returns False, without a copy, if all can be read.

    LevelDB finds a wrong checksum where the zeros are.
    """
    holes = list(unreadable_ranges(table))
    if not holes:
        return False
    with open_file(table, buffering=0) as source, open_file(target, "xb") as file:
        size = os.fstat(source.fileno()).st_size
        file.truncate(size)
        missing = {hole.offset for hole in holes}
        for offset in range(0, size, _PAGE):
            if offset not in missing:
                os.pwrite(file.fileno(), read_at(source.fileno(), offset, _PAGE), offset)
    return True


def _unreadable_pages(handle: int, start: int, end: int) -> Iterator[UnreadableRange]:
    for offset in range(start, end, _PAGE):
        error = _read_error_at(handle, offset, _PAGE)
        if error is not None:
            yield UnreadableRange(offset, min(_PAGE, end - offset), os.strerror(error.errno or errno.EIO))


def _read_error_at(handle: int, offset: int, count: int) -> OSError | None:
    try:
        read_at(handle, offset, count)
    except OSError as error:
        return error
    return None
