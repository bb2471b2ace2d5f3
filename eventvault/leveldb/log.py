"""LevelDB's log format: write-ahead logs (`*.log`) and MANIFEST files.

Source: `doc/log_format.md`, `db/log_reader.cc` and `util/crc32c.h` of LevelDB. A file is a sequence of blocks of
32 KiB; a block is a sequence of fragments, each a header (masked CRC32C of type and payload, 4 bytes; length of the
payload, 2 bytes; type, 1 byte; all little-endian) and a payload; what is left of a block when no header fits is a
trailer without meaning. A record is one FULL fragment, or FIRST, any number of MIDDLE, LAST.

LevelDB itself skips what it cannot read and goes on; this reader stops there and says what it found.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import google_crc32c

BLOCK_SIZE = 32768
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

MAX_RECORD_BYTES = 256 * 2**20
"""Bytes of one record that are joined in memory: a batch of what one request may hold is far smaller, and a forged log
must not fill the memory."""

_MASK_DELTA = 0xA282EAD8
_TYPE = re.compile(rb"[\x01-\x04]")


class Ending(StrEnum):
    """How a log ended.

    CLEAN: with a whole record, or with zeros beyond it (space that was reserved), which LevelDB passes over too.
    TORN: with a record that is partial or bad and no whole record after it: the writer was stopped in its midst.
    DAMAGED: with a bad record that whole records follow: bytes in the middle are not those that were written. Or with a
    record that is longer than `MAX_RECORD_BYTES`.
    """

    CLEAN = "clean"
    TORN = "torn"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class LogEnd:
    """offset: where the last whole record before the end, or before the first bad byte, ends. reason: for people."""

    ending: Ending
    offset: int
    reason: str = ""


@dataclass(frozen=True)
class _Fragment:
    type: int
    payload: bytes
    end: int
    """Position in the block of the first byte after it."""


class LogReader:
    """Iterate the records of a log once, as bytes; then `end` says how it ended.

    file: opened for reading, seekable. size: read at most this many bytes (default: all). Only one record and one
    block are in memory at a time. Raises OSError of the file.
    """

    def __init__(self, file: BinaryIO, size: int | None = None) -> None:
        self._file = file
        self._size = size if size is not None else file.seek(0, 2)
        self._bad: tuple[int, str] | None = None
        self._too_long = False
        self._end: LogEnd | None = None

    @property
    def end(self) -> LogEnd:
        """Known only once the iteration has come to its end."""
        if self._end is None:
            raise RuntimeError("the log was not read to its end yet")
        return self._end

    def __iter__(self) -> Iterator[bytes]:
        good = 0
        parts: list[bytes] = []
        begun = False
        length = 0
        for offset, fragment in self._fragments():
            if problem := _misplaced(fragment.type, begun and any(parts), begun):
                self._bad = (offset, problem)
                break
            if fragment.type in (FULL, FIRST):
                parts = []
                length = 0
            length += len(fragment.payload)
            if length > MAX_RECORD_BYTES:
                self._bad = (offset, f"a record that is longer than {MAX_RECORD_BYTES} bytes")
                self._too_long = True
                break
            parts.append(fragment.payload)
            begun = fragment.type in (FIRST, MIDDLE)
            if not begun:
                yield b"".join(parts)
                good = offset + HEADER.size + len(fragment.payload)
        self._end = self._judge(good, begun)

    def _fragments(self) -> Iterator[tuple[int, _Fragment]]:
        """Each good fragment with its offset in the file, up to the first bad one, which is noted in `_bad`."""
        for start in range(0, self._size, BLOCK_SIZE):
            block = self._block(start)
            position = 0
            while position + HEADER.size <= len(block):
                found = _fragment(block, position)
                if isinstance(found, str):
                    self._bad = (start + position, found)
                    return
                yield start + position, found
                position = found.end
            if position < len(block) and position + HEADER.size <= BLOCK_SIZE:
                self._bad = (start + position, "a header that is cut off")

    def _block(self, start: int) -> bytes:
        self._file.seek(start)
        return self._file.read(min(BLOCK_SIZE, self._size - start))

    def _judge(self, good: int, begun: bool) -> LogEnd:
        """What ended the log: nothing, or what `_bad` holds. `begun`: a record was under way."""
        if self._bad is None:
            return LogEnd(Ending.TORN, good, "a record without an end") if begun else LogEnd(Ending.CLEAN, good)
        offset, problem = self._bad
        reason = f"{problem} at offset {offset}"
        if self._too_long:
            return LogEnd(Ending.DAMAGED, good, reason)
        follower = self._whole_record_from(offset)
        if follower is not None:
            return LogEnd(Ending.DAMAGED, good, f"{reason}, and a good record after it at offset {follower}")
        if not begun and self._zeros_from(offset):
            return LogEnd(Ending.CLEAN, good, f"zeros from offset {offset} on")
        return LogEnd(Ending.TORN, good, reason)

    def _whole_record_from(self, offset: int) -> int | None:
        """The offset of the first whole record that begins at `offset` or after it; None if there is none.

        A bad length hides where the next fragment begins, so every place in a block is tried. A MIDDLE or LAST
        without its FIRST is no whole record: pages of one torn write may reach the disk in any order.
        """
        begun: int | None = None
        for start in self._blocks_from(offset):
            block = self._block(start)
            position = max(0, offset - start)
            while position + HEADER.size <= len(block):
                found = _fragment(block, position)
                if isinstance(found, str):
                    begun = None
                    position = _next_candidate(block, position + 1)
                    continue
                if found.type == FULL:
                    return start + position
                if found.type == FIRST:
                    begun = start + position
                elif found.type == LAST and begun is not None:
                    return begun
                position = found.end
        return None

    def _zeros_from(self, offset: int) -> bool:
        return not any(any(self._block(start)[max(0, offset - start) :]) for start in self._blocks_from(offset))

    def _blocks_from(self, offset: int) -> range:
        return range(offset - offset % BLOCK_SIZE, self._size, BLOCK_SIZE)


def _fragment(block: bytes, position: int) -> _Fragment | str:
    """The fragment at `position`, where a header fits, or what is wrong with it."""
    checksum, length, kind = HEADER.unpack_from(block, position)
    end = position + HEADER.size + length
    if kind == 0 and length == 0:
        return "a header of zeros"
    if end > len(block):
        return "a fragment that is longer than its block"
    if google_crc32c.value(block[position + HEADER.size - 1 : end]) != _unmasked(checksum):
        return "a fragment with a wrong checksum"
    if kind not in (FULL, FIRST, MIDDLE, LAST):
        return f"a fragment of the unknown type {kind}"
    return _Fragment(kind, block[position + HEADER.size : end], end)


def _misplaced(kind: int, content: bool, begun: bool) -> str | None:
    """What is wrong with a fragment of this type where it stands; `begun`: a record is, with or without `content`.

    An empty FIRST at the end of a block is passed over: early versions of LevelDB wrote that.
    """
    if kind in (MIDDLE, LAST) and not begun:
        return "the end of a record without its beginning"
    if kind in (FULL, FIRST) and content:
        return "the beginning of a record inside another"
    return None


def _unmasked(checksum: int) -> int:
    """Undo LevelDB's masking of a CRC (rotate right by 15 bits, add a constant)."""
    rotated = (checksum - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _next_candidate(block: bytes, position: int) -> int:
    """The next place, from `position` on, where the byte of a header's type is a type; beyond the block if none is."""
    found = _TYPE.search(block, position + HEADER.size - 1)
    return found.start() - HEADER.size + 1 if found else len(block)
