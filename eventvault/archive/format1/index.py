"""Reads `INDEX.json` of format 1 in bounded memory, even if it is hostile. Implements "Reading" of `docs/format.md`.

Decoded JSON takes many times the memory of its text. So entries are decoded one by one where possible, and an index is
refused if it lists more gzip members than an archive of this size can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from eventvault.archive import layout
from eventvault.archive.entries import IndexEntry
from eventvault.archive.manifest import MAX_FILES, NonNegative
from eventvault.archive.source import OpenArchive
from eventvault.archive.unpacking import MAX_DEFLATE_RATIO

VERSION = 1

_MAX_MEMBERS = 500_000
"""The most data members of an archive: enough for 2 TB."""

_MIN_MEMBER_BYTES = 20

_MIN_FULL_MEMBER_BYTES = layout.CHUNK // MAX_DEFLATE_RATIO
"""The shortest member that can hold 4 MiB."""


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """The content of INDEX.json: all entries before it. It only saves time: the checksums decide what is restored."""

    format_version: int
    entries: Annotated[tuple[IndexEntry, ...], msgspec.Meta(max_length=MAX_FILES + 2)]


class _Outline(msgspec.Struct, frozen=True, rename="camel"):
    """The index with its entries as JSON text."""

    format_version: int
    entries: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_FILES + 2)]


class _EntryOffset(msgspec.Struct, frozen=True):
    """The field of an entry that `last_header` needs."""

    header: NonNegative


_entry = msgspec.json.Decoder(IndexEntry)


def parse_index(content: bytes | bytearray, archive: OpenArchive, offset: int) -> Index:
    """Return the whole index. content, offset: of INDEX.json; the offset is for errors. Raises ArchiveDamaged."""
    try:
        outline = _outline(content, archive)
        return Index(outline.format_version, tuple(_entry.decode(text) for text in outline.entries))
    except (ValueError, RecursionError, OverflowError) as error:
        raise _not_valid(archive, offset, error) from error


def index_entries(content: bytes | bytearray, archive: OpenArchive, offset: int) -> Iterator[IndexEntry]:
    """Yield the entries, decoded one by one. Raises ArchiveDamaged."""
    try:
        for text in _outline(content, archive).entries:
            yield _entry.decode(text)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _not_valid(archive, offset, error) from error


def last_header(content: bytes | bytearray, archive: OpenArchive, offset: int) -> int:
    """Return the offset of the last entry's header member, 0 if there is no entry. Raises ArchiveDamaged."""
    try:
        entries = _outline(content, archive).entries
        return msgspec.json.decode(entries[-1], type=_EntryOffset).header if entries else 0
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
