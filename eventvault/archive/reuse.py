"""Earlier archives of the same store, whose compressed members are copied instead of compressing a file again.

A member is found by the content of its file, size and SHA-256, as the earlier archive's manifest and index say. What is
copied is checked by its CRC after the copy. An archive that turns out to be missing, cut off or damaged is left out
and named: what it would have given is compressed.
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
"""Of the newest that will do; each keeps its file open and part of its index in memory."""

Content = tuple[int, str]
"""What a file holds: its size in bytes and its SHA-256 in hex."""


class UnusableArchive(msgspec.Struct, frozen=True):
    """An earlier archive that cannot be what it was when it was found good. name: of the file."""

    name: str
    problem: str


class MemberRanges(NamedTuple):
    """The data members of one file in the earlier archive `number`: offset, length and CRC-32 of each."""

    number: int
    handle: int
    places: tuple[tuple[int, int, int], ...]


class ReusableMembers:
    """The earlier archives that are open, newest first, with the members that are wanted of them."""

    def __init__(self, stack: ExitStack, paths: Sequence[Path], store_id: str, wanted: Compression) -> None:
        self.unusable: list[UnusableArchive] = []
        self._stack = stack
        self._paths = list(paths)
        self._store_id = store_id
        self._wanted = wanted
        self._opened: dict[int, OpenArchive] = {}
        self._contents: dict[int, dict[Content, tuple[tuple[int, int, int], ...]]] = {}

    def open_for(self, contents: Collection[Content], sizes: Collection[int]) -> None:
        """Open archives until each of `contents` was found. sizes: of files whose SHA-256 is not known yet.

        What is looked for first is all that `find` finds later, and files of one of `sizes`.
        """
        missing = set(contents)
        for number, path in enumerate(self._paths):
            if not (missing or sizes) or len(self._opened) == MAX_ARCHIVES:
                return
            if number not in self._contents:
                self._contents[number] = self._look_into(number, path, contents, sizes)
            missing -= self._contents[number].keys()

    def sizes(self) -> set[int]:
        """The sizes of all files that were found."""
        return {size for found in self._contents.values() for size, _ in found}

    def find(self, content: Content) -> MemberRanges | None:
        for number, found in self._contents.items():
            if content in found:
                return MemberRanges(number, self._opened[number].handle, found[content])
        return None

    def give_up(self, number: int, why: str) -> None:
        """Nothing is taken from this archive any more."""
        self._contents[number] = {}
        self.unusable.append(UnusableArchive(self._paths[number].name, why))

    def _look_into(
        self, number: int, path: Path, contents: Collection[Content], sizes: Collection[int]
    ) -> dict[Content, tuple[tuple[int, int, int], ...]]:
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
                found = dict(_members(wanted, reader.peek_entries(archive)))
                self._stack.enter_context(closing.pop_all())
        except (BackupNotFound, ArchiveUnreadable):
            return {}
        except ArchiveError as error:
            self.unusable.append(UnusableArchive(path.name, error.message))
            return {}
        self._opened[number] = archive
        return found


@contextmanager
def reusable_members(paths: Sequence[Path], store_id: str, wanted: Compression) -> Iterator[ReusableMembers]:
    """Archives of ours that were found good, newest first; they are held against removal until this is left."""
    with ExitStack() as stack:
        yield ReusableMembers(stack, paths, store_id, wanted)


def _members(
    wanted: Mapping[str, Content], entries: Iterable[IndexEntry]
) -> Iterator[tuple[Content, tuple[tuple[int, int, int], ...]]]:
    for entry in entries:
        content = wanted.get(entry.name)
        if content is not None and entry.size == content[0] and len(entry.data) == sum(1 for _ in pieces(entry.size)):
            yield content, entry.data
