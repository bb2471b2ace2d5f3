"""Gives each log of a database a second name while LevelDB opens it: LevelDB removes a log that it does not see.

LevelDB lists the folder with `readdir` and ignores its errors (`PosixEnv::GetChildren` in `util/env_posix.cc`). If a
log is missing in the list, LevelDB does not read it, and then removes it as obsolete, with its records. So each log has
a second name until LevelDB's own LOG says that it was read. If one was not read, all logs get new numbers: LevelDB
reads them, in this order, at its next opening. Reading a log twice changes nothing if nothing was written since.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from eventvault import data_folders
from eventvault.database.checkpoint import link_or_copy
from eventvault.files import matching, sync_folder
from eventvault.leveldb.examine import Examination, LogState, examine_database, examine_log, file_numbers
from eventvault.regular_files import open_file, read_file

_READ = re.compile(rb"Recovering log #([0-9]+)")


def add_second_names(folder: Path, examination: Examination) -> None:
    """Give each log that LevelDB has to read a second name. Raises OSError."""
    for log in _with_records(examination):
        path, second = folder / log.name, _second(folder, log.name)
        if second.exists():
            if second.samefile(path):
                continue
            second.unlink()
        link_or_copy(path, second)
        if not second.samefile(path):
            with open_file(second) as copy:
                os.fsync(copy.fileno())


def names_of_unread(folder: Path, examination: Examination) -> list[str]:
    """Return the names of the logs that LevelDB did not read when it opened the database. Raises OSError.

    examination: from before the opening. If LOG is empty, the disk refused its lines, and every log counts as read.
    """
    written = read_file(folder / "LOG") if (folder / "LOG").exists() else b""
    read = {int(number) for number in _READ.findall(written)}
    return [log.name for log in _with_records(examination) if written and _number(log.name) not in read]


def put_back_leftovers(folder: Path, examination: Examination) -> bool:
    """Put back the second names that an interrupted opening left. Nobody has the database open.

    Returns whether logs were put back. If the database was written to since, another program has opened it and read the
    logs, and the second names are removed; otherwise LevelDB may read the logs twice, which changes nothing.
    """
    needed = {log.name for log in examination.logs}
    leftovers = _second_names(folder)
    if all(path.stem in needed for path in leftovers):
        return False
    if max(examine_log(path).next or 0 for path in leftovers) <= examination.last_sequence:
        for path in leftovers:
            path.unlink()
        return False
    _renumber(folder, leftovers)
    return True


def put_back(folder: Path) -> None:
    """Let LevelDB read all logs with second names at its next opening, because it did not read one of them."""
    _renumber(folder, _second_names(folder))


def remove_second_names(folder: Path, examination: Examination) -> None:
    """Remove the second names durably: LevelDB has read the logs, and from now on may write. Raises OSError."""
    logs = _with_records(examination)
    for log in logs:
        _second(folder, log.name).unlink(missing_ok=True)
    if logs:
        sync_folder(folder)


def _renumber(folder: Path, seconds: Sequence[Path]) -> None:
    """Give the logs numbers that LevelDB reads next, in order.

    MANIFEST says that LevelDB reads from the empty log on that it has begun. So the first log takes that log's number.
    """
    if not seconds:
        return
    number = 1 + max(file_numbers([path.name for path in folder.iterdir()], "log", "ldb", "sst"), default=0)
    begun = examine_database(folder)
    empty = [] if _with_records(begun) else [_number(log.name) for log in begun.logs[:1]]
    numbers = chain(empty, count(number))
    for path, chosen in zip(sorted(seconds, key=lambda path: _number(path.name)), numbers, strict=False):
        path.rename(folder / f"{chosen:06d}.log")
    sync_folder(folder)


def _with_records(examination: Examination) -> list[LogState]:
    return [log for log in examination.logs if log.records]


def _second_names(folder: Path) -> list[Path]:
    return matching(folder, f"*.log{data_folders.OPENING_SUFFIX}")


def _second(folder: Path, name: str) -> Path:
    return folder / f"{name}{data_folders.OPENING_SUFFIX}"


def _number(name: str) -> int:
    return int(name.partition(".")[0])
