"""Reads archives of format 1: the manifest from the end of the file, the full check, and unpacking.

It reads in parallel; after a failure the sequential reader finds the place of the damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from eventvault.archive import layout, manifest
from eventvault.archive.entries import EntryReader, IndexEntry
from eventvault.archive.format1 import parallel_reader
from eventvault.archive.format1.index import VERSION, index_entries, last_header
from eventvault.archive.format1.sequential_reader import check_sequentially
from eventvault.archive.manifest import Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.output_files import OutputFiles
from eventvault.archive.progress import ProgressCounter
from eventvault.archive.source import OpenArchive, Source
from eventvault.archive.stored import StoredFile, StoredMember
from eventvault.archive.verified import VerifiedArchive
from eventvault.errors import ArchiveDamaged


def read_through(archive: OpenArchive, outputs: OutputFiles, counter: ProgressCounter) -> VerifiedArchive:
    """Check every byte of the archive and write its files to `outputs`. Raises ArchiveDamaged."""
    try:
        return parallel_reader.read_through(archive, outputs, counter)
    except ArchiveDamaged:
        check_sequentially(archive)  # its error says what is wrong and where
        raise


def peek_manifest(archive: OpenArchive) -> Manifest:
    offset = find_closing(archive).index_offset
    last = last_header(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)
    return manifest.decode(_text_at(archive, last, layout.MANIFEST_NAME), archive.path, VERSION)


def peek_files(archive: OpenArchive) -> tuple[Manifest, Iterator[StoredFile]]:
    """Return the manifest and, for each file of the database, where its data members lie."""
    return peek_manifest(archive), _stored_files(archive)


def _stored_files(archive: OpenArchive) -> Iterator[StoredFile]:
    offset = find_closing(archive).index_offset
    for entry in index_entries(_text_at(archive, offset, layout.INDEX_NAME), archive, offset):
        if entry.name.startswith(layout.FOLDER_ENTRY) and entry.data and _is_run(entry):
            members = tuple(StoredMember(length, crc=crc) for _, length, crc in entry.data)
            yield StoredFile(entry.name.removeprefix(layout.FOLDER_ENTRY), entry.size, entry.data[0][0], members)


def _is_run(entry: IndexEntry) -> bool:
    """Return whether the data members follow each other without a gap and are as many as the size needs."""
    whole = all(first[0] + first[1] == second[0] for first, second in pairwise(entry.data))
    longest = max(length for _, length, _ in entry.data)
    return whole and longest <= layout.MAX_MEMBER_BYTES and len(entry.data) == layout.piece_count(entry.size)


def _text_at(archive: OpenArchive, offset: int, name: str) -> bytearray:
    """Return the content of the entry whose header member should begin at `offset`."""
    end = archive.size - layout.CLOSING_SIZE
    if offset >= end:
        raise archive.damaged(f"{name} lies outside of the archive", offset)
    reader = EntryReader(Source(archive, offset, end))
    reader.begin()
    return reader.text(name)
