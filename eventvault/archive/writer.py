"""Writes an archive: a staging folder becomes one `.tar.gz`, durably and in constant memory.

`layout` defines the bytes. Files are compressed on several cores, or their members are copied from an earlier archive;
neither changes the order of the bytes. The archive is read back from the disk before it gets its name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault.archive import layout, manifest
from eventvault.archive.format2 import index
from eventvault.archive.format2.assembly import Assembly
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.archive.output import CopyFailed
from eventvault.archive.packing import FileDigests, PackedPiece, hash_files, pack, size_changed
from eventvault.archive.parallel import in_order
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.readback import WrittenRanges, read_back
from eventvault.archive.reuse import ReusableMembers
from eventvault.archive.stored import Clone, MemberRun
from eventvault.errors import ArchiveUnsafe, TooLarge
from eventvault.files import durable_file

Seal = Callable[[bytes], bytes]
"""root → its seal, 32 bytes."""


class WrittenArchive(msgspec.Struct, frozen=True):
    """An archive that was written and read back. size: in bytes. digest: `blake3:` and its root in hex.

    manifest: complete with `files`. copied: bytes that were copied from earlier archives. clones: the copied runs that
    share blocks on the disk. compressed: the names of the files that were compressed.
    """

    size: int
    digest: str
    manifest: Manifest
    copied: int = 0
    clones: tuple[Clone, ...] = ()
    compressed: tuple[str, ...] = ()

    @property
    def cloned(self) -> int:
        """Bytes that are shared with earlier archives."""
        return sum(clone.size for clone in self.clones)


@contextmanager
def unnamed_archive(
    path: Path,
    folder: Path,
    about: Manifest,
    *,
    digests: Mapping[str, str] | None = None,
    reusable: ReusableMembers | None = None,
    seal: Seal | None = None,
    compare: bool = False,
    progress: Progress | None = None,
) -> Iterator[WrittenArchive]:
    """Write the files of `folder` and the manifest `about` to an archive, read it back, and yield it.

    It gets its name `path` when the context is left; if an exception leaves the context, no file remains.

    The folder holds only the plain files of the database. digests: file name → BLAKE3 in hex, for files that need not
    be read. reusable: members that may be copied; its `unusable` names the archives that failed. seal: None: the
    archive is not sealed. compare: inflate the compressed members, and compare them with the file. progress: in bytes
    of the files. The same folder and manifest give the same bytes, unless members are copied from an archive of
    another version or with a stronger compression.

    Raises FileExistsError if the name is in use, NoSpace, TooLarge, ArchiveDamaged if the disk returns other bytes than
    were written, and DatabaseError if the folder changed meanwhile; then no file remains.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    manifest.check_length(about)
    sizes = _sizes(folder)
    index.check_fits(sizes)
    with durable_file(path, replace=False) as file:
        archive, ranges = _write(file.fileno(), folder, about, sizes, digests or {}, reusable, seal, compare, progress)
        read_back(file.fileno(), path, ranges)
        yield archive


def _write(
    handle: int,
    folder: Path,
    about: Manifest,
    sizes: Mapping[str, int],
    digests: Mapping[str, str],
    reusable: ReusableMembers | None,
    seal: Seal | None,
    compare: bool,
    progress: Progress | None,
) -> tuple[WrittenArchive, WrittenRanges]:
    """Write and sync the archive. If an earlier archive's members cannot be copied, begin again without it."""
    while True:
        counter = ProgressCounter("write", sum(sizes.values()), progress)
        try:
            reused = _find_members(folder, sizes, digests, reusable)
            return _write_once(handle, folder, about, sizes, reused, seal, compare, counter)
        except CopyFailed as failed:
            if reusable is None:
                raise
            reusable.exclude(failed.number, str(failed), damaged=failed.damaged)
            os.ftruncate(handle, 0)


class _Reused(NamedTuple):
    """A file whose members are copied. blake3: of its content, in hex."""

    blake3: str
    run: MemberRun


def _find_members(
    folder: Path, sizes: Mapping[str, int], digests: Mapping[str, str], reusable: ReusableMembers | None
) -> dict[str, _Reused]:
    """Return the files that need not be compressed. Hashes the files whose content an earlier archive may have."""
    if reusable is None:
        return {}
    unread = {size for name, size in sizes.items() if name not in digests and size}
    reusable.open_for({(sizes[name], digests[name]) for name in sizes if name in digests}, unread)
    contents = {name: FileDigests(digests[name], None) for name in sizes if name in digests}
    runs = {name: reusable.find(sizes[name], content) for name, content in contents.items()}
    with_blake3, with_sha256 = reusable.sizes(2), reusable.sizes(1)
    to_read = [
        (folder / name, size, size in with_sha256)
        for name, size in sizes.items()
        if runs.get(name) is None and (size in with_sha256 or (size in with_blake3 and name not in digests))
    ]
    for (path, size, _), content in zip(to_read, hash_files(to_read), strict=True):
        contents[path.name], runs[path.name] = content, reusable.find(size, content)
    return {name: _Reused(contents[name].blake3, run) for name, run in runs.items() if run is not None}


def _write_once(
    handle: int,
    folder: Path,
    about: Manifest,
    sizes: Mapping[str, int],
    reused: Mapping[str, _Reused],
    seal: Seal | None,
    compare: bool,
    counter: ProgressCounter,
) -> tuple[WrittenArchive, WrittenRanges]:
    archive = Assembly(handle, about.modified, about.compression)
    fresh = (item for item in sizes.items() if item[0] not in reused)
    jobs = chain.from_iterable(pack(folder / name, size, about.compression, compare) for name, size in fresh)
    try:
        with closing(in_order(jobs)) as pieces:
            archive.add_folder()
            records = [
                _add_file(archive, name, size, reused.get(name), pieces, counter) for name, size in sizes.items()
            ]
        _check_unchanged(folder, sizes)
        complete = msgspec.structs.replace(about, format_version=manifest.FORMAT_VERSION, files=records)
        archive.add_text(layout.MANIFEST_NAME, manifest.encode_in_parts(complete))
        root = archive.finish(seal)
        os.fsync(handle)
        copied = sum(entry.run.file.length for entry in reused.values())
        compressed = tuple(name for name, size in sizes.items() if size and name not in reused)
        clones, digest = tuple(archive.clones), f"blake3:{root.hex()}"
        written = WrittenArchive(archive.offset, digest, complete, copied, clones, compressed)
        return written, archive.written
    finally:
        archive.close()


def _add_file(
    archive: Assembly,
    name: str,
    size: int,
    reused: _Reused | None,
    pieces: Iterator[PackedPiece],
    counter: ProgressCounter,
) -> FileRecord:
    if reused is not None:
        archive.add_copy(name, size, reused.blake3, reused.run)
        counter.advance(size)
        return FileRecord(name, size, reused.blake3)
    return FileRecord(name, size, archive.add_file(name, size, _count_written(pieces, size, counter)))


def _count_written(pieces: Iterator[PackedPiece], size: int, counter: ProgressCounter) -> Iterator[PackedPiece]:
    """Yield the pieces of the next file, and count each once the caller has written it."""
    for _ in range(layout.piece_count(size)):
        piece = next(pieces)
        yield piece
        counter.advance(piece.content)


def _check_unchanged(folder: Path, sizes: Mapping[str, int]) -> None:
    """Compare the sizes once more at the end: pieces are read ahead, so a file may change after it was read."""
    for name, size in sizes.items():
        if (folder / name).stat().st_size != size:
            raise size_changed(folder / name)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of the folder by name, in the archive's order."""
    sizes = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        status = (folder / name).lstat()
        if not stat.S_ISREG(status.st_mode) or not layout.is_safe_name(name):
            raise ArchiveUnsafe(
                f"archiving {folder} failed: {name!r} is not a plain file with a plain name",
                hint="a database folder holds only the files of LevelDB; remove everything else from it",
            )
        sizes[name] = status.st_size
    if len(sizes) > manifest.MAX_FILES - 3:
        raise TooLarge(
            f"archiving {folder} failed: it holds {len(sizes)} files, an archive at most {manifest.MAX_FILES - 3}",
            hint="compact the database",
        )
    return sizes
