"""Reads LevelDB's MANIFEST, a log of version edits, and returns the resulting version: the current set of tables.

Source: `db/version_edit.cc` and `VersionSet::Recover` in `db/version_set.cc` of LevelDB. An edit is a sequence of
fields. A field is a tag (varint) and its values: varints, or byte strings with their length (varint) before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb import dialect
from eventvault.leveldb.log import Ending, LogReader
from eventvault.regular_files import open_file

LEVELS = 7
BYTEWISE = "leveldb.BytewiseComparator"
"""The comparator of a database whose keys are sorted by their bytes; databases with another one are not read."""
MAX_TABLES = 200_000
"""The most tables of a database; LevelDB has fewer for 400 GB."""
HINT = "restore the newest good backup with POST /api/backup/restore; the damaged database is kept"

_KEY_SUFFIX = 8
"""The bytes that LevelDB appends to a user's key: its sequence number and the kind of the entry."""
_CURRENT = re.compile(rb"MANIFEST-[0-9]+\n")
_LONGEST_CURRENT = 100


class Tag(IntEnum):
    COMPARATOR = 1
    LOG_NUMBER = 2
    NEXT_FILE_NUMBER = 3
    LAST_SEQUENCE = 4
    COMPACT_POINTER = 5
    DELETED_FILE = 6
    NEW_FILE = 7
    PREV_LOG_NUMBER = 9


@dataclass(frozen=True)
class TableFile:
    """A table. size: in bytes. level: 0 to 6. smallest, largest: the first and last key, as the program wrote them."""

    size: int
    level: int
    smallest: bytes = b""
    largest: bytes = b""


@dataclass
class Version:
    """The state of a database, like LevelDB's class of this name. files: table number → TableFile.

    log_number: logs with lower numbers (except `prev_log_number`) are in the tables already. manifest_size: bytes of
    the MANIFEST up to the end of its last whole edit.
    """

    comparator: str = BYTEWISE
    log_number: int = 0
    prev_log_number: int = 0
    next_file_number: int = 0
    last_sequence: int = 0
    files: dict[int, TableFile] = field(default_factory=dict)
    manifest_size: int = 0

    def needs_log(self, number: int) -> bool:
        """Return True if log `number` may hold records that are not in a table yet."""
        return number >= self.log_number or (number == self.prev_log_number != 0)


def read_current(database: Path, *, name: str = "CURRENT") -> str:
    """Return the name of the MANIFEST that `database`/CURRENT names. Raises DatabaseDamaged, or the file's OSError.

    name: for messages.
    """
    with open_file(database / "CURRENT") as file:
        content = file.read(_LONGEST_CURRENT)
    if not _CURRENT.fullmatch(content):
        raise DatabaseDamaged(f"{name} does not name a MANIFEST: it holds {content[:80]!r}", hint=HINT)
    return content[:-1].decode()


def read_version(file: BinaryIO, size: int | None = None, *, name: str = "MANIFEST") -> Version:
    """Return the version after the edits in the first `size` bytes (default: all) of a MANIFEST.

    A torn tail counts as the end of the file. name: for messages. Raises DatabaseDamaged if an edit is unreadable.
    """
    reader = LogReader(file, size)
    version = Version()
    seen: set[Tag] = set()
    for record in reader:
        seen |= _apply(version, record, name)
    if reader.end.ending is Ending.DAMAGED:
        raise DatabaseDamaged(f"{name} is damaged: {reader.end.reason}", hint=HINT)
    missing = {Tag.LOG_NUMBER, Tag.NEXT_FILE_NUMBER, Tag.LAST_SEQUENCE} - seen
    if missing:
        names = ", ".join(tag.name.lower() for tag in sorted(missing))
        raise DatabaseDamaged(f"{name} has no {names}: its first edit is missing", hint=HINT)
    version.manifest_size = reader.end.offset
    return version


def _apply(version: Version, record: bytes, name: str) -> set[Tag]:
    """Apply one edit to `version`: deletions before additions, so that a table can change its level."""
    added: list[tuple[int, TableFile]] = []
    seen = set()
    try:
        for tag, value in _fields(record):
            seen.add(tag)
            if len(added) + len(version.files) > MAX_TABLES:
                raise ValueError(f"it names more than {MAX_TABLES} tables")
            match tag, value:
                case Tag.NEW_FILE, (int(level), int(number), int(size), bytes(smallest), bytes(largest)):
                    keys = smallest[:-_KEY_SUFFIX], largest[:-_KEY_SUFFIX]
                    added.append((number, TableFile(size, level, *keys)))
                case Tag.DELETED_FILE, (int(level), int(number)):
                    if (table := version.files.get(number)) and table.level == level:
                        del version.files[number]
                case Tag.COMPARATOR, (bytes(comparator),):
                    version.comparator = comparator.decode()
                case _, (int(number),):
                    setattr(version, tag.name.lower(), number)
    except ValueError as error:
        raise DatabaseDamaged(f"{name} holds an edit that cannot be read: {error}", hint=HINT) from error
    version.files.update(added)
    return seen


_LAYOUT = {
    Tag.COMPARATOR: "s",
    Tag.LOG_NUMBER: "v",
    Tag.NEXT_FILE_NUMBER: "v",
    Tag.LAST_SEQUENCE: "v",
    Tag.COMPACT_POINTER: "ls",
    Tag.DELETED_FILE: "lv",
    Tag.NEW_FILE: "lvvss",
    Tag.PREV_LOG_NUMBER: "v",
}
"""The values after a tag: v is a varint, l a level (a varint below LEVELS), s a byte string."""


def _fields(record: bytes) -> Iterator[tuple[Tag, tuple[int | bytes, ...]]]:
    """Yield the fields of one edit. Raises ValueError, or OtherDialect."""
    position = 0
    while position < len(record):
        number, position = _varint(record, position)
        if dialect.is_tag_of_rocksdb(number):
            raise dialect.other_dialect(dialect.ROCKSDB)
        tag = Tag(number)
        values: list[int | bytes] = []
        for kind in _LAYOUT[tag]:
            value, position = _varint(record, position)
            if kind == "l" and value >= LEVELS:
                raise ValueError(f"{value} is not a level")
            if kind == "s":
                if position + value > len(record):
                    raise ValueError("a byte string ends beyond its edit")
                values.append(record[position : position + value])
                position += value
            else:
                values.append(value)
        yield tag, tuple(values)


def edit_of_next_file_number(number: int) -> bytes:
    """Return the edit that sets the number of the next file. The last such edit of a MANIFEST is valid."""
    content = bytes([Tag.NEXT_FILE_NUMBER])
    while number >= 0x80:
        content += bytes([number & 0x7F | 0x80])
        number >>= 7
    return content + bytes([number])


def _varint(record: bytes, position: int) -> tuple[int, int]:
    """Read a varint of at most 64 bits. Returns its value and the position after it. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(record):
            raise ValueError("a number ends beyond its edit")
        byte = record[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than 64 bits")
