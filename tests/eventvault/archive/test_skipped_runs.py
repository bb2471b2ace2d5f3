"""Single runs of an archive: left out of a check because their blocks were read elsewhere, and checked alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import isal_zlib

from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.run_check import check_runs
from eventvault.archive.source import open_archive
from eventvault.archive.stored import StoredFile
from eventvault.errors import ArchiveDamaged, ArchiveError
from tests import format_1, format_2
from tests.restoring import flip

pytestmark = pytest.mark.slow

WRITERS: dict[str, Callable[[Path, Path, Manifest], object]] = {
    "format 1": format_1.write_archive,
    "format 2": format_2.write_archive,
}
TABLES = ("000020.ldb", "000021.ldb", "000022.ldb")


@pytest.fixture
def tables(staging: Path) -> Path:
    noise = random.Random(5)
    for name, size in zip(TABLES, (5 * 2**20 + 77, 100_000, 70_000), strict=True):
        (staging / name).write_bytes(noise.randbytes(size))
    return staging


def runs_in(path: Path) -> dict[str, StoredFile]:
    with open_archive(path) as archive:
        return {file.name: file for file in reader.peek_files(archive)[1]}


def without(path: Path, file: StoredFile) -> dict[int, tuple[int, int]]:
    """The run of this file, to be skipped in a check."""
    size = file.length - file.length % 4096
    tail = path.read_bytes()[file.offset + size : file.offset + file.length]
    return {file.offset: (size, isal_zlib.crc32(tail))}


@pytest.mark.slow
def test_what_is_skipped_is_not_read_and_the_rest_is(tables: Path, about: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    digest = format_2.write_archive(path, tables, about).digest
    content, file = path.read_bytes(), runs_in(path)[TABLES[0]]
    skipped = without(path, file)
    assert reader.verify_digests(path, skipped=skipped).digest == digest
    shared_end = file.offset + file.length - file.length % 4096

    for offset in (file.offset, file.offset + 4 * 2**20, shared_end - 1):
        flip(path, offset)
        assert reader.verify_digests(path, skipped=skipped).digest == digest
        with pytest.raises(ArchiveDamaged):
            reader.verify_digests(path)
        path.write_bytes(content)
    for offset in (file.offset - 1, shared_end, file.offset + file.length - 1, file.offset + file.length):
        flip(path, offset)
        with pytest.raises(ArchiveDamaged):
            reader.verify_digests(path, skipped=skipped)
        path.write_bytes(content)


@pytest.mark.parametrize("version", WRITERS)
def test_damaged_runs_are_named_among_those_that_are_asked_for(
    version: str, tables: Path, about: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar.gz"
    WRITERS[version](path, tables, about)
    runs = runs_in(path)
    first, second, third = (runs[name].offset for name in TABLES)
    assert check_runs(archive=str(path), offsets=[first, second, third]) == {"damaged": []}

    flip(path, first + 4 * 2**20 + 1000)
    flip(path, third)

    assert check_runs(archive=str(path), offsets=[first, second, third]) == {"damaged": [first, third]}
    assert check_runs(archive=str(path), offsets=[second]) == {"damaged": []}
    assert check_runs(archive=str(path), offsets=[]) == {"damaged": []}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError):
        check_runs(archive=str(path), offsets=[second])
