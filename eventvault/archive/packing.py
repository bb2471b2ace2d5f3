"""Reads, hashes and compresses the files of a new archive piece by piece, on several cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import layout
from eventvault.archive.compression import Compression
from eventvault.archive.parallel import OrderedHash, in_order, read_buffer
from eventvault.errors import ArchiveDamaged, DatabaseError
from eventvault.gzip_format import WBITS
from eventvault.regular_files import open_handle

_IsalError = cast(type[Exception], isal_zlib.error)


class PackedPiece(NamedTuple):
    """A piece of a file as a gzip member. content: bytes of the file in it. digest: BLAKE3 of the compressed member.

    file_blake3: of the whole file, in hex; only with its last piece.
    """

    member: bytes
    content: int
    digest: bytes
    file_blake3: str | None


class PackedText:
    """A text that is compressed part by part, because it may be long. members: its data members, after `finish`."""

    def __init__(self, compression: Compression) -> None:
        self.members: list[bytes] = []
        self.size = 0
        self.digest = blake3()
        self._compression = compression
        self._remaining = bytearray()

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self.digest.update(part)
        self._remaining += part
        while len(self._remaining) > layout.CHUNK:
            self._pack(bytes(self._remaining[: layout.CHUNK]))
            del self._remaining[: layout.CHUNK]

    def finish(self) -> None:
        if self._remaining:
            self._pack(bytes(self._remaining) + bytes(layout.padding(self.size)))
            self._remaining.clear()

    def _pack(self, piece: bytes) -> None:
        self.members.append(layout.member(piece, compression=self._compression))


class FileDigests(NamedTuple):
    """The digests of a file's content, in hex. sha256: None if it was not requested."""

    blake3: str
    sha256: str | None


def pack(path: Path, size: int, compression: Compression, compare: bool) -> Iterator[Callable[[], PackedPiece]]:
    """Yield one job for each piece of a file of `size` bytes, in order; none for an empty file.

    compare: inflate each piece again, and compare. A job raises DatabaseError if the file has another size, and
    ArchiveDamaged if a piece does not inflate to its content.
    """
    file_hash = OrderedHash()
    pieces = list(layout.pieces(size))
    for number, (count, zeros) in enumerate(pieces):
        is_last = number == len(pieces) - 1
        yield partial(_pack, path, (number, count, zeros), is_last, file_hash, compression, compare)


def hash_files(files: list[tuple[Path, int, bool]]) -> list[FileDigests]:
    """Return the digests of each file. files: path, size, and whether its SHA-256 is needed.

    Raises DatabaseError if a size is wrong.
    """
    return list(in_order(partial(_hash, *file) for file in files))


def _pack(
    path: Path,
    piece: tuple[int, int, int],
    is_last: bool,
    file_hash: OrderedHash,
    compression: Compression,
    compare: bool,
) -> PackedPiece:
    number, count, zeros = piece
    try:
        content = _read(path, number * layout.CHUNK, count, is_last=is_last)
        file_hash.update(number, content)
    except BaseException:
        file_hash.give_up()
        raise
    file_blake3 = file_hash.hexdigest() if is_last else None
    padded = read_buffer()[: count + zeros]
    padded[count:] = bytes(zeros)
    member = layout.member(padded, compression=compression)
    if compare:
        _check_inflated(path, member, len(padded))
    return PackedPiece(member, count, blake3(member).digest(), file_blake3)


def _check_inflated(path: Path, member: bytes, size: int) -> None:
    """Inflate a member: zlib compares the result with the CRC-32 that was computed before compression."""
    try:
        whole = len(isal_zlib.decompress(member, WBITS)) == size
    except _IsalError:
        whole = False
    if not whole:
        raise ArchiveDamaged(
            f"archiving {path} failed: what was compressed does not give the file back",
            hint="the archive was removed; memory or processor may fail: test them, then try again",
        )


def _hash(path: Path, size: int, with_sha256: bool) -> FileDigests:
    digest, sha256 = blake3(), hashlib.sha256()
    offsets = [*range(0, size, layout.CHUNK), size]
    for start, end in pairwise(offsets):
        content = _read(path, start, end - start, is_last=end == size)
        digest.update(content)
        if with_sha256:
            sha256.update(content)
    return FileDigests(digest.hexdigest(), sha256.hexdigest() if with_sha256 else None)


def _read(path: Path, offset: int, count: int, *, is_last: bool) -> memoryview:
    """Read a piece of the file into this thread's buffer. The last piece must end where the file does."""
    handle = open_handle(path)
    try:
        buffer = read_buffer()[:count]
        done = 0
        while done < count:
            read = os.preadv(handle, [buffer[done:]], offset + done)
            if not read:
                raise size_changed(path)
            done += read
        if is_last and os.fstat(handle).st_size != offset + count:
            raise size_changed(path)
        return buffer
    finally:
        os.close(handle)


def size_changed(path: Path) -> DatabaseError:
    return DatabaseError(
        f"archiving {path} failed: its size changed while it was read",
        hint="only a checkpoint's staging folder, which nobody writes to, can be archived",
    )
