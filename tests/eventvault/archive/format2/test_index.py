"""Reading the manifest or the index of a hostile archive takes little memory, and the limits hold what they promise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from eventvault.archive import layout, tar
from eventvault.archive.format2 import index
from eventvault.archive.format2.index import ArchiveIndex, HashedEntry, Span
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import MAX_FILES, Manifest
from eventvault.archive.source import OpenArchive
from eventvault.errors import ArchiveDamaged
from tests.eventvault.archive.format2.index_text import index_text
from tests.eventvault.archive.peak_memory import grown_by

pytestmark = pytest.mark.slow

MOST = 100 * 2**20
HOLE = 3 * 10**9
DIGEST = "0123456789abcdef" * 4
FILES = 99_990


def an_entry(name: str, content: bytes, modified: int) -> list[bytes]:
    made, start = [layout.member(tar.build_header(name, len(content), modified))], 0
    for size, zeros in layout.pieces(len(content)):
        made.append(layout.member(content[start : start + size] + bytes(zeros)))
        start += size
    return made


def make_hostile(
    path: Path, about: Manifest, entries: list[HashedEntry], files: list[dict[str, Any]], hole: int
) -> None:
    """An archive with our marks, a right root, an index of `entries`, and a manifest that names `files`."""
    modified = about.modified
    said = msgspec.json.encode({**msgspec.to_builtins(about), "files": files})
    opening = layout.member(tar.build_header(layout.FOLDER_ENTRY, 0, modified), layout.opening_header())
    folder = HashedEntry(layout.FOLDER_ENTRY, 0, blake3().hexdigest(), (Span(0, len(opening), DIGEST),))
    with path.open("wb") as file:
        file.write(opening)
        file.seek(hole, 1)
        spans = []
        for member in an_entry(layout.MANIFEST_NAME, said, modified):
            spans.append(Span(file.tell(), len(member), blake3(member).hexdigest()))
            file.write(member)
        last = HashedEntry(layout.MANIFEST_NAME, len(said), blake3(said).hexdigest(), tuple(spans))
        offset = file.tell()
        listed = index_text([folder, *entries, last])
        assert len(listed) <= index.MAX_INDEX_BYTES
        end = b"".join(an_entry(layout.INDEX_NAME, listed, modified)) + layout.member(layout.END_BLOCKS)
        file.write(end + layout.seal_member(bytes(32)))
        file.write(layout.closing_member(Closing(2, offset, blake3(end).digest())))


def files() -> list[dict[str, Any]]:
    return [{"name": f"{n:06d}{'x' * 70}.ldb", "size": layout.CHUNK, "blake3": DIGEST} for n in range(FILES)]


def many_members() -> list[HashedEntry]:
    return [HashedEntry("x", 1, DIGEST, (Span(10**11, 4 * 10**6, DIGEST),) * 490_000)]


def many_entries() -> list[HashedEntry]:
    return [
        HashedEntry(layout.FOLDER_ENTRY + f"{n:06d}.ldb", layout.CHUNK, DIGEST,
              (Span(10**8 + 5000 * n, 100, DIGEST), Span(10**8 + 5000 * n + 100, 4900, DIGEST)))
        for n in range(FILES)
    ]  # fmt: skip


HOSTILE = {
    "many members in a small file": (many_members, 0),
    "many members": (many_members, HOLE),
    "many entries": (many_entries, HOLE),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_a_look_at_a_hostile_archive_takes_little_memory(what: str, about: Manifest, tmp_path: Path) -> None:
    entries, hole = HOSTILE[what]
    make_hostile(tmp_path / "a.tar.gz", about, entries(), files(), hole)
    assert 0 <= grown_by("read_manifest", tmp_path / "a.tar.gz") < MOST


@pytest.mark.slow
def test_the_check_of_a_small_hostile_archive_takes_little_memory(about: Manifest, tmp_path: Path) -> None:
    make_hostile(tmp_path / "a.tar.gz", about, many_members(), files(), 0)
    assert 0 <= grown_by("verify", tmp_path / "a.tar.gz") < MOST


def test_an_index_of_as_many_files_as_an_archive_may_have_is_read() -> None:
    entries = many_entries()
    listed = index_text([*entries, *entries[: MAX_FILES + 2 - len(entries)]])
    assert len(listed) <= index.MAX_INDEX_BYTES
    archive = OpenArchive(Path("a"), os.open("/dev/null", os.O_RDONLY), HOLE)
    read = ArchiveIndex(listed, archive, 0)
    assert len(read) == MAX_FILES + 2
    assert next(iter(read)) == entries[0]
    os.close(archive.handle)


def test_an_index_with_more_members_than_the_file_can_have_is_refused() -> None:
    listed = index_text([*many_entries()[:2], HashedEntry("x", 1, DIGEST, many_members()[0].spans[:1000])])
    with pytest.raises(ArchiveDamaged, match="more members"):
        ArchiveIndex(listed, OpenArchive(Path("a"), -1, 10**6), 0)


def test_a_last_entry_with_many_members_is_refused_before_it_is_decoded() -> None:
    listed = index_text([many_entries()[0], *many_members()])
    with pytest.raises(ArchiveDamaged, match="too many members"):
        ArchiveIndex(listed, OpenArchive(Path("a"), -1, HOLE), 0).last()
