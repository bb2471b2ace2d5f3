"""Writes the archive file in order, copies members into it and checks them, and flushes it step by step."""

from __future__ import annotations

import errno
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import layout
from eventvault.archive.members import inflate_piece
from eventvault.archive.parallel import OrderedHash, read_buffer, thread_count
from eventvault.archive.source import OpenArchive
from eventvault.archive.stored import Clone, MemberRun, StoredMember
from eventvault.errors import ArchiveDamaged
from eventvault.files import SourceUnreadable, clone_range, copy_range, read_at, read_source, write_at
from eventvault.progress import JOB_SECONDS

_UNCHECKED = 8
"""How many copied members may wait for their check; each checking thread has one in memory."""

_FLUSH = 2 * 2**20
"""Bytes between two flushes. Few, because an append's sync waits for all bytes on their way to the disk. With 700 MB of
events, 8 clients at 50 posts/s and backups back to back, the posts' p99 was 14 ms; 19 to 21 ms with 8 MiB; and 50 to
86 ms if the kernel was only told to begin writing, every 16 MiB. A backup took the same time in all three cases."""


class CopyFailed(Exception):
    """Bytes copied from another archive are missing or wrong. number: the archive's, as passed to `copy`.

    damaged: False if the disk failed, so that the archive may be good.
    """

    def __init__(self, number: int, why: str, *, damaged: bool = True) -> None:
        super().__init__(why)
        self.number = number
        self.damaged = damaged


class CopiedRun(NamedTuple):
    """The BLAKE3 of each member, in hex. tail: the last bytes, which were copied and not checked."""

    digests: list[str]
    tail: bytes = b""


class ArchiveOutput:
    """Appends to the file `handle`. Other threads read copied members back from it and check them. End with `close`.

    clones: the runs that the file shares with earlier archives on the disk. Every method may raise CopyFailed because
    of an earlier copy.
    """

    def __init__(self, handle: int) -> None:
        self.offset = 0
        self.clones: list[Clone] = []
        self._handle = handle
        self._pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="archive-check")
        self._waiting: deque[tuple[int, Future[str] | None]] = deque()
        """The end of each appended part, with its check if it is a copied member."""
        self._checked = 0
        self._flushed = 0

    def write(self, content: bytes) -> None:
        write_at(self._handle, content, self.offset)
        self._append(len(content), None)

    def copy(self, run: MemberRun, content: str) -> CopiedRun:
        """Append the members of a file in another archive. content: BLAKE3 of the file, in hex.

        Members of format 1 are inflated and compared with it; members of format 2 were inflated when they were made.
        Whole blocks are shared if the file system can do that. A shared run that was read recently is not read again.
        Digests of the other archive are returned unchecked: `finish` raises CopyFailed if they are wrong. Raises
        CopyFailed if bytes are missing or unreadable.
        """
        start = self.offset
        try:
            clone, tail = self._clone(run)
            if clone is not None and clone.read is not None:
                self._append(run.file.length, None)
                return CopiedRun([member.blake3 or "" for member in run.file.members], tail)
            position, checks = 0, []
            inflated = None if _has_digests(run) else _InflatedFile(run, content)
            for number, member in enumerate(run.file.members):
                if clone is None:
                    self._copy(run, start, position, member.length)
                shared = max(0, clone.size - position) if clone else 0
                copied = _Copied(self.offset, member, shared, run, position, number, inflated)
                position += member.length
                checks.append(self._pool.submit(_check_copy, self._handle, copied))
                self._append(member.length, checks[-1])
        except SourceUnreadable as error:
            raise CopyFailed(run.number, f"the disk reports: {error.strerror}", damaged=False) from error
        pairs = zip(run.file.members, checks, strict=True)
        return CopiedRun([member.blake3 or check.result(JOB_SECONDS) for member, check in pairs])

    def finish(self) -> None:
        """Wait until every copied member was checked."""
        self._settle(0)

    def close(self) -> None:
        """End the threads. The file stays open."""
        self._pool.shutdown(cancel_futures=True)

    def _clone(self, run: MemberRun) -> tuple[Clone | None, bytes]:
        """Share the whole blocks of a run and copy its last bytes. Returns both; None if no blocks can be shared."""
        size = clone_range(run.handle, run.file.offset, self._handle, self.offset, run.file.length)
        if not size:
            return None, b""
        tail = read_source(run.handle, run.file.length - size, run.file.offset + size)
        if len(tail) < run.file.length - size:
            raise self._ended(run, size + len(tail))
        write_at(self._handle, tail, self.offset + size)
        read = run.read if _has_digests(run) else None
        self.clones.append(Clone(run.number, run.file.offset, self.offset, size, isal_zlib.crc32(tail), read))
        return self.clones[-1], tail

    def _copy(self, run: MemberRun, start: int, position: int, length: int) -> None:
        """Copy a member of a run. position: its distance from the run's first byte."""
        copied = copy_range(run.handle, run.file.offset + position, self._handle, start + position, length)
        if copied < length:
            raise self._ended(run, position + copied)

    def _ended(self, run: MemberRun, position: int) -> CopyFailed:
        return CopyFailed(run.number, f"it ends at byte {run.file.offset + position}, inside of a member")

    def _append(self, length: int, check: Future[str] | None) -> None:
        self.offset += length
        self._waiting.append((self.offset, check))
        self._settle(_UNCHECKED)
        if self._checked - self._flushed >= _FLUSH:
            self._flush(self._checked)

    def _settle(self, most: int) -> None:
        """Remove the checks that ended, and wait until at most `most` remain."""
        while self._waiting:
            end, check = self._waiting[0]
            if check is not None and len(self._waiting) <= most and not check.done():
                return
            if check is not None:
                check.result(JOB_SECONDS)
            self._checked = end
            self._waiting.popleft()

    def _flush(self, end: int) -> None:
        """Flush the checked bytes to the disk, then let the kernel drop them from its cache."""
        os.fdatasync(self._handle)
        with suppress(OSError):
            os.posix_fadvise(self._handle, self._flushed, end - self._flushed, os.POSIX_FADV_DONTNEED)
        self._flushed = end


class _InflatedFile:
    """Compares copied members with the content of their file. content: the file's BLAKE3 in hex."""

    def __init__(self, run: MemberRun, content: str) -> None:
        self._run = run
        self._content = content
        self._pieces = list(layout.pieces(run.file.size))
        self._hash = OrderedHash()

    def compare(self, number: int, packed: memoryview) -> None:
        """Inflate member `number`, counted from 0. Raises CopyFailed."""
        try:
            self._hash.update(number, self._inflate(number, packed))
        except BaseException:
            self._hash.give_up()
            raise
        if number == len(self._pieces) - 1 and self._hash.hexdigest() != self._content:
            raise self._failed()

    def give_up(self) -> None:
        self._hash.give_up()

    def _inflate(self, number: int, packed: memoryview) -> memoryview:
        copy = OpenArchive(Path(self._run.file.name), -1, len(packed))
        try:
            return inflate_piece(copy, packed, 0, *self._pieces[number])
        except ArchiveDamaged as error:
            raise self._failed() from error

    def _failed(self) -> CopyFailed:
        return CopyFailed(self._run.number, f"its members of {self._run.file.name} do not hold that file")


class _Copied(NamedTuple):
    """The member `number` of a run, at `offset` of the new file, copied from `position` of the run.

    shared: how many of its first bytes are in blocks of the earlier archive; the others are only in the new file.
    inflated: compares its content; None: the content is not compared.
    """

    offset: int
    member: StoredMember
    shared: int
    run: MemberRun
    position: int
    number: int
    inflated: _InflatedFile | None


def _has_digests(run: MemberRun) -> bool:
    return all(member.blake3 is not None for member in run.file.members)


def _check_copy(handle: int, copied: _Copied) -> str:
    """Check a copied member and return its BLAKE3. Raises as `_check_bytes`, and CopyFailed for wrong content."""
    try:
        packed, digest = _check_bytes(handle, copied)
        if copied.inflated is not None:
            copied.inflated.compare(copied.number, packed)
    except BaseException:
        if copied.inflated is not None:
            copied.inflated.give_up()
        raise
    return digest


def _check_bytes(handle: int, copied: _Copied) -> tuple[memoryview, str]:
    """Read a copied member from the new file and compare its checksum. Returns its bytes and their BLAKE3.

    Raises CopyFailed if the earlier archive is wrong, OSError if the new file is.
    """
    member, fail = copied.member, partial(CopyFailed, copied.run.number)
    buffer, done = read_buffer()[: member.length], 0
    while done < member.length:
        try:
            read = os.preadv(handle, [buffer[done:]], copied.offset + done)
        except OSError as error:
            if done >= copied.shared:
                raise
            raise fail(f"the disk reports: {error.strerror}", damaged=False) from error
        if not read:
            raise fail(f"{member.length - done} bytes are missing")
        done += read
    digest, wrong = blake3(buffer).hexdigest(), _wrong_checksum(buffer, member)
    if wrong is None:
        return buffer, digest
    if copied.shared < member.length and _is_right_in_source(copied):
        raise OSError(errno.EIO, "the disk gives back other bytes than were written")
    raise fail(f"the checksum ({wrong}) of a member that was copied from it is wrong")


def _wrong_checksum(content: memoryview | bytes, member: StoredMember) -> str | None:
    if member.crc is not None and isal_zlib.crc32(content) != member.crc:
        return "CRC"
    if member.blake3 is not None and blake3(content).hexdigest() != member.blake3:
        return "BLAKE3"
    return None


def _is_right_in_source(copied: _Copied) -> bool:
    run, member = copied.run, copied.member
    try:
        content = read_at(run.handle, run.file.offset + copied.position, member.length)
    except OSError:
        return False
    return len(content) == member.length and _wrong_checksum(content, member) is None
