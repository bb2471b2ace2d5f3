"""Writing an archive: a staging folder becomes one `.tar.gz`, streamed, durably, with constant memory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventvault.backups.archive import layout, manifest, tar
from eventvault.backups.archive.layout import Closing, Index, IndexEntry
from eventvault.backups.archive.manifest import FileRecord, Manifest
from eventvault.backups.archive.watch import IsCancelled, Progress, Watch
from eventvault.errors import ArchiveUnsafe, DatabaseError, TooLarge
from eventvault.files import durable_file


class Written(msgspec.Struct, frozen=True):
    """An archive that was written. size: in bytes. sha256: of the whole file, in hex. manifest: with `files`."""

    size: int
    sha256: str
    manifest: Manifest


def write_archive(
    path: Path,
    folder: Path,
    about: Manifest,
    *,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> Written:
    """Write the files of `folder` (plain files only, the database's) and the manifest `about` to the archive `path`.

    The same folder and manifest give the same bytes. progress: in bytes of the folder's files.
    Raises FileExistsError where the name is taken, NoSpace, TooLarge, Cancelled; then nothing is left behind. The
    folder must not change meanwhile: DatabaseError where it did.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    manifest.check_length(about)
    sizes = _sizes(folder)
    watch = Watch(f"writing the archive {path}", sum(sizes.values()), progress, cancelled)
    with durable_file(path, replace=False) as file:
        archive = _Archive(file, about.modified)
        archive.begin(layout.FOLDER_ENTRY, 0, layout.opening_header())
        records = [_add_file(archive, folder / name, size, watch) for name, size in sizes.items()]
        complete = msgspec.structs.replace(about, format_version=manifest.FORMAT_VERSION, files=records)
        archive.add_text(layout.MANIFEST_NAME, manifest.encode(complete))
        archive.close()
        return Written(archive.offset, archive.sha256.hexdigest(), complete)


class _Archive:
    """The archive as it grows: keeps the offset, the index and the SHA-256 of what was written so far."""

    def __init__(self, file: BinaryIO, modified: int) -> None:
        self._file = file
        self._modified = modified
        self._entries: list[IndexEntry] = []
        self.offset = 0
        self.sha256 = hashlib.sha256()

    def begin(self, name: str, size: int, gzip_header: bytes = layout.PLAIN_HEADER) -> None:
        """Begin the tar entry `name`; exactly `layout.pieces(size)` must follow with `add`."""
        block = tar.build_header(name, size, self._modified)
        offset, _ = self._write(layout.member(block, gzip_header))
        self._entries.append(IndexEntry(name, size, offset, ()))

    def add(self, content: bytes | memoryview) -> None:
        """Add a piece of the present entry, with its padding, as a gzip member."""
        entry = self._entries[-1]
        place = self._write(layout.member(content))
        self._entries[-1] = msgspec.structs.replace(entry, data=(*entry.data, place))

    def add_text(self, name: str, content: bytes) -> None:
        """Add a whole entry that is in memory."""
        self.begin(name, len(content))
        start = 0
        for size, zeros in layout.pieces(len(content)):
            self.add(content[start : start + size] + bytes(zeros))
            start += size

    def close(self) -> None:
        """Add the index, the end of the tar file and the closing member."""
        index = Index(manifest.FORMAT_VERSION, tuple(self._entries))
        index_offset = self.offset
        self.add_text(layout.INDEX_NAME, msgspec.json.encode(index) + b"\n")
        self._write(layout.member(layout.END_BLOCKS))
        closing = Closing(manifest.FORMAT_VERSION, index_offset, self.sha256.digest())
        self._write(layout.closing_member(closing))

    def _write(self, content: bytes) -> tuple[int, int]:
        """Write a gzip member; gives its offset and length."""
        offset = self.offset
        self._file.write(content)
        self.sha256.update(content)
        self.offset += len(content)
        return offset, len(content)


def _add_file(archive: _Archive, path: Path, size: int, watch: Watch) -> FileRecord:
    sha256 = hashlib.sha256()
    archive.begin(layout.FOLDER_ENTRY + path.name, size)
    with FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
        for content, count in _read_pieces(file, size, path):
            sha256.update(content[:count])
            archive.add(content)
            watch.advance(count)
        if file.read(1):
            raise _changed(path)
    return FileRecord(path.name, size, sha256.hexdigest())


def _read_pieces(file: FileIO, size: int, path: Path) -> Iterator[tuple[memoryview, int]]:
    """The file's `layout.pieces`: each with its padding, in one buffer that is used again, and its length without."""
    buffer = memoryview(bytearray(min(size, layout.CHUNK) + layout.BLOCK))
    for count, zeros in layout.pieces(size):
        filled = 0
        while filled < count:
            read = file.readinto(buffer[filled:count])
            if not read:
                raise _changed(path)
            filled += read
        buffer[count : count + zeros] = bytes(zeros)
        yield buffer[: count + zeros], count


def _changed(path: Path) -> DatabaseError:
    return DatabaseError(
        f"archiving {path} failed: its size changed while it was read",
        hint="only a checkpoint's staging folder, which nobody writes to, can be archived",
    )


def _sizes(folder: Path) -> dict[str, int]:
    """The size of each file of the folder, by name, in the archive's order."""
    sizes = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or not layout.safe_name(entry.name):
            raise ArchiveUnsafe(
                f"archiving {folder} failed: {entry.name!r} is not a plain file with a plain name",
                hint="a database folder holds only the files of LevelDB; remove what else lies in it",
            )
        sizes[entry.name] = found.st_size
    if len(sizes) > manifest.MOST_FILES - 3:
        raise TooLarge(
            f"archiving {folder} failed: it holds {len(sizes)} files, an archive at most {manifest.MOST_FILES - 3}",
            hint="compact the database",
        )
    return sizes
