"""STORAGE_DIR/archived_tables.json: every archived table and its BLAKE3, so that the next backup need not read it.

LevelDB never changes a complete table, and never uses its number again in the same database. So a table of the same
store, generation, name, size and inode, with the same last bytes, is the one that was read. The last bytes hold
LevelDB's filter of all keys and its index with the offset and size of every block. The modification time must be the
same too, which alone is no proof. See docs/adr/0010-unchanged-tables-are-not-read-again.md.

Without the file, or if anything differs, a table is read, identified by its content and checked. The file also holds
the damage that a backup found, so that health shows it after a restart of the store.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.archive.manifest import Manifest
from eventvault.errors import NoSpace
from eventvault.files import FileIdentity
from eventvault.leveldb.examine import file_numbers
from eventvault.regular_files import open_file

_TAIL_BYTES = 16 * 1024


class TableFingerprint(msgspec.Struct, frozen=True, gc=False):
    """Identifies a table's file without reading it. modified: ns. tail: SHA-256 of the last 16 KiB."""

    size: int
    inode: int
    modified: int
    tail: str


class TableDigest(msgspec.Struct, frozen=True, gc=False):
    """What is known of a table that was archived. checked: every block of it was found whole then."""

    table: TableFingerprint
    blake3: str
    checked: bool = False


class Damage(msgspec.Struct, frozen=True):
    """Why the newest backup found the database damaged."""

    message: str
    hint: str


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[2]
    store: str
    generation: str
    tables: dict[str, TableDigest]
    damage: Damage | None = None


class _EarlierDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file without a checksum. Format 1 of EventVault 0.1.0 has no BLAKE3."""

    format: int
    store: str
    generation: str
    tables: dict[str, Any]
    damage: Any = None


def read_fingerprints(folder: Path) -> dict[str, TableFingerprint]:
    """Return the tables in a checkpoint's folder, by name. Hard links have the inodes of the live tables."""
    with os.scandir(folder) as entries:
        names = file_numbers([entry.name for entry in entries], "ldb", "sst").values()
    return {name: _read_fingerprint(folder / name) for name in names}


def load_digests(storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint]) -> dict[str, TableDigest]:
    """Return what is known, by name, of those tables that an earlier backup of the same generation has archived."""
    document = _load(storage_dir)
    if document is None or (document.store, document.generation) != (about.store_id, about.generation.id):
        return {}
    archived = ((name, document.tables.get(name)) for name in tables)
    return {name: digest for name, digest in archived if digest is not None and digest.table == tables[name]}


def find_digest(storage_dir: Path, generation: str | None, table: Path) -> str | None:
    """Return the BLAKE3 that a table of the current generation had when it was archived; None if it is not known."""
    document = _load(storage_dir)
    noted = document.tables.get(table.name) if document is not None and document.generation == generation else None
    return noted.blake3 if noted is not None and noted.table.size == table.stat().st_size else None


def save_digests(
    storage_dir: Path, about: Manifest, tables: Mapping[str, TableFingerprint], unchecked: Collection[str] = ()
) -> None:
    """Store the digests of a finished backup. about: its manifest with `files`. unchecked: not checked yet.

    Damage that an earlier backup found stays until all tables are checked.
    """
    to_check = frozenset(unchecked)
    digests = {
        file.name: TableDigest(tables[file.name], file.blake3 or "", checked=file.name not in to_check)
        for file in about.files
        if file.name in tables
    }
    damage = document.damage if unchecked and (document := _load(storage_dir)) else None
    _save(storage_dir, _Document(2, about.store_id, about.generation.id, digests, damage))


def save_checked(storage_dir: Path, generation: str, names: Collection[str]) -> None:
    """Note that these tables are whole, and with them the database of this generation."""
    document = _load(storage_dir)
    if document is None or document.generation != generation:
        return
    whole = frozenset(names)
    tables = {
        name: msgspec.structs.replace(digest, checked=digest.checked or name in whole)
        for name, digest in document.tables.items()
    }
    _save(storage_dir, msgspec.structs.replace(document, tables=tables, damage=None))


def load_damage(storage_dir: Path) -> tuple[str, Damage] | None:
    """Return the id of a generation, and the damage that the newest backup of it found; None if it found none."""
    document = _load(storage_dir)
    return (document.generation, document.damage) if document and document.damage else None


def save_damage(storage_dir: Path, store: str, generation: str, damage: Damage) -> None:
    """Note the damage until a backup succeeds. Digests of the same generation stay."""
    document = _load(storage_dir)
    if document is None or (document.store, document.generation) != (store, generation):
        document = _Document(2, store, generation, {})
    _save(storage_dir, msgspec.structs.replace(document, damage=damage))


def forget_digests(storage_dir: Path) -> None:
    """Remove the digests after an archive was found damaged, so that the next backup reads every table.

    Damage of the database that a backup found stays.
    """
    document = _load(storage_dir)
    (storage_dir / data_folders.ARCHIVED_TABLES).unlink(missing_ok=True)
    if document is not None and document.damage is not None:
        _save(storage_dir, msgspec.structs.replace(document, tables={}))


def _load(storage_dir: Path) -> _Document | None:
    with suppress(OSError, msgspec.ValidationError):
        path = storage_dir / data_folders.ARCHIVED_TABLES
        document = small_files.read_or_quarantine(path, _Document, earlier=_EarlierDocument)
        if isinstance(document, _Document) or document is None:
            return document
        if document.format == 2:
            return msgspec.convert(msgspec.to_builtins(document), _Document)
    return None


def _save(storage_dir: Path, document: _Document) -> None:
    """On a full disk the old file stays."""
    with suppress(NoSpace, OSError):
        small_files.write(storage_dir / data_folders.ARCHIVED_TABLES, document)


def _read_fingerprint(path: Path) -> TableFingerprint:
    with open_file(path) as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, identity.size - _TAIL_BYTES))
    return TableFingerprint(identity.size, identity.inode, identity.modified, hashlib.sha256(tail).hexdigest())
