"""A small database folder, archives of it, and archives that were tampered with and sealed again."""

import hashlib
import random
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest

from eventvault.archive import layout, tar, writer
from eventvault.archive.entries import EntryReader
from eventvault.archive.index import parse_index
from eventvault.archive.layout import Closing, Index, IndexEntry
from eventvault.archive.manifest import Manifest
from eventvault.archive.source import Source, open_archive
from eventvault.database.generation import Generation

GENERATION = Generation("0123456789abcdef", None, 0, "created", 1_700_000_000_000_000)
FILES = {
    "000003.log": b"",
    "000005.ldb": random.Random(1).randbytes(700),
    "000007.ldb": b"the same again and again " * 40,
    "CURRENT": b"MANIFEST-000004\n",
    "MANIFEST-000004": random.Random(2).randbytes(512),
}


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """The kernel refuses to let a file grow beyond a size, as it does on a full disk."""
    return _largest_file


@pytest.fixture(scope="session")
def about() -> Manifest:
    return Manifest(
        store_id="5107e1d",
        installation="1257a11",
        generation=GENERATION,
        generations=[GENERATION],
        first_sequence=1,
        last_sequence=2,
        first_time="2026-01-31T12:34:56.789012Z",
        last_time="2026-01-31T12:34:57.000000Z",
        events=2,
        kafka={"events": {"0": 17}},
        label="Before the move",
        name="backup_2026-01-31_123457_before-the-move.tar.gz",
        created="2026-01-31T12:34:57.123Z",
    )


@pytest.fixture(scope="session")
def database_files() -> dict[str, bytes]:
    return dict(FILES)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def own(tmp_path: Path, staging: Path, about: Manifest) -> Path:
    """An archive of ours of the small database."""
    path = tmp_path / "own.tar.gz"
    writer.write_archive(path, staging, about)
    return path


@pytest.fixture(scope="session")
def own_bytes(about: Manifest) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder) / "staging"
        staging.mkdir()
        for name, content in FILES.items():
            (staging / name).write_bytes(content)
        path = Path(folder) / "own.tar.gz"
        writer.write_archive(path, staging, about)
        return path.read_bytes()


class Forgery:
    """The gzip members of an archive of ours, for tests to change and to seal again with a correct closing member."""

    def __init__(self, path: Path, modified: int) -> None:
        self.content = path.read_bytes()
        self.modified = modified
        with open_archive(path) as archive:
            offset = layout.parse_closing(self.content[-layout.CLOSING_SIZE :]).index_offset
            reader = EntryReader(Source(archive, offset, archive.size))
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
