"""A database of another program is distinguished from ours and neither opened nor changed."""

from __future__ import annotations

import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault.archive.any_tar import unpack_foreign
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.errors import DatabaseDamaged, DatabaseLocked
from eventvault.foreign.detect import is_foreign
from eventvault.foreign.importer import import_foreign
from tests.eventvault.leveldb.log_writer import write_log
from tests.restoring import flip

FIXTURE = Path(__file__).parents[2] / "fixtures" / "node"
VARIANTS = ["at_the_top", "dot_slash", "in_its_folder", "in_storage", "torn_log"]


def unpacked(name: str, folder: Path) -> Path:
    target = folder / "foreign"
    unpack_foreign(FIXTURE / f"{name}.tar.gz", target)
    return target


def make_foreign(folder: Path, records: dict[bytes, bytes]) -> Path:
    with closing(plyvel.DB(str(folder), create_if_missing=True)) as db:
        for key, value in records.items():
            db.put(key, value)
    return folder


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_node_database_is_told_from_ours_without_being_touched(tmp_path: Path, name: str) -> None:
    source = unpacked(name, tmp_path)
    before = state(source)
    assert is_foreign(source)
    assert state(source) == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_an_empty_database_of_another_program_is_foreign(tmp_path: Path) -> None:
    assert is_foreign(make_foreign(tmp_path / "foreign", {}))


def test_a_new_database_of_ours_is_ours(tmp_path: Path) -> None:
    create_database(tmp_path / "ours")
    before = state(tmp_path / "ours")
    assert not is_foreign(tmp_path / "ours")
    assert state(tmp_path / "ours") == before


@pytest.mark.slow
def test_a_used_database_of_ours_is_ours(tmp_path: Path) -> None:
    source = make_foreign(tmp_path / "foreign", {b"%04d" % n: b"{}" for n in range(50)})
    import_foreign(source, tmp_path / "ours")
    with closing(open_leveldb(tmp_path / "ours")) as db:
        EventRegistry(db, tmp_path / "ours").append([AppendBatch([], b"12345678", [(b"k1", b"1")])])
    assert not is_foreign(tmp_path / "ours")


@pytest.mark.slow
def test_records_that_look_a_little_like_ours_are_foreign(tmp_path: Path) -> None:
    assert is_foreign(make_foreign(tmp_path / "foreign", {b"mschema": b"1", b"x": b"mstore mschema"}))


def test_nothing_and_an_empty_folder_are_not_foreign(tmp_path: Path) -> None:
    assert not is_foreign(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert not is_foreign(tmp_path / "empty")


def test_a_damaged_database_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    source = unpacked("in_its_folder", tmp_path)
    next(source.glob("*.ldb")).unlink()
    assert not is_foreign(source)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


@pytest.mark.slow
def test_damage_that_hides_whose_it_is_is_refused(tmp_path: Path) -> None:
    source = unpacked("in_its_folder", tmp_path)
    table = max(source.glob("*.ldb"), key=lambda path: path.stat().st_size)
    for position in range(0, table.stat().st_size - 1000, 200):
        flip(table, position)
    with pytest.raises(DatabaseDamaged):
        is_foreign(source)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


HOLDER = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print(flush=True); sys.stdin.read()"


@pytest.mark.slow
def test_a_foreign_database_that_its_program_still_holds_is_refused(tmp_path: Path) -> None:
    source = make_foreign(tmp_path / "foreign", {b"k": b"1"})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(source)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DatabaseLocked, match=f"process {holder.pid};"):
            is_foreign(source)
        holder.communicate()
    assert is_foreign(source)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [b"\x01\x04k", b"\x01\x01k\x7fv", b"\x01\x01k", b"\x00\x80", b"\x01"])
def test_a_batch_that_is_cut_off_under_a_right_checksum_is_damage(tmp_path: Path, batch: bytes) -> None:
    source = make_foreign(tmp_path / "foreign", {b"k": b"1"})
    (log,) = source.glob("*.log")
    log.write_bytes(write_log([log.read_bytes()[7:], struct.pack("<QI", 2, 1) + batch]))
    with pytest.raises(DatabaseDamaged, match="cut off"):
        is_foreign(source)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]
