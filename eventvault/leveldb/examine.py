"""Examines a LevelDB database before it is opened, because LevelDB opens damaged databases silently.

By default LevelDB drops bad records of a log; with `paranoid_checks` it refuses a torn tail, which a power cut may
leave. Here a bad record at the very end of a log is a torn tail, to be cut off (`eventvault.database.cut_off`); a bad
record before good ones is damage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.dialect import OtherDialect
from eventvault.leveldb.log import Ending, LogReader
from eventvault.leveldb.manifest import BYTEWISE, Version, read_current, read_version
from eventvault.leveldb.write_batch import HEAD
from eventvault.regular_files import open_file

_FILE = re.compile(r"([0-9]+)\.(log|ldb|sst)")


class LogState(msgspec.Struct, frozen=True):
    """A write-ahead log with records that are not in a table yet.

    offset: end of its last good record. first: LevelDB's sequence number of its first operation. next: the number after
    its last operation. Both are None for a log without records. changed: as in `LogEnd`.
    """

    name: str
    size: int
    ending: Ending
    offset: int
    reason: str
    records: int
    first: int | None
    next: int | None
    changed: bool = False


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a database's files. problems: sentences; the database may be opened if there are none.

    manifest: name of the current MANIFEST. comparator: LevelDB's name for the order of the keys. tables: how many the
    MANIFEST lists. last_sequence: LevelDB's, after the logs are replayed.
    """

    folder: str
    manifest: str | None = None
    comparator: str = BYTEWISE
    tables: int = 0
    logs: tuple[LogState, ...] = ()
    last_sequence: int = 0
    problems: tuple[str, ...] = ()

    @property
    def damaged(self) -> bool:
        return bool(self.problems)


def examine_database(folder: Path, *, max_record: int | None = None) -> Examination:
    """Check the database in `folder`: MANIFEST, names and sizes of the tables, logs. Does not read the tables.

    max_record: bytes of a log's record (default: MAX_RECORD_BYTES); a longer record counts as damage. Damage (wrong
    bytes, missing files) goes into `problems`. Raises OSError if a file cannot be read, and OtherDialect if another
    program wrote the MANIFEST.
    """
    names = sorted(path.name for path in folder.iterdir())
    try:
        manifest = read_current(folder)
        with open_file(folder / manifest) as file:
            version = read_version(file, name=manifest)
    except OtherDialect:
        raise
    except DatabaseDamaged as error:
        return Examination(folder=str(folder), problems=(error.message,))
    except FileNotFoundError as error:
        return Examination(folder=str(folder), problems=(f"{Path(error.filename or folder).name}: {error.strerror}",))
    logs = tuple(examine_log(folder / name, max_record) for name in _needed_logs(names, version))
    problems = (*_table_problems(folder, names, version), *_log_problems(logs, version))
    return Examination(
        folder=str(folder), manifest=manifest, comparator=version.comparator, tables=len(version.files), logs=logs,
        problems=problems,
        last_sequence=max([version.last_sequence, *(log.next - 1 for log in logs if log.next is not None)]),
    )  # fmt: skip


def file_numbers(names: Iterable[str], *suffixes: str) -> dict[int, str]:
    """Return the files of a database with one of these suffixes (log, ldb, sst): number → name, ascending."""
    matches = (match for match in map(_FILE.fullmatch, names) if match and match[2] in suffixes)
    return dict(sorted((int(match[1]), match[0]) for match in matches))


def _needed_logs(names: Iterable[str], version: Version) -> list[str]:
    return [name for number, name in file_numbers(names, "log").items() if version.needs_log(number)]


def _table_problems(folder: Path, names: Iterable[str], version: Version) -> list[str]:
    tables = file_numbers(names, "ldb", "sst")
    problems = []
    for number, table in sorted(version.files.items()):
        size = None
        if number in tables:
            with suppress(FileNotFoundError):
                size = (folder / tables[number]).stat().st_size
        if size is None:
            problems.append(f"table {number:06d} is missing")
        elif size != table.size:
            problems.append(f"{tables[number]} has {size} bytes instead of {table.size}")
    return problems


def _log_problems(logs: Sequence[LogState], version: Version) -> list[str]:
    """Return damage within logs, and gaps between the MANIFEST and the logs or between two logs.

    Only the newest log can have a torn end, or no record: LevelDB begins a log after the last record of the previous
    one. It syncs the name of a log before the MANIFEST says that the log is needed.
    """
    problems = []
    expected = version.last_sequence + 1
    for position, log in enumerate(logs):
        followers = logs[position + 1 :]
        if log.ending is Ending.DAMAGED:
            problems.append(f"{log.name} is damaged: {log.reason}")
        elif log.ending is Ending.TORN and any(later.size for later in followers):
            problems.append(f"{log.name} is damaged: {log.reason}, and a later log follows")
        elif not log.records and any(later.records for later in followers):
            problems.append(f"{log.name} is damaged: it has no record, and a later log has")
        if log.first is None or log.next is None:
            continue
        if log.first > expected:
            problems.append(f"{log.name} begins at {log.first}, but the operations before it end at {expected - 1}")
        expected = log.next
    first = f"{version.log_number:06d}.log"
    if version.log_number and not problems and any(log.records for log in logs) and logs[0].name > first:
        problems.append(f"{first} is missing, and a later log has records")
    return problems


def examine_log(path: Path, max_record: int | None = None) -> LogState:
    """Return the state of a log. max_record: as for `examine_database`. Raises OSError."""
    records = 0
    first = following = None
    too_short = ""
    with open_file(path) as file:
        reader = LogReader(file, most=max_record)
        for record in reader:
            records += 1
            if len(record) < HEAD.size:
                too_short = f"record {records} has {len(record)} bytes, too few for a batch"
                continue
            sequence, count = HEAD.unpack_from(record)
            first = sequence if first is None else first
            following = sequence + count
        end = reader.end
        size = file.seek(0, 2)
    ending = Ending.DAMAGED if too_short else end.ending
    reason = too_short or end.reason
    return LogState(path.name, size, ending, end.offset, reason, records, first, following, end.changed)
