"""STORAGE_DIR/archived_tables.json: the SHA-256 of every archived table, so that the next backup need not read it.

LevelDB never changes a complete table, and never uses its number again in the same database. So a table of the same
store, generation, name, size and inode, with the same last bytes, is the one that was read. The last bytes hold
LevelDB's filter of all keys and its index with the offset and size of every block. The modification time must be the
same too, which alone is no proof. See docs/adr/0010-unchanged-tables-are-not-read-again.md.

The file only saves reading. Without it, or if anything differs, a table is read and identified by its content.
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
_TAIL_BYTES = 16 * 1024


class TableFingerprint(msgspec.Struct, frozen=True, gc=False):
    """Identifies a table's file without reading it. modified: ns. tail: SHA-256 of the last 16 KiB."""

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
    """Return the tables in a checkpoint's folder, by name. Hard links have the inodes of the live tables."""
    with os.scandir(folder) as entries:
        names = file_numbers([entry.name for entry in entries], "ldb", "sst").values()
    return {name: _read_fingerprint(folder / name) for name in names}


def load_digests(storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint]) -> dict[str, str]:
    """Return the SHA-256 in hex, by name, of those tables that an earlier backup of the same generation has read."""
    try:
        document = msgspec.json.decode((storage_dir / data_folders.ARCHIVED_TABLES).read_bytes(), type=_Document)
    except (OSError, msgspec.MsgspecError):
        return {}
    if (document.format, document.store, document.generation) != (FORMAT, about.store_id, about.generation.id):
        return {}
    archived = ((name, document.tables.get(name)) for name in tables)
    return {name: digest.sha256 for name, digest in archived if digest is not None and digest.table == tables[name]}


def save_digests(storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint]) -> None:
    """Store the digests of a finished backup. about: its manifest with `files`. On a full disk the old file stays."""
    digests = {file.name: TableDigest(tables[file.name], file.sha256) for file in about.files if file.name in tables}
    document = _Document(FORMAT, about.store_id, about.generation.id, digests)
    with suppress(NoSpace, OSError):
        write_durably(storage_dir / data_folders.ARCHIVED_TABLES, msgspec.json.encode(document))


def forget_digests(storage_dir: Path) -> None:
    """Remove the digests after damage was found, so that the next backup reads every table."""
    (storage_dir / data_folders.ARCHIVED_TABLES).unlink(missing_ok=True)


def _read_fingerprint(path: Path) -> TableFingerprint:
    with path.open("rb") as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, identity.size - _TAIL_BYTES))
    return TableFingerprint(identity.size, identity.inode, identity.modified, hashlib.sha256(tail).hexdigest())
