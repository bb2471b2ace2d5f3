"""`INDEX.json` as it is read: in bounded memory, whatever it says, and only as much of it as is asked for.

What is decoded takes many times the memory of its text, so entries are decoded one by one where that will do, and no
more gzip members are believed than an archive of this size can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from eventvault.archive import layout
from eventvault.archive.layout import Index, IndexEntry
from eventvault.archive.manifest import MAX_FILES, NonNegative
from eventvault.archive.source import OpenArchive
from eventvault.archive.unpacking import MAX_DEFLATE_RATIO

_MAX_MEMBERS = 500_000
"""Of the data members in all: enough for 2 TB."""

_MIN_MEMBER_BYTES = 20
"""The bytes of the shortest gzip member."""

_MIN_FULL_MEMBER_BYTES = layout.CHUNK // MAX_DEFLATE_RATIO
"""The bytes of a member that holds 4 MiB are no fewer, however well those compress."""


class _Outline(msgspec.Struct, frozen=True, rename="camel"):
    """The index with its entries as text."""

    format_version: int
    entries: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_FILES + 2)]


class _Place(msgspec.Struct, frozen=True):
    """Of an entry no more than where it lies."""

    header: NonNegative


_entry = msgspec.json.Decoder(IndexEntry)


def parse_index(content: bytes | bytearray, archive: OpenArchive, offset: int) -> Index:
    """The whole index in INDEX.json's content. Raises ArchiveDamaged."""
    try:
        outline = _outline(content, archive)
        return Index(outline.format_version, tuple(_entry.decode(text) for text in outline.entries))
    except (ValueError, RecursionError, OverflowError) as error:
        raise _not_valid(archive, offset, error) from error


def index_entries(content: bytes | bytearray, archive: OpenArchive, offset: int) -> Iterator[IndexEntry]:
    """The entries, decoded one after the other. Raises ArchiveDamaged."""
    try:
        for text in _outline(content, archive).entries:
            yield _entry.decode(text)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _not_valid(archive, offset, error) from error


def last_header(content: bytes | bytearray, archive: OpenArchive, offset: int) -> int:
    """Where the last entry's header member is said to lie; 0 where there is no entry. Raises ArchiveDamaged."""
    try:
        entries = _outline(content, archive).entries
        return msgspec.json.decode(entries[-1], type=_Place).header if entries else 0
    except (ValueError, RecursionError, OverflowError) as error:
        raise _not_valid(archive, offset, error) from error


def _outline(content: bytes | bytearray, archive: OpenArchive) -> _Outline:
    outline = msgspec.json.decode(content, type=_Outline)
    entries = len(outline.entries)
    most = min(_MAX_MEMBERS, entries + archive.size // _MIN_FULL_MEMBER_BYTES)
    if content.count(b"[") > 1 + entries + most or entries > archive.size // _MIN_MEMBER_BYTES:
        raise ValueError("it lists more members than an archive of this size has")
    return outline


def _not_valid(archive: OpenArchive, offset: int, error: Exception) -> Exception:
    return archive.damaged(f"{layout.INDEX_NAME} is not valid: {error}", offset)
