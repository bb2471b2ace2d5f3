"""STORAGE_DIR/archived_tables.json: the SHA-256 of each table that an archive holds, so that it need not be read again.

LevelDB never changes a table once it is complete, and never gives its number to another in the same database. So a
table of the same store and generation, name, size and inode, with the same last bytes, is the one that was read: there
lie LevelDB's filter of all its keys and its index, with the place and size of each block. The time of its last change
must be the same, too, which alone proves nothing. docs/adr/0010-unchanged-tables-are-not-read-again.md has the rest.

The file only spares reading. Without it, or where anything differs, a table is read and told by its content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.archive.manifest import Manifest
from eventvault.errors import NoSpace
from eventvault.files import FileIdentity, write_durably
from eventvault.leveldb.examine import file_numbers

FORMAT = 1
_TAIL = 16 * 1024


class TableFingerprint(msgspec.Struct, frozen=True, gc=False):
    """What a table's file looks like without reading it. modified in ns. tail: SHA-256 of its last 16 KiB."""

    size: int
    inode: int
    modified: int
    tail: str


class TableDigest(msgspec.Struct, frozen=True, gc=False):
    table: TableFingerprint
    sha256: str


class _Document(msgspec.Struct, frozen=True):
    format: int
    store: str
    generation: str
    tables: dict[str, TableDigest]


def read_fingerprints(folder: Path) -> dict[str, TableFingerprint]:
    """The tables in a checkpoint's folder, by name; links to the live ones have their inodes."""
    with os.scandir(folder) as entries:
        names = file_numbers([entry.name for entry in entries], "ldb", "sst").values()
    return {name: _look(folder / name) for name in names}


def load_digests(storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint]) -> dict[str, str]:
    """The SHA-256 in hex of those tables that an earlier backup of the same generation has read, by name."""
    try:
        document = msgspec.json.decode((storage_dir / data_folders.ARCHIVED_TABLES).read_bytes(), type=_Document)
    except (OSError, msgspec.MsgspecError):
        return {}
    if (document.format, document.store, document.generation) != (FORMAT, about.store_id, about.generation.id):
        return {}
    found = ((name, document.tables.get(name)) for name in tables)
    return {name: known.sha256 for name, known in found if known is not None and known.table == tables[name]}


def save_digests(storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint]) -> None:
    """Keep what a finished backup found; about: its manifest with `files`. On a full disk the old knowledge stays."""
    known = {file.name: TableDigest(tables[file.name], file.sha256) for file in about.files if file.name in tables}
    document = _Document(FORMAT, about.store_id, about.generation.id, known)
    with suppress(NoSpace, OSError):
        write_durably(storage_dir / data_folders.ARCHIVED_TABLES, msgspec.json.encode(document))


def forget_digests(storage_dir: Path) -> None:
    """After damage was found: the next backup reads every table."""
    (storage_dir / data_folders.ARCHIVED_TABLES).unlink(missing_ok=True)


def _look(path: Path) -> TableFingerprint:
    with path.open("rb") as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        tail = os.pread(file.fileno(), _TAIL, max(0, identity.size - _TAIL))
    return TableFingerprint(identity.size, identity.inode, identity.modified, hashlib.sha256(tail).hexdigest())
