"""Verifies and unpacks an archive of format 2 on several cores: every member is checked on its own.

Implements "Reading" of `docs/format.md`. The root proves the index, and the index proves the members, so
an error names the damaged member. Only the exact bytes that `eventvault.archive.writer` writes are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive import layout, manifest, tar
from eventvault.archive.entries import EntryReader
from eventvault.archive.format2.index import MAX_INDEX_BYTES, VERSION, ArchiveIndex, HashedEntry, Span
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import Manifest
from eventvault.archive.marks import find_closing
from eventvault.archive.members import inflate_piece, inflate_whole, read_member
from eventvault.archive.output_files import OutputFiles
from eventvault.archive.parallel import OrderedHash, in_order
from eventvault.archive.progress import ProgressCounter
from eventvault.archive.seal import SealedRoot
from eventvault.archive.source import ArchiveBytes, OpenArchive
from eventvault.archive.stored import NO_RUNS, SkippedRuns, StoredFile, StoredMember
from eventvault.archive.verified import VerifiedArchive
from eventvault.archive.whole_hash import WholeHash
from eventvault.files import IO_BYTES

_MAX_HEADER_BYTES = 2 * layout.ALIGNMENT
_MAX_END_BYTES = MAX_INDEX_BYTES + 2**20
"""The most bytes that the root covers: an index that deflate cannot compress, and the end of the tar file."""


@dataclass(frozen=True)
class Contents:
    """The closing member, the index and the manifest of an archive, checked against its root."""

    closing: Closing
    index: ArchiveIndex
    manifest: Manifest

    @property
    def digest(self) -> str:
        return f"blake3:{self.closing.digest.hex()}"


class _CheckedSpan(NamedTuple):
    """A checked member: its end and, if it is the last one of a file, the file's entry and hash."""

    end: int
    entry: HashedEntry | None = None
    file_hash: OrderedHash | None = None


def read_contents(archive: OpenArchive) -> Contents:
    """Read the index and the manifest, and check both. Raises ArchiveError."""
    closing = find_closing(archive)
    end = archive.size - layout.CLOSING_SIZE - layout.SEAL_SIZE
    if not 0 < end - closing.index_offset <= _MAX_END_BYTES:
        raise archive.damaged(f"{layout.INDEX_NAME} lies outside of the archive", closing.index_offset)
    _seal_at(archive, end)
    if _digest_of(archive, closing.index_offset, end) != closing.digest:
        why = f"the root is wrong: the closing member has another digest of {layout.INDEX_NAME}"
        raise archive.damaged(why, closing.index_offset)
    reader = EntryReader(ArchiveBytes(archive, closing.index_offset, end))
    reader.begin()
    index = ArchiveIndex(reader.text(layout.INDEX_NAME, MAX_INDEX_BYTES), archive, closing.index_offset)
    reader.end_blocks()
    if not reader.source.at_end():
        raise reader.source.damaged("the seal should be here")
    return Contents(closing, index, _read_manifest(archive, index, reader.modified))


def read_seal(archive: OpenArchive) -> SealedRoot | None:
    """Return the root and the seal, neither of which is checked; None if the archive is not sealed."""
    closing = find_closing(archive)
    seal = _seal_at(archive, archive.size - layout.CLOSING_SIZE - layout.SEAL_SIZE)
    return None if seal == layout.NOT_SEALED else SealedRoot(closing.digest.hex(), seal.hex())


def _seal_at(archive: OpenArchive, offset: int) -> bytes:
    seal = layout.parse_seal(archive.read_at(offset, layout.SEAL_SIZE))
    if seal is None:
        raise archive.damaged("the seal should be here", offset)
    return seal


def peek_manifest(archive: OpenArchive) -> Manifest:
    return read_contents(archive).manifest


def peek_files(archive: OpenArchive) -> tuple[Manifest, Iterator[StoredFile]]:
    """Return the manifest, and the location of the data members of each file of the database."""
    contents = read_contents(archive)
    return contents.manifest, _stored_files(archive, contents)


def _stored_files(archive: OpenArchive, contents: Contents) -> Iterator[StoredFile]:
    for entry in contents.index:
        _check_cover(archive, entry, entry.header.offset)
        if entry.name.startswith(layout.FOLDER_ENTRY) and entry.size:
            members = tuple(StoredMember(span.length, blake3=span.blake3) for span in entry.data)
            yield StoredFile(entry.name.removeprefix(layout.FOLDER_ENTRY), entry.size, entry.header.end, members)


def read_through(
    archive: OpenArchive, outputs: OutputFiles, counter: ProgressCounter, whole: WholeHash | None = None
) -> VerifiedArchive:
    """Check every byte of the archive, and write its files to `outputs`. whole: hashes all bytes.

    Raises ArchiveError, or the OSError of a full disk.
    """
    contents = read_contents(archive)
    with closing(in_order(_jobs(archive, contents, outputs))) as results:
        for span in results:
            _check_file(archive, span)
            _pass_on(span.end, counter, whole)
    return _complete(archive, contents, counter, whole)


def check_digests(
    archive: OpenArchive, counter: ProgressCounter, whole: WholeHash | None = None, skipped: SkippedRuns = NO_RUNS
) -> VerifiedArchive:
    """Check the root, and that every member has the digest in the index. No member is inflated.

    So the archive has exactly the bytes that its root stands for. The caller knows who made that root. whole: hashes
    all bytes. skipped: runs whose shared blocks need not be read. Raises ArchiveError.
    """
    contents = read_contents(archive)
    with closing(in_order(_digest_jobs(archive, contents, skipped))) as ends:
        for end in ends:
            _pass_on(end, counter, whole)
    return _complete(archive, contents, counter, whole)


def _pass_on(end: int, counter: ProgressCounter, whole: WholeHash | None) -> None:
    counter.advance_to(end)
    if whole is not None:
        whole.extend(end)


def _complete(
    archive: OpenArchive, contents: Contents, counter: ProgressCounter, whole: WholeHash | None
) -> VerifiedArchive:
    """Finish a check of all members. Raises ArchiveDamaged if the closing member changed meanwhile."""
    if find_closing(archive) != contents.closing:
        raise archive.damaged("it was changed while it was read", contents.index.offset)
    sha256 = None if whole is None else whole.of_all()
    counter.advance_to(archive.size)
    return VerifiedArchive(contents.manifest, sha256=sha256, digest=contents.digest, sealed=read_seal(archive))


def _digest_jobs(archive: OpenArchive, contents: Contents, skipped: SkippedRuns) -> Iterator[Callable[[], int]]:
    position = 0
    for entry in _entries_of_manifest(archive, contents):
        _check_cover(archive, entry, position)
        position = entry.spans[-1].end
        run = skipped.get(entry.header.end) if entry.data else None
        yield from (partial(_digest_span, archive, span) for span in (entry.spans if run is None else [entry.header]))
        if run is not None:
            yield partial(_check_tail, archive, entry, *run)


def _digest_span(archive: OpenArchive, span: Span) -> int:
    _read_span(archive, span)
    return span.end


def _check_tail(archive: OpenArchive, entry: HashedEntry, size: int, crc: int) -> int:
    """Check the bytes of a run after its shared blocks."""
    start, end = entry.header.end + size, entry.spans[-1].end
    if isal_zlib.crc32(archive.read_at(start, max(0, end - start))) != crc:
        raise archive.damaged("the bytes after shared blocks are not those that were written", start)
    return end


def _digest_of(archive: OpenArchive, start: int, end: int) -> bytes:
    digest = blake3()
    for offset in range(start, end, IO_BYTES):
        digest.update(archive.read_at(offset, min(IO_BYTES, end - offset)))
    return digest.digest()


def _read_manifest(archive: OpenArchive, index: ArchiveIndex, index_time: int | None) -> Manifest:
    """Return the manifest, which must lie directly before the index, where the index says."""
    entry = index.last()
    _check_cover(archive, entry, entry.header.offset)
    if entry.spans[-1].end != index.offset:
        raise _untrue_error(archive, entry)
    for span in entry.spans:
        _read_span(archive, span)
    reader = EntryReader(ArchiveBytes(archive, entry.header.offset, index.offset))
    reader.begin()
    text = reader.text(layout.MANIFEST_NAME)
    ranges = [(offset, length) for offset, length, _ in reader.seen[0].data]
    if entry.size != len(text) or ranges != [(span.offset, span.length) for span in entry.data]:
        raise _untrue_error(archive, entry)
    about = manifest.decode(text, archive.path, VERSION)
    if blake3(text).hexdigest() != entry.blake3 or not reader.modified == index_time == about.modified:
        raise _untrue_error(archive, entry)
    return about


def _jobs(archive: OpenArchive, contents: Contents, outputs: OutputFiles) -> Iterator[Callable[[], _CheckedSpan]]:
    """Yield a job for each member before the manifest. Checks that the members cover the file without a gap."""
    position = 0
    for entry in _entries_of_manifest(archive, contents):
        _check_cover(archive, entry, position)
        position = entry.spans[-1].end
        if entry.name == layout.MANIFEST_NAME:
            yield partial(_CheckedSpan, position)
            continue
        block = tar.build_header(entry.name, entry.size, contents.manifest.modified)
        yield partial(_check_header, archive, entry, block)
        if entry.name != layout.FOLDER_ENTRY:
            outputs.begin(entry.name.removeprefix(layout.FOLDER_ENTRY), entry.size, len(entry.data))
        file_hash = OrderedHash()
        for number, (span, piece) in enumerate(zip(entry.data, layout.pieces(entry.size), strict=True)):
            yield partial(_check_piece, archive, entry, number, span, piece, file_hash, outputs)


def _entries_of_manifest(archive: OpenArchive, contents: Contents) -> Iterator[HashedEntry]:
    """Yield the entries, which must be the folder, the files of the manifest in their order, and the manifest."""
    files = contents.manifest.files
    names = [file.name for file in files]
    if not all(map(layout.is_safe_name, names)) or any(first >= second for first, second in pairwise(names)):
        raise archive.damaged("the files do not have the names or the order of the format", contents.index.offset)
    if len(contents.index) != len(files) + 2:
        raise archive.damaged(f"{layout.INDEX_NAME} and {layout.MANIFEST_NAME} differ", contents.index.offset)
    empty = blake3().hexdigest()
    for number, entry in enumerate(contents.index):
        expected: tuple[object, ...]
        if number == 0:
            expected = (layout.FOLDER_ENTRY, 0, empty)
        elif number <= len(files):
            file = files[number - 1]
            expected = (layout.FOLDER_ENTRY + file.name, file.size, file.blake3)
        else:
            expected = (layout.MANIFEST_NAME, entry.size, entry.blake3)
        if (entry.name, entry.size, entry.blake3) != expected:
            raise archive.damaged(f"{layout.INDEX_NAME} and {layout.MANIFEST_NAME} differ", entry.header.offset)
        yield entry


def _check_cover(archive: OpenArchive, entry: HashedEntry, position: int) -> None:
    """Check that an entry's members begin at `position` and have no gaps, and that a large run is aligned."""
    for span in entry.spans:
        if span.offset != position:
            raise archive.damaged(f"{layout.INDEX_NAME} leaves a gap or an overlap in {entry.name!r}", position)
        position = span.end
    fits = all(0 < span.length <= layout.MAX_MEMBER_BYTES for span in entry.data)
    fits = fits and 0 < entry.header.length <= _MAX_HEADER_BYTES
    if not fits or len(entry.data) != layout.piece_count(entry.size):
        raise _untrue_error(archive, entry)
    if entry.is_aligned and entry.header.end % layout.ALIGNMENT:
        why = f"the data of {entry.name!r} does not begin at a multiple of {layout.ALIGNMENT}"
        raise archive.damaged(why, entry.header.end)


def _untrue_error(archive: OpenArchive, entry: HashedEntry) -> Exception:
    return archive.damaged(f"{layout.INDEX_NAME} is not true for {entry.name!r}", entry.header.offset)


def _read_span(archive: OpenArchive, span: Span) -> memoryview:
    packed = read_member(archive, span.offset, span.length)
    if blake3(packed).hexdigest() != span.blake3:
        raise archive.damaged("the member does not have the digest that the index has", span.offset)
    return packed


def _check_header(archive: OpenArchive, entry: HashedEntry, block: bytes) -> _CheckedSpan:
    packed = _read_span(archive, entry.header)
    gzip_header: bytes | None = layout.PLAIN_HEADER
    if entry.is_aligned:
        gzip_header = layout.header_of_aligned(packed)
    elif entry.name == layout.FOLDER_ENTRY:
        gzip_header = layout.opening_header(VERSION)
    if gzip_header is None:
        raise archive.damaged("the padding in the gzip header is not as EventVault writes it", entry.header.offset)
    if inflate_whole(archive, packed, entry.header.offset, gzip_header, len(block)) != block:
        raise archive.damaged("the tar header is not as EventVault writes it", entry.header.offset)
    return _CheckedSpan(entry.header.end, None if entry.data else entry, OrderedHash())


def _check_piece(
    archive: OpenArchive,
    entry: HashedEntry,
    number: int,
    span: Span,
    piece: tuple[int, int],
    file_hash: OrderedHash,
    outputs: OutputFiles,
) -> _CheckedSpan:
    try:
        content = inflate_piece(archive, _read_span(archive, span), span.offset, *piece)
        file_hash.update(number, content)
    except BaseException:
        file_hash.give_up()
        raise
    outputs.write(entry.name.removeprefix(layout.FOLDER_ENTRY), number, content)
    is_last = number == len(entry.spans) - 2
    return _CheckedSpan(span.end, entry if is_last else None, file_hash)


def _check_file(archive: OpenArchive, span: _CheckedSpan) -> None:
    if span.entry is None or span.file_hash is None:
        return
    if span.file_hash.hexdigest() != span.entry.blake3:
        name = span.entry.name.removeprefix(layout.FOLDER_ENTRY)
        why = f"{name} is not the file that {layout.MANIFEST_NAME} describes"
        raise archive.damaged(why, span.entry.header.offset)
