"""Reads an archive of format 1 from its first byte to its last and reports where it first differs from the format.

`parallel_reader` verifies and unpacks; this one is asked after a failure, for a precise error. It relies on nothing in
the index or the closing member, but compares both with what it read. Source: `docs/format.md`, "How it is read".
"""

from __future__ import annotations

import hashlib

from eventvault.archive import layout, manifest
from eventvault.archive.entries import EntryReader, IndexEntry
from eventvault.archive.format1.index import VERSION, Index, parse_index
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.source import OpenArchive, Source


def check_sequentially(archive: OpenArchive) -> Manifest:
    """Read the archive from its first byte to its last and return its manifest.

    Checks gzip, tar, the size and SHA-256 of each file, the index, and the SHA-256 of the whole file. Raises
    ArchiveDamaged, ArchiveIncomplete, ArchiveTooNew.
    """
    closing = find_closing(archive)
    source = Source(archive, 0, archive.size - layout.CLOSING_SIZE)
    reader = EntryReader(source)
    _check_folder(reader)
    records = _read_files(reader)
    about = manifest.decode(reader.text(layout.MANIFEST_NAME), archive.path, VERSION)
    _check_manifest(reader, about, records)
    _check_index(reader, closing)
    reader.end_blocks()
    if not source.at_end():
        raise source.damaged("something follows the end of the tar file")
    if source.digest() != closing.digest:
        raise source.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
    return about


def _check_folder(reader: EntryReader) -> None:
    entry = reader.begin(layout.opening_header(VERSION))
    if entry.name != layout.FOLDER_ENTRY or entry.size:
        raise reader.source.damaged(f"the folder {layout.FOLDER_ENTRY} should be here", entry.header)


def _read_files(reader: EntryReader) -> list[FileRecord]:
    records: list[FileRecord] = []
    while (entry := reader.begin()).name.startswith(layout.FOLDER_ENTRY):
        name = entry.name.removeprefix(layout.FOLDER_ENTRY)
        _check_order(reader, entry, name, records)
        sha256 = hashlib.sha256()
        for piece in reader.content():
            sha256.update(piece)
        records.append(FileRecord(name, entry.size, sha256=sha256.hexdigest()))
    return records


def _check_order(reader: EntryReader, entry: IndexEntry, name: str, records: list[FileRecord]) -> None:
    if not layout.is_safe_name(name) or (records and records[-1].name >= name):
        raise reader.source.damaged(f"the file {name!r} should not be here", entry.header)
    if len(records) == manifest.MAX_FILES:
        raise reader.source.damaged(f"there are more than {manifest.MAX_FILES} files", entry.header)


def _check_manifest(reader: EntryReader, about: Manifest, records: list[FileRecord]) -> None:
    offset = reader.seen[-1].header
    for record, listed in zip(records, about.files, strict=False):
        if record != listed:
            raise reader.source.damaged(f"{record.name} is not the file that {layout.MANIFEST_NAME} describes", offset)
    if len(records) != len(about.files):
        why = f"{layout.MANIFEST_NAME} names {len(about.files)} files, there are {len(records)}"
        raise reader.source.damaged(why, offset)
    if reader.modified != about.modified:
        raise reader.source.damaged("the time in the tar headers is not that of the manifest", offset)


def _check_index(reader: EntryReader, closing: Closing) -> None:
    expected = Index(VERSION, tuple(reader.seen))
    offset = reader.begin().header
    if parse_index(reader.text(layout.INDEX_NAME), reader.source.archive, offset) != expected:
        raise reader.source.damaged(f"{layout.INDEX_NAME} is not true", offset)
    if closing.index_offset != offset:
        raise reader.source.damaged("the closing member names another place for the index", offset)
