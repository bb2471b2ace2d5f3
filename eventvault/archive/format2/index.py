"""Reads and writes `INDEX.json` of format 2: all gzip members before it, each with its BLAKE3.

Source: `docs/format.md`, "INDEX.json".

Decoded JSON takes many times the memory of its text. So an index is refused if it lists more members than an archive of
this size can have, and its entries are decoded one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, NamedTuple

import msgspec

from eventvault.archive import layout
from eventvault.archive.manifest import MAX_FILES, Digest, NonNegative
from eventvault.archive.source import OpenArchive
from eventvault.archive.unpacking import MAX_DEFLATE_RATIO
from eventvault.errors import TooLarge

VERSION = 2

MAX_INDEX_BYTES = 48 * 2**20
"""The longest index: 100,000 files of one data member each fit."""

_MAX_MEMBERS = 500_000
"""The most data members of an archive: enough for 2 TB."""

_MIN_MEMBER_BYTES = 20
_MIN_FULL_MEMBER_BYTES = layout.CHUNK // MAX_DEFLATE_RATIO
"""The shortest member that can hold 4 MiB."""

_MAX_LAST_BYTES = 4096
"""The longest entry of the manifest, which has a few members."""

_OTHERS = 16 * 1024
"""An upper bound for the bytes of the folder, the manifest, the head and the tail in the index."""

_ANY_DIGEST = 64 * "0"

_HEAD = b'{"formatVersion":2,"entries":['
_TAIL = b"]}\n"


class Span(NamedTuple):
    """A gzip member: its location in the file, and the BLAKE3 of its bytes in hex."""

    offset: NonNegative
    length: NonNegative
    blake3: Digest

    @property
    def end(self) -> int:
        return self.offset + self.length


class HashedEntry(msgspec.Struct, frozen=True, gc=False):
    """A tar entry. name, size: as in its tar header. blake3: of its content, in hex.

    spans: its header member and its data members.
    """

    name: Annotated[str, msgspec.Meta(max_length=100)]
    size: NonNegative
    blake3: Digest
    spans: Annotated[tuple[Span, ...], msgspec.Meta(min_length=1)]

    @property
    def header(self) -> Span:
        return self.spans[0]

    @property
    def data(self) -> tuple[Span, ...]:
        return self.spans[1:]

    @property
    def data_bytes(self) -> int:
        return self.spans[-1].end - self.header.end

    @property
    def is_aligned(self) -> bool:
        """Whether its data members begin at a multiple of ALIGNMENT."""
        return self.name.startswith(layout.FOLDER_ENTRY) and self.data_bytes >= layout.ALIGNED_FROM


class _Outline(msgspec.Struct, frozen=True, rename="camel"):
    """The index with its entries as JSON text."""

    format_version: int
    entries: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_FILES + 2)]


_entry = msgspec.json.Decoder(HashedEntry)


def encode_entry(entry: HashedEntry) -> bytes:
    return msgspec.json.encode(entry)


class IndexWriter:
    """Writes the text of an index, entry by entry, with `write`. End with `finish`."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._separator = b""
        write(_HEAD)

    def add(self, entry: HashedEntry) -> None:
        self._write(self._separator + encode_entry(entry))
        self._separator = b","

    def finish(self) -> None:
        self._write(_TAIL)


def longest_index(files: Mapping[str, int]) -> int:
    """Return an upper bound for the bytes of the index of an archive of these files. files: name → size."""
    members = sum(map(layout.piece_count, files.values()))
    archive_bytes = sum(files.values()) + (members + 2 * len(files)) * layout.ALIGNMENT
    longest_span = len(f'[{archive_bytes},{layout.MAX_MEMBER_BYTES},"{_ANY_DIGEST}"],')
    entries = (HashedEntry(layout.FOLDER_ENTRY + name, size, _ANY_DIGEST, ()) for name, size in files.items())
    return sum(len(encode_entry(entry)) + 1 for entry in entries) + (members + len(files)) * longest_span + _OTHERS


def check_fits(files: Mapping[str, int]) -> None:
    """Raise TooLarge if the index of an archive of these files is too long for readers. files: name → size."""
    members, index_bytes = sum(map(layout.piece_count, files.values())), longest_index(files)
    if members > _MAX_MEMBERS or index_bytes > MAX_INDEX_BYTES:
        raise TooLarge(
            f"archiving failed: {len(files)} files in {members} members need an index of up to {index_bytes} bytes; a "
            f"reader takes {MAX_INDEX_BYTES} bytes and {_MAX_MEMBERS} members",
            hint="compact the database",
        )


class ArchiveIndex:
    """The index of the archive. content: of INDEX.json. offset: of its header member. Raises ArchiveDamaged."""

    def __init__(self, content: bytes | bytearray, archive: OpenArchive, offset: int) -> None:
        self.offset = offset
        self._archive = archive
        try:
            self._entries = _outline(content, archive)
        except (ValueError, RecursionError, OverflowError) as error:
            raise self._not_valid(error) from error

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[HashedEntry]:
        """Yield the entries, decoded one by one. Raises ArchiveDamaged."""
        return (self._decode(text) for text in self._entries)

    def last(self) -> HashedEntry:
        """Return the entry of the manifest. Each list of archives reads it, so a long one is refused."""
        text = self._entries[-1]
        if len(memoryview(text)) > _MAX_LAST_BYTES:
            raise self._not_valid(ValueError("the last entry lists too many members"))
        return self._decode(text)

    def _decode(self, text: msgspec.Raw) -> HashedEntry:
        try:
            entry = _entry.decode(text)
            if encode_entry(entry) != bytes(text):
                raise ValueError("an entry is not as EventVault writes it")
            return entry
        except (ValueError, RecursionError, OverflowError) as error:
            raise self._not_valid(error) from error

    def _not_valid(self, error: Exception) -> Exception:
        return self._archive.damaged(f"{layout.INDEX_NAME} is not valid: {error}", self.offset)


def _outline(content: bytes | bytearray, archive: OpenArchive) -> list[msgspec.Raw]:
    """Return the text of each entry. Raises ValueError."""
    outline = msgspec.json.decode(content, type=_Outline)
    count = len(outline.entries)
    most = min(_MAX_MEMBERS, count + archive.size // _MIN_FULL_MEMBER_BYTES)
    if content.count(b"[") > 1 + 2 * count + most or count > archive.size // _MIN_MEMBER_BYTES:
        raise ValueError("it lists more members than an archive of this size has")
    length = len(_HEAD) + sum(len(memoryview(text)) for text in outline.entries) + max(0, count - 1) + len(_TAIL)
    if count < 2 or len(content) != length or not (content.startswith(_HEAD) and content.endswith(_TAIL)):
        raise ValueError("it is not as EventVault writes it")
    return outline.entries
