"""Inflates gzip members one after the other in bounded memory. Sources: RFC 1951 (deflate), RFC 1952 (gzip)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from isal import igzip_lib, isal_zlib

from eventvault.archive.layout import MARK
from eventvault.archive.source import ArchiveBytes

_IsalError = cast(type[Exception], igzip_lib.IsalError)
_OUTPUT = 256 * 1024
_FEED = 64 * 1024
_MAX_TEXT_BYTES = 64 * 1024
_EXTRA, _NAME, _COMMENT, _HEADER_CRC, _RESERVED = 4, 8, 16, 2, 0xE0


def inflate_member(source: ArchiveBytes) -> Iterator[bytes]:
    """Yield the content of the gzip member whose header was just read, in pieces of at most 256 KiB.

    Raises ArchiveDamaged if it does not inflate, or differs from the CRC-32 or the length at the end of the member.
    """
    start = source.position
    crc = size = 0
    for piece in _inflate_raw(source, start):
        crc = isal_zlib.crc32(piece, crc)
        size += len(piece)
        yield piece
    trailer = source.read_exactly(8)
    if trailer[:4] != crc.to_bytes(4, "little"):
        raise source.damaged("the checksum (CRC) of the gzip member is wrong", start)
    if trailer[4:] != (size & 0xFFFFFFFF).to_bytes(4, "little"):
        raise source.damaged("the length of the gzip member is wrong", start)


def inflate_exactly(source: ArchiveBytes, size: int) -> Iterator[bytes]:
    """Yield as `inflate_member`, for a member that must hold exactly `size` bytes. Never yields more."""
    start = source.position
    remaining = size
    for piece in inflate_member(source):
        remaining -= len(piece)
        if remaining < 0:
            raise source.damaged(f"the gzip member holds more than its {size} bytes", start)
        yield piece
    if remaining:
        raise source.damaged(f"the gzip member holds {size - remaining} bytes, not {size}", start)


def inflate_members(source: ArchiveBytes) -> Iterator[bytes]:
    """Yield the content of all gzip members up to the end, as `gzip -d` does. Zeros after the last member are padding.

    Raises the `truncated` error of `source` if the bytes end inside a member, ArchiveDamaged for all other faults.
    """
    while True:
        _read_header(source)
        yield from inflate_member(source)
        if source.at_end() or _only_zeros(source):
            return


def _inflate_raw(source: ArchiveBytes, start: int) -> Iterator[bytes]:
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    while not inflater.eof:
        piece = source.read_some(_FEED) if inflater.needs_input else b""
        if inflater.needs_input and not piece:
            raise source.ended()
        try:
            output: bytes = inflater.decompress(piece, _OUTPUT)
        except _IsalError as error:
            raise source.damaged(f"the gzip member cannot be inflated: {error}", start) from error
        if output:
            yield output
        elif not piece and not inflater.needs_input and not inflater.eof:
            raise source.damaged("the gzip member cannot be inflated: it goes on without content", start)
    source.push_back(len(inflater.unused_data))


def _read_header(source: ArchiveBytes) -> None:
    start = source.position
    for byte in b"\x1f\x8b\x08":
        if source.read_exactly(1)[0] != byte:
            raise source.damaged("neither a gzip member nor the end of the file follows", start)
    flags = source.read_exactly(7)[0]
    if flags & _RESERVED:
        raise source.damaged("the gzip header has flags that do not exist", start)
    if flags & _EXTRA:
        extra = source.read_exactly(int.from_bytes(source.read_exactly(2), "little"))
        if extra.startswith(MARK):
            raise source.damaged("it is an archive of EventVault whose beginning or end is damaged", start)
    for _ in range(bool(flags & _NAME) + bool(flags & _COMMENT)):
        _skip_text(source, start)
    if flags & _HEADER_CRC:
        source.read_exactly(2)


def _skip_text(source: ArchiveBytes, start: int) -> None:
    for _ in range(_MAX_TEXT_BYTES):
        if source.read_exactly(1) == b"\0":
            return
    raise source.damaged("the gzip header has a name or comment without an end", start)


def _only_zeros(source: ArchiveBytes) -> bool:
    """Return True if the next byte is a zero. Then the rest of the file must be zeros, too."""
    first = source.read_exactly(1)
    if first != b"\0":
        source.push_back(1)
        return False
    while piece := source.read_some():
        if piece.tobytes().strip(b"\0"):
            raise source.damaged("something follows the end of the gzip data")
    return True
