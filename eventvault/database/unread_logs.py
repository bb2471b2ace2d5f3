"""Second names for the logs of a database while LevelDB opens it, so that none is lost that LevelDB does not see.

LevelDB lists the folder with `readdir` and looks at no error of it (`PosixEnv::GetChildren` in `util/env_posix.cc`). A
log that is missing in the list is not read, and then removed as obsolete, with its records. So each log has a second
name until LevelDB's own LOG says that it was read. What was not read gets a new number, with all logs after it: LevelDB
reads them, in this order, at its next opening. A log that is read twice changes nothing, if nothing was written since.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from eventvault import data_folders
from eventvault.files import durable_file, matching, sync_folder
from eventvault.leveldb.examine import Examination, LogState, examine_database, examine_log, file_numbers
from eventvault.regular_files import open_file, read_file

_READ = re.compile(rb"Recovering log #([0-9]+)")
_NO_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def name_twice(folder: Path, examination: Examination) -> None:
    """Give each log that LevelDB has to read a second name. Raises OSError."""
    for log in _with_records(examination):
        path, second = folder / log.name, _second(folder, log.name)
        try:
            second.hardlink_to(path)
        except FileExistsError:
            if not second.samefile(path):
                second.unlink()
                second.hardlink_to(path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            with durable_file(second) as copy, open_file(path) as source:
                copy.write(source.read())


def unread(folder: Path, examination: Examination) -> list[str]:
    """Return the names of the logs that LevelDB did not read when it opened the database. Raises OSError.

    examination: from before the opening. If LOG could not be written, the sequence number that LevelDB came to tells
    whether it read the only log there was.
    """
    logs = _with_records(examination)
    read = set(_read_numbers(folder))
    missing = [log.name for log in logs if _number(log.name) not in read]
    if not read and len(missing) == 1 and examine_database(folder).last_sequence >= examination.last_sequence:
        return []
    return missing


def put_back_leftovers(folder: Path, examination: Examination) -> bool:
    """Put back what an opening left that was cut short. Nobody has the database open.

    Returns whether there was any. Content that the database has by its sequence numbers only loses its second name.
    """
    needed = {log.name for log in examination.logs}
    found = [path for path in _second_names(folder) if path.stem not in needed]
    lost = [path for path in found if not _is_contained(path, examination)]
    for path in found:
        if path not in lost:
            path.unlink()
    _renumber(folder, lost)
    return bool(lost)


def put_back(folder: Path) -> None:
    """Let LevelDB read all logs with second names at its next opening, as it did not read one of them."""
    _renumber(folder, _second_names(folder))


def name_once(folder: Path, examination: Examination) -> None:
    """Remove the second names durably: LevelDB has read the logs, and from now on may write. Raises OSError."""
    logs = _with_records(examination)
    for log in logs:
        _second(folder, log.name).unlink(missing_ok=True)
    if logs:
        sync_folder(folder)


def _renumber(folder: Path, seconds: Sequence[Path]) -> None:
    """Let the first one take the place of the empty log that LevelDB has begun, and the others follow."""
    if not seconds:
        return
    number = 1 + max(file_numbers([path.name for path in folder.iterdir()], "log", "ldb", "sst"), default=0)
    begun = examine_database(folder).logs
    numbers = chain([] if _has_records(begun) else [_number(log.name) for log in begun[:1]], count(number))
    for path, chosen in zip(sorted(seconds, key=lambda path: _number(path.name)), numbers, strict=False):
        path.rename(folder / f"{chosen:06d}.log")
    sync_folder(folder)


def _is_contained(path: Path, examination: Examination) -> bool:
    log = examine_log(path)
    return log.next is None or log.next - 1 <= examination.last_sequence


def _has_records(logs: Sequence[LogState]) -> bool:
    return any(log.records for log in logs)


def _with_records(examination: Examination) -> list[LogState]:
    return [log for log in examination.logs if log.records]


def _read_numbers(folder: Path) -> list[int]:
    with suppress(OSError):
        return [int(number) for number in _READ.findall(read_file(folder / "LOG"))]
    return []


def _second_names(folder: Path) -> list[Path]:
    return matching(folder, f"*.log{data_folders.OPENING_SUFFIX}")


def _second(folder: Path, name: str) -> Path:
    return folder / f"{name}{data_folders.OPENING_SUFFIX}"


def _number(name: str) -> int:
    return int(name.partition(".")[0])
