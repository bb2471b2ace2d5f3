"""Opens an archive for reading, and reads its bytes in order with their SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from eventvault.archive.locks import shared_lock
from eventvault.archive.progress import ProgressCounter
from eventvault.damage import advice
from eventvault.errors import (
    ArchiveAlien,
    ArchiveDamaged,
    ArchiveError,
    ArchiveIncomplete,
    ArchiveUnreadable,
)
from eventvault.files import read_at
from eventvault.regular_files import NotRegular

_READ = 256 * 1024
DAMAGED_HINT = "the archive is damaged; restore another one, and check the disk or copy this one again"


@dataclass(frozen=True)
class OpenArchive:
    """An archive that is open under a shared lock. size: in bytes, when it was opened."""

    path: Path
    handle: int
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end of the file. Raises ArchiveUnreadable if the disk fails."""
        try:
            return read_at(self.handle, offset, count)
        except OSError as error:
            raise self.unreadable(error, offset) from error

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer and return the number of bytes, fewer only at the end. Raises ArchiveUnreadable."""
        done = 0
        try:
            while done < len(buffer) and (read := os.preadv(self.handle, [buffer[done:]], offset + done)):
                done += read
        except OSError as error:
            raise self.unreadable(error, offset + done) from error
        return done

    def crc_of(self, offset: int, length: int) -> int:
        crc = 0
        for start in range(offset, offset + length, _READ):
            crc = isal_zlib.crc32(self.read_at(start, min(_READ, offset + length - start)), crc)
        return crc

    def unreadable(self, error: OSError, offset: int) -> ArchiveUnreadable:
        """Return the error for bytes that the system cannot read now, although they may be good."""
        return ArchiveUnreadable(
            f"reading {self.path} failed at byte {offset}: {os.strerror(error.errno or 0)}",
            hint="check that disk and try again; restore another archive if the disk has a bad sector there",
        )

    def damaged(self, why: str, offset: int) -> ArchiveDamaged:
        return ArchiveDamaged(f"reading {self.path} failed at byte {offset}: {why}", hint=DAMAGED_HINT)

    def incomplete(self, why: str) -> ArchiveIncomplete:
        return ArchiveIncomplete(
            f"reading {self.path} failed: {why}",
            hint="wait until the copy is complete, or copy it again",
        )

    def alien(self, why: str) -> ArchiveAlien:
        return ArchiveAlien(
            f"reading {self.path} failed: {why}",
            hint="an archive made by EventVault, or a tar.gz with the folder of one LevelDB, is needed",
        )


@contextmanager
def open_archive(path: Path, *, past_cache: bool = False, wait: bool = True) -> Iterator[OpenArchive]:
    """Open an archive, or a symbolic link to one, for reading under a shared lock.

    past_cache: ask the kernel to drop its cached pages first, so that the bytes come from the disk. wait: as for
    `shared_lock`. Raises BackupNotFound if it does not exist, ArchiveAlien if it is not a regular file, or
    ArchiveUnreadable if the system refuses to open it.
    """
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(shared_lock(path, follow=True, wait=wait))
        except (NotRegular, IsADirectoryError) as error:
            raise ArchiveAlien(
                f"reading {path} failed: it is not a regular file", hint="replace it by the archive itself"
            ) from error
        except OSError as error:
            raise ArchiveUnreadable(
                f"opening the archive {path} failed: {os.strerror(error.errno or 0)}",
                hint=advice(error),
            ) from error
        status = os.fstat(handle)
        if past_cache:
            with suppress(OSError):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        yield OpenArchive(path, handle, status.st_size)


class ArchiveBytes:
    """Reads the bytes of an archive from `start` up to `end` in order and computes their SHA-256.

    truncated: the error if the content does not end before `end`: ArchiveIncomplete if the right size is not known.
    """

    def __init__(
        self,
        archive: OpenArchive,
        start: int,
        end: int,
        *,
        truncated: type[ArchiveError] = ArchiveDamaged,
        counter: ProgressCounter | None = None,
    ) -> None:
        self.archive = archive
        self._end = end
        self._truncated = truncated
        self._counter = counter
        self._buffer = memoryview(b"")
        self._buffer_offset = start
        self._next = 0
        self._hashed = start
        self._sha256 = hashlib.sha256()

    @property
    def position(self) -> int:
        """The offset in the file of the next byte."""
        return self._buffer_offset + self._next

    def read_some(self, limit: int = _READ) -> memoryview:
        """Return up to `limit` of the next bytes; an empty view only at the end."""
        if self._next == len(self._buffer):
            self._load()
        piece = self._buffer[self._next : self._next + limit]
        self._next += len(piece)
        return piece

    def push_back(self, count: int) -> None:
        if count <= self._next:
            self._next -= count
        else:
            self._buffer_offset = self.position - count
            self._buffer, self._next = memoryview(b""), 0

    def read_exactly(self, count: int) -> bytes:
        """Return exactly the next `count` bytes, which should be few."""
        content = b""
        while len(content) < count:
            piece = self.read_some(count - len(content))
            if not piece:
                raise self.ended()
            content += piece
        return content

    def at_end(self) -> bool:
        return self.position >= self._end

    def digest(self, following: bytes = b"") -> bytes:
        """Return the SHA-256 of all bytes from `start` to the farthest one read, and of `following`."""
        sha256 = self._sha256.copy()
        sha256.update(following)
        return sha256.digest()

    def damaged(self, why: str, offset: int | None = None) -> ArchiveDamaged:
        return self.archive.damaged(why, self.position if offset is None else offset)

    def ended(self) -> ArchiveError:
        why = f"it ends at byte {self._end}, before the end of its content"
        if self._truncated is ArchiveIncomplete:
            return self.archive.incomplete(why)
        return self.damaged(why)

    def _load(self) -> None:
        offset = self.position
        content = self.archive.read_at(offset, max(0, min(_READ, self._end - offset)))
        self._buffer, self._buffer_offset, self._next = memoryview(content), offset, 0
        fresh = self._buffer[max(0, self._hashed - offset) :]
        self._sha256.update(fresh)
        self._hashed += len(fresh)
        if self._counter is not None and fresh:
            self._counter.advance(len(fresh))
