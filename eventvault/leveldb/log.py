"""Reads LevelDB's log format, the format of write-ahead logs (`*.log`) and MANIFEST files.

Source: `doc/log_format.md`, `db/log_reader.cc` and `util/crc32c.h` of LevelDB. A file is a sequence of blocks of
32 KiB, a block a sequence of fragments. A fragment has a header (masked CRC32C of type and payload, 4 bytes; length of
the payload, 2 bytes; type, 1 byte; all little-endian) and a payload. The end of a block, where no header fits, is a
trailer without meaning. A record is one FULL fragment, or FIRST, any number of MIDDLE, LAST.

LevelDB skips unreadable records and continues. This reader stops there and reports how the log ended.
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
"""The longest record that is read. A request's batch is far smaller, and a forged log must not fill the memory."""

_TRIES, _FEW_TRIES = 10_000_000, 100_000
"""Positions after a bad record at which a good one is searched for; the second is for an untrusted log. A torn write of
32 MiB has half a million of them."""
MASK_DELTA = 0xA282EAD8
_TYPE = re.compile(rb"[\x01-\x04]")
_NEVER_WRITTEN = 32
"""This many zeros in a row mean that the bytes never reached the disk: no batch of text and keys has them."""
_ZEROS = "a header of zeros"
_TOO_LONG = "a fragment that is longer than its block"
_CUT_OFF = "a header that is cut off"
_INCOMPLETE = (_ZEROS, _TOO_LONG, _CUT_OFF)


class Ending(StrEnum):
    """How a log ended.

    CLEAN: with a whole record, or with zeros after it (reserved space), which LevelDB skips too.
    TORN: with a partial or bad record and no whole record after it: the writer stopped in the middle of a write.
    DAMAGED: with a bad record before whole ones, so bytes in the middle have changed; or with a record of more bytes
    than are read.
    """

    CLEAN = "clean"
    TORN = "torn"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class LogEnd:
    """How and where a log ended. offset: end of the last whole record before the first bad byte. reason: for messages.

    changed: the bad record of a TORN log has its full length, so its bytes may have changed after they were written.
    """

    ending: Ending
    offset: int
    reason: str = ""
    changed: bool = False


@dataclass(frozen=True)
class _Fragment:
    type: int
    payload: bytes
    end: int
    """Position in the block of the first byte after it."""


class LogReader:
    """Iterates once over the records of a log, as bytes. Afterwards `end` says how the log ended.

    file: open for reading, seekable. size: read at most this many bytes (default: all). most: the most bytes of a
    record. Only one record and one block are in memory at a time. Raises the file's OSError.
    """

    def __init__(self, file: BinaryIO, size: int | None = None, *, most: int | None = None) -> None:
        self._file = file
        self._most = MAX_RECORD_BYTES if most is None else most
        self._most_tries = _TRIES if most is None else _FEW_TRIES
        self._size = size if size is not None else file.seek(0, 2)
        self._bad: tuple[int, str] | None = None
        self._too_long = False
        self._end: LogEnd | None = None

    @property
    def end(self) -> LogEnd:
        """How the log ended. Raises RuntimeError before the iteration has ended."""
        if self._end is None:
            raise RuntimeError("the log has not been read to its end")
        return self._end

    def __iter__(self) -> Iterator[bytes]:
        good = 0
        parts: list[bytes] = []
        begun = False
        length = 0
        for offset, fragment in self._fragments():
            if problem := _problem_with_order(fragment.type, begun and length > 0, begun):
                self._bad = (offset, problem)
                break
            if fragment.type in (FULL, FIRST):
                parts = []
                length = 0
            length += len(fragment.payload)
            if length > self._most:
                self._bad = (offset, f"a record that is longer than {self._most} bytes")
                self._too_long = True
                break
            if fragment.payload:
                parts.append(fragment.payload)
            begun = fragment.type in (FIRST, MIDDLE)
            if not begun:
                yield b"".join(parts)
                good = offset + HEADER.size + len(fragment.payload)
        self._end = self._classify(good, begun)

    def _fragments(self) -> Iterator[tuple[int, _Fragment]]:
        """Yield each good fragment with its offset in the file. Sets `_bad` at the first bad one and stops."""
        for start in range(0, self._size, BLOCK_SIZE):
            block = self._block(start)
            position = 0
            while position + HEADER.size <= len(block):
                fragment = _fragment(block, position)
                if isinstance(fragment, str):
                    self._bad = (start + position, fragment)
                    return
                yield start + position, fragment
                position = fragment.end
            if position < len(block) and position + HEADER.size <= BLOCK_SIZE:
                self._bad = (start + position, _CUT_OFF)

    def _block(self, start: int) -> bytes:
        self._file.seek(start)
        return self._file.read(min(BLOCK_SIZE, self._size - start))

    def _classify(self, good: int, begun: bool) -> LogEnd:
        """Return how the log ended. good: end of the last whole record. begun: the record after it has begun."""
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
        return LogEnd(Ending.TORN, good, reason, self._has_changed(offset, problem))

    def _has_changed(self, offset: int, problem: str) -> bool:
        """Return whether the bad record at `offset` was written completely. A run of zeros was never written."""
        if problem == _TOO_LONG:
            return self._has_another_length(offset)
        blocks = (self._block(start)[max(0, offset - start) :] for start in self._blocks_from(offset))
        return problem not in _INCOMPLETE and not any(bytes(_NEVER_WRITTEN) in block for block in blocks)

    def _has_another_length(self, offset: int) -> bool:
        """Return whether the fragment at `offset` is good except for its length, which no checksum covers."""
        block, position = self._block(offset - offset % BLOCK_SIZE), offset % BLOCK_SIZE
        checksum, _, kind = HEADER.unpack_from(block, position)
        crc = google_crc32c.value(bytes([kind]))
        for place in range(position + HEADER.size, len(block)):
            crc = google_crc32c.extend(crc, block[place : place + 1])
            if mask_checksum(crc) == checksum:
                return True
        return False

    def _whole_record_from(self, offset: int) -> int | None:
        """Return the offset of the first whole record at `offset` or after it; None if there is none.

        A bad length hides where the next fragment begins, so every position in a block is tried. A MIDDLE or LAST
        without its FIRST is not a whole record: pages of one torn write may reach the disk in any order. After too many
        tries a record is assumed.
        """
        begun: int | None = None
        tries = 0
        for start in self._blocks_from(offset):
            block = self._block(start)
            position = max(0, offset - start)
            while position + HEADER.size <= len(block):
                tries += 1
                if tries > self._most_tries:
                    return start + position
                fragment = _fragment(block, position)
                if isinstance(fragment, str):
                    begun = None
                    position = _next_candidate(block, position + 1)
                    continue
                if fragment.type == FULL:
                    return start + position
                if fragment.type == FIRST:
                    begun = start + position
                elif fragment.type == LAST and begun is not None:
                    return begun
                position = fragment.end
        return None

    def _zeros_from(self, offset: int) -> bool:
        return not any(any(self._block(start)[max(0, offset - start) :]) for start in self._blocks_from(offset))

    def _blocks_from(self, offset: int) -> range:
        return range(offset - offset % BLOCK_SIZE, self._size, BLOCK_SIZE)


def _fragment(block: bytes, position: int) -> _Fragment | str:
    """Return the fragment at `position`, where a header fits, or the reason why it is bad."""
    checksum, length, kind = HEADER.unpack_from(block, position)
    end = position + HEADER.size + length
    if kind == 0 and length == 0:
        return _ZEROS
    if end > len(block):
        return _TOO_LONG
    if mask_checksum(google_crc32c.value(block[position + HEADER.size - 1 : end])) != checksum:
        return "a fragment with a wrong checksum"
    if kind not in (FULL, FIRST, MIDDLE, LAST):
        return f"a fragment of the unknown type {kind}"
    return _Fragment(kind, block[position + HEADER.size : end], end)


def _problem_with_order(kind: int, content: bool, begun: bool) -> str | None:
    """Return why a fragment of this type is wrong here; None if it is right. begun: a record has begun. content: it has
    bytes.

    An empty FIRST at the end of a block is skipped, because early versions of LevelDB wrote such fragments.
    """
    if kind in (MIDDLE, LAST) and not begun:
        return "the end of a record without its beginning"
    if kind in (FULL, FIRST) and content:
        return "the beginning of a record inside another"
    return None


def read_unchecked(content: bytes, offset: int) -> bytes:
    """Return the record whose fragments are `content`, without checking checksums. offset: of the first one in the log.

    Raises ValueError if the fragments do not make up one record.
    """
    payload, position, kind = b"", 0, 0
    while position < len(content) and kind not in (FULL, LAST):
        space = BLOCK_SIZE - (offset + position) % BLOCK_SIZE
        if space < HEADER.size:
            position += space
            continue
        _, length, kind = HEADER.unpack_from(content.ljust(position + HEADER.size, b"\0"), position)
        payload += content[position + HEADER.size :][:length]
        position += HEADER.size + length
    if position != len(content) or kind not in (FULL, LAST):
        raise ValueError("the fragments do not make up a record")
    return payload


def encode_appended(record: bytes, position: int) -> bytes:
    """Return the bytes that append a short record, as one fragment, to a log of `position` bytes.

    If it does not fit into the rest of the block, that is filled with zeros, which LevelDB skips.
    """
    room = BLOCK_SIZE - position % BLOCK_SIZE
    padding = b"\0" * room if room < HEADER.size + len(record) else b""
    checksum = mask_checksum(google_crc32c.value(bytes([FULL]) + record))
    return padding + HEADER.pack(checksum, len(record), FULL) + record


def mask_checksum(checksum: int) -> int:
    """Return a CRC as LevelDB stores it: rotated right by 15 bits, plus a constant."""
    rotated = (checksum >> 15) | (checksum << 17)
    return (rotated + MASK_DELTA) & 0xFFFFFFFF


def _next_candidate(block: bytes, position: int) -> int:
    """Return the next position where a header could have a valid type; beyond the block if there is none."""
    match = _TYPE.search(block, position + HEADER.size - 1)
    return match.start() - HEADER.size + 1 if match else len(block)
