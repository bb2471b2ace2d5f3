"""Look at a LevelDB database before it is opened, as LevelDB by itself passes over damage in silence.

A default open drops bad records of a log without a word; `paranoid_checks` refuses torn tails that a power cut
leaves quite legitimately. So: a bad record at the very end of a log is a torn tail, and fine; one that good
records follow is damage.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.log import Ending, LogReader
from eventvault.leveldb.manifest import Version, read_current, read_version

_FILE = re.compile(r"([0-9]+)\.(log|ldb|sst)")
_BATCH = struct.Struct("<QI")
"""The head of a record in a write-ahead log: sequence number of its first operation, number of operations."""


class LogState(msgspec.Struct, frozen=True):
    """One write-ahead log whose records are in no table yet.

    ending: an `eventvault.leveldb.log.Ending`. offset: where its last good record ends. first: LevelDB's sequence
    number of its first operation, next: the one after its last; None for a log without records.
    """

    name: str
    size: int
    ending: Ending
    offset: int
    reason: str
    records: int
    first: int | None
    next: int | None


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of a database say. problems: in sentences; none: the database may be opened.

    manifest: the name of the present MANIFEST. tables: how many it names. last_sequence: LevelDB's, after replay.
    """

    folder: str
    manifest: str | None = None
    tables: int = 0
    logs: tuple[LogState, ...] = ()
    last_sequence: int = 0
    problems: tuple[str, ...] = ()

    @property
    def damaged(self) -> bool:
        return bool(self.problems)


def examine_database(folder: Path) -> Examination:
    """Say whether the database in `folder` is whole: MANIFEST, tables and their sizes, logs.

    Only reads, and not the tables' content. Raises DatabaseDamaged never: its findings are `problems`. Raises OSError
    where the folder itself cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir())
    try:
        manifest = read_current(folder)
        with (folder / manifest).open("rb") as file:
            version = read_version(file, name=str(folder / manifest))
    except DatabaseDamaged as error:
        return Examination(folder=str(folder), problems=(error.message,))
    except OSError as error:
        return Examination(folder=str(folder), problems=(f"{error.filename or folder}: {error.strerror}",))
    logs = tuple(_examine_log(folder / name) for name in _needed_logs(names, version))
    problems = (*_table_problems(folder, names, version), *_log_problems(logs, version))
    return Examination(
        folder=str(folder), manifest=manifest, tables=len(version.files), logs=logs, problems=problems,
        last_sequence=max([version.last_sequence, *(log.next - 1 for log in logs if log.next is not None)]),
    )  # fmt: skip


def file_numbers(names: Iterable[str], *suffixes: str) -> dict[int, str]:
    """The numbered files of a database with one of these suffixes (log, ldb, sst), as number -> name, ascending."""
    found = (match for match in map(_FILE.fullmatch, names) if match and match[2] in suffixes)
    return dict(sorted((int(match[1]), match[0]) for match in found))


def _needed_logs(names: Iterable[str], version: Version) -> list[str]:
    return [name for number, name in file_numbers(names, "log").items() if version.needs_log(number)]


def _table_problems(folder: Path, names: Iterable[str], version: Version) -> list[str]:
    present = file_numbers(names, "ldb", "sst")
    problems = []
    for number, table in sorted(version.files.items()):
        size = None
        if number in present:
            with suppress(FileNotFoundError):
                size = (folder / present[number]).stat().st_size
        if size is None:
            problems.append(f"table {number:06d} is missing")
        elif size != table.size:
            problems.append(f"{present[number]} has {size} bytes instead of {table.size}")
    return problems


def _log_problems(logs: Iterable[LogState], version: Version) -> list[str]:
    """Damage within a log, and records that are missing between the MANIFEST and the logs, or between two logs."""
    problems = []
    expected = version.last_sequence + 1
    for log in logs:
        if log.ending is Ending.DAMAGED:
            problems.append(f"{log.name} is damaged: {log.reason}")
        if log.first is None or log.next is None:
            continue
        if log.first > expected:
            problems.append(f"{log.name} begins at {log.first}, but what comes before it ends at {expected - 1}")
        expected = max(expected, log.next)
    return problems


def _examine_log(path: Path) -> LogState:
    records = 0
    first = following = None
    stunted = ""
    with path.open("rb") as file:
        reader = LogReader(file)
        for record in reader:
            records += 1
            if len(record) < _BATCH.size:
                stunted = f"record {records} has {len(record)} bytes, too few for a batch"
                continue
            sequence, count = _BATCH.unpack_from(record)
            first = sequence if first is None else first
            following = sequence + count
        end = reader.end
        size = file.seek(0, 2)
    ending = Ending.DAMAGED if stunted else end.ending
    return LogState(path.name, size, ending, end.offset, stunted or end.reason, records, first, following)
