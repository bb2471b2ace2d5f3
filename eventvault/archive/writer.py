"""Writes an archive: a staging folder becomes one `.tar.gz`, durably and in constant memory.

Writes what `layout` defines. Files are compressed on several cores, or their members copied from an earlier archive;
neither changes the order of the bytes. All is read back from the disk before the archive gets its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path

import msgspec
from isal import isal_zlib

from eventvault.archive import layout, manifest, tar
from eventvault.archive.layout import Closing, Index, IndexEntry
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.output import CopyFailed, HashedOutput
from eventvault.archive.packing import PackedPiece, hash_files, pack, size_changed
from eventvault.archive.parallel import in_order
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.readback import WrittenRanges, read_back
from eventvault.archive.reuse import MemberRanges, ReusableMembers
from eventvault.errors import ArchiveUnsafe, TooLarge
from eventvault.files import durable_file


class WrittenArchive(msgspec.Struct, frozen=True):
    """An archive that was written and read back. size: in bytes. sha256: of the whole file, in hex.

    manifest: complete with `files`. copied: bytes that were copied from earlier archives.
    """

    size: int
    sha256: str
    manifest: Manifest
    copied: int = 0


def write_archive(
    path: Path,
    folder: Path,
    about: Manifest,
    *,
    digests: Mapping[str, str] | None = None,
    reusable: ReusableMembers | None = None,
    progress: Progress | None = None,
    before_name: Callable[[], None] = lambda: None,
) -> WrittenArchive:
    """Write the files of `folder` and the manifest `about` to the archive `path`: write → read back → name.

    The folder holds plain files only, those of the database. digests: SHA-256 in hex by file name, of files that need
    not be read. reusable: members that may be copied; its `unusable` names the archives that failed. progress: in bytes
    of the files. before_name: called before the archive gets its name; what it raises goes through, and no file
    remains. The same folder and manifest give the same bytes, unless members are copied from an archive of another
    version or of a harder compression.

    Raises FileExistsError if the name is in use, NoSpace, TooLarge, ArchiveDamaged if the disk gives back other bytes
    than were written, DatabaseError if the folder changed meanwhile; then no file remains.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    manifest.check_length(about)
    sizes = _sizes(folder)
    with durable_file(path, replace=False) as file:
        archive, ranges = _write(file.fileno(), folder, about, sizes, digests or {}, reusable, progress)
        read_back(file.fileno(), path, ranges)
        before_name()
        # Here `durable_file` gives the archive its name.
    return archive


def _write(
    handle: int,
    folder: Path,
    about: Manifest,
    sizes: Mapping[str, int],
    digests: Mapping[str, str],
    reusable: ReusableMembers | None,
    progress: Progress | None,
) -> tuple[WrittenArchive, WrittenRanges]:
    """Write and sync the archive; begin again without an earlier archive whose members cannot be copied."""
    while True:
        counter = ProgressCounter(sum(sizes.values()), progress)
        try:
            reused = _find_members(folder, sizes, digests, reusable)
            return _write_once(handle, folder, about, sizes, reused, counter)
        except CopyFailed as failed:
            if reusable is None:
                raise
            reusable.exclude(failed.number, str(failed))
            os.ftruncate(handle, 0)


class _Reused(msgspec.Struct, frozen=True):
    """A file whose members are copied."""

    sha256: str
    members: MemberRanges


def _find_members(
    folder: Path, sizes: Mapping[str, int], digests: Mapping[str, str], reusable: ReusableMembers | None
) -> dict[str, _Reused]:
    """Return the files that need no compression. Reads those without a digest if an earlier archive has their size."""
    if reusable is None:
        return {}
    contents = {name: (sizes[name], digests[name]) for name in sizes if name in digests}
    unread = {name: size for name, size in sizes.items() if name not in digests and size}
    reusable.open_for(set(contents.values()), set(unread.values()))
    same_size = [(folder / name, size) for name, size in unread.items() if size in reusable.sizes()]
    for (path, size), sha256 in zip(same_size, hash_files(same_size), strict=True):
        contents[path.name] = (size, sha256)
    matches = ((name, content, reusable.find(content)) for name, content in contents.items())
    return {name: _Reused(content[1], members) for name, content, members in matches if members is not None}


def _write_once(
    handle: int,
    folder: Path,
    about: Manifest,
    sizes: Mapping[str, int],
    reused: Mapping[str, _Reused],
    counter: ProgressCounter,
) -> tuple[WrittenArchive, WrittenRanges]:
    archive = _Archive(handle, about)
    fresh = [(folder / name, size) for name, size in sizes.items() if name not in reused]
    jobs = chain.from_iterable(pack(file, size, about.compression) for file, size in fresh)
    try:
        with closing(in_order(jobs)) as pieces:
            archive.begin(layout.FOLDER_ENTRY, 0, layout.opening_header())
            records = [
                _add_file(archive, name, size, reused.get(name), pieces, counter) for name, size in sizes.items()
            ]
        _check_unchanged(folder, sizes)
        complete = msgspec.structs.replace(about, format_version=manifest.FORMAT_VERSION, files=records)
        archive.add_text(layout.MANIFEST_NAME, manifest.encode(complete))
        sha256 = archive.close()
        os.fsync(handle)
        return WrittenArchive(archive.offset, sha256, complete, archive.copied), archive.written
    finally:
        archive.abandon()


def _add_file(
    archive: _Archive,
    name: str,
    size: int,
    reused: _Reused | None,
    pieces: Iterator[PackedPiece],
    counter: ProgressCounter,
) -> FileRecord:
    archive.begin(layout.FOLDER_ENTRY + name, size)
    if reused is not None:
        archive.copy(reused.members)
        counter.advance(size)
        return FileRecord(name, size, reused.sha256)
    sha256: str | None = None if size else hashlib.sha256().hexdigest()
    while sha256 is None:
        piece = next(pieces)
        archive.add(piece)
        counter.advance(piece.content)
        sha256 = piece.file_sha256
    return FileRecord(name, size, sha256)


class _Archive:
    """The archive being written: appends tar entries, and collects the index and the ranges to read back."""

    def __init__(self, handle: int, about: Manifest) -> None:
        self.written = WrittenRanges()
        self.copied = 0
        self._modified = about.modified
        self._file = HashedOutput(handle)
        self._compression = about.compression
        self._entries: list[IndexEntry] = []

    @property
    def offset(self) -> int:
        return self._file.offset

    def begin(self, name: str, size: int, gzip_header: bytes = layout.PLAIN_HEADER) -> None:
        """Begin the tar entry `name`. All of its content must follow with `add` or `copy`."""
        block = tar.build_header(name, size, self._modified)
        self._entries.append(IndexEntry(name, size, self.offset, ()))
        self._write(layout.member(block, gzip_header))

    def add(self, piece: PackedPiece) -> None:
        self._add_range((self.offset, len(piece.member), piece.crc))
        self._write(piece.member, piece.sha256)

    def copy(self, members: MemberRanges) -> None:
        for offset, length, crc in members.ranges:
            self._add_range((self.offset, length, crc))
            self._file.copy(members.handle, offset, length, crc, members.number)
            self.copied += length

    def add_text(self, name: str, content: bytes) -> None:
        self.begin(name, len(content))
        start = 0
        for size, zeros in layout.pieces(len(content)):
            member = layout.member(content[start : start + size] + bytes(zeros), compression=self._compression)
            self._add_range((self.offset, len(member), isal_zlib.crc32(member)))
            self._write(member)
            start += size

    def close(self) -> str:
        """Add the index, the end of the tar file and the closing member. Returns the SHA-256 of the whole file."""
        index = Index(manifest.FORMAT_VERSION, tuple(self._entries))
        index_offset = self.offset
        self.add_text(layout.INDEX_NAME, msgspec.json.encode(index) + b"\n")
        self._write(layout.member(layout.END_BLOCKS))
        self._write(layout.closing_member(Closing(manifest.FORMAT_VERSION, index_offset, self._file.digest_so_far())))
        return self._file.finish()

    def abandon(self) -> None:
        self._file.abandon()

    def _add_range(self, member_range: tuple[int, int, int]) -> None:
        entry = self._entries[-1]
        self._entries[-1] = msgspec.structs.replace(entry, data=(*entry.data, member_range))

    def _write(self, member: bytes, sha256: bytes | None = None) -> None:
        self.written.add(self.offset, len(member), sha256 or hashlib.sha256(member).digest())
        self._file.write(member)


def _check_unchanged(folder: Path, sizes: Mapping[str, int]) -> None:
    """Compare the sizes once more at the end: pieces are read ahead, so a file may change after it was read."""
    for name, size in sizes.items():
        if (folder / name).stat().st_size != size:
            raise size_changed(folder / name)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of the folder by name, in the archive's order."""
    sizes = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or not layout.is_safe_name(entry.name):
            raise ArchiveUnsafe(
                f"archiving {folder} failed: {entry.name!r} is not a plain file with a plain name",
                hint="a database folder holds only the files of LevelDB; remove everything else from it",
            )
        sizes[entry.name] = status.st_size
    if len(sizes) > manifest.MAX_FILES - 3:
        raise TooLarge(
            f"archiving {folder} failed: it holds {len(sizes)} files, an archive at most {manifest.MAX_FILES - 3}",
            hint="compact the database",
        )
    return sizes
