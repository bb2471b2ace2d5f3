"""Reads whole gzip members of our archives into memory and inflates them strictly. Source: RFC 1952 (gzip)."""

from __future__ import annotations

import struct
from typing import cast

from isal import isal_zlib

from eventvault.archive import layout
from eventvault.archive.parallel import read_buffer
from eventvault.archive.source import OpenArchive

_IsalError = cast(type[Exception], isal_zlib.error)
_TRAILER = struct.Struct("<II")


def read_member(archive: OpenArchive, offset: int, length: int) -> memoryview:
    """Return the bytes of a member in this thread's buffer. length: at most MAX_MEMBER_BYTES."""
    packed = read_buffer()[:length]
    if archive.read_into(packed, offset) != length:
        raise archive.damaged("a member ends after the file", offset)
    return packed


def inflate_whole(archive: OpenArchive, packed: memoryview, offset: int, header: bytes, size: int) -> bytes:
    """Return the content of the member `packed`, which must have this gzip header and hold exactly `size` bytes.

    offset: of the member, for errors. Raises ArchiveDamaged.
    """
    if packed[: len(header)] != header:
        raise archive.damaged("the gzip header is not as EventVault writes it", offset)
    inflater = isal_zlib.decompressobj(-15)
    try:
        content: bytes = inflater.decompress(packed[len(header) : -_TRAILER.size], size + 1)
    except _IsalError as error:
        raise archive.damaged(f"the gzip member cannot be inflated: {error}", offset) from error
    trailer = _TRAILER.pack(isal_zlib.crc32(content), len(content) & 0xFFFFFFFF)
    whole = inflater.eof and not inflater.unused_data and len(content) == size
    if not whole or packed[-_TRAILER.size :] != trailer:
        raise archive.damaged("a gzip member is not as EventVault writes it", offset)
    return content


def inflate_piece(archive: OpenArchive, packed: memoryview, offset: int, count: int, zeros: int) -> memoryview:
    """Return the `count` bytes of a file that a data member holds before its zeros. Raises ArchiveDamaged."""
    content = inflate_whole(archive, packed, offset, layout.PLAIN_HEADER, count + zeros)
    if content[count:].strip(b"\0"):
        raise archive.damaged("the padding of a file is not empty", offset)
    return memoryview(content)[:count]
