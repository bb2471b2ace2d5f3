"""The layout of an archive: which gzip members there are, in which order, and what marks the first and the last.

Sources: RFC 1952 (gzip: members, FEXTRA), POSIX.1-2017 pax, "ustar Interchange Format". The file is described byte
by byte in `docs/format.md`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from isal import isal_zlib

from eventvault import data_folders
from eventvault.archive.compression import Compression, deflate
from eventvault.archive.manifest import FORMAT_VERSION, MAX_FILES, NonNegative

FOLDER_ENTRY = f"{data_folders.DATABASE}/"
MANIFEST_NAME = "manifest.json"
INDEX_NAME = "INDEX.json"

BLOCK = 512
CHUNK = 4 * 2**20
"""The most bytes of a file that one gzip member holds; only a file's last member holds padding besides."""

MAX_MEMBER_BYTES = CHUNK + BLOCK + 2048
"""The most bytes of a gzip member: what does not compress is stored, in 5 bytes more for each 64 KiB."""

END_BLOCKS = bytes(2 * BLOCK)

_HEADER = b"\x1f\x8b\x08%c\x00\x00\x00\x00\x00\xff"
PLAIN_HEADER = _HEADER % 0
"""Deflate, no flags, no time, no extra flags, unknown system."""

MARK = b"EV"
"""Our subfield in gzip's extra field: then its length, a letter for the kind, and the format's version."""

_OPENING = struct.Struct("<10sH2sHcH")
_CLOSING = struct.Struct("<10sH2sHcHQ32s")
_MARKED_HEADER = _HEADER % 4
_EMPTY_TAIL = b"\x03\x00" + bytes(8)
CLOSING_SIZE = _CLOSING.size + len(_EMPTY_TAIL)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class Closing(NamedTuple):
    """What the closing member says: the format, where INDEX.json's header member begins, SHA-256 of all before it."""

    version: int
    index_offset: int
    digest: bytes


class IndexEntry(msgspec.Struct, frozen=True, gc=False):
    """header: offset of the member with the tar header.

    data: offset and length in the file of each member with content, and the CRC-32 of the member's bytes as they are.
    """

    name: Annotated[str, msgspec.Meta(max_length=100)]
    size: NonNegative
    header: NonNegative
    data: tuple[tuple[NonNegative, NonNegative, NonNegative], ...]


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """Where everything before INDEX.json lies. A hint for speed: what is restored is what the checksums say."""

    format_version: int
    entries: Annotated[tuple[IndexEntry, ...], msgspec.Meta(max_length=MAX_FILES + 2)]


def member(content: bytes | memoryview, header: bytes = PLAIN_HEADER, compression: Compression = "fast") -> bytes:
    """`content` as one gzip member."""
    body = deflate(content, compression)
    trailer = struct.pack("<II", isal_zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return b"".join((header, body, trailer))


def opening_header(version: int = FORMAT_VERSION) -> bytes:
    """The first member's gzip header: its mark tells an archive of ours that was cut off from an alien file."""
    return _OPENING.pack(_MARKED_HEADER, _OPENING.size - 12, MARK, _OPENING.size - 16, b"A", version)


def opening_version(head: bytes) -> int | None:
    """The format's version in the first bytes of a file; None: they are not the start of an archive of ours."""
    if len(head) < _OPENING.size:
        return None
    version: int = _OPENING.unpack_from(head)[-1]
    return version if head.startswith(opening_header(version)) else None


def closing_member(closing: Closing) -> bytes:
    fields = (_MARKED_HEADER, _CLOSING.size - 12, MARK, _CLOSING.size - 16, b"Z", *closing)
    return _CLOSING.pack(*fields) + _EMPTY_TAIL


CLOSING_PREFIX = closing_member(Closing(FORMAT_VERSION, 0, bytes(32)))[:17]
"""How a closing member begins in every version of the format."""


def parse_closing(tail: bytes) -> Closing | None:
    """The closing member, where `tail` is exactly one; None: it is not."""
    if len(tail) != CLOSING_SIZE:
        return None
    closing = Closing(*_CLOSING.unpack_from(tail)[-3:])
    return closing if tail == closing_member(closing) else None


def padding(size: int) -> int:
    """How many zeros follow a tar entry of `size` bytes, up to the next block."""
    return -size % BLOCK


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """How a file of `size` bytes is split into members: (bytes of the file, zeros after them)."""
    while size > CHUNK:
        yield CHUNK, 0
        size -= CHUNK
    if size:
        yield size, padding(size)


def safe_name(name: str) -> bool:
    """Whether a file of this name may be in an archive of ours."""
    return _SAFE_NAME.fullmatch(name) is not None
