"""The MANIFEST reader on files that LevelDB wrote."""

from __future__ import annotations

import io
from pathlib import Path

import plyvel
import pytest

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.manifest import Version, read_current, read_version
from tests.eventvault.leveldb.log_writer import write_log

SMALL = {"write_buffer_size": 65536, "max_file_size": 1 << 20}


def make_database(folder: Path, count: int = 4000) -> None:
    """A database with several tables on several levels, by compactions, and a manifest with many edits."""
    database = plyvel.DB(str(folder), create_if_missing=True, **SMALL)
    for number in range(count):
        database.put(b"%08d" % (number * 7919 % count), b"%08d" % number * 16)
    database.compact_range()
    database.put(b"last", b"one")
    database.close()


def read(folder: Path) -> Version:
    path = folder / read_current(folder)
    with path.open("rb") as file:
        return read_version(file, name=str(path))


def test_the_tables_that_it_names_are_those_on_disk_with_their_sizes(tmp_path: Path) -> None:
    make_database(tmp_path / "db")
    version = read(tmp_path / "db")
    on_disk = {int(path.stem): path.stat().st_size for path in (tmp_path / "db").glob("*.ldb")}
    assert {number: table.size for number, table in version.files.items()}.items() <= on_disk.items()
    assert version.files
    assert max(table.level for table in version.files.values()) >= 1
    assert version.comparator == "leveldb.BytewiseComparator"
    assert [version.log_number] == [int(path.stem) for path in (tmp_path / "db").glob("*.log")]
    assert version.last_sequence >= 4000
    assert version.next_file_number > max(on_disk)


def test_it_knows_the_first_and_the_last_key_of_each_table(tmp_path: Path) -> None:
    make_database(tmp_path / "db")
    version = read(tmp_path / "db")
    tables = version.files.values()

    assert min(table.smallest for table in tables) == b"%08d" % 0
    assert max(table.largest for table in tables) in (b"%08d" % 3999, b"last")
    assert all(table.smallest <= table.largest for table in tables)


@pytest.mark.slow
def test_a_torn_tail_is_the_end_of_the_file_at_every_length(tmp_path: Path) -> None:
    make_database(tmp_path / "db", 2000)
    content = (tmp_path / "db" / read_current(tmp_path / "db")).read_bytes()
    whole = read(tmp_path / "db")
    assert whole.manifest_size == len(content)
    sizes = set()
    for size in range(len(content) // 2, len(content)):
        version = read_version(io.BytesIO(content), size)
        assert version.manifest_size <= size
        assert read_version(io.BytesIO(content[: version.manifest_size])) == version
        sizes.add(version.manifest_size)
    assert len(sizes) > 1


def test_damage_between_edits_is_refused_with_the_file_named(tmp_path: Path) -> None:
    make_database(tmp_path / "db", 500)
    path = tmp_path / "db" / read_current(tmp_path / "db")
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match=f"{path} is damaged: .*wrong checksum") as caught:
        read(tmp_path / "db")
    assert caught.value.hint


def test_a_manifest_without_its_first_edit_is_refused() -> None:
    with pytest.raises(DatabaseDamaged, match="no log_number, next_file_number, last_sequence"):
        read_version(io.BytesIO(b""))


@pytest.mark.parametrize(
    "edit",
    [b"\x08", b"\x7f", b"\x02", b"\x02" + b"\xff" * 10, b"\x01\x05abc", b"\x06\x07\x01", b"\x07\x01\x02"],
    ids=["retired tag", "unknown tag", "no value", "endless number", "short string", "level 7", "half a table"],
)
def test_an_edit_that_makes_no_sense_is_refused(edit: bytes) -> None:
    with pytest.raises(DatabaseDamaged, match="holds an edit that cannot be read"):
        read_version(io.BytesIO(write_log([edit])))


def test_a_table_that_changes_its_level_within_one_edit_stays() -> None:
    first = b"\x02\x03\x03\x09\x04\x05" + b"\x07\x00\x04\x64\x01a\x01b"
    moved = b"\x06\x00\x04" + b"\x07\x01\x04\x64\x01a\x01b"
    version = read_version(io.BytesIO(write_log([first, moved])))
    assert [(number, table.size, table.level) for number, table in version.files.items()] == [(4, 100, 1)]
    assert (version.log_number, version.next_file_number, version.last_sequence) == (3, 9, 5)


@pytest.mark.parametrize("content", [b"", b"MANIFEST-000004", b"../MANIFEST-000004\n", b"\0" * 16])
def test_a_current_file_that_names_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "CURRENT").write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="does not name a MANIFEST"):
        read_current(tmp_path)
