"""Files on their way into an archive: read, hashed and compressed piece by piece, on several cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from isal import isal_zlib

from eventvault.archive import layout
from eventvault.archive.compression import Compression
from eventvault.archive.parallel import OrderedHash, in_order, read_buffer
from eventvault.errors import DatabaseError


class PackedPiece(NamedTuple):
    """A piece of a file as a gzip member. content: bytes of the file in it. crc, sha256: of the member as it is.

    file_sha256: of the whole file, in hex, with its last piece.
    """

    member: bytes
    content: int
    crc: int
    sha256: bytes
    file_sha256: str | None


def pack(path: Path, size: int, compression: Compression) -> Iterator[Callable[[], PackedPiece]]:
    """Jobs that give the pieces of a file of `size` bytes, in their order. A file without content has none.

    Each raises DatabaseError where the file has another size.
    """
    chained = OrderedHash()
    pieces = list(layout.pieces(size))
    for number, (count, zeros) in enumerate(pieces):
        yield partial(_pack, path, (number, count, zeros), number == len(pieces) - 1, chained, compression)


def hash_files(files: list[tuple[Path, int]]) -> list[str]:
    """The SHA-256 of each of these files, in hex. Raises DatabaseError where one has another size."""
    return list(in_order(partial(_hash, path, size) for path, size in files))


def _pack(
    path: Path, piece: tuple[int, int, int], last: bool, chained: OrderedHash, compression: Compression
) -> PackedPiece:
    number, count, zeros = piece
    try:
        content = _read(path, number * layout.CHUNK, count, last=last)
        chained.update(number, content)
    except BaseException:
        chained.give_up()
        raise
    file_sha256 = chained.hexdigest() if last else None
    padded = read_buffer()[: count + zeros]
    padded[count:] = bytes(zeros)
    member = layout.member(padded, compression=compression)
    return PackedPiece(member, count, isal_zlib.crc32(member), hashlib.sha256(member).digest(), file_sha256)


def _hash(path: Path, size: int) -> str:
    sha256 = hashlib.sha256()
    places = [*range(0, size, layout.CHUNK), size]
    for start, end in pairwise(places):
        sha256.update(_read(path, start, end - start, last=end == size))
    return sha256.hexdigest()


def _read(path: Path, offset: int, count: int, *, last: bool) -> memoryview:
    """A piece of the file, in this thread's buffer; the last piece must end where the file does."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        buffer = read_buffer()[:count]
        done = 0
        while done < count:
            read = os.preadv(handle, [buffer[done:]], offset + done)
            if not read:
                raise changed(path)
            done += read
        if last and os.fstat(handle).st_size != offset + count:
            raise changed(path)
        return buffer
    finally:
        os.close(handle)


def changed(path: Path) -> DatabaseError:
    return DatabaseError(
        f"archiving {path} failed: its size changed while it was read",
        hint="only a checkpoint's staging folder, which nobody writes to, can be archived",
    )
