"""The full check of an archive: it finds damage that no checksum of the archive shows, and limits its speed."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Proof
from eventvault.database.registry import open_leveldb
from eventvault.errors import ArchiveDamaged
from eventvault.restore.check import Pace, check_archive
from eventvault.restore.prepare import prepare_restore
from eventvault.restore.unpacked import ArchiveFacts
from tests import format_2
from tests.restoring import LONG_AGO, flip, make_database, times_of


@pytest.fixture(scope="module")
def rotten(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives whose checksums are all right, of a live table that was damaged before: in a block, in the filter."""
    folder = tmp_path_factory.mktemp("rotten")
    identity = make_database(folder / "database", events=3000, data="x" * 100)
    times = times_of(folder / "database")
    with closing(open_leveldb(folder / "database")) as db:
        db.compact_range()
    about = Manifest(
        store_id=identity.store_id, installation="elsewhere", generation=identity.present,
        generations=list(identity.generations), first_sequence=1, last_sequence=3000, first_time=times[0],
        last_time=times[1], events=3000, label=None, name="", created=LONG_AGO,
    )  # fmt: skip
    return {part: archive_with_damage(folder / f"{part}.tar.gz", folder / "database", about, part) for part in PARTS}


PARTS = ("a block", "the filter")


def archive_with_damage(path: Path, database: Path, about: Manifest, part: str) -> Path:
    staging = path.with_suffix(".staging")
    staging.mkdir()
    for file in database.iterdir():
        if file.name not in ("LOCK", "LOG", "LOG.old", "EVENTVAULT"):
            shutil.copy(file, staging)
    table = max(staging.glob("*.ldb"), key=lambda file: file.stat().st_size)
    size = table.stat().st_size
    flip(table, size // 2 if part == "a block" else place_in_filter(table))
    format_2.write_archive(path, staging, msgspec.structs.replace(about, name=path.name))
    reader.verify(path)
    return path


def place_in_filter(table: Path) -> int:
    """The filter block lies before the metaindex block, which holds its name."""
    return table.read_bytes().rindex(b"filter.leveldb") - 100


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("rate", [0, 10**9])
def test_damage_that_was_archived_is_found_by_leveldbs_own_checksums(
    part: str, rate: int, rotten: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ArchiveDamaged, match="holds a database that is damaged"):
        check_archive(archive=str(rotten[part]), scratch=str(tmp_path), depth="records", rate=rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("part", "proven"), [("a block", True), ("the filter", True), ("a block", False)])
def test_a_restore_finds_it_too_where_nobody_verified_the_archive(
    part: str, proven: bool, rotten: dict[str, Path], tmp_path: Path
) -> None:
    digest = reader.verify(rotten[part]).digest
    assert digest is not None
    proof = Proof(installation="elsewhere", made=frozenset({digest} if proven else ()))
    with pytest.raises(ArchiveDamaged, match="holds a database that is damaged"):
        prepare_restore(
            archive=str(rotten[part]), staging=str(tmp_path / "staging"), replaces=None,
            facts=msgspec.to_builtins(ArchiveFacts(proof=proof)),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_filters_of_an_archive_that_is_not_proven_are_not_used(rotten: dict[str, Path], tmp_path: Path) -> None:
    answer = prepare_restore(archive=str(rotten["the filter"]), staging=str(tmp_path / "staging"), replaces=None)
    assert (answer["events"], answer["proven"]) == (3000, False)


def test_a_rate_makes_work_wait_and_never_hurry() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100, now=lambda: now[0], sleep=sleep)
    pace.wait(50, 1000)
    now[0] += 10
    pace.wait(200, 1000)
    pace.wait(1100, 2000)

    assert slept == [0.5, 0.5]
