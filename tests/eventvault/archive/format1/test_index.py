"""Reading the manifest or the index of a small hostile archive takes little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.archive import layout, manifest, tar
from eventvault.archive.layout import Closing
from eventvault.archive.manifest import Manifest
from tests.eventvault.archive.peak_memory import grown_by

MOST = 100 * 2**20
HOLE = 3 * 10**9
"""A sparse file of this size takes no room, and may have half a million members."""


def an_entry(name: str, content: bytes, modified: int) -> bytes:
    made, start = [layout.member(tar.build_header(name, len(content), modified))], 0
    for size, zeros in layout.pieces(len(content)):
        made.append(layout.member(content[start : start + size] + bytes(zeros)))
        start += size
    return b"".join(made)


def make_hostile(
    path: Path, about: Manifest, entries: list[dict[str, Any]], files: list[dict[str, Any]], hole: int
) -> None:
    """An archive with our marks at both ends, an index of `entries`, and a manifest that names `files`."""
    modified = about.modified
    said = msgspec.json.encode({**msgspec.to_builtins(about), "formatVersion": 1, "files": files})
    folder = {"name": layout.FOLDER_ENTRY, "size": 0, "header": 0, "data": []}
    with path.open("wb") as file:
        file.write(layout.member(tar.build_header(layout.FOLDER_ENTRY, 0, modified), layout.opening_header(1)))
        file.seek(hole, 1)
        last = {"name": layout.MANIFEST_NAME, "size": len(said), "header": file.tell(), "data": []}
        file.write(an_entry(layout.MANIFEST_NAME, said, modified))
        offset = file.tell()
        listed = msgspec.json.encode({"formatVersion": 1, "entries": [folder, *entries, last]})
        assert max(len(said), len(listed)) <= manifest.MAX_MANIFEST_BYTES
        file.write(an_entry(layout.INDEX_NAME, listed, modified))
        file.write(layout.member(layout.END_BLOCKS))
        file.write(layout.closing_member(Closing(1, offset, bytes(32))))


def files(first: str = "") -> list[dict[str, Any]]:
    """Many files. first: the character that the name and the checksum of each begin with."""
    names = (f"{n:06d}{'x' * 70}.ldb" for n in range(99_990))
    length = len(first)
    return [
        {"name": first + name[length:], "size": layout.CHUNK, "sha256": first + "5" * (64 - length)} for name in names
    ]


MANY_MEMBERS = [{"name": "x", "size": 1, "header": 9, "data": [[10**11, 4 * 10**6, 4 * 10**9]] * 490_000}]


def many_entries() -> list[dict[str, Any]]:
    return [
        {"name": layout.FOLDER_ENTRY + str(file["name"]), "size": file["size"], "header": 10**8 + 5000 * n,
         "data": [[10**8 + 5000 * n + 100, 4900, 4 * 10**9]]}
        for n, file in enumerate(files())
    ]  # fmt: skip


HOSTILE = {
    "many members in a small file": lambda: (MANY_MEMBERS, files(), 0),
    "many members": lambda: (MANY_MEMBERS, files(), HOLE),
    "many entries": lambda: (many_entries(), files(), HOLE),
    "wide characters": lambda: (many_entries(), files("\U0001f600"), HOLE),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_a_look_at_a_hostile_archive_takes_little_memory(what: str, about: Manifest, tmp_path: Path) -> None:
    make_hostile(tmp_path / "a.tar.gz", about, *HOSTILE[what]())
    assert 0 <= grown_by("read_manifest", tmp_path / "a.tar.gz") < MOST


@pytest.mark.slow
def test_the_check_of_a_small_hostile_archive_takes_little_memory(about: Manifest, tmp_path: Path) -> None:
    make_hostile(tmp_path / "a.tar.gz", about, MANY_MEMBERS, files(), 0)
    for how in ("verify", "read_manifest"):
        assert 0 <= grown_by(how, tmp_path / "a.tar.gz") < MOST
