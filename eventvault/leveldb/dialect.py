"""Names the forks of LevelDB whose databases look like LevelDB's, although LevelDB cannot read them.

Sources: `table/block_based/block_based_table_builder.cc`, `table/plain/plain_table_builder.cc` and `db/version_edit.h`
of RocksDB; `include/leveldb/options.h` of LevelDB 1.23 (Zstandard) and of the LevelDB of Minecraft (zlib).
"""

from __future__ import annotations

from eventvault.errors import DatabaseDamaged

ROCKSDB = "a RocksDB database"
_TAGS_OF_ROCKSDB = frozenset({10, 100, 102, 103, 200, 201, 202, 203, 300, 400, 401})
_IGNORABLE_TAGS_OF_ROCKSDB = range(8192, 9000)

_ROCKSDB_MAGICS = frozenset(
    {0x88E241B785F4CFF7, 0x8242229663BF9564, 0x4F3418EB7A8F13B8, 0x926789D0C5F17873, 0x656E6D736D67CD6F}
)
_COMPARATORS = {"idb_cmp1": "of a browser's IndexedDB"}
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_ZLIB, _ZLIB_RAW = 2, 4


class OtherDialect(DatabaseDamaged):
    """A fork of LevelDB wrote the database. It may be undamaged, but LevelDB cannot read it."""


def other_dialect(dialect: str) -> OtherDialect:
    return OtherDialect(
        f"it is {dialect}, which EventVault does not read",
        hint="export its records with the program that wrote it, and post them to /api/events",
    )


def is_tag_of_rocksdb(tag: int) -> bool:
    """Return whether RocksDB, but not LevelDB, writes fields with this tag into its MANIFEST."""
    return tag in _TAGS_OF_ROCKSDB or tag in _IGNORABLE_TAGS_OF_ROCKSDB


def of_table(magic: int) -> str | None:
    """Return which kind of database has tables that end in this number; None if unknown."""
    return ROCKSDB if magic in _ROCKSDB_MAGICS else None


def of_comparator(name: str) -> str:
    """Return which kind of database sorts its keys by this comparator."""
    return f"a LevelDB {_COMPARATORS.get(name, 'with an order of keys of its own')} (comparator {name[:80]!r})"


def of_compression(kind: int, block: bytes) -> str:
    """Return which kind of database has blocks of this kind. block: one of them, with a correct checksum."""
    if block.startswith(_ZSTANDARD):
        method = "Zstandard"
    elif kind in (_ZLIB, _ZLIB_RAW):
        method = "zlib, as Minecraft's are"
    else:
        method = f"a method that LevelDB does not have (number {kind})"
    return f"a LevelDB whose blocks are compressed with {method}"
