"""Archives that somebody made to do harm, or that a program made which we do not know: one of each kind.

Most are built here byte by byte; the others come from the tests of what reads them. Nothing is built before it is used.
"""

from __future__ import annotations

import gzip
import random
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import plyvel

from eventvault import data_folders
from eventvault.database import keys
from eventvault.leveldb.log import encode_appended
from tests import forged_leveldb as forged
from tests.eventvault.archive import test_any_tar, test_sparse
from tests.eventvault.archive.test_any_tar import entry, placed, tar_of, with_pax
from tests.eventvault.leveldb.log_writer import fragment
from tests.eventvault.restore import test_unproven
from tests.eventvault.restore.test_unproven import about, pack, put_event, varint
from tests.forged_leveldb import Block, batch, block, put, rows, table, zero_value
from tests.restoring import make_database, make_foreign_database
from tests.service import PROJECT

Make = Callable[[Path], None]
"""Writes the archive to a path, whose folder is private."""


class Kind(NamedTuple):
    """name: of the kind, for people. maker: returns what writes it. slow: it takes seconds."""

    name: str
    maker: Callable[[], Make]
    slow: bool = False

    def make(self, path: Path) -> None:
        self.maker()(path)

    def __str__(self) -> str:
        return self.name


MIB = 2**20
_RECORDS = {
    b"event:%02d" % number: b'{"id":"f%d","type":"foreign","data":{"n":%d}}' % (number, number) for number in range(9)
}
_HONEST = rows(_RECORDS)


def _forge_outbox(db: Any) -> None:
    """Keys of the outbox and messages that EventVault does not write, and a position beyond all numbers."""
    db.put(keys.OUTBOX + b"x", b"")
    db.put(keys.outbox_key(2**64 - 1), b"x" * MIB)
    db.put(keys.MESSAGE + b"\xff" * 30, b"{")
    db.put(keys.META_PUBLISHED, b"9" * 30)


def _bytes(content: bytes) -> Make:
    return lambda path: path.write_bytes(content) and None


def _tar(content: bytes) -> Make:
    return _bytes(gzip.compress(content))


def _real(more: bytes = b"", files: dict[str, bytes] | None = None) -> bytes:
    """A tar of a good database, with entries in front of it or more files."""
    with tempfile.TemporaryDirectory() as folder:
        database = make_foreign_database(Path(folder) / "db")
        content = {file.name: file.read_bytes() for file in database.iterdir() if file.name != "LOCK"}
    return more + tar_of({**placed("event_registry_db/", content), **(files or {})})


@cache
def _good() -> bytes:
    return gzip.compress(_real())


def _flipped(content: bytes, place: int) -> Make:
    flipped = bytearray(content)
    flipped[place] ^= 0x40
    return _bytes(bytes(flipped))


def _of_folder(make: Callable[[Path], Any]) -> Make:
    """The archive of a database that `make` writes to a folder."""

    def archive(path: Path) -> None:
        folder = path.parent / f".{path.name}.folder"
        make(folder)
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.add(folder, arcname=data_folders.DATABASE)
        shutil.rmtree(folder)

    return archive


def _database(*tables: bytes, **options: Any) -> Make:
    return _of_folder(lambda folder: forged.database(folder, *tables, **options))


def _records(records: dict[bytes, bytes] | Callable[[], dict[bytes, bytes]], *, compact: bool = True) -> Make:
    """An archive of a database that LevelDB wrote."""

    def make(folder: Path) -> None:
        with closing(plyvel.DB(str(folder), create_if_missing=True, write_buffer_size=4 * MIB)) as db:
            for key, value in (records() if callable(records) else records).items():
                db.put(key, value)
            if compact:
                db.compact_range()

    return _of_folder(make)


def _our_own(forge: Callable[[Any], None], untrue: Callable[[Any], Any] | None = None, events: int = 12) -> Make:
    """An archive in our format of a database that was forged after its manifest was written."""

    def make(path: Path) -> None:
        folder = path.parent / f".{path.name}.folder"
        make_database(folder, "forged", events, subject="s", data={"n": 1})
        true = about(folder)
        test_unproven.forged(folder, forge)
        pack(folder, path, msgspec.structs.replace(true, **(untrue(true) if untrue else {})))
        shutil.rmtree(folder)

    return make


def _nothing(_db: Any) -> None:
    pass


def _cases(test: Callable[..., None], names: str) -> list[Sequence[Any]]:
    """The cases of a parametrized test, so that what it builds is built here too."""
    for mark in test.pytestmark:  # type: ignore[attr-defined]
        if mark.name == "parametrize" and mark.args[0] in (names, tuple(names.split())):
            return [case if isinstance(case, tuple) else (case,) for case in mark.args[1]]
    raise AssertionError(f"{test.__name__} has no cases of {names}")


def _tars() -> Iterator[Kind]:
    for why, info in test_any_tar.HOSTILE.items():
        yield Kind(f"tar: {why}", lambda info=info: _tar(bytes(info.tobuf(tarfile.GNU_FORMAT)) + _real()))
    for why, entries in test_sparse.WRONG.items():
        yield Kind(f"sparse: {why}", lambda entries=entries: _tar(entries + _real()))
    for size in (2**31, 2**62):
        holes = test_sparse.pax(size=str(size), map="0,1") + test_sparse.stored(b"x")
        yield Kind(f"sparse: a hole of {size} bytes", lambda holes=holes: _tar(holes + _real()))
    for number, case in enumerate(_cases(test_any_tar.test_hostile_pax_headers_are_refused, "records kind")):
        yield Kind(f"pax {number}", lambda case=case: _tar(with_pax(*case) + _real()))
    for (size,) in _cases(test_any_tar.test_a_size_in_a_pax_header_that_is_none_is_damage, "size"):
        yield Kind(f"pax size {size!r}", lambda size=size: _tar(with_pax({"size": size}) + _real()))
    for kind in (b"x", b"g", b"L", b"K"):
        yield Kind(
            f"an extended header {kind!r} of 2 GiB",
            lambda kind=kind: _tar(entry("x", 2**31, type=kind).tobuf() + _real()),
        )
    yield Kind("two databases", lambda: _tar(_real(files=placed("b/", test_any_tar.DATABASE))))
    yield Kind(
        "CURRENT in very many folders",
        lambda: _tar(_real(files={f"{n}/CURRENT": b"" for n in range(1001)})),
        slow=True,
    )
    yield Kind(
        "very many names", lambda: _tar(b"".join(entry(f"{n}").tobuf() for n in range(100_001)) + _real()), slow=True
    )
    yield Kind("no database", lambda: _tar(tar_of({"notes.txt": b"x"})))
    yield Kind("half a database", lambda: _tar(tar_of({"CURRENT": b"MANIFEST-000001\n", "000001.log": b""})))
    yield Kind("a tar in a tar", lambda: _tar(tar_of({"storage.tar.gz": gzip.compress(_real())})))
    for (current,) in _cases(test_any_tar.test_a_current_that_names_no_manifest_of_the_archive_is_damage, "current"):
        files = {**test_any_tar.DATABASE, "CURRENT": current}
        yield Kind(f"CURRENT with {current[:20]!r}", lambda files=files: _tar(tar_of(files)))
    yield Kind(
        "a folder called CURRENT", lambda: _tar(tar_of(test_any_tar.DATABASE, entry("CURRENT", type=tarfile.DIRTYPE)))
    )
    yield Kind(
        "a log of 64 MiB of zeros",
        lambda: _tar(_real(files={"event_registry_db/000099.log": bytes(64 * MIB)})),
        slow=True,
    )
    yield Kind("an ignored file of 64 MiB of zeros", lambda: _tar(_real(files={"notes": bytes(64 * MIB)})), slow=True)
    yield Kind(
        "an AppleDouble of each file", lambda: _tar(_real(files=placed("event_registry_db/._", test_any_tar.DATABASE)))
    )
    later = b'{"formatVersion": 99, "storeId": "x"}'
    yield Kind("a manifest of a later format", lambda: _tar(_real(files={"manifest.json": later})))
    yield Kind("a manifest of brackets", lambda: _tar(_real(files={"manifest.json": b"[" * MIB})))


def _files() -> Iterator[Kind]:
    yield Kind("nothing", lambda: _bytes(b""))
    yield Kind("a text", lambda: _bytes(b"hello, this is no archive\n" * 99))
    yield Kind("zeros", lambda: _bytes(bytes(100_000)))
    yield Kind("noise", lambda: _bytes(random.Random(1).randbytes(100_000)))
    yield Kind("gzip of a text", lambda: _tar(b"just a text" * 1000))
    yield Kind("gzip of nothing", lambda: _tar(b""))
    yield Kind("gzip of zeros", lambda: _tar(bytes(64 * MIB)), slow=True)
    for part in (0.0001, 0.01, 0.5, 0.9, 0.999):
        yield Kind(f"its first {part:.2%}", lambda part=part: _bytes(_good()[: int(len(_good()) * part) + 1]))
    for place in (-8, -4, 3, 10, 200):
        yield Kind(f"a flip at {place}", lambda place=place: _flipped(_good(), place))
    for more in (b"x", b"\x1f\x8b\x09" + bytes(20)):
        yield Kind(f"{len(more)} bytes after the end", lambda more=more: _bytes(_good() + more))
    yield Kind("an archive after the end", lambda: _bytes(_good() + _good()))
    yield Kind("40,000 empty gzip members", lambda: _bytes(gzip.compress(b"") * 40_000 + _good()))
    yield Kind("a gzip name without an end", lambda: _bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * MIB))


def _tables() -> Iterator[Kind]:
    good = table(_HONEST)
    yield Kind("a value of 1 GiB of zeros", lambda: _database(table(zero_value(b"k", 2**30))))
    yield Kind("1 GiB of zeros beside good records", lambda: _database(table(_HONEST, zero_value(b"z", 2**30))))
    yield Kind("an own schema key behind 1 GiB of zeros", lambda: _database(table(zero_value(b"m", 2**30))))
    yield Kind(
        "many values of 30 MiB of zeros",
        lambda: _database(table(*(zero_value(b"%02d" % n, 30 * MIB) for n in range(12)))),
        slow=True,
    )
    yield Kind(
        "a block that claims 2^60 bytes", lambda: _database(table(Block(varint(2**60) + b"\0\0", b"k", forged.SNAPPY)))
    )
    yield Kind(
        "a block that claims 40 MiB and has 3",
        lambda: _database(table(Block(varint(40 * MIB) + b"\0\0", b"k", forged.SNAPPY))),
    )
    raw = Block(block(forged.entry(forged.internal(b"k"), bytes(64 * MIB))), b"k")
    yield Kind("a plain value of 64 MiB of zeros", lambda: _database(table(raw)), slow=True)
    yield Kind(
        "an index of 60 MiB", lambda: _database(table(_HONEST, index=forged.zeros(60 * MIB), index_kind=forged.SNAPPY))
    )
    yield Kind(
        "an index of 1 GiB", lambda: _database(table(_HONEST, index=forged.zeros(2**30), index_kind=forged.SNAPPY))
    )
    yield Kind("an index of garbage", lambda: _database(table(_HONEST, index=random.Random(2).randbytes(500))))
    yield Kind("an index of nothing", lambda: _database(table(_HONEST, index=b"")))
    yield Kind("an index of too many restarts", lambda: _database(table(_HONEST, index=struct.pack("<I", 2**31))))
    for handles in ([(0, 2**40)], [(2**40, 10)], [(2**63 - 5, 10)], [(2**64 - 1, 2**64 - 1)], [(3, 40)], [(0, 0)]):
        yield Kind(f"an index of {handles}", lambda handles=handles: _database(table(_HONEST, handles=handles)))
    yield Kind("one block 1,000 times", lambda: _database(table(_HONEST, handles=[(0, len(_HONEST.content))] * 1000)))
    for footer in ([0, 0, 0, 2**50], [2**63, 1, 0, 10], [0, 10, 2**62, 2**62], [0, 0, 0, 0]):
        yield Kind(f"a footer of {footer}", lambda footer=footer: _database(table(_HONEST, footer=footer)))
    yield Kind("a metaindex of garbage", lambda: _database(table(_HONEST, metaindex=b"\xff" * 50)))
    yield Kind(
        "a metaindex that names 1 TiB",
        lambda: _database(table(_HONEST, metaindex=block(forged.entry(b"filter.x", varint(0) + varint(2**40))))),
    )
    yield Kind("a table of a footer", lambda: _database(good[-48:]))
    yield Kind("a table of nothing", lambda: _database(b""))
    yield Kind("a table of 10 bytes", lambda: _database(b"x" * 10))
    long_key, body = b"k" * MIB, b"".join(forged.entry(struct.pack(">IQ", n, 1), b"", shared=MIB) for n in range(2000))
    yield Kind(
        "a key of 1 MiB", lambda: _database(table(Block(block(forged.entry(forged.internal(long_key), b"{}")), b"l")))
    )
    shared = block(forged.entry(forged.internal(long_key), b""), body)
    yield Kind("2,000 keys that share 1 MiB", lambda: _database(table(Block(shared, b"l"))))
    many = block(
        forged.entry(forged.internal(b"k" * 30_000), b""),
        *(forged.entry(struct.pack(">IQ", n, 1), b"", shared=30_000) for n in range(3000)),
    )
    yield Kind("3,000 keys that share 30,000 bytes", lambda: _database(table(Block(many, b"l"))), slow=True)
    yield Kind("keys in no order", lambda: _database(table(rows(dict(reversed(_RECORDS.items()))))))
    yield Kind(
        "one key 500 times",
        lambda: _database(table(Block(block(*[forged.entry(forged.internal(b"k"), b"{}")] * 500), b"k"))),
    )
    yield Kind("a key without its number", lambda: _database(table(Block(block(forged.entry(b"k", b"{}")), b"k"))))
    yield Kind(
        "an unknown type of record",
        lambda: _database(table(Block(block(forged.entry(b"k" + struct.pack("<Q", 1 << 8 | 9), b"{}")), b"k"))),
    )
    yield Kind(
        "a key longer than its block",
        lambda: _database(table(Block(varint(0) + varint(2**31) + varint(2**31) + b"x" * 20, b"k"))),
    )
    yield Kind(
        "shared bytes of nothing", lambda: _database(table(Block(block(forged.entry(b"x", b"", shared=2**30)), b"k")))
    )
    yield Kind(
        "restarts beyond the block",
        lambda: _database(
            table(Block(block(forged.entry(forged.internal(b"k"), b"{}"), restarts=[2**31, 2**31 + 9]), b"k"))
        ),
    )
    yield Kind("a block of nothing", lambda: _database(table(Block(b"", b"k"))))
    yield Kind("a block of restarts only", lambda: _database(table(Block(struct.pack("<I", 2**30), b"k"))))
    for kind in (2, 3, 4, 7, 255):
        yield Kind(
            f"a block of the kind {kind}", lambda kind=kind: _database(table(Block(_HONEST.content, b"k", kind)))
        )
    yield Kind("RocksDB's number at the end", lambda: _database(table(_HONEST, magic=0x88E241B785F4CFF7)))
    yield Kind("another number at the end", lambda: _database(table(_HONEST, magic=7)))
    yield Kind("twelve equal tables on level 0", lambda: _database(*[good] * 12))
    yield Kind(
        "tables that overlap on level 2",
        lambda: _database(
            good, good, edits=[forged.edit(*(forged.new_file(10 + n, len(good), level=2) for n in range(2)))]
        ),
    )
    for name in ("rocksdb", "zlib"):
        yield Kind(
            f"a database of {name}",
            lambda name=name: (
                lambda path, name=name: shutil.copy(PROJECT / f"tests/fixtures/dialects/{name}.tar.gz", path) and None
            ),
        )
    for comparator in (b"idb_cmp1", b"", b"\xff\xfe", b"x" * 100_000):
        yield Kind(
            f"the comparator {comparator[:8]!r}", lambda comparator=comparator: _database(good, comparator=comparator)
        )


def _manifests() -> Iterator[Kind]:
    good = table(_HONEST)
    new = forged.new_file(10, len(good))
    for number in (0, 1, 2**40, 2**63, 2**64 - 3):
        yield Kind(
            f"the next file {number}", lambda number=number: _database(good, edits=[forged.edit(new, next_file=number)])
        )
    for number in (0, 2**56 - 2, 2**64 - 1):
        yield Kind(
            f"the last sequence {number}", lambda number=number: _database(good, edits=[forged.edit(new, last=number)])
        )
    for number in (0, 51, 2**64 - 1):
        yield Kind(
            f"the log {number}",
            lambda number=number: _database(good, edits=[forged.edit(new, log=number)], log=[batch(put(b"l", b"{}"))]),
        )
    yield Kind("a table of another size", lambda: _database(good, edits=[forged.edit(forged.new_file(10, 9))]))
    yield Kind("a table that is missing", lambda: _database(good, edits=[forged.edit(new, forged.new_file(77, 1000))]))
    yield Kind("a table on level 200", lambda: _database(good, edits=[forged.edit(b"\x07\xc8\x01" + new[2:])]))
    yield Kind(
        "300,000 tables",
        lambda: _database(good, edits=[forged.edit(*(forged.new_file(n, 1) for n in range(100, 300_100)))]),
        slow=True,
    )
    yield Kind(
        "a table with a key of 1 MiB",
        lambda: _database(good, edits=[forged.edit(forged.new_file(10, len(good), b"", b"x" * MIB))]),
    )
    yield Kind("an edit that is cut off", lambda: _database(good, edits=[forged.edit(new)[:-3]]))
    yield Kind("an edit of garbage", lambda: _database(good, edits=[forged.edit(new), random.Random(3).randbytes(99)]))
    yield Kind("an endless number", lambda: _database(good, edits=[forged.edit(new), b"\x03" + b"\xff" * 100_000]))
    yield Kind("a column family", lambda: _database(good, edits=[forged.edit(new), b"\xc8\x01\x00"]))
    yield Kind("no edits", lambda: _database(good, edits=[]))
    yield Kind(
        "a MANIFEST of 70 MiB of zeros",
        lambda: _of_folder(lambda f: _append(forged.database(f, good) / "MANIFEST-000004", bytes(70 * MIB))),
        slow=True,
    )
    yield Kind("300,000 edits", lambda: _database(good, edits=[forged.edit(new), *[b"\x09\x00"] * 300_000]), slow=True)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _logs() -> Iterator[Kind]:
    one = put(b"l", b'{"id":"in the log"}')
    yield Kind("a record of 100 MiB of zeros", lambda: _database(log=[batch(put(b"k", bytes(100 * MIB)))]), slow=True)
    yield Kind("a record of 1 MiB", lambda: _database(log=[batch(put(b"k", bytes(MIB)))]))
    yield Kind(
        "three million operations in one record",
        lambda: _database(log=[batch(b"\x01\0\0" * 3_000_000, count=3_000_000)]),
        slow=True,
    )
    yield Kind(
        "400,000 operations in one record",
        lambda: _database(log=[batch(b"\x01\0\0" * 400_000, count=400_000)]),
        slow=True,
    )
    yield Kind("a wrong number of operations", lambda: _database(log=[batch(one, count=7)]))
    yield Kind("operations of an unknown kind", lambda: _database(log=[batch(b"\x09\x01x")]))
    yield Kind("an operation that is cut off", lambda: _database(log=[batch(one[:-2])]))
    yield Kind("an endless length", lambda: _database(log=[batch(b"\x01" + b"\xff" * 2 * MIB)]))
    yield Kind("a length of 2^32", lambda: _database(log=[batch(b"\x01" + varint(2**32 - 1) + b"x" * 9)]))
    yield Kind(
        "deletions only",
        lambda: _database(table(_HONEST), log=[batch(*(b"\x00" + forged.sized(key) for key in _RECORDS))]),
    )
    yield Kind("the largest sequence", lambda: _database(log=[batch(one, sequence=2**56 - 1)]))
    yield Kind("a sequence beyond the largest", lambda: _database(log=[batch(one, sequence=2**64 - 1)]))
    yield Kind("a gap before the log", lambda: _database(log=[batch(one, sequence=5000)]))
    yield Kind(
        "sequences backwards", lambda: _database(log=[batch(one, sequence=1001), batch(put(b"m", b"{}"), sequence=2)])
    )
    yield Kind("a record of 3 bytes", lambda: _database(log=[b"abc"]))
    empty = fragment(2, b"")
    yield Kind(
        "300,000 empty fragments",
        lambda: _database(
            log=fragment(1, b"x" * 12)
            + b"".join([empty * 4678 + bytes(32768 - 7 * 4678 - (19 if not n else 0)) for n in range(64)])
        ),
        slow=True,
    )
    yield Kind("a log of noise", lambda: _database(log=random.Random(4).randbytes(100_000)))
    yield Kind("a log of ones", lambda: _database(log=b"\x01" * 500_000))
    yield Kind("a record without an end", lambda: _database(log=fragment(1, b"x" * 100)))
    yield Kind(
        "the end of a record without its beginning",
        lambda: _database(log=fragment(4, b"x" * 100) + fragment(1, b"y" * 9)),
    )


def _values() -> Iterator[Kind]:
    size = 12 * MIB
    for part in (b"[],", b"{},", b'{"a":1},', b'"ab",', b"1,", b'{"a":{"b":[]}},'):
        yield Kind(
            f"values of {part.decode()}",
            lambda part=part: _records({b"k": b"[" + part * (size // len(part)) + b"0]"}),
            slow=True,
        )
    yield Kind(
        "500,000 members",
        lambda: _records({b"k": b"{" + b",".join(b'"%x":1' % n for n in range(500_000)) + b"}"}),
        slow=True,
    )
    for what, value in {
        "2,000,000 opening brackets": b"[" * 2_000_000,
        "1,000 levels": b"[" * 1000 + b"]" * 1000,
        "100,000 levels": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a number of 200,000 digits": b'{"id":' + b"9" * 200_000 + b"}",
        "an id of 5 MiB": b'{"id":"' + b"x" * 5 * MIB + b'"}',
        "an id of control characters": rb'{"id":"\u0000\u001b[2J","type":"\n"}',
        "a lone surrogate": rb'{"id":"\ud800","data":"\udfff"}',
        "a name 100,000 times": b"{" + b'"a":1,' * 100_000 + b'"a":1}',
        "escapes": b'{"data":"' + rb"\u0041" * 400_000 + b'"}',
        "no UTF-8": b'{"id":"\xff\xfe"}',
        "nothing": b"",
        "a byte order mark": b'\xef\xbb\xbf{"id":"1"}',
        "line breaks": b'{\n"id":\r\n"1"\n}',
        "an endless text": b'{"id":"' + b"x" * MIB,
        "a time of 9999999999999999999": b'{"id":"1","timestamp":9999999999999999999}',
        "a time of 1e400": b'{"id":"1","timestamp":1e400}',
        "members of ours": b'{"id":"1","sequence":7,"recordedtime":"9999-12-31T00:00:00Z","originalkey":"x"}',
        "noise": random.Random(5).randbytes(100_000),
    }.items():
        yield Kind(f"a value of {what}", lambda value=value: _records({b"k": value, **_RECORDS}))
    yield Kind(
        "3,000 records of one id", lambda: _records({b"%05d" % n: b'{"id":"same"}' for n in range(3000)}), slow=True
    )
    chain = {b"a%d" % n: orjson.dumps({"id": f"key:z~{n}"}) for n in range(1, 300)}
    yield Kind("ids as an import makes them", lambda: _records({**chain, b"a": b'{"id":"key:z"}', b"z": b"{}"}))
    yield Kind("keys of ours", lambda: _records({keys.META_SCHEMA: b"1", **_RECORDS}))
    yield Kind(
        "both meta keys of ours, and nothing else", lambda: _records({keys.META_SCHEMA: b"1", keys.META_STORE: b"{}"})
    )
    yield Kind(
        "a schema of 20 MiB",
        lambda: _records({keys.META_SCHEMA: b"9" * 20 * MIB, keys.META_STORE: b"[" * 20 * MIB}),
        slow=True,
    )
    yield Kind(
        "odd keys",
        lambda: _records({b"": b"{}", b"\xff" * 30_000: b"{}", b"\0": b"{}", b"\n\r": b"{}", b"base64:x": b"1"}),
    )


def _ours() -> Iterator[Kind]:
    names = "forge reason"
    test = test_unproven.test_what_cannot_be_of_eventvault_is_refused_and_named
    for case, (forge, reason) in enumerate(_cases(test, names)):
        yield Kind(f"ours: {reason} ({case})", lambda forge=forge: _our_own(forge))
    for case, (untrue,) in enumerate(_cases(test_unproven.test_a_manifest_that_is_not_true_is_refused, "untrue")):
        yield Kind(f"ours: untrue manifest {case}", lambda untrue=untrue: _our_own(_nothing, untrue))
    for case, (change,) in enumerate(_cases(test_unproven.test_generations_that_cannot_be_are_refused, "change")):
        yield Kind(
            f"ours: generations {case}",
            lambda change=change: _our_own(
                _nothing,
                lambda true, change=change: {
                    "generations": change(true.generation),
                    "generation": change(true.generation)[0],
                },
            ),
        )
    for tag, number in _cases(test_unproven.test_forged_counters_of_leveldb_cost_no_event, "tag number"):
        yield Kind(
            f"ours: the counter {tag} is {number}",
            lambda tag=tag, number=number: _with_edit(bytes([tag]) + varint(number)),
        )
    for forge, _refused in _cases(test_unproven.test_a_forged_index_of_a_table_hides_no_event, "forge refused"):
        yield Kind(f"ours: an index {forge.__name__}", lambda forge=forge: _with_index(forge))
    yield Kind(
        "ours: identities",
        lambda: _our_own(
            lambda db: [db.put(keys.identity_key(f"new-{n}", "eventvault"), b"x") for n in range(50)] and None
        ),
    )
    yield Kind(
        "ours: an event of 60 MiB",
        lambda: _our_own(
            put_event(5, lambda value: value.replace(b'"data":{', b'"data":{"z":"' + b"x" * 60 * MIB + b'",'))
        ),
        slow=True,
    )
    yield Kind(
        "ours: 300,000 attributes",
        lambda: _our_own(
            put_event(
                5,
                lambda value: value.replace(b'"data":', b"".join(b'"x%d":1,' % n for n in range(300_000)) + b'"data":'),
            )
        ),
        slow=True,
    )
    yield Kind(
        "ours: 3,000,000 values in data",
        lambda: _our_own(
            put_event(5, lambda value: value.replace(b'"data":{', b'"data":{"z":[' + b"[]," * 3_000_000 + b"0],"))
        ),
        slow=True,
    )
    yield Kind("ours: what waits to be published is none", lambda: _our_own(_forge_outbox))
    yield Kind("ours: an identity of 8 MiB", lambda: _our_own(lambda db: db.put(keys.META_STORE, b"[" * 8 * MIB)))
    yield Kind(
        "ours: no events", lambda: _our_own(lambda db: [db.delete(keys.event_key(n)) for n in range(1, 13)] and None)
    )


def _with_edit(edit: bytes) -> Make:
    def make(path: Path) -> None:
        folder = path.parent / f".{path.name}.folder"
        make_database(folder, "forged", 12)
        true = about(folder)
        manifest = next(folder.glob("MANIFEST-*"))
        _append(manifest, encode_appended(edit, manifest.stat().st_size))
        pack(folder, path, true)
        shutil.rmtree(folder)

    return make


def _with_index(forge: Callable[..., Any]) -> Make:
    def make(path: Path) -> None:
        folder = path.parent / f".{path.name}.folder"
        make_database(folder, "forged", 500, data="x" * 100)
        with closing(plyvel.DB(str(folder))) as db:
            db.compact_range()
        true = about(folder)
        test_unproven.with_forged_index(folder, forge)
        pack(folder, path, true)
        shutil.rmtree(folder)

    return make


_HAVE_OTHER_TESTS = ("tar: ", "sparse: ", "pax ", "an extended header ", "ours: ")


def _marked(kind: Kind) -> Kind:
    return kind._replace(slow=True) if kind.name.startswith(_HAVE_OTHER_TESTS) else kind


@cache
def all_kinds() -> list[Kind]:
    """Return one of each kind, in an order that does not change. Nothing is built yet."""
    groups: Iterable[Iterator[Kind]] = (_tars(), _files(), _tables(), _manifests(), _logs(), _values(), _ours())
    kinds = [_marked(kind) for group in groups for kind in group]
    assert len({kind.name for kind in kinds}) == len(kinds)
    return kinds
