"""Verifies and unpacks an archive of ours on several cores: inflates, checks and writes each member on its own.

Implements `docs/format.md`, "How it is read". It accepts exactly what `sequential_reader` accepts, which is asked for
the place of the damage if a check fails here.
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
    """An archive whose every byte was checked. sha256: of the whole file, in hex."""

    manifest: Manifest
    sha256: str


class _CheckedMember(NamedTuple):
    """A checked member: where it ends and, if it is the last of its file, the file's expected SHA-256 and its hash."""

    end: int
    sha256: str | None = None
    file_hash: OrderedHash | None = None


def read_through(archive: OpenArchive, target: Path | None, counter: ProgressCounter) -> VerifiedArchive:
    """Check every byte of the archive. target: the folder to write its files to; None only checks.

    Raises ArchiveDamaged and the like, the OSError of a full disk.
    """
    spans = find_spans(archive)
    whole = _ArchiveHash(archive, counter)
    outputs = _OutputFiles(target)
    try:
        with closing(in_order(_jobs(archive, spans, outputs))) as results:
            for member in results:
                whole.extend(member.end)
                if member.file_hash is not None and member.file_hash.hexdigest() != member.sha256:
                    raise archive.damaged(f"a file is not the one that {layout.MANIFEST_NAME} describes", member.end)
    finally:
        outputs.close()
    return VerifiedArchive(spans.manifest, whole.finish(spans.closing.digest))


class _ArchiveHash:
    """Computes the SHA-256 of the whole archive right behind the threads, while its pages are still cached."""

    def __init__(self, archive: OpenArchive, counter: ProgressCounter) -> None:
        self._archive = archive
        self._counter = counter
        self._sha256 = hashlib.sha256()
        self._end = 0
        self._buffer = memoryview(bytearray(IO_BYTES))

    def extend(self, end: int) -> None:
        start = self._end
        while self._end < end:
            read = self._archive.read_into(self._buffer[: min(IO_BYTES, end - self._end)], self._end)
            if not read:
                raise self._archive.damaged("it was truncated while it was read", self._end)
            self._sha256.update(self._buffer[:read])
            self._end += read
        self._counter.advance(end - start)

    def finish(self, digest: bytes) -> str:
        """Compare the SHA-256 up to the closing member with `digest`. Returns that of the whole file, in hex."""
        self.extend(self._archive.size - layout.CLOSING_SIZE)
        if self._sha256.digest() != digest:
            raise self._archive.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
        self.extend(self._archive.size)
        return self._sha256.hexdigest()


class _OutputFiles:
    """The files in `folder`, each written by several threads. folder=None: writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def begin(self, file: FileSpans) -> None:
        if self._folder is None:
            return
        path = self._folder / file.record.name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        if not file.ranges:
            os.close(handle)
            return
        with self._lock:
            self._open[file.record.name] = (handle, len(file.ranges))
        os.posix_fallocate(handle, 0, file.record.size)

    def write(self, file: FileSpans, number: int, content: memoryview) -> None:
        """Write a piece of the file. After the last one the kernel begins to flush the file; nobody waits for that."""
        if self._folder is None:
            return
        with self._lock:
            handle, remaining = self._open[file.record.name]
        write_at(handle, content, number * layout.CHUNK)
        with self._lock:
            handle, remaining = self._open[file.record.name]
            self._open[file.record.name] = (handle, remaining - 1)
            if remaining > 1:
                return
            del self._open[file.record.name]
        with suppress(OSError):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)

    def close(self) -> None:
        """Close all files. No thread may be writing any more."""
        for handle, _ in self._open.values():
            with suppress(OSError):
                os.close(handle)


def _jobs(archive: OpenArchive, spans: Spans, outputs: _OutputFiles) -> Iterator[Callable[[], _CheckedMember]]:
    modified = spans.manifest.modified
    folder_block = tar.build_header(layout.FOLDER_ENTRY, 0, modified)
    yield partial(_check_header, archive, spans.folder, layout.opening_header(), folder_block)
    for file in spans.files:
        block = tar.build_header(layout.FOLDER_ENTRY + file.record.name, file.record.size, modified)
        yield partial(_check_header, archive, file.header, layout.PLAIN_HEADER, block)
        outputs.begin(file)
        if not file.ranges:
            yield partial(_check_empty, file)
        file_hash = OrderedHash()
        for number, member in enumerate(file.members()):
            yield partial(_check_member, archive, file, number, member, file_hash, outputs)


def _check_header(archive: OpenArchive, header: tuple[int, int], gzip_header: bytes, block: bytes) -> _CheckedMember:
    offset, length = header
    if _inflate(archive, offset, length, gzip_header, len(block), None) != block:
        raise archive.damaged("the tar header is not as EventVault writes it", offset)
    return _CheckedMember(offset + length)


def _check_empty(file: FileSpans) -> _CheckedMember:
    return _CheckedMember(sum(file.header), file.record.sha256, OrderedHash())


def _check_member(
    archive: OpenArchive, file: FileSpans, number: int, member: Member, file_hash: OrderedHash, outputs: _OutputFiles
) -> _CheckedMember:
    try:
        content = _content_of(archive, member)
        file_hash.update(number, content)
    except BaseException:
        file_hash.give_up()
        raise
    outputs.write(file, number, content)
    if number < len(file.ranges) - 1:
        return _CheckedMember(member.offset + member.length)
    return _CheckedMember(member.offset + member.length, file.record.sha256, file_hash)


def _content_of(archive: OpenArchive, member: Member) -> memoryview:
    expected = member.content + member.zeros
    content = _inflate(archive, member.offset, member.length, layout.PLAIN_HEADER, expected, member.crc)
    if content[member.content :].strip(b"\0"):
        raise archive.damaged("the padding of a file is not empty", member.offset)
    return memoryview(content)[: member.content]


def _inflate(archive: OpenArchive, offset: int, length: int, header: bytes, expected: int, crc: int | None) -> bytes:
    """Return the content of the member that fills exactly these bytes. crc: of the compressed bytes, or None."""
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
        raise archive.damaged("a gzip member is not as EventVault writes it", offset)
    return content
