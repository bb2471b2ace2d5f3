"""Finds compressed members in earlier archives of the same store, to copy them instead of compressing a file again.

A file is found by its size and digest in the manifest of the earlier archive: the BLAKE3 in format 2, the SHA-256 in
format 1. Copied bytes are checked after the copy. An earlier archive that is missing, cut off or
damaged is reported and not used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from eventvault.archive import compression, reader
from eventvault.archive.compression import Compression
from eventvault.archive.manifest import FileRecord
from eventvault.archive.packing import FileDigests
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.archive.stored import MemberRun, StoredFile
from eventvault.errors import ArchiveError, ArchiveUnreadable, BackupNotFound

MAX_ARCHIVES = 8
"""The most earlier archives that are open at once; each has part of its index in memory."""

ReadingOf = Callable[[str, int], int | None]
"""(archive's name, offset of a file's members) → when these members were last read, as in `MemberRun`."""

Content = tuple[int, str]
"""The content of a file: its size in bytes and its BLAKE3 or SHA-256 in hex."""


class UnusableArchive(msgspec.Struct, frozen=True):
    """An earlier archive that is damaged although it was verified, or that the disk cannot read. name: of the file."""

    name: str
    problem: str
    damaged: bool = True


class ReusableMembers:
    """Opens earlier archives, newest first, and finds the members of files in them."""

    def __init__(
        self, stack: ExitStack, paths: Sequence[Path], store_id: str, required: Compression, read: ReadingOf
    ) -> None:
        self.unusable: list[UnusableArchive] = []
        self._stack = stack
        self._paths = list(paths)
        self._store_id = store_id
        self._required = required
        self._read = read
        self._opened: dict[int, OpenArchive] = {}
        self._files: dict[int, dict[Content, StoredFile]] = {}
        self._formats: dict[int, int] = {}

    def open_for(self, contents: Collection[Content], sizes: Collection[int]) -> None:
        """Open archives until each of `contents` is found. contents: sizes and BLAKE3. sizes: of files not hashed yet.

        `find` then finds only these contents and files of these sizes.
        """
        missing = set(contents)
        for number, path in enumerate(self._paths):
            if not (missing or sizes) or len(self._opened) == MAX_ARCHIVES:
                return
            if number not in self._files:
                self._files[number] = self._search(number, path, contents, sizes)
            missing -= self._files[number].keys()

    def sizes(self, format_version: int) -> set[int]:
        """Return the sizes of all files that were found in archives of this format."""
        return {
            size for number, files in self._files.items() if self._formats.get(number) == format_version
            for size, _ in files
        }  # fmt: skip

    def find(self, size: int, digests: FileDigests) -> MemberRun | None:
        for number, files in self._files.items():
            for digest in digests:
                if digest is not None and (size, digest) in files:
                    archive, file = self._opened[number], files[size, digest]
                    return MemberRun(number, archive.handle, file, self._read(archive.path.name, file.offset))
        return None

    def exclude(self, number: int, why: str, *, damaged: bool) -> None:
        """Use no more members of this archive, and report it as unusable."""
        self._files[number] = {}
        self.unusable.append(UnusableArchive(self._paths[number].name, why, damaged))

    def _search(
        self, number: int, path: Path, contents: Collection[Content], sizes: Collection[int]
    ) -> dict[Content, StoredFile]:
        """Return the files of an archive that have, or may have, one of these contents or sizes."""
        try:
            with ExitStack() as closing:
                archive = closing.enter_context(open_archive(path))
                about, stored = reader.peek_files(archive)
                if about.store_id != self._store_id or not compression.at_least(about.compression, self._required):
                    return {}
                version = about.format_version
                maybe = {*sizes, *(size for size, _ in contents)} if version == 1 else sizes
                candidates = {
                    file.name: _content_of(file)
                    for file in about.files
                    if file.size in maybe or _content_of(file) in contents
                }
                del about
                matches = ((candidates.get(file.name), file) for file in stored)
                files = {content: file for content, file in matches if content and content[0] == file.size}
                self._stack.enter_context(closing.pop_all())
        except (BackupNotFound, ArchiveUnreadable):
            return {}
        except ArchiveError as error:
            self.unusable.append(UnusableArchive(path.name, error.message))
            return {}
        self._opened[number], self._formats[number] = archive, version
        return files


@contextmanager
def reusable_members(
    paths: Sequence[Path], store_id: str, required: Compression, read: ReadingOf = lambda _name, _offset: None
) -> Iterator[ReusableMembers]:
    """Yield the members of verified archives, newest first. Archives in use are not removed before this exits."""
    with ExitStack() as stack:
        yield ReusableMembers(stack, paths, store_id, required, read)


def _content_of(file: FileRecord) -> Content:
    return file.size, file.blake3 or file.sha256 or ""
