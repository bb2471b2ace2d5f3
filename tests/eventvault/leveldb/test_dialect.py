"""Databases of LevelDB's relatives and forks are named, and are never called damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import google_crc32c
import plyvel
import pytest

from eventvault.archive.any_tar import unpack_foreign
from eventvault.errors import ArchiveAlien, ArchiveDamaged, DatabaseDamaged
from eventvault.foreign.detect import is_foreign
from eventvault.foreign.importer import import_foreign, read_foreign
from eventvault.leveldb import table
from eventvault.leveldb.dialect import OtherDialect
from eventvault.leveldb.log import encode_appended, mask_checksum
from tests.service import PROJECT

FIXTURES = PROJECT / "tests" / "fixtures" / "dialects"
ROCKSDB_MAGIC = 0x88E241B785F4CFF7
ZSTANDARD = b"\x28\xb5\x2f\xfd"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "foreign"
    with closing(plyvel.DB(str(folder), create_if_missing=True, block_size=256)) as db:
        for number in range(200):
            db.put(b"%06d" % number, b'{"id":"%d"}' % number)
        db.compact_range()
    return folder


def the_table(database: Path) -> Path:
    (path,) = database.glob("*.ldb")
    return path


def with_magic(number: int) -> Callable[[Path], None]:
    def forge(database: Path) -> None:
        content = the_table(database).read_bytes()
        the_table(database).write_bytes(content[:-8] + struct.pack("<Q", number))

    return forge


def with_compression(kind: int, begin: bytes = b"", *, index: bool = False) -> Callable[[Path], None]:
    """Forge one block, with a right checksum: a data block, or the index."""

    def forge(database: Path) -> None:
        content = bytearray(the_table(database).read_bytes())
        _, place = table._footer(bytes(content[-table.FOOTER_BYTES :]))
        reader = table._Reader(lambda offset, count: bytes(content[offset : offset + count]))
        entries = list(table._entries(reader.block(place), place[0]))
        offset, size = place if index else entries[0][1:]
        content[offset : offset + len(begin)] = begin
        content[offset + size] = kind
        checksum = mask_checksum(google_crc32c.value(bytes(content[offset : offset + size + 1])))
        content[offset + size + 1 : offset + size + 5] = struct.pack("<I", checksum)
        the_table(database).write_bytes(content)

    return forge


def with_tag(tag: bytes) -> Callable[[Path], None]:
    def forge(database: Path) -> None:
        (manifest,) = database.glob("MANIFEST-*")
        with manifest.open("ab") as file:
            file.write(encode_appended(tag + b"\x01", manifest.stat().st_size))

    return forge


OTHERS = {
    "RocksDB's table": (with_magic(ROCKSDB_MAGIC), "RocksDB"),
    "RocksDB's plain table": (with_magic(0x8242229663BF9564), "RocksDB"),
    "a column family": (with_tag(b"\xc8\x01"), "RocksDB"),
    "a safely ignored tag": (with_tag(b"\x81\x40"), "RocksDB"),
    "zlib": (with_compression(2), "zlib"),
    "raw zlib": (with_compression(4), "zlib"),
    "zlib in the index": (with_compression(2, index=True), "zlib"),
    "Zstandard": (with_compression(2, ZSTANDARD), "Zstandard"),
    "another number": (with_compression(9), "number 9"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_database_of_another_program_is_alien_and_its_program_is_named(what: str, database: Path) -> None:
    forge, named = OTHERS[what]
    forge(database)
    assert is_foreign(database)
    for work in (read_foreign, lambda folder: import_foreign(folder, folder.with_name("target"))):
        with pytest.raises(ArchiveAlien, match=named):
            work(database)
    assert [path.name for path in database.parent.iterdir()] == ["foreign"]


@pytest.mark.parametrize(("name", "named"), [("rocksdb", "RocksDB"), ("zlib", "zlib")])
def test_databases_that_they_wrote_are_alien(name: str, named: str, tmp_path: Path) -> None:
    unpack_foreign(FIXTURES / f"{name}.tar.gz", tmp_path / "foreign")
    assert is_foreign(tmp_path / "foreign")
    with pytest.raises(ArchiveAlien, match=named):
        read_foreign(tmp_path / "foreign")


@pytest.mark.parametrize("position", [-1, -5, -60, 100])
def test_a_changed_byte_is_damage_and_no_dialect(position: int, database: Path) -> None:
    content = bytearray(the_table(database).read_bytes())
    content[position] ^= 0x40
    the_table(database).write_bytes(content)
    with pytest.raises((DatabaseDamaged, ArchiveDamaged)) as caught:
        read_checked(database)
    assert not isinstance(caught.value, OtherDialect)


def read_checked(database: Path) -> None:
    is_foreign(database)
    read_foreign(database)
