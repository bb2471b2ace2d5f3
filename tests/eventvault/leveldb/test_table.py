"""Tables of a real LevelDB are whole, and every byte of one that is changed is found."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.table import FOOTER_BYTES, check_table


def tables_of(folder: Path, count: int = 2000, **options: object) -> list[Path]:
    with closing(plyvel.DB(str(folder), create_if_missing=True, **options)) as db:
        with db.write_batch() as batch:
            for number in range(count):
                batch.put(b"key-%08d" % number, random.Random(number).randbytes(30) + b" some text" * 5)
        for number in range(0, count, 7):
            db.put(b"key-%08d" % number, b"newer")
        db.compact_range()
    return sorted(folder.glob("*.ldb"))


def check(table: Path, content: bytes | None = None) -> int:
    content = table.read_bytes() if content is None else content
    return check_table(table.name, table.stat().st_size, lambda offset, count: content[offset : offset + count])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables_of(tmp_path_factory.mktemp("table") / "db", 300, bloom_filter_bits=10)[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": None}, {"bloom_filter_bits": 10}, {"block_size": 256}],
    ids=["snappy", "plain", "with a filter", "small blocks"],
)
def test_tables_that_leveldb_wrote_are_whole(options: dict[str, object], tmp_path: Path) -> None:
    tables = tables_of(tmp_path / "db", **options)
    assert tables
    assert all(check(table) >= 20 for table in tables)


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_found(table: Path) -> None:
    content = bytearray(table.read_bytes())
    for offset in range(len(content)):
        bit = 1 << offset % 8
        content[offset] ^= bit
        with pytest.raises(DatabaseDamaged, match=table.name):
            check(table, bytes(content))
        content[offset] ^= bit
    assert check(table, bytes(content))


def test_a_table_that_is_cut_off_is_found(table: Path) -> None:
    content = table.read_bytes()
    for size in range(0, len(content), 13):
        with pytest.raises(DatabaseDamaged):
            check(table, content[:size])
        with pytest.raises(DatabaseDamaged):
            check_table(table.name, size, lambda offset, count, size=size: content[:size][offset : offset + count])


def test_a_table_that_another_follows_is_found(table: Path) -> None:
    content = table.read_bytes()
    doubled = content + content
    with pytest.raises(DatabaseDamaged):
        check_table(table.name, len(doubled), lambda offset, count: doubled[offset : offset + count])


def test_an_error_of_the_disk_is_no_damage(table: Path) -> None:
    def failing(offset: int, count: int) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        check_table(table.name, FOOTER_BYTES, failing)
