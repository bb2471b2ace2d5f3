"""Reading back from the disk what was just written, before it counts as a backup."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventvault.archive.parallel import in_order, read_buffer
from eventvault.errors import ArchiveDamaged


class Placed(NamedTuple):
    """Bytes that were written: where, and their SHA-256."""

    offset: int
    length: int
    sha256: bytes


class WrittenRanges:
    """Many a `Placed`, kept small: an archive may have 200,000 members."""

    _FORM = struct.Struct("<QI32s")

    def __init__(self) -> None:
        self._packed = bytearray()

    def add(self, offset: int, length: int, sha256: bytes) -> None:
        self._packed += self._FORM.pack(offset, length, sha256)

    def __iter__(self) -> Iterator[Placed]:
        return (Placed(*fields) for fields in self._FORM.iter_unpack(self._packed))


def read_back(handle: int, path: Path, placed: WrittenRanges) -> None:
    """Read from the disk, past the kernel's copy where it lets us, and compare; the file was synced before.

    Raises ArchiveDamaged that says where it differs.
    """
    with suppress(OSError):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    for bad in in_order(partial(_differs, handle, each) for each in placed):
        if bad is not None:
            raise ArchiveDamaged(
                f"reading back {path} failed at byte {bad}: it is not what was written",
                hint="nothing was kept of it; the disk, its cable or the memory fails: look at the system's log",
            )


def _differs(handle: int, placed: Placed) -> int | None:
    buffer = read_buffer()[: placed.length]
    done = 0
    while done < placed.length:
        try:
            read = os.preadv(handle, [buffer[done:]], placed.offset + done)
        except OSError:
            return placed.offset + done
        if not read:
            return placed.offset + done
        done += read
    return None if hashlib.sha256(buffer).digest() == placed.sha256 else placed.offset
