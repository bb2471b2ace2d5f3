"""Archives of format 1 that were tampered with and closed again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventvault.archive import layout, tar
from eventvault.archive.entries import EntryReader, IndexEntry
from eventvault.archive.format1.index import Index, parse_index
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import Manifest
from eventvault.archive.source import ArchiveBytes, open_archive
from tests import format_1


@pytest.fixture
def own(tmp_path: Path, staging: Path, about: Manifest) -> Path:
    path = tmp_path / "own.tar.gz"
    format_1.write_archive(path, staging, about)
    return path


@pytest.fixture
def own_bytes(own: Path) -> bytes:
    return own.read_bytes()


class Forgery:
    """The gzip members of an archive of ours, for tests to change and to seal again with a correct closing member."""

    def __init__(self, path: Path, modified: int) -> None:
        self.content = path.read_bytes()
        self.modified = modified
        with open_archive(path) as archive:
            offset = layout.parse_closing(self.content[-layout.CLOSING_SIZE :]).index_offset
            reader = EntryReader(ArchiveBytes(archive, offset, archive.size))
            reader.begin()
            self.index = parse_index(reader.text(layout.INDEX_NAME), archive, offset)
        self.parts = {entry.name: self._part(number) for number, entry in enumerate(self.index.entries)}

    def _part(self, number: int) -> bytes:
        """The header member and the data members of an entry."""
        starts = [entry.header for entry in self.index.entries]
        ends = [*starts[1:], layout.parse_closing(self.content[-layout.CLOSING_SIZE :]).index_offset]
        return self.content[starts[number] : ends[number]]

    def entry(self, name: str, content: bytes, *, size: int | None = None, gzip_header: bytes = b"") -> bytes:
        """An entry as the writer makes it; its size may be wrong."""
        block = tar.build_header(name, len(content) if size is None else size, self.modified)
        made = [layout.member(block, gzip_header or layout.PLAIN_HEADER)]
        for start in range(0, len(content), layout.CHUNK):
            piece = content[start : start + layout.CHUNK]
            made.append(layout.member(piece + bytes(layout.padding(len(piece)))))
        return b"".join(made)

    def sealed(self, *, index: Callable[[Index], Index] = lambda index: index, place: int | None = None) -> bytes:
        """The parts in their order with an index of them, the end blocks and a true SHA-256."""
        entries, offset = [], 0
        for name, part in self.parts.items():
            original = next((entry for entry in self.index.entries if entry.name == name), None)
            if original is None:
                entries.append(IndexEntry(name, 0, offset, ()))
            else:
                entries.append(self._moved(original, offset))
            offset += len(part)
        listed = msgspec.json.encode(index(Index(1, tuple(entries))))
        body = b"".join(self.parts.values()) + self.entry(layout.INDEX_NAME, listed)
        body += layout.member(layout.END_BLOCKS)
        closing = Closing(1, offset if place is None else place, hashlib.sha256(body).digest())
        return body + layout.closing_member(closing)

    @staticmethod
    def _moved(entry: IndexEntry, offset: int) -> IndexEntry:
        data = tuple((place - entry.header + offset, length, crc) for place, length, crc in entry.data)
        return IndexEntry(entry.name, entry.size, offset, data)


@pytest.fixture
def forgery(own: Path, about: Manifest) -> Forgery:
    return Forgery(own, about.modified)
