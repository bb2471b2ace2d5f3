"""Archives of format 2 that were tampered with, whose digests and root were made right again."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from eventvault.archive import layout, manifest, reader, tar
from eventvault.archive.format2.index import ArchiveIndex, HashedEntry, Span
from eventvault.archive.format2.reader import read_contents
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import Manifest
from eventvault.archive.source import open_archive
from tests import format_2
from tests.eventvault.archive.format2.index_text import index_text

LARGE = random.Random(5).randbytes(200_000)


@pytest.fixture
def database_files(database_files: dict[str, bytes]) -> dict[str, bytes]:
    return {**database_files, "000011.ldb": LARGE, "000012.ldb": LARGE[:100_000]}


@pytest.fixture
def own(tmp_path: Path, staging: Path, about: Manifest) -> Path:
    """An archive of the small database and of two tables that begin at a multiple of 4,096."""
    (staging / "000011.ldb").write_bytes(LARGE)
    (staging / "000012.ldb").write_bytes(LARGE[:100_000])
    path = tmp_path / "own.tar.gz"
    format_2.write_archive(path, staging, about)
    return path


class File:
    """A tar entry to be written. header: makes its header member from a tar block and the offset; None: as the writer.

    before: bytes that stand before it, and that no span covers.
    """

    def __init__(self, size: int, digest: str, data: list[bytes]) -> None:
        self.size, self.digest, self.data = size, digest, data
        self.header: Callable[[bytes, int], bytes] | None = None
        self.before = b""


def make_file(content: bytes, *, size: int | None = None) -> File:
    pieces = [content[start : start + layout.CHUNK] for start in range(0, len(content), layout.CHUNK)]
    data = [layout.member(piece + bytes(layout.padding(len(piece)))) for piece in pieces]
    return File(len(content) if size is None else size, blake3(content).hexdigest(), data)


class Forgery:
    """The entries of an archive of format 2, for tests to change. `build` gives it right spans, digests and root."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.manifest = reader.read_manifest(path)
        self.folder_opening = layout.opening_header(2)
        with open_archive(path) as archive:
            index: ArchiveIndex = read_contents(archive).index
            entries = list(index)
        self.files = {
            entry.name: File(
                entry.size, entry.blake3, [content[span.offset : span.end] for span in entry.data]
            )
            for entry in entries
        }  # fmt: skip

    def describe(self, **changes: object) -> None:
        """Write the manifest anew, with these members."""
        self.manifest = msgspec.structs.replace(self.manifest, **changes)
        self.files[layout.MANIFEST_NAME] = make_file(manifest.encode(self.manifest))

    def describe_files(self) -> None:
        """Let the manifest name the files that there are."""
        names = [name for name in self.files if name not in (layout.FOLDER_ENTRY, layout.MANIFEST_NAME)]
        records = [
            manifest.FileRecord(name.removeprefix(layout.FOLDER_ENTRY), self.files[name].size, self.files[name].digest)
            for name in names
        ]
        self.describe(files=records)

    def build(
        self,
        *,
        index: Callable[[list[HashedEntry]], Iterable[HashedEntry]] = lambda entries: entries,
        text: Callable[[bytes], bytes] = lambda text: text,
        root: Callable[[bytes], bytes] = lambda root: root,
        ending: Callable[[bytes, bytes, bytes], bytes] = lambda end, seal, closing: end + seal + closing,
        version: int = 2,
        place: int | None = None,
    ) -> bytes:
        """index, text: change INDEX.json. ending: puts end blocks, seal and closing member together."""
        made, entries = b"", []
        for name, file in self.files.items():
            made += file.before
            members = [self._header(name, file, len(made)), *file.data]
            spans, offset = [], len(made)
            for member in members:
                spans.append(Span(offset, len(member), blake3(member).hexdigest()))
                offset += len(member)
            entries.append(HashedEntry(name, file.size, file.digest, tuple(spans)))
            made += b"".join(members)
        listed = make_file(text(index_text(index(entries))))
        end = self._header(layout.INDEX_NAME, listed, 0) + b"".join(listed.data) + layout.member(layout.END_BLOCKS)
        closing = Closing(version, len(made) if place is None else place, root(blake3(end).digest()))
        return made + ending(end, layout.seal_member(bytes(32)), layout.closing_member(closing))

    def _header(self, name: str, file: File, offset: int) -> bytes:
        block = tar.build_header(name, file.size, self.manifest.modified)
        if file.header is not None:
            return file.header(block, offset)
        if name == layout.FOLDER_ENTRY:
            return layout.member(block, self.folder_opening)
        aligned = name.startswith(layout.FOLDER_ENTRY) and sum(map(len, file.data)) >= layout.ALIGNED_FROM
        return layout.aligned_header_member(block, offset) if aligned else layout.member(block)


@pytest.fixture
def forgery(own: Path) -> Forgery:
    return Forgery(own)
