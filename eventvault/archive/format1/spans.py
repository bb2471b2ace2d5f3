"""Finds the gzip members of an archive of format 1 by its index, and proves that they cover the file without a gap.

Implements the first step of `docs/format.md`, "How it is read". The content of the members is checked by their reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from eventvault.archive import layout, manifest
from eventvault.archive.entries import EntryReader, IndexEntry
from eventvault.archive.format1.index import VERSION, Index, parse_index
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.source import OpenArchive, Source

_MAX_HEADER_BYTES = 4096


class Member(NamedTuple):
    """A data member: its place, the CRC-32 of its bytes, how many bytes of a file it holds and how many zeros."""

    offset: int
    length: int
    crc: int
    content: int
    zeros: int


class FileSpans(NamedTuple):
    """A file of the database. header: offset and length of its header member. ranges: as `IndexEntry.data`."""

    record: FileRecord
    header: tuple[int, int]
    ranges: tuple[tuple[int, int, int], ...]

    def members(self) -> Iterator[Member]:
        """Yield the data members, made one by one because an archive may have 500,000 of them."""
        for member_range, piece in zip(self.ranges, layout.pieces(self.record.size), strict=True):
            yield Member(*member_range, *piece)


class Spans(NamedTuple):
    """All members of an archive. folder: offset and length of the first one. end: of the last file's last member."""

    closing: Closing
    manifest: Manifest
    folder: tuple[int, int]
    files: list[FileSpans]
    end: int


def find_spans(archive: OpenArchive) -> Spans:
    """Read index and manifest strictly. Raises as `marks.find_closing` does, ArchiveDamaged if they are not true."""
    closing = find_closing(archive)
    index, index_time = _read_index(archive, closing)
    entries = index.entries
    if len(entries) < 2 or entries[0] != IndexEntry(layout.FOLDER_ENTRY, 0, 0, ()):
        raise archive.damaged(f"{layout.INDEX_NAME} does not begin with {layout.FOLDER_ENTRY}", closing.index_offset)
    about = _read_manifest(archive, entries[-1], closing, index_time)
    headers = [_header_range(archive, entry, following) for entry, following in pairwise(entries)]
    if [(entry.name, entry.size) for entry in entries[1:-1]] != [
        (layout.FOLDER_ENTRY + file.name, file.size) for file in about.files
    ]:
        raise archive.damaged(f"{layout.INDEX_NAME} and {layout.MANIFEST_NAME} differ", closing.index_offset)
    _check_names(archive, about, closing)
    named = zip(about.files, entries[1:-1], headers[1:], strict=True)
    files = [FileSpans(record, header, _data_ranges(archive, entry)) for record, entry, header in named]
    return Spans(closing, about, headers[0], files, entries[-1].header)


def _read_index(archive: OpenArchive, closing: Closing) -> tuple[Index, int | None]:
    """Return the index and the time in its tar header. Only the end of the archive may follow it."""
    end = archive.size - layout.CLOSING_SIZE
    if closing.index_offset >= end:
        raise archive.damaged(f"{layout.INDEX_NAME} lies outside of the archive", closing.index_offset)
    reader = EntryReader(Source(archive, closing.index_offset, end))
    reader.begin()
    index = parse_index(reader.text(layout.INDEX_NAME), archive, closing.index_offset)
    reader.end_blocks()
    if not reader.source.at_end() or index.format_version != VERSION:
        raise archive.damaged(f"{layout.INDEX_NAME} is not the last of the archive", closing.index_offset)
    return index, reader.modified


def _read_manifest(archive: OpenArchive, entry: IndexEntry, closing: Closing, index_time: int | None) -> Manifest:
    """Return the manifest, which must lie where the index has it, just before the index."""
    if entry.header >= closing.index_offset:
        raise archive.damaged(f"{layout.MANIFEST_NAME} lies outside of the archive", entry.header)
    reader = EntryReader(Source(archive, entry.header, closing.index_offset))
    reader.begin()
    about = manifest.decode(reader.text(layout.MANIFEST_NAME), archive.path, VERSION)
    if reader.seen != [entry] or not reader.source.at_end() or not reader.modified == index_time == about.modified:
        raise archive.damaged(f"{layout.INDEX_NAME} is not true", entry.header)
    return about


def _header_range(archive: OpenArchive, entry: IndexEntry, following: IndexEntry) -> tuple[int, int]:
    """Return offset and length of an entry's header member. Check that no gap lies between it and the next entry."""
    starts = [offset for offset, _, _ in entry.data]
    ends = [offset + length for offset, length, _ in entry.data]
    if starts and [*starts[1:], following.header] != ends:
        raise archive.damaged(f"{layout.INDEX_NAME} leaves gaps in {entry.name!r}", entry.header)
    length = (starts[0] if starts else following.header) - entry.header
    if not 0 < length <= _MAX_HEADER_BYTES or any(member > layout.MAX_MEMBER_BYTES for _, member, _ in entry.data):
        raise archive.damaged(f"{layout.INDEX_NAME} is not true for {entry.name!r}", entry.header)
    return entry.header, length


def _data_ranges(archive: OpenArchive, entry: IndexEntry) -> tuple[tuple[int, int, int], ...]:
    if len(entry.data) != layout.piece_count(entry.size):
        raise archive.damaged(f"{layout.INDEX_NAME} has too few or too many members of {entry.name!r}", entry.header)
    return entry.data


def _check_names(archive: OpenArchive, about: Manifest, closing: Closing) -> None:
    names = [file.name for file in about.files]
    if not all(map(layout.is_safe_name, names)) or any(first >= second for first, second in pairwise(names)):
        raise archive.damaged("the files do not have the names or the order of the format", closing.index_offset)
