"""Verifies and unpacks an archive of format 1 on several cores: inflates, checks and writes each member on its own.

Implements `docs/format.md`, "How it is read". It accepts exactly what `sequential_reader` accepts, which is asked for
the place of the damage if a check fails here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

from isal import isal_zlib

from eventvault.archive import layout, tar
from eventvault.archive.format1.index import VERSION
from eventvault.archive.format1.spans import FileSpans, Member, Spans, find_spans
from eventvault.archive.members import inflate_piece, inflate_whole, read_member
from eventvault.archive.output_files import OutputFiles
from eventvault.archive.parallel import OrderedHash, in_order
from eventvault.archive.progress import ProgressCounter
from eventvault.archive.source import OpenArchive
from eventvault.archive.verified import VerifiedArchive
from eventvault.archive.whole_hash import WholeHash


class _CheckedMember(NamedTuple):
    """A checked member: where it ends and, if it is the last of its file, the file's expected SHA-256 and its hash."""

    end: int
    sha256: str | None = None
    file_hash: OrderedHash | None = None


def read_through(archive: OpenArchive, outputs: OutputFiles, counter: ProgressCounter) -> VerifiedArchive:
    """Check every byte of the archive, and write its files to `outputs`.

    Raises ArchiveDamaged and the like, the OSError of a full disk.
    """
    spans = find_spans(archive)
    whole = WholeHash(archive)
    with closing(in_order(_jobs(archive, spans, outputs))) as results:
        for member in results:
            whole.extend(member.end)
            counter.advance_to(member.end)
            if member.file_hash is not None and member.file_hash.hexdigest() != member.sha256:
                raise archive.damaged(f"a file is not the one that {layout.MANIFEST_NAME} describes", member.end)
    sha256 = _check_whole(archive, whole, spans.closing.digest)
    counter.advance_to(archive.size)
    return VerifiedArchive(spans.manifest, sha256=sha256)


def _check_whole(archive: OpenArchive, whole: WholeHash, digest: bytes) -> str:
    """Compare the SHA-256 up to the closing member with `digest`. Returns that of the whole file, in hex."""
    whole.extend(archive.size - layout.CLOSING_SIZE)
    if whole.digest() != digest:
        raise archive.damaged("the SHA-256 of the whole archive is not the one in its closing member", 0)
    return whole.of_all()


def _jobs(archive: OpenArchive, spans: Spans, outputs: OutputFiles) -> Iterator[Callable[[], _CheckedMember]]:
    modified = spans.manifest.modified
    folder_block = tar.build_header(layout.FOLDER_ENTRY, 0, modified)
    yield partial(_check_header, archive, spans.folder, layout.opening_header(VERSION), folder_block)
    for file in spans.files:
        block = tar.build_header(layout.FOLDER_ENTRY + file.record.name, file.record.size, modified)
        yield partial(_check_header, archive, file.header, layout.PLAIN_HEADER, block)
        outputs.begin(file.record.name, file.record.size, len(file.ranges))
        if not file.ranges:
            yield partial(_check_empty, file)
        file_hash = OrderedHash(hashlib.sha256)
        for number, member in enumerate(file.members()):
            yield partial(_check_member, archive, file, number, member, file_hash, outputs)


def _check_header(archive: OpenArchive, header: tuple[int, int], gzip_header: bytes, block: bytes) -> _CheckedMember:
    offset, length = header
    packed = read_member(archive, offset, length)
    if inflate_whole(archive, packed, offset, gzip_header, len(block)) != block:
        raise archive.damaged("the tar header is not as EventVault writes it", offset)
    return _CheckedMember(offset + length)


def _check_empty(file: FileSpans) -> _CheckedMember:
    return _CheckedMember(sum(file.header), file.record.sha256, OrderedHash(hashlib.sha256))


def _check_member(
    archive: OpenArchive, file: FileSpans, number: int, member: Member, file_hash: OrderedHash, outputs: OutputFiles
) -> _CheckedMember:
    try:
        content = _content_of(archive, member)
        file_hash.update(number, content)
    except BaseException:
        file_hash.give_up()
        raise
    outputs.write(file.record.name, number, content)
    if number < len(file.ranges) - 1:
        return _CheckedMember(member.offset + member.length)
    return _CheckedMember(member.offset + member.length, file.record.sha256, file_hash)


def _content_of(archive: OpenArchive, member: Member) -> memoryview:
    packed = read_member(archive, member.offset, member.length)
    if isal_zlib.crc32(packed) != member.crc:
        raise archive.damaged("a member is not the one that the index describes", member.offset)
    return inflate_piece(archive, packed, member.offset, member.content, member.zeros)
