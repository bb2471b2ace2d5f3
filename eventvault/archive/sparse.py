"""Reads sparse files in a tar: the map of the stored parts, and the content with zeros in place of the holes.

Sources: GNU tar manual, "Storing Sparse Files" (the old GNU format, and pax 0.0, 0.1 and 1.0, which libarchive writes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from eventvault.archive import tar

PAX_PREFIX = b"GNU.sparse."
MAX_PARTS = 10_000
MAX_HOLE_BYTES = 2**30
"""Limit for the holes of an archive's sparse files: they cost nothing in the archive, but time to write."""

_ZEROS = bytes(256 * 1024)
_OLD_MAP, _OLD_EXTENDED, _OLD_SIZE = slice(386, 482), 482, slice(483, 495)
_MORE_MAP, _MORE_EXTENDED = slice(0, 504), 504
_NUMBER_BYTES = 12
_MAX_DIGITS = 20

ReadBlock = Callable[[], bytes]
"""Returns the next 512 bytes of the tar file."""


class SparseMap(NamedTuple):
    """The stored parts of a sparse file. size: of the file. parts: (offset, length), in order."""

    size: int
    parts: Sequence[tuple[int, int]]

    @property
    def stored(self) -> int:
        return sum(length for _, length in self.parts)

    def check(self, stored: int) -> None:
        """Raise ValueError unless the parts are in order, within the file, and of as many bytes as are stored."""
        end = 0
        for offset, length in self.parts:
            if offset < end:
                raise ValueError("the parts of a sparse file overlap")
            end = offset + length
        if end > self.size or self.stored != stored:
            raise ValueError("the parts of a sparse file do not have as many bytes as the archive stores")

    def expand(self, read: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
        """Yield the content of the file. read: called with a count; yields that many of the next stored bytes."""
        end = 0
        for offset, length in (*self.parts, (self.size, 0)):
            yield from _zeros(offset - end)
            yield from read(length)
            end = offset + length


def old_map(header: bytes, read_block: ReadBlock) -> SparseMap:
    """Return the map of an old GNU header, of type `S`, and of the blocks that continue it. Raises ValueError."""
    numbers, extended = list(_old_numbers(header[_OLD_MAP])), header[_OLD_EXTENDED]
    while extended:
        block = read_block()
        numbers += _old_numbers(block[_MORE_MAP])
        extended = block[_MORE_EXTENDED]
        check_count(len(numbers) // 2)
    return SparseMap(tar.parse_number(header[_OLD_SIZE], "size"), _pairs(numbers))


def pax_map(records: Sequence[tuple[bytes, bytes]]) -> SparseMap:
    """Return the map in the records of a pax header in format 0.0 or 0.1. Raises ValueError."""
    values = dict(records)
    if (text := values.get(b"GNU.sparse.map")) is not None:
        numbers = [decimal(number) for number in text.split(b",") if text]
    else:
        numbers = [decimal(value) for key, value in records if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
    return SparseMap(decimal(values.get(b"GNU.sparse.size", b"")), _pairs(numbers))


def stored_map(size: int, read_block: ReadBlock) -> SparseMap:
    """Return the map of format 1.0, which comes before the content. Raises ValueError."""
    text = read_block()
    count = decimal(text.partition(b"\n")[0])
    check_count(count)
    lines = 1 + 2 * count
    while text.count(b"\n") < lines:
        if len(text) > lines * (_MAX_DIGITS + 1):
            raise ValueError("the map of a sparse file is too long")
        text += read_block()
    return SparseMap(size, _pairs([decimal(line) for line in text.split(b"\n")[1:lines]]))


def decimal(text: bytes) -> int:
    """Return a number of a pax header or of a map. Raises ValueError."""
    if not text.isdigit() or len(text) > _MAX_DIGITS:
        raise ValueError("a number of a sparse file is not a number")
    return int(text)


def check_count(parts: int) -> None:
    """Raise ValueError if a file has more than MAX_PARTS parts."""
    if parts > MAX_PARTS:
        raise ValueError(f"a sparse file has more than {MAX_PARTS} parts")


def _old_numbers(fields: bytes) -> Iterator[int]:
    for start in range(0, len(fields), _NUMBER_BYTES):
        field = fields[start : start + _NUMBER_BYTES]
        if not field.strip(b"\0"):
            return
        yield tar.parse_number(field, "size")


def _pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise ValueError("the map of a sparse file is incomplete")
    check_count(len(numbers) // 2)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _zeros(count: int) -> Iterator[bytes]:
    for start in range(0, count, len(_ZEROS)):
        yield _ZEROS[: count - start]
