"""Stores quarantined Kafka messages in `BACKUP_DIR/journal/dead-letters/`, in case STORAGE_DIR is lost.

The messages of a file came after those of the previous file. A file is written before the journal has the offset that
follows its messages, and removed once none of them is in the quarantine any more.
"""

from __future__ import annotations

import hashlib
import logging
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import msgspec
from isal import igzip_lib, isal_zlib

from eventvault import data_folders
from eventvault.damage import as_answer
from eventvault.database import keys
from eventvault.database.registry import EventRegistry
from eventvault.errors import DatabaseDamaged, DiskFailed
from eventvault.files import durable_file, make_folder, matching
from eventvault.gzip_format import WBITS
from eventvault.kafka import quarantine_format
from eventvault.kafka.values import Totals
from eventvault.regular_files import NotRegular, read_file
from eventvault.small_files import SmallFileDamaged, quarantine_or_log

log = logging.getLogger("BackupManager")

FILE_BYTES = 8 * 2**20
FILE_MESSAGES = 5_000
_MOST_BYTES = 256 * 2**20
"""More than any file holds: a file ends after 8 MiB, or with the dead letters of one write of events."""
_LEVEL = 1
_NAME = re.compile(rf"{data_folders.LETTERS_PREFIX}[0-9]{{19}}-[0-9]{{19}}\.jsonl\.gz")
_LAST = keys.QUARANTINE_LIST + b"\xff" * 9
_IsalError = cast(type[Exception], igzip_lib.IsalError)
_DAMAGE = (ValueError, msgspec.MsgspecError, _IsalError, NotRegular, IsADirectoryError)

Row = tuple[bytes, bytes, bytes]
"""A message: its list key, the facts that a list shows, and its content."""


class DeadLettersHeader(msgspec.Struct, frozen=True, rename="camel"):
    """The first line of a file. sha256: of all other lines, in hex."""

    format_version: int
    installation: str
    messages: int
    sha256: str


class DeadLettersFolder:
    """The files of one installation. Used by one thread at a time.

    using: yields the registry; it is left before a file is written.
    """

    def __init__(
        self, root: Path, installation: str, using: Callable[[], AbstractContextManager[EventRegistry]]
    ) -> None:
        self._folder = root / data_folders.DEAD_LETTERS
        self._installation = installation
        self._using = using
        self._upto: int | None = None
        """When the newest message in the files was quarantined; None before the files were read."""
        self._keys: dict[Path, frozenset[bytes]] = {}
        """File → the list keys of its messages."""

    def write_new(self) -> None:
        """Write the messages that came since the last call. Raises the errors of `tend`."""
        if self._upto is None:
            self._upto = self.tend()
        while rows := self._read(quarantine_format.first_key_after(self._upto)):
            self._write(rows)
            self._upto = quarantine_format.read_list_key(rows[-1][0])[0]

    def tend(self) -> int:
        """Write the messages that no file has, for example after a file was deleted. Remove files that are not needed.

        A file with mostly messages that left the quarantine is written again without them. Returns when the newest
        message was quarantined; 0 if there never was one. Raises NoSpace, OSError, or why the database is not open.
        """
        files = self._files()
        self._keys = {path: self._keys[path] if path in self._keys else self._keys_in(path) for path in files}
        with self._using() as registry:
            quarantined = registry.scan_meta(keys.QUARANTINE_LIST).keys()
        for path, listed in list(self._keys.items()):
            remaining = listed & quarantined
            if listed and 2 * len(remaining) < len(listed):
                rows = self._rows_of(path, remaining)
                written = self._write(rows) if rows else None
                if written != path:
                    self._keys.pop(path)
                    path.unlink(missing_ok=True)
        missing = sorted(quarantined - frozenset[bytes]().union(*self._keys.values()))
        while missing and (rows := self._read(missing[0][:-1], frozenset(missing))):
            path = self._path_of(rows)
            if path in self._keys:  # for example after a restore: the file has other messages of the same instants
                self._write(sorted({*self._rows_of(path, self._keys[path]), *rows}))
            else:
                self._write(rows)
            missing = [key for key in missing if key > rows[-1][0]]
        self._upto = max([self._upto or 0, *(quarantine_format.read_list_key(key)[0] for key in quarantined)])
        return self._upto

    def _read(self, start: bytes, list_keys: frozenset[bytes] | None = None) -> list[Row]:
        with self._using() as registry:
            return list(_rows_from(registry, start, list_keys))

    def _files(self) -> list[Path]:
        return files_of(self._folder.parent)

    def _keys_in(self, path: Path) -> frozenset[bytes]:
        """Return the keys in a file; none if the disk fails to read it, so that its messages are written again."""
        try:
            return frozenset(key for key, _, _ in read(path, self._installation) or ())
        except DiskFailed as error:
            log.warning("messages of the quarantine are written to the journal again: %s", error.message)
            return frozenset()

    def _rows_of(self, path: Path, list_keys: frozenset[bytes]) -> list[Row]:
        if not list_keys:
            return []
        return [row for row in read(path, self._installation) or () if row[0] in list_keys]

    def _path_of(self, rows: Sequence[Row]) -> Path:
        first, last = (quarantine_format.read_list_key(key)[0] for key in (rows[0][0], rows[-1][0]))
        return self._folder / f"{data_folders.LETTERS_PREFIX}{first:019d}-{last:019d}.jsonl.gz"

    def _write(self, rows: Sequence[Row]) -> Path:
        lines = b"".join(msgspec.json.encode([b64encode(part).decode() for part in row]) + b"\n" for row in rows)
        header = DeadLettersHeader(1, self._installation, len(rows), hashlib.sha256(lines).hexdigest())
        make_folder(self._folder)
        path = self._path_of(rows)
        with durable_file(path) as file:
            file.write(isal_zlib.compress(msgspec.json.encode(header) + b"\n" + lines, _LEVEL, wbits=WBITS))
        self._keys[path] = frozenset(row[0] for row in rows)
        return path


def files_of(root: Path) -> list[Path]:
    """Return the files of a journal, oldest messages first."""
    return sorted(path for path in matching(root / data_folders.DEAD_LETTERS) if _NAME.fullmatch(path.name))


def check_readable(root: Path, installation: str) -> None:
    """Raise DiskFailed, or another error of `as_answer`, if the system cannot read a file of a journal."""
    for path in files_of(root):
        read(path, installation)


def read(path: Path, installation: str) -> list[Row] | None:
    """Return the messages of a file; None if it is of another installation, or damaged (then it is quarantined).

    Raises DiskFailed, or another error of `as_answer`, if the system cannot read it.
    """
    try:
        return _rows_in(path, read_file(path), installation)
    except FileNotFoundError:
        return None
    except _DAMAGE as error:
        quarantine_or_log(path, SmallFileDamaged(f"{path} is damaged: {error}"))
        return None
    except OSError as error:
        raise as_answer(f"reading {path}", error) from error


def _rows_in(path: Path, content: bytes, installation: str) -> list[Row] | None:
    inflater = isal_zlib.decompressobj(wbits=WBITS)
    text = inflater.decompress(content, _MOST_BYTES)
    first, _, lines = text.partition(b"\n")
    header = msgspec.json.decode(first, type=DeadLettersHeader)
    if header.installation != installation or header.format_version != 1:
        return None
    rows = [_row(line) for line in lines.splitlines()]
    if hashlib.sha256(lines).hexdigest() != header.sha256 or len(rows) != header.messages or not inflater.eof:
        raise ValueError("it does not match its header")
    return rows


def put_back(db: Any, root: Path, installation: str) -> None:
    """Put messages of the journal that the database lacks into it. Nothing else may write to the database meanwhile.

    Raises the errors of `read`.
    """
    count = 0
    for path in files_of(root):
        for key, facts, content in read(path, installation) or ():
            place = quarantine_format.content_key(key)
            if db.get(place) is None:
                with db.write_batch(transaction=True) as batch:
                    batch.put(place, content)
                    batch.put(key, facts)
                count += 1
    if count:
        totals = quarantine_format.read_totals(db.get(keys.META_QUARANTINE, verify_checksums=True))
        db.put(
            keys.META_QUARANTINE,
            quarantine_format.encoded_totals(Totals(totals.letters + count, totals.dropped)),
            sync=True,
        )


def _row(line: bytes) -> Row:
    key, facts, content = (
        b64decode(part, validate=True) for part in msgspec.json.decode(line, type=tuple[str, str, str])
    )
    quarantine_format.check_row(key, facts, content)
    return key, facts, content


def _rows_from(registry: EventRegistry, start: bytes, list_keys: frozenset[bytes] | None) -> Iterator[Row]:
    """Yield messages after `start` for one file, with all or none of an instant. list_keys: only these; None: all."""
    room, number, instant = FILE_BYTES, 0, 0
    with registry.rows(start, _LAST) as listed:
        for key, facts in listed:
            this = quarantine_format.read_list_key(key)[0]
            if this != instant and (room <= 0 or number >= FILE_MESSAGES):
                return
            if list_keys is not None and key not in list_keys:
                continue
            content = registry.get_value(quarantine_format.content_key(key))
            if content is None:
                if registry.get_value(key) is None:  # it left the quarantine since the list was opened
                    continue
                raise DatabaseDamaged(
                    "a message of the quarantine has no content",
                    hint="restore the newest backup; POST /api/backup/restore",
                )
            room, number, instant = room - len(content), number + 1, this
            yield key, facts, content
