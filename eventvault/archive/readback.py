"""Reads a new archive back from the disk before it gets its name, and compares it with the bytes that were written."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from eventvault.archive.layout import MAX_MEMBER_BYTES
from eventvault.archive.parallel import in_order, read_buffer
from eventvault.archive.progress import ProgressCounter
from eventvault.errors import ArchiveDamaged


class WrittenRange(NamedTuple):
    """A written part of the file, and the BLAKE3 of its bytes."""

    offset: int
    length: int
    digest: bytes


class WrittenRanges:
    """A compact list of `WrittenRange`: an archive may have 200,000 members, so small neighbours become one range."""

    _FORM = struct.Struct("<QI32s")
    _SMALL = 64 * 1024

    def __init__(self) -> None:
        self.total = 0
        """Bytes of all ranges."""
        self._packed = bytearray()
        self._start = self._end = 0
        self._digest = blake3()

    def add(self, offset: int, content: bytes, digest: bytes | None = None) -> None:
        """Add `content`, which was written at `offset`. digest: its BLAKE3, if it is known."""
        self.total += len(content)
        if len(content) >= self._SMALL and digest is not None:
            self._packed += self._FORM.pack(offset, len(content), digest)
            return
        if offset != self._end or self._end + len(content) - self._start > MAX_MEMBER_BYTES:
            self._close()
            self._start = self._end = offset
        self._digest.update(content)
        self._end += len(content)

    def __iter__(self) -> Iterator[WrittenRange]:
        self._close()
        return (WrittenRange(*fields) for fields in self._FORM.iter_unpack(self._packed))

    def _close(self) -> None:
        """End the range of small neighbours."""
        if self._end > self._start:
            self._packed += self._FORM.pack(self._start, self._end - self._start, self._digest.digest())
        self._start = self._end
        self._digest = blake3()


def read_back(handle: int, path: Path, ranges: WrittenRanges) -> None:
    """Read all ranges of the synced file from the disk, past the kernel's cache if possible, and compare them.

    Raises ArchiveDamaged, which names the first byte of a range that differs, or OSError.
    """
    with suppress(OSError):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    counter = ProgressCounter("read back", ranges.total)
    for offset, length in in_order(partial(_first_difference, handle, written) for written in ranges):
        counter.advance(length)
        if offset is not None:
            raise ArchiveDamaged(
                f"reading back {path} failed at byte {offset}: its bytes are not those that were written",
                hint="the archive was removed; the disk, its cable or the memory fails: read the system's log",
            )


def _first_difference(handle: int, written: WrittenRange) -> tuple[int | None, int]:
    """Return the offset of the range if it differs (None if not; where the file ends, if too early), and its length."""
    buffer = read_buffer()[: written.length]
    done = 0
    while done < written.length:
        read = os.preadv(handle, [buffer[done:]], written.offset + done)
        if not read:
            return written.offset + done, written.length
        done += read
    same = blake3(buffer).digest() == written.digest
    return None if same else written.offset, written.length
