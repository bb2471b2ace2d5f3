"""Reads the tar entries of our archives strictly: every byte must be as `writer` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from eventvault.archive import layout, tar
from eventvault.archive.gzip_members import inflate_exactly
from eventvault.archive.manifest import MAX_MANIFEST_BYTES, NonNegative
from eventvault.archive.source import ArchiveBytes


class IndexEntry(msgspec.Struct, frozen=True, gc=False):
    """The location of a tar entry, as in the index of format 1.

    name, size: as in the tar header. header: offset of the header's member. data: offset, length and CRC-32 of each
    data member; the CRC is of the compressed bytes.
    """

    name: Annotated[str, msgspec.Meta(max_length=100)]
    size: NonNegative
    header: NonNegative
    data: tuple[tuple[NonNegative, NonNegative, NonNegative], ...]


class EntryReader:
    """Reads entries one after the other and records their locations in `seen`.

    modified: the time in all tar headers; None before the first one.
    """

    def __init__(self, source: ArchiveBytes) -> None:
        self.source = source
        self.modified: int | None = None
        self.seen: list[IndexEntry] = []

    def begin(self, gzip_header: bytes = layout.PLAIN_HEADER) -> IndexEntry:
        """Read the next tar header. Its content must be read before the next `begin`. Raises ArchiveDamaged."""
        offset = self.source.position
        self._gzip_header(gzip_header)
        block = b"".join(inflate_exactly(self.source, layout.BLOCK))
        try:
            header = tar.parse_header(block)
            self.modified = header.modified if self.modified is None else self.modified
            name = header.name.decode("ascii")
            if block != tar.build_header(name, header.size, self.modified):
                raise ValueError("the tar header is not as EventVault writes it")
        except (ValueError, OverflowError) as error:
            raise self.source.damaged(str(error), offset) from error
        entry = IndexEntry(name, header.size, offset, ())
        self.seen.append(entry)
        return entry

    def content(self) -> Iterator[bytes]:
        """Yield the content of the current entry, without its padding, in pieces of any size."""
        for member in self.members():
            yield from member

    def members(self) -> Iterator[Iterator[bytes]]:
        """Yield the content of each member of the current entry. Each must be read to its end."""
        entry = self.seen[-1]
        ranges = []
        for count, zeros in layout.pieces(entry.size):
            offset = self.source.position
            self._gzip_header(layout.PLAIN_HEADER)
            yield self._without_padding(count, zeros)
            length = self.source.position - offset
            ranges.append((offset, length, self.source.archive.crc_of(offset, length)))
        self.seen[-1] = IndexEntry(entry.name, entry.size, entry.header, tuple(ranges))

    def text(self, name: str, most: int = MAX_MANIFEST_BYTES) -> bytearray:
        """Return the content of the current entry, which must have this name and at most `most` bytes."""
        entry = self.seen[-1]
        if entry.name != name:
            raise self.source.damaged(f"{name} should be here, not {entry.name!r}", entry.header)
        if entry.size > most:
            raise self.source.damaged(f"{name} claims to have {entry.size} bytes", entry.header)
        text = bytearray()
        for piece in self.content():
            text += piece
        return text

    def end_blocks(self) -> None:
        self._gzip_header(layout.PLAIN_HEADER)
        offset = self.source.position
        if b"".join(inflate_exactly(self.source, len(layout.END_BLOCKS))) != layout.END_BLOCKS:
            raise self.source.damaged("the end of the tar file should be here", offset)

    def _gzip_header(self, expected: bytes) -> None:
        offset = self.source.position
        if self.source.read_exactly(len(expected)) != expected:
            raise self.source.damaged("the gzip header is not as EventVault writes it", offset)

    def _without_padding(self, count: int, zeros: int) -> Iterator[bytes]:
        remaining = count
        for piece in inflate_exactly(self.source, count + zeros):
            if piece[remaining:].strip(b"\0"):
                raise self.source.damaged("the padding of a file is not empty")
            yield piece[:remaining]
            remaining = max(0, remaining - len(piece))
