"""Defines the layout of an archive: its gzip members, their order, and the marks in the first and the last member.

Implements "What is in it", "gzip members" and "INDEX.json" of `docs/format.md`. Sources: RFC 1952 (gzip: members,
FEXTRA), POSIX.1-2017 pax, "ustar Interchange Format".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from isal import isal_zlib

from eventvault import data_folders
from eventvault.archive.compression import Compression, deflate
from eventvault.archive.manifest import FORMAT_VERSION

FOLDER_ENTRY = f"{data_folders.DATABASE}/"
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "INDEX.json"

BLOCK = 512
CHUNK = 4 * 2**20
"""Bytes of a file in one gzip member. Only the last member of a file has fewer; it also holds the padding."""

MAX_MEMBER_BYTES = CHUNK + BLOCK + 2048
"""The longest gzip member: deflate stores what it cannot compress and adds 5 bytes for each 64 KiB."""

END_BLOCKS = bytes(2 * BLOCK)

_HEADER = b"\x1f\x8b\x08%c\x00\x00\x00\x00\x00\xff"
PLAIN_HEADER = _HEADER % 0
"""A gzip header: deflate, no flags, no time, no extra flags, unknown system."""

MARK = b"EV"
"""The id of our subfield in gzip's extra field. Its length, a letter for its kind and the format version follow."""

ALIGNMENT = 4096
ALIGNED_FROM = 64 * 1024
"""In format 2 the data members of a database file begin at a multiple of ALIGNMENT from this many bytes on."""

_OPENING = struct.Struct("<10sH2sHcH")
_CLOSING = struct.Struct("<10sH2sHcHQ32s")
_SEAL = struct.Struct("<10sH2sHcH32s")
_MARKED_HEADER = _HEADER % 4
_EMPTY_TAIL = b"\x03\x00" + bytes(8)
CLOSING_SIZE = _CLOSING.size + len(_EMPTY_TAIL)
SEAL_SIZE = _SEAL.size + len(_EMPTY_TAIL)
NOT_SEALED = bytes(32)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class Closing(NamedTuple):
    """The content of the closing member.

    version: of the format. index_offset: of INDEX.json's header member. digest: in format 1 the SHA-256 of all bytes
    before this member, in format 2 the root: the BLAKE3 of the bytes from `index_offset` up to the seal.
    """

    version: int
    index_offset: int
    digest: bytes


def member(content: bytes | memoryview, header: bytes = PLAIN_HEADER, compression: Compression = "fast") -> bytes:
    body = deflate(content, compression)
    trailer = struct.pack("<II", isal_zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return b"".join((header, body, trailer))


def opening_header(version: int = FORMAT_VERSION) -> bytes:
    """Return the gzip header of the first member. Its mark distinguishes our truncated archives from foreign files."""
    return _OPENING.pack(_MARKED_HEADER, _OPENING.size - 12, MARK, _OPENING.size - 16, b"A", version)


def opening_version(head: bytes) -> int | None:
    """Return the format version in the first bytes of a file; None if no archive of ours begins with them."""
    if len(head) < _OPENING.size:
        return None
    version: int = _OPENING.unpack_from(head)[-1]
    return version if head.startswith(opening_header(version)) else None


def closing_member(closing: Closing) -> bytes:
    fields = (_MARKED_HEADER, _CLOSING.size - 12, MARK, _CLOSING.size - 16, b"Z", *closing)
    return _CLOSING.pack(*fields) + _EMPTY_TAIL


CLOSING_PREFIX = closing_member(Closing(FORMAT_VERSION, 0, bytes(32)))[:17]
"""The first bytes of a closing member in every version of the format."""


def parse_closing(tail: bytes) -> Closing | None:
    """Return the content of the closing member `tail`; None if `tail` is not a closing member."""
    if len(tail) != CLOSING_SIZE:
        return None
    closing = Closing(*_CLOSING.unpack_from(tail)[-3:])
    return closing if tail == closing_member(closing) else None


def seal_member(seal: bytes, version: int = FORMAT_VERSION) -> bytes:
    """Return the member before the closing one. seal: 32 bytes."""
    return _SEAL.pack(_MARKED_HEADER, _SEAL.size - 12, MARK, _SEAL.size - 16, b"S", version, seal) + _EMPTY_TAIL


def parse_seal(packed: bytes) -> bytes | None:
    """Return the seal in the member `packed`; None if it is not a seal member."""
    if len(packed) != SEAL_SIZE:
        return None
    seal: bytes = _SEAL.unpack_from(packed)[-1]
    return seal if packed == seal_member(seal) else None


def padded_header(zeros: int, version: int = FORMAT_VERSION) -> bytes:
    """Return a gzip header with our mark and this many zeros in its extra field."""
    sizes = (_OPENING.size - 12 + zeros, _OPENING.size - 16 + zeros)
    return _OPENING.pack(_MARKED_HEADER, sizes[0], MARK, sizes[1], b"P", version) + bytes(zeros)


def aligned_header_member(block: bytes, offset: int) -> bytes:
    """Return the header member with the tar header `block`, padded so that it ends at a multiple of ALIGNMENT.

    offset: where it begins in the file.
    """
    body = member(block, b"")
    return padded_header(-(offset + _OPENING.size + len(body)) % ALIGNMENT) + body


def header_of_aligned(packed: bytes | memoryview) -> bytes | None:
    """Return the gzip header of a member that `aligned_header_member` made; None if another function made it."""
    zeros = int.from_bytes(packed[10:12], "little") - (_OPENING.size - 12)
    if not 0 <= zeros < ALIGNMENT:
        return None
    header = padded_header(zeros)
    return header if packed[: len(header)] == header else None


def padding(size: int) -> int:
    """Return how many zeros fill the last block of a tar entry of `size` bytes."""
    return -size % BLOCK


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """Yield how a file of `size` bytes is split into members: (bytes of the file, zeros after them)."""
    while size > CHUNK:
        yield CHUNK, 0
        size -= CHUNK
    if size:
        yield size, padding(size)


def piece_count(size: int) -> int:
    """Return how many members a file of `size` bytes is split into."""
    return -(-size // CHUNK)


def is_safe_name(name: str) -> bool:
    return _SAFE_NAME.fullmatch(name) is not None
