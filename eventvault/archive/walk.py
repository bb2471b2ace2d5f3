"""The walk through a whole archive of ours: every byte is read and must be what our writer writes.

`inflating` verifies and unpacks; where that fails, this says what is wrong and at which byte. Nothing that the index or
the closing member says is relied on: they are compared with what was found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from eventvault.archive import layout, manifest
from eventvault.archive.entries import EntryReader
from eventvault.archive.index import parse_index
from eventvault.archive.layout import Closing, Index, IndexEntry
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.source import Opened, Source
from eventvault.archive.watch import Watch

Write = Callable[[bytes], object]
Keep = Callable[[str, int], AbstractContextManager[Write]]
"""What becomes of a file of the database: by its name and size gives what takes its content."""


def walk(archive: Opened, keep: Keep, watch: Watch) -> Manifest:
    """Read the archive from its first byte to its last and hand each file of the database to `keep`.

    Gives the manifest, once all is proven: gzip, tar, each file's size and SHA-256, the index, and the SHA-256 of the
    whole file. Raises ArchiveDamaged, ArchiveIncomplete, ArchiveTooNew, Cancelled, and what `keep` raises.
    """
    closing = find_closing(archive)
    source = Source(archive, 0, archive.size - layout.CLOSING_SIZE, watch=watch)
    reader = EntryReader(source)
    _folder(reader)
    records = _files(reader, keep)
    about = manifest.decode(reader.text(layout.MANIFEST_NAME), archive.path)
    _agree(reader, about, records)
    _index(reader, closing)
    reader.end_blocks()
    if not source.at_end():
        raise source.damaged("something follows the end of the tar file")
    if source.digest() != closing.digest:
        raise source.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
    return about


def _folder(reader: EntryReader) -> None:
    entry = reader.begin(layout.opening_header())
    if entry.name != layout.FOLDER_ENTRY or entry.size:
        raise reader.source.damaged(f"the folder {layout.FOLDER_ENTRY} should be here", entry.header)


def _files(reader: EntryReader, keep: Keep) -> list[FileRecord]:
    """All files of the database; ends with the header of what follows them."""
    records: list[FileRecord] = []
    while (entry := reader.begin()).name.startswith(layout.FOLDER_ENTRY):
        name = entry.name.removeprefix(layout.FOLDER_ENTRY)
        _in_order(reader, entry, name, records)
        sha256 = hashlib.sha256()
        with keep(name, entry.size) as write:
            for piece in reader.content():
                sha256.update(piece)
                write(piece)
        records.append(FileRecord(name, entry.size, sha256.hexdigest()))
    return records


def _in_order(reader: EntryReader, entry: IndexEntry, name: str, records: list[FileRecord]) -> None:
    if not layout.safe_name(name) or (records and records[-1].name >= name):
        raise reader.source.damaged(f"the file {name!r} should not be here", entry.header)
    if len(records) == manifest.MOST_FILES:
        raise reader.source.damaged(f"there are more than {manifest.MOST_FILES} files", entry.header)


def _agree(reader: EntryReader, about: Manifest, records: list[FileRecord]) -> None:
    offset = reader.seen[-1].header
    for found, said in zip(records, about.files, strict=False):
        if found != said:
            raise reader.source.damaged(f"{found.name} is not the file that {layout.MANIFEST_NAME} describes", offset)
    if len(records) != len(about.files):
        why = f"{layout.MANIFEST_NAME} names {len(about.files)} files, there are {len(records)}"
        raise reader.source.damaged(why, offset)
    if reader.modified != about.modified:
        raise reader.source.damaged("the time in the tar headers is not that of the manifest", offset)


def _index(reader: EntryReader, closing: Closing) -> None:
    real = Index(manifest.FORMAT_VERSION, tuple(reader.seen))
    offset = reader.begin().header
    if parse_index(reader.text(layout.INDEX_NAME), reader.source.archive, offset) != real:
        raise reader.source.damaged(f"{layout.INDEX_NAME} is not true", offset)
    if closing.index_offset != offset:
        raise reader.source.damaged("the closing member names another place for the index", offset)
