"""An archive of ours, read on several cores: each member inflated, checked and written to its place by itself.

It accepts exactly what `sequential_reader` accepts. That one is asked where a check fails: it says what is wrong and
at which byte.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
from isal import isal_zlib

from eventvault.archive import layout, tar
from eventvault.archive.manifest import Manifest
from eventvault.archive.parallel import OrderedHash, in_order, read_buffer
from eventvault.archive.progress import ProgressCounter
from eventvault.archive.source import OpenArchive
from eventvault.archive.spans import FileSpans, Member, Spans, find_spans
from eventvault.files import IO_BYTES, write_at

_IsalError = cast(type[Exception], isal_zlib.error)
_TRAILER = struct.Struct("<II")


class VerifiedArchive(msgspec.Struct, frozen=True):
    """An archive that was read from its first byte to its last. sha256: of the whole file, in hex."""

    manifest: Manifest
    sha256: str


class _Done(NamedTuple):
    """A member that was checked: where it ends in the archive, and what the whole file's SHA-256 must be."""

    end: int
    sha256: str | None = None
    chained: OrderedHash | None = None


def read_through(archive: OpenArchive, target: Path | None, counter: ProgressCounter) -> VerifiedArchive:
    """Check every byte of the archive; target: the folder that its files are written to, None to only check.

    Raises ArchiveDamaged and the like, the OSError of a full disk.
    """
    spans = find_spans(archive)
    whole = _ArchiveHash(archive, counter)
    writing = _Writing(target)
    try:
        with closing(in_order(_jobs(archive, spans, writing))) as results:
            for done in results:
                whole.extend(done.end)
                if done.chained is not None and done.chained.hexdigest() != done.sha256:
                    raise archive.damaged(f"a file is not the one that {layout.MANIFEST_NAME} describes", done.end)
    finally:
        writing.close()
    return VerifiedArchive(spans.manifest, whole.finish(spans.closing.digest))


class _ArchiveHash:
    """The SHA-256 of the whole archive, computed as far as its members have been read: they are still in memory."""

    def __init__(self, archive: OpenArchive, counter: ProgressCounter) -> None:
        self._archive = archive
        self._counter = counter
        self._sha256 = hashlib.sha256()
        self._end = 0
        self._buffer = memoryview(bytearray(IO_BYTES))

    def extend(self, end: int) -> None:
        began = self._end
        while self._end < end:
            read = self._archive.read_into(self._buffer[: min(IO_BYTES, end - self._end)], self._end)
            if not read:
                raise self._archive.damaged("it became shorter while it was read", self._end)
            self._sha256.update(self._buffer[:read])
            self._end += read
        self._counter.advance(end - began)

    def finish(self, digest: bytes) -> str:
        """Compare what comes before the closing member with `digest`; gives the SHA-256 of the whole file."""
        self.extend(self._archive.size - layout.CLOSING_SIZE)
        if self._sha256.digest() != digest:
            raise self._archive.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
        self.extend(self._archive.size)
        return self._sha256.hexdigest()


class _Writing:
    """The files that are being written into `folder`, each by several threads; None: nothing is written."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def begin(self, file: FileSpans) -> None:
        """Make the file in its full size."""
        if self._folder is None:
            return
        path = self._folder / file.record.name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        if not file.places:
            os.close(handle)
            return
        with self._lock:
            self._open[file.record.name] = (handle, len(file.places))
        os.posix_fallocate(handle, 0, file.record.size)

    def write(self, file: FileSpans, number: int, content: memoryview) -> None:
        """Write a piece of it; with the last of them the kernel begins to bring it to the disk, and does not wait."""
        if self._folder is None:
            return
        with self._lock:
            handle, left = self._open[file.record.name]
        write_at(handle, content, number * layout.CHUNK)
        with self._lock:
            handle, left = self._open[file.record.name]
            self._open[file.record.name] = (handle, left - 1)
            if left > 1:
                return
            del self._open[file.record.name]
        with suppress(OSError):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)

    def close(self) -> None:
        """Close what is left open; no thread may be at work any more."""
        for handle, _ in self._open.values():
            with suppress(OSError):
                os.close(handle)


def _jobs(archive: OpenArchive, spans: Spans, writing: _Writing) -> Iterator[Callable[[], _Done]]:
    modified = spans.manifest.modified
    folder_block = tar.build_header(layout.FOLDER_ENTRY, 0, modified)
    yield partial(_check_header, archive, spans.folder, layout.opening_header(), folder_block)
    for file in spans.files:
        block = tar.build_header(layout.FOLDER_ENTRY + file.record.name, file.record.size, modified)
        yield partial(_check_header, archive, file.header, layout.PLAIN_HEADER, block)
        writing.begin(file)
        if not file.places:
            yield partial(_check_empty, file)
        chained = OrderedHash()
        for number, member in enumerate(file.members()):
            yield partial(_check_member, archive, file, number, member, chained, writing)


def _check_header(archive: OpenArchive, place: tuple[int, int], gzip_header: bytes, block: bytes) -> _Done:
    offset, length = place
    if _inflate(archive, offset, length, gzip_header, len(block), None) != block:
        raise archive.damaged("the tar header is not as it was written", offset)
    return _Done(offset + length)


def _check_empty(file: FileSpans) -> _Done:
    return _Done(sum(file.header), file.record.sha256, OrderedHash())


def _check_member(
    archive: OpenArchive, file: FileSpans, number: int, member: Member, chained: OrderedHash, writing: _Writing
) -> _Done:
    try:
        content = _inflated(archive, member)
        chained.update(number, content)
    except BaseException:
        chained.give_up()
        raise
    writing.write(file, number, content)
    if number < len(file.places) - 1:
        return _Done(member.offset + member.length)
    return _Done(member.offset + member.length, file.record.sha256, chained)


def _inflated(archive: OpenArchive, member: Member) -> memoryview:
    """The content of a data member without its padding."""
    expected = member.content + member.zeros
    content = _inflate(archive, member.offset, member.length, layout.PLAIN_HEADER, expected, member.crc)
    if content[member.content :].strip(b"\0"):
        raise archive.damaged("the padding of a file is not empty", member.offset)
    return memoryview(content)[: member.content]


def _inflate(archive: OpenArchive, offset: int, length: int, header: bytes, expected: int, crc: int | None) -> bytes:
    """The content of the member that fills these bytes exactly. crc: of the bytes themselves."""
    packed = read_buffer()[:length]
    if archive.read_into(packed, offset) != length:
        raise archive.damaged("a member ends after the file", offset)
    if crc is not None and isal_zlib.crc32(packed) != crc:
        raise archive.damaged("a member is not the one that the index describes", offset)
    body = packed[len(header) : -_TRAILER.size]
    inflater = isal_zlib.decompressobj(-15)
    try:
        content: bytes = inflater.decompress(body, expected + 1)
    except _IsalError as error:
        raise archive.damaged(f"the gzip member cannot be inflated: {error}", offset) from error
    trailer = _TRAILER.pack(isal_zlib.crc32(content), len(content) & 0xFFFFFFFF)
    whole = inflater.eof and not inflater.unused_data and len(content) == expected
    if not whole or packed[: len(header)] != header or packed[-_TRAILER.size :] != trailer:
        raise archive.damaged("a gzip member is not as it was written", offset)
    return content
