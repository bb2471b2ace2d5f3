"""Opens and reads a private copy of a LevelDB that is not trusted, with every checksum."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import plyvel

from eventvault.damage import is_damage
from eventvault.database.cut_off import cut_torn_ends
from eventvault.errors import ArchiveAlien, ArchiveDamaged, DatabaseDamaged
from eventvault.leveldb.examine import Examination, examine_database, file_numbers
from eventvault.leveldb.log import Ending, appended
from eventvault.leveldb.manifest import BYTEWISE, edit_of_next_file_number, read_current, read_version
from eventvault.leveldb.table import check_block_sizes
from eventvault.system_errors import text_of

_OPEN_TABLES = 100
_MAX_FILE_NUMBER = 2**60
_MAX_BLOCK_BYTES = 136 * 2**20
"""A key and a value of 128 MiB, of which the journal can hold the base64, have room in it."""
_HINT = "restore another archive; this one does not change"


class SourceDatabase(NamedTuple):
    """An open database. It has no filter policy, so LevelDB does not use the filters in its tables."""

    db: Any
    examination: Examination
    damage: str

    def rows(self, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in key order. options: of plyvel's iterator. Raises ArchiveDamaged."""
        with self.db.iterator(verify_checksums=True, fill_cache=False, **options) as rows:
            while True:
                try:
                    row: tuple[bytes, bytes] = next(rows)
                except StopIteration:
                    return
                except plyvel.Error as error:
                    raise _read_error(self.damage, error) from error
                yield row

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key. Raises ArchiveDamaged."""
        try:
            value: bytes | None = self.db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise _read_error(self.damage, error) from error
        return value

    def torn_notes(self) -> Iterable[str]:
        """Yield a sentence for each log whose end is torn."""
        for log in self.examination.logs:
            if log.ending is Ending.TORN:
                yield (
                    f"{log.name} ends within a record, as a crash leaves it: its last {log.size - log.offset} bytes "
                    "are no whole record and were not imported"
                )


@contextmanager
def open_source(folder: Path, damage: str) -> Iterator[SourceDatabase]:
    """Open the LevelDB in `folder`, a private copy: opening writes to it.

    damage: the sentence that an error begins with, if it is damaged. Raises ArchiveDamaged, or ArchiveAlien if there is
    no database that can be opened.
    """
    examination = _examine(folder, damage)
    cut_torn_ends(folder, examination.logs, retain_in=None)
    try:
        _check_block_sizes(folder)
        correct_next_file_number(folder)
    except DatabaseDamaged as error:
        raise _damaged(damage, error.message) from error
    with closing(_open(folder, damage)) as db:
        yield SourceDatabase(db, examination, damage)


def _examine(folder: Path, damage: str) -> Examination:
    try:
        examination = examine_database(folder)
    except FileNotFoundError as error:
        raise ArchiveAlien(f"there is no database in {folder}: {error.strerror}", hint=_HINT) from error
    if examination.damaged:
        raise _damaged(damage, "; ".join(examination.problems))
    if examination.comparator != BYTEWISE:
        raise ArchiveAlien(f"the database sorts its keys in an own way, by {examination.comparator!r}", hint=_HINT)
    return examination


def _check_block_sizes(folder: Path) -> None:
    """Raise DatabaseDamaged if a table that the MANIFEST names has a block that would fill the memory."""
    path = folder / read_current(folder)
    with path.open("rb") as manifest:
        named = read_version(manifest, name=str(path)).files
    tables = file_numbers([file.name for file in folder.iterdir()], "ldb", "sst")
    for name in [name for number, name in tables.items() if number in named]:
        with (folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            check_block_sizes(name, size, partial(_read_at, file.fileno()), _MAX_BLOCK_BYTES)


def _read_at(handle: int, offset: int, count: int) -> bytes:
    return os.pread(handle, count, offset)


def correct_next_file_number(folder: Path) -> None:
    """Let LevelDB number new files after those that are there, whatever the MANIFEST says: it overwrites files else.

    folder: a private copy, without torn ends. Raises DatabaseDamaged.
    """
    path = folder / read_current(folder)
    with path.open("r+b") as file:
        version = read_version(file, name=str(path))
        names = [file.name for file in folder.iterdir()]
        numbers = [*file_numbers(names, "log", "ldb", "sst"), int(path.name.partition("-")[2])]
        if max(numbers) > _MAX_FILE_NUMBER:
            raise DatabaseDamaged(f"{folder} has a file with the number {max(numbers)}", hint=_HINT)
        file.truncate(version.manifest_size)
        file.seek(version.manifest_size)
        file.write(appended(edit_of_next_file_number(max(numbers) + 1), version.manifest_size))


def _open(folder: Path, damage: str) -> Any:
    try:
        return plyvel.DB(str(folder), create_if_missing=False, paranoid_checks=True, max_open_files=_OPEN_TABLES)
    except plyvel.Error as error:
        raise _read_error(damage, error) from error


def _read_error(damage: str, error: plyvel.Error) -> Exception:
    return _damaged(damage, text_of(error)) if is_damage(error) else error


def _damaged(damage: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(f"{damage}: {what}", hint=_HINT)
