"""Reads archives of format 1: the manifest from the end of the file, the full check, and unpacking.

The full check reads from the first byte to the last, and an error names the byte. The check does not rely on the index
or the closing member, but compares both with the bytes that it read. Source: `docs/format.md`, "How it is read".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

from eventvault.archive import layout, manifest
from eventvault.archive.entries import EntryReader, IndexEntry
from eventvault.archive.format1.index import VERSION, Index, index_entries, last_header, parse_index
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.output_files import OutputFiles
from eventvault.archive.progress import ProgressCounter
from eventvault.archive.source import ArchiveBytes, OpenArchive
from eventvault.archive.stored import StoredFile, StoredMember
from eventvault.archive.verified import VerifiedArchive


def read_through(archive: OpenArchive, outputs: OutputFiles, counter: ProgressCounter) -> VerifiedArchive:
    """Check every byte of the archive and write its files to `outputs`.

    Checks gzip, tar, the size and SHA-256 of each file, the index, and the SHA-256 of the whole file. Raises
    ArchiveDamaged, ArchiveIncomplete, ArchiveTooNew, or the OSError of a full disk.
    """
    closing = find_closing(archive)
    about = peek_manifest(archive)
    source = ArchiveBytes(archive, 0, archive.size - layout.CLOSING_SIZE, counter=counter)
    reader = EntryReader(source)
    _check_folder(reader)
    for previous, record in zip([None, *about.files], about.files, strict=False):
        _read_file(reader, record, previous, outputs)
    _check_manifest(reader, about)
    _check_index(reader, closing)
    reader.end_blocks()
    if not source.at_end():
        raise source.damaged("something follows the end of the tar file")
    if source.digest() != closing.digest:
        raise source.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
    if find_closing(archive) != closing:
        raise source.damaged("it was changed while it was read", closing.index_offset)
    counter.advance_to(archive.size)
    return VerifiedArchive(about, sha256=source.digest(layout.closing_member(closing)).hex())


def _check_folder(reader: EntryReader) -> None:
    entry = reader.begin(layout.opening_header(VERSION))
    if entry.name != layout.FOLDER_ENTRY or entry.size:
        raise reader.source.damaged(f"the folder {layout.FOLDER_ENTRY} should be here", entry.header)


def _read_file(reader: EntryReader, record: FileRecord, previous: FileRecord | None, outputs: OutputFiles) -> None:
    """Check the next file of the database, which must be the one that the manifest describes next, and write it."""
    entry = reader.begin()
    name = entry.name.removeprefix(layout.FOLDER_ENTRY)
    in_order = layout.is_safe_name(name) and (previous is None or previous.name < name)
    if not in_order or entry.name != layout.FOLDER_ENTRY + record.name:
        why = f"the file {name!r} should not be here: {layout.MANIFEST_NAME} describes {record.name!r}"
        raise reader.source.damaged(why, entry.header)
    sha256 = hashlib.sha256()
    if entry.size == record.size:
        outputs.begin(name, entry.size, layout.piece_count(entry.size))
        for number, member in enumerate(reader.members()):
            content = b"".join(member)
            sha256.update(content)
            outputs.write(name, number, memoryview(content))
    if entry.size != record.size or sha256.hexdigest() != record.sha256:
        why = f"{name} is not the file that {layout.MANIFEST_NAME} describes"
        raise reader.source.damaged(why, entry.header)


def _check_manifest(reader: EntryReader, about: Manifest) -> None:
    entry = reader.begin()
    if manifest.decode(reader.text(layout.MANIFEST_NAME), reader.source.archive.path, VERSION) != about:
        raise reader.source.damaged(f"{layout.MANIFEST_NAME} is not the one that the index names", entry.header)
    if reader.modified != about.modified:
        raise reader.source.damaged("the time in the tar headers is not that of the manifest", entry.header)


def _check_index(reader: EntryReader, closing: Closing) -> None:
    expected = Index(VERSION, tuple(reader.seen))
    offset = reader.begin().header
    if parse_index(reader.text(layout.INDEX_NAME), reader.source.archive, offset) != expected:
        raise reader.source.damaged(f"{layout.INDEX_NAME} is not true", offset)
    if closing.index_offset != offset:
        raise reader.source.damaged("the closing member names another place for the index", offset)


def peek_manifest(archive: OpenArchive) -> Manifest:
    offset = find_closing(archive).index_offset
    last = last_header(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)
    return manifest.decode(_text_at(archive, last, layout.MANIFEST_NAME), archive.path, VERSION)


def peek_files(archive: OpenArchive) -> tuple[Manifest, Iterator[StoredFile]]:
    """Return the manifest, and the location of the data members of each file of the database."""
    return peek_manifest(archive), _stored_files(archive)


def _stored_files(archive: OpenArchive) -> Iterator[StoredFile]:
    offset = find_closing(archive).index_offset
    for entry in index_entries(_text_at(archive, offset, layout.INDEX_NAME), archive, offset):
        if entry.name.startswith(layout.FOLDER_ENTRY) and entry.data and _is_run(entry):
            members = tuple(StoredMember(length, crc=crc) for _, length, crc in entry.data)
            yield StoredFile(entry.name.removeprefix(layout.FOLDER_ENTRY), entry.size, entry.data[0][0], members)


def _is_run(entry: IndexEntry) -> bool:
    """Return whether the data members have no gaps between them, and their number fits the size of the file."""
    whole = all(first[0] + first[1] == second[0] for first, second in pairwise(entry.data))
    longest = max(length for _, length, _ in entry.data)
    return whole and longest <= layout.MAX_MEMBER_BYTES and len(entry.data) == layout.piece_count(entry.size)


def _text_at(archive: OpenArchive, offset: int, name: str) -> bytearray:
    """Return the content of the entry whose header member should begin at `offset`."""
    end = archive.size - layout.CLOSING_SIZE
    if offset >= end:
        raise archive.damaged(f"{name} lies outside of the archive", offset)
    reader = EntryReader(ArchiveBytes(archive, offset, end))
    reader.begin()
    return reader.text(name)
