"""Finds compressed members in earlier archives of the same store, to copy them instead of compressing a file again.

A file is found by its size and SHA-256 in the manifest and the index of the earlier archive. Copied bytes are checked
by their CRC after the copy. An earlier archive that is missing, cut off or damaged is reported and not used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault.archive import compression, reader
from eventvault.archive.compression import Compression
from eventvault.archive.layout import FOLDER_ENTRY, IndexEntry, pieces
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.errors import ArchiveError, ArchiveUnreadable, BackupNotFound

MAX_ARCHIVES = 8
"""Earlier archives that are open at once; each has part of its index in memory."""

Content = tuple[int, str]
"""The content of a file: its size in bytes and its SHA-256 in hex."""

Ranges = tuple[tuple[int, int, int], ...]
"""Offset, length and CRC-32 of each data member of a file, as `IndexEntry.data`."""


class UnusableArchive(msgspec.Struct, frozen=True):
    """An earlier archive that is damaged although it was verified. name: of the file."""

    name: str
    problem: str


class MemberRanges(NamedTuple):
    """The data members of one file in the earlier archive `number`, which is open as `handle`."""

    number: int
    handle: int
    ranges: Ranges


class ReusableMembers:
    """Opens earlier archives, newest first, and finds the members of files in them."""

    def __init__(self, stack: ExitStack, paths: Sequence[Path], store_id: str, wanted: Compression) -> None:
        self.unusable: list[UnusableArchive] = []
        self._stack = stack
        self._paths = list(paths)
        self._store_id = store_id
        self._wanted = wanted
        self._opened: dict[int, OpenArchive] = {}
        self._contents: dict[int, dict[Content, Ranges]] = {}

    def open_for(self, contents: Collection[Content], sizes: Collection[int]) -> None:
        """Open archives until each of `contents` is found. sizes: of files whose SHA-256 is not computed yet.

        `find` later finds only these contents and files of these sizes.
        """
        missing = set(contents)
        for number, path in enumerate(self._paths):
            if not (missing or sizes) or len(self._opened) == MAX_ARCHIVES:
                return
            if number not in self._contents:
                self._contents[number] = self._search(number, path, contents, sizes)
            missing -= self._contents[number].keys()

    def sizes(self) -> set[int]:
        """Return the sizes of all files that were found."""
        return {size for ranges_of in self._contents.values() for size, _ in ranges_of}

    def find(self, content: Content) -> MemberRanges | None:
        for number, ranges_of in self._contents.items():
            if content in ranges_of:
                return MemberRanges(number, self._opened[number].handle, ranges_of[content])
        return None

    def exclude(self, number: int, why: str) -> None:
        """Find no more members in this archive, and report it as unusable."""
        self._contents[number] = {}
        self.unusable.append(UnusableArchive(self._paths[number].name, why))

    def _search(
        self, number: int, path: Path, contents: Collection[Content], sizes: Collection[int]
    ) -> dict[Content, Ranges]:
        try:
            with ExitStack() as closing:
                archive = closing.enter_context(open_archive(path))
                about = reader.peek_manifest(archive)
                if about.store_id != self._store_id or not compression.at_least(about.compression, self._wanted):
                    return {}
                wanted = {
                    FOLDER_ENTRY + file.name: (file.size, file.sha256)
                    for file in about.files
                    if (file.size, file.sha256) in contents or file.size in sizes
                }
                del about
                ranges_of = dict(_ranges_by_content(wanted, reader.peek_entries(archive)))
                self._stack.enter_context(closing.pop_all())
        except (BackupNotFound, ArchiveUnreadable):
            return {}
        except ArchiveError as error:
            self.unusable.append(UnusableArchive(path.name, error.message))
            return {}
        self._opened[number] = archive
        return ranges_of


@contextmanager
def reusable_members(paths: Sequence[Path], store_id: str, wanted: Compression) -> Iterator[ReusableMembers]:
    """Yield the members of verified archives, newest first. Archives in use are not removed before this exits."""
    with ExitStack() as stack:
        yield ReusableMembers(stack, paths, store_id, wanted)


def _ranges_by_content(
    wanted: Mapping[str, Content], entries: Iterable[IndexEntry]
) -> Iterator[tuple[Content, Ranges]]:
    for entry in entries:
        content = wanted.get(entry.name)
        if content is not None and entry.size == content[0] and len(entry.data) == sum(1 for _ in pieces(entry.size)):
            yield content, entry.data
