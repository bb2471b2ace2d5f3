"""Opens and reads a private copy of an untrusted LevelDB, and checks every checksum.

Before LevelDB opens the copy, everything that it would hold in memory is bounded: blocks, indexes, records of logs. The
tables are mapped into memory, so the size of the database itself does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import plyvel

from eventvault import record_size
from eventvault.damage import is_damage
from eventvault.database.cut_off import cut_torn_ends
from eventvault.database.existing import open_existing
from eventvault.errors import ArchiveAlien, ArchiveDamaged, DatabaseDamaged
from eventvault.files import matching
from eventvault.leveldb import dialect
from eventvault.leveldb.dialect import OtherDialect
from eventvault.leveldb.examine import Examination, examine_database, file_numbers
from eventvault.leveldb.log import Ending, LogReader, encode_appended
from eventvault.leveldb.manifest import BYTEWISE, edit_of_next_file_number, read_current, read_version
from eventvault.leveldb.table import check_blocks
from eventvault.leveldb.write_batch import check_count
from eventvault.regular_files import open_file
from eventvault.system_errors import number_of, text_of

_OPEN_TABLES = 74
"""The smallest number of open files that LevelDB accepts; 64 of them are tables."""
_MAX_INDEX_BYTES = 128 * 2**20
"""Limit for the indexes of all tables that are open at once."""
_MAX_MANIFEST_BYTES = 64 * 2**20
_MAX_FILE_NUMBER = 2**60
_HINT = "restore another archive; this one does not change"


class SourceDatabase(NamedTuple):
    """An open database. It has no filter policy, so LevelDB does not use the filters in its tables."""

    db: Any
    examination: Examination
    name: str

    def rows(self, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in key order. options: of plyvel's iterator. Raises ArchiveDamaged.

        A long key is refused at once, because the following keys may share it as a prefix, and each would take as much.
        """
        with self.db.iterator(verify_checksums=True, fill_cache=False, **options) as rows:
            while True:
                try:
                    row: tuple[bytes, bytes] = next(rows)
                except StopIteration:
                    return
                except plyvel.Error as error:
                    raise _read_error(self.name, error) from error
                if len(row[0]) > record_size.LONGEST_KEY:
                    raise _damage_error(
                        self.name,
                        f"a key has {len(row[0])} bytes, more than the {record_size.LONGEST_KEY} that are read",
                    )
                yield row
                del row  # it may be large, and the next one is read

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key. Raises ArchiveDamaged."""
        try:
            value: bytes | None = self.db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise _read_error(self.name, error) from error
        return value

    def torn_notes(self) -> Iterable[str]:
        """Yield a sentence for each log whose end is torn."""
        for log in self.examination.logs:
            if log.ending is Ending.TORN:
                yield (
                    f"{log.name} ends within a record, as a crash leaves it: its last {log.size - log.offset} bytes "
                    "are not a whole record and were not imported"
                )


@contextmanager
def open_source(folder: Path, name: str) -> Iterator[SourceDatabase]:
    """Open the LevelDB in `folder`, a private copy: opening writes to it.

    name: of the archive, for errors. Raises ArchiveDamaged, or ArchiveAlien if there is no database that can be opened.
    """
    with as_archive_error(name):
        examination = check_bounds(folder)
        if examination.comparator != BYTEWISE:
            raise dialect.other_dialect(dialect.of_comparator(examination.comparator))
        cut_torn_ends(folder, examination.logs, retain_in=None)
        correct_next_file_number(folder)
    with closing(_open(folder, name)) as db:
        yield SourceDatabase(db, examination, name)


@contextmanager
def as_archive_error(name: str) -> Iterator[None]:
    """Turn an error about an unpacked database into an error about the archive `name`."""
    try:
        yield
    except OtherDialect as error:
        raise ArchiveAlien(f"{name} holds no database that can be read: {error.message}", hint=error.hint) from error
    except DatabaseDamaged as error:
        raise _damage_error(name, error.message) from error
    except FileNotFoundError as error:
        raise ArchiveAlien(f"there is no database in {name}: {error.strerror}", hint=_HINT) from error


def check_bounds(folder: Path) -> Examination:
    """Check that LevelDB can read the database in `folder` within bounded memory.

    Returns the state of its files. Raises DatabaseDamaged, or OtherDialect if a fork of LevelDB wrote it.
    """
    for manifest in matching(folder, "MANIFEST-*"):
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            raise DatabaseDamaged(f"{manifest.name} has more than {_MAX_MANIFEST_BYTES} bytes", hint=_HINT)
    examination = examine_database(folder, max_record=record_size.longest_write())
    if examination.damaged:
        raise DatabaseDamaged("; ".join(examination.problems), hint=_HINT)
    if examination.comparator == BYTEWISE:
        for log in examination.logs:
            _check_log(folder / log.name)
    _check_tables(folder)
    return examination


def _check_log(path: Path) -> None:
    """Check that no record has too many operations: each takes more bytes in memory than in the log."""
    with open_file(path) as file:
        for record in LogReader(file, most=record_size.longest_write()):
            check_count(path.name, record)


def _check_tables(folder: Path) -> None:
    path = folder / read_current(folder)
    with open_file(path) as manifest:
        named = read_version(manifest, name=path.name).files
    tables = file_numbers([file.name for file in folder.iterdir()], "ldb", "sst")
    indexes = []
    for name in [name for number, name in tables.items() if number in named]:
        with open_file(folder / name) as file:
            size = os.fstat(file.fileno()).st_size
            most = record_size.longest_event() + record_size.LONGEST_KEY
            indexes.append(check_blocks(name, size, partial(_read_at, file.fileno()), most))
    if sum(sorted(indexes)[-_OPEN_TABLES:]) > _MAX_INDEX_BYTES:
        raise DatabaseDamaged(f"the indexes of its tables have more than {_MAX_INDEX_BYTES} bytes", hint=_HINT)


def _read_at(handle: int, offset: int, count: int) -> bytes:
    return os.pread(handle, count, offset)


def correct_next_file_number(folder: Path) -> None:
    """Let LevelDB number new files after the existing ones, whatever the MANIFEST says, so that it overwrites none.

    folder: a private copy, without torn ends. Raises DatabaseDamaged.
    """
    path = folder / read_current(folder)
    with open_file(path, "r+b") as file:
        version = read_version(file, name=path.name)
        names = [file.name for file in folder.iterdir()]
        numbers = [*file_numbers(names, "log", "ldb", "sst"), int(path.name.partition("-")[2])]
        if max(numbers) > _MAX_FILE_NUMBER:
            raise DatabaseDamaged(f"it has a file with the number {max(numbers)}", hint=_HINT)
        file.truncate(version.manifest_size)
        file.seek(version.manifest_size)
        file.write(encode_appended(edit_of_next_file_number(max(numbers) + 1), version.manifest_size))


def _open(folder: Path, name: str) -> Any:
    try:
        return open_existing(folder, paranoid_checks=True, max_open_files=_OPEN_TABLES)
    except plyvel.Error as error:
        raise _read_error(name, error) from error


def _read_error(name: str, error: plyvel.Error) -> Exception:
    """Return ArchiveDamaged, or the error itself if it is the system's error about a disk."""
    return _damage_error(name, text_of(error)) if is_damage(error) or number_of(error) is None else error


def _damage_error(name: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(f"{name} holds a database that is damaged: {what}", hint=_HINT)
