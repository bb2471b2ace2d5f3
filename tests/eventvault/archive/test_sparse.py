"""Sparse files and incremental archives, as tar programs write them and as nobody would."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.archive import any_tar, sparse, unpacking
from eventvault.errors import ArchiveDamaged, ArchiveError, ArchiveUnsafe
from tests.eventvault.archive.test_any_tar import DATABASE, content_of, entry, placed, tar_of, with_pax

COMMANDS = {
    "gnu": ["tar", "--format=gnu", "-czSf"],
    "0.0": ["tar", "--format=posix", "--sparse-version=0.0", "-czSf"],
    "0.1": ["tar", "--format=posix", "--sparse-version=0.1", "-czSf"],
    "1.0": ["tar", "--format=posix", "--sparse-version=1.0", "-czSf"],
    "bsdtar": ["bsdtar", "-czf"],
    "incremental": ["tar", "--listed-incremental=snar", "-czSf"],
    "incremental, posix": ["tar", "--format=posix", "--listed-incremental=snar", "-czSf"],
}
MAPS: list[list[tuple[int, bytes]]] = [
    [(0, b"begin"), (2**20, b"middle"), (2**21, b"end")],
    [(2**20, b"only the end")],
    [(0, b"only the beginning, then a hole to the end"), (2**20, b"")],
    [(number * 65536, b"%d" % number) for number in range(60)],
    [(2**20, b"")],
]


def sparse_file(path: Path, parts: list[tuple[int, bytes]]) -> None:
    with path.open("wb") as file:
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
        file.truncate(max(file.tell(), parts[-1][0]))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("parts", MAPS)
def test_sparse_files_come_out_as_they_went_in(command: str, parts: list[tuple[int, bytes]], tmp_path: Path) -> None:
    if not shutil.which(COMMANDS[command][0]):
        pytest.skip(f"{COMMANDS[command][0]} is not installed")
    folder = tmp_path / "event_registry_db"
    folder.mkdir()
    for name, content in DATABASE.items():
        (folder / name).write_bytes(content)
    sparse_file(folder / "000009.log", parts)
    path = tmp_path / "archive.tar.gz"
    subprocess.run([*COMMANDS[command], path, folder.name], cwd=tmp_path, check=True)
    any_tar.unpack_foreign(path, tmp_path / "target")
    assert content_of(tmp_path / "target") == content_of(folder)


def pax(**records: str) -> bytes:
    return with_pax({f"GNU.sparse.{name}": value for name, value in records.items()})


def stored(content: bytes, name: str = "event_registry_db/000009.log") -> bytes:
    return entry(name, len(content)).tobuf() + content + bytes(-len(content) % 512)


def old(parts: list[tuple[int, int]], size: int, content: bytes = b"", *, extended: bool = False) -> bytes:
    """An entry of the old GNU form; its checksum is right."""
    info = entry("event_registry_db/000009.log", len(content), type=b"S")
    header = bytearray(info.tobuf())
    table = b"".join(b"%011o\0%011o\0" % part for part in parts)
    header[386 : 386 + len(table)] = table
    header[482] = extended
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def numbered(*numbers: int) -> bytes:
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % 512)


V1 = {"major": "1", "minor": "0", "name": "event_registry_db/000009.log"}
WRONG = {
    "overlapping": old([(0, 3), (1, 3)], 10, b"abcdef"),
    "backwards": old([(5, 1), (0, 1)], 10, b"ab"),
    "beyond the size": old([(5, 9)], 10, b"abcdefghi"),
    "more stored than in the map": old([(0, 1)], 10, b"abc"),
    "less stored than in the map": old([(0, 9)], 10, b"abc"),
    "continued by nothing": old([], 10, extended=True),
    "a map of letters": pax(size="9", map="a,b") + stored(b""),
    "half a map": pax(size="9", map="1,2,3") + stored(b"xx"),
    "no size": pax(map="0,1") + stored(b"x"),
    "a size of letters": pax(**V1, realsize="x") + stored(numbered(0)),
    "1.0 without a map": pax(**V1, realsize="9") + stored(b""),
    "1.0 with a map that ends early": pax(**V1, realsize="9") + stored(b"5\n0\n" + bytes(508)),
    "1.0 with a map of letters": pax(**V1, realsize="9") + stored(b"x\n" + bytes(510)),
    "1.0 with a map longer than the content": pax(**V1, realsize="9") + stored(b"9000\n" + b"1\n" * 200),
    "1.0 with very many parts": pax(**V1, realsize="9") + stored(numbered(20_000, *range(40_000))),
    "0.1 with very many parts": pax(size="9", map=",".join(map(str, range(40_000)))) + stored(b""),
    "records again and again": with_pax({"GNU.sparse.offset": "1"}) * 21_000 + stored(b""),
    "nothing but a name": pax(name="event_registry_db/000009.log") + stored(b"x"),
}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes, type[ArchiveError]], str]:
    def unpack(entries: bytes, error: type[ArchiveError]) -> str:
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(entries + tar_of(placed("event_registry_db/"))))
        with pytest.raises(error) as caught:
            any_tar.unpack_foreign(path, tmp_path / "target")
        assert list(tmp_path.iterdir()) == [path]
        return str(caught.value)

    return unpack


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_a_map_that_cannot_be_is_damage(what: str, refused: Callable[[bytes, type[ArchiveError]], str]) -> None:
    refused(WRONG[what], ArchiveDamaged)


@pytest.mark.parametrize("size", [2**31, 2**50, 2**62])
@pytest.mark.parametrize("form", ["old", "0.1", "1.0"])
def test_holes_that_would_fill_the_disk_are_refused_before_they_are_written(
    size: int, form: str, refused: Callable[[bytes, type[ArchiveError]], str]
) -> None:
    entries = {
        "old": old([], min(size, 8**11 - 1)),
        "0.1": pax(size=str(size), map="0,1") + stored(b"x"),
        "1.0": pax(**V1, realsize=str(size)) + stored(numbered(0)),
    }
    assert "holes" in refused(entries[form], ArchiveUnsafe)


@pytest.mark.slow
def test_holes_of_several_files_are_added_and_count_for_the_disk(
    refused: Callable[[bytes, type[ArchiveError]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pax(size="90000000", map="0,1")
    monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: 100_000_000)
    both = one + stored(b"x") + one + stored(b"x", "event_registry_db/000010.log")
    assert "unpack to" in refused(both, ArchiveUnsafe)
    monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: 10**12)
    monkeypatch.setattr(sparse, "MAX_HOLE_BYTES", 100_000_000)
    assert "holes" in refused(both, ArchiveUnsafe)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "event_registry_db/x\x1b"])
def test_the_name_of_a_sparse_file_is_checked_as_any_other(
    name: str, refused: Callable[[bytes, type[ArchiveError]], str]
) -> None:
    refused(pax(major="1", minor="0", name=name, realsize="9") + stored(numbered(0)), ArchiveUnsafe)
