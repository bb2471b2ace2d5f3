"""A database that classic-level wrote comes back record for record; a damaged one leaves nothing behind."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import plyvel
import pytest

from eventvault.archive.any_tar import unpack_foreign
from eventvault.database.generation import first_identity
from eventvault.database.registry import EventRegistry, create_database, open_leveldb
from eventvault.errors import ArchiveAlien, ArchiveDamaged, DatabaseError, DiskFailed, TooBusy
from eventvault.events import schema
from eventvault.foreign.detect import is_foreign
from eventvault.foreign.importer import BATCH_EVENTS, MAX_LISTED, import_foreign, read_foreign
from eventvault.foreign.records import original_key
from eventvault.foreign.report import ImportReport
from tests.eventvault.foreign.original_value import original_value
from tests.eventvault.leveldb_errors import OTHER, from_leveldb
from tests.restoring import flip

FIXTURE = Path(__file__).parents[2] / "fixtures" / "node"
WHOLE = ["at_the_top", "dot_slash", "in_its_folder", "in_storage"]
NOT_JSON = {
    "empty value", "binary value", "broken JSON", "plain text", "single quotes", "trailing comma", "NaN",
    "byte order mark", "JSON in Latin-1", "two documents", "a lone surrogate as UTF-8", "white space only",
    "MessagePack", "nested 5000 deep, not closed", "sublevel index",
}  # fmt: skip
RENAMED = {"!a!!b!key", "same:2", "same:3", "same:5", "same:6"}


class Written:
    """A record of the fixture."""

    def __init__(self, line: dict[str, str]) -> None:
        self.kind = line["kind"]
        self.key = line["key"].encode() if "key" in line else base64.b64decode(line["keyBase64"])
        self.value = line["value"].encode() if "value" in line else base64.b64decode(line["valueBase64"])


@pytest.fixture(scope="module")
def written() -> list[Written]:
    return [Written(line) for line in json.loads((FIXTURE / "expected.json").read_bytes())]


def unpacked(name: str, folder: Path) -> Path:
    target = folder / "foreign"
    unpack_foreign(FIXTURE / f"{name}.tar.gz", target)
    return target


@contextmanager
def opened(database: Path) -> Iterator[EventRegistry]:
    with closing(open_leveldb(database)) as db:
        yield EventRegistry(db, database)


def imported(source: Path, target: Path) -> tuple[ImportReport, list[bytes]]:
    report = import_foreign(source, target)
    with opened(target) as registry:
        return report, [value for _, value in registry.events(0, registry.last_sequence)]


def make_foreign(folder: Path, records: dict[bytes, bytes]) -> Path:
    with closing(plyvel.DB(str(folder), create_if_missing=True)) as db:
        for key, value in records.items():
            db.put(key, value)
    return folder


def content_of(event: bytes) -> bytes | None:
    """The text of `data`, or the bytes of `data_base64`, untouched by a JSON reader's idea of numbers."""
    parsed = orjson.loads(event)
    if "data_base64" in parsed:
        return base64.b64decode(parsed["data_base64"])
    if "data" not in parsed:
        return None
    start = event.index(b',"data":') + len(b',"data":')
    return event[start : event.rindex(b',"sequence":')]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_every_record_of_a_node_archive_becomes_an_event_in_key_order(
    name: str, tmp_path: Path, written: list[Written]
) -> None:
    report, events = imported(unpacked(name, tmp_path), tmp_path / "target")
    assert report.events == len(events) == len(written)
    for number, (record, value) in enumerate(zip(written, events, strict=True), 1):
        event = orjson.loads(value)
        assert schema.validate(event) == [], record.kind
        assert (event["sequence"], event["originalkey"]) == (number, original_key(record.key)), record.kind
        assert_nothing_dropped(record, event, value)


def assert_nothing_dropped(record: Written, event: dict[str, Any], value: bytes) -> None:
    content = content_of(value)
    if event.get("originalrecord"):
        as_it_was = record.value if "data_base64" in event else record.value.replace(b"\n", b" ").replace(b"\r", b" ")
        assert content == as_it_was, record.kind
        return
    head, found, tail = record.value.rpartition(content or b"no data at all")
    parsed = json.loads(head + b"null" + tail if found else record.value)
    assert parsed.keys() <= {"id", "type", "timestamp", "time", "source", "subject", "data"}, record.kind
    restated = json.loads(event.get("originalmembers", "{}"))
    for name in ("id", "type", "source", "subject"):
        if parsed.get(name) is not None:
            assert parsed[name] == restated.get(name, event[name]), record.kind
    for name in ("time", "timestamp"):
        if parsed.get(name) is not None:
            assert parsed[name] == restated.get(name, event["time"]), record.kind
    assert ("data" in parsed) == (content is not None), record.kind
    if content is not None and not found:
        assert json.loads(content) == parsed["data"], record.kind


@pytest.mark.slow
def test_what_is_odd_in_a_node_archive_is_counted_and_named(tmp_path: Path, written: list[Written]) -> None:
    report, events = imported(unpacked("in_storage", tmp_path), tmp_path / "target")
    kinds = {
        record.kind
        for record, value in zip(written, events, strict=True)
        if orjson.loads(value).get("datacontenttype") == "application/octet-stream"
    }
    assert kinds == NOT_JSON
    assert report.not_json == len(NOT_JSON)
    assert {event.key for event in report.renamed} == RENAMED
    assert "records with the id and source of a record before them, named after the key: 5" in report.notes
    assert "same:2: the id same became key:same:2" in report.notes
    assert "records with a time that cannot be read, left without time, the whole record in data: 6" in report.notes


@pytest.mark.slow
def test_deleted_records_stay_deleted_and_overwritten_ones_are_the_new(tmp_path: Path) -> None:
    import_foreign(unpacked("in_its_folder", tmp_path), tmp_path / "target")
    with opened(tmp_path / "target") as registry:
        keys = {orjson.loads(value)["originalkey"] for _, value in registry.events(0, registry.last_sequence)}
        assert not [key for key in keys if key.startswith("gone:")]
        assert [orjson.loads(registry.get(f"over-{n}"))["data"] for n in (1, 2, 3, 4)] == ["new", "new", "again", "new"]


@pytest.mark.slow
def test_a_torn_log_costs_its_last_record_only(tmp_path: Path, written: list[Written]) -> None:
    report, events = imported(unpacked("torn_log", tmp_path), tmp_path / "target")
    keys = [orjson.loads(value)["originalkey"] for value in events]
    assert keys == [original_key(record.key) for record in written if record.kind != "last in the log"]
    assert any("ends within a record" in note for note in report.notes)


@pytest.mark.slow
def test_an_import_says_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    one = imported(unpacked("at_the_top", tmp_path), tmp_path / "one")
    other = imported(unpacked("at_the_top", tmp_path / "again"), tmp_path / "other")
    assert one[0] == other[0]
    assert [value[: value.rindex(b',"recordedtime"')] for value in one[1]] == [
        value[: value.rindex(b',"recordedtime"')] for value in other[1]
    ]


def test_an_empty_foreign_database_gives_an_empty_registry(tmp_path: Path) -> None:
    report, events = imported(make_foreign(tmp_path / "foreign", {}), tmp_path / "target")
    assert (report, events) == (ImportReport(0, 0, [], []), [])


def test_the_identity_and_the_clock_are_the_given_ones(tmp_path: Path) -> None:
    identity = first_identity(1, "imported")
    source = make_foreign(tmp_path / "foreign", {b"k": b"{}"})
    import_foreign(source, tmp_path / "target", identity=identity, instant_clock=lambda: 1735300800123456)
    with opened(tmp_path / "target") as registry:
        assert registry.identity == identity
        assert orjson.loads(registry.at(1))["recordedtime"] == "2024-12-27T12:00:00.123456Z"


@pytest.mark.slow
def test_the_same_identity_in_other_batches_becomes_an_event_of_its_own(tmp_path: Path) -> None:
    records = {b"%05d" % n: b'{"id":"%d","type":"t"}' % (n % BATCH_EVENTS) for n in range(2 * BATCH_EVENTS + 5)}
    report, events = imported(make_foreign(tmp_path / "foreign", records), tmp_path / "target")
    assert len(events) == len(records)
    assert len(report.renamed) == MAX_LISTED
    assert any(note.endswith(f"named after the key: {BATCH_EVENTS + 5}") for note in report.notes)


def test_an_id_that_was_derived_already_is_numbered(tmp_path: Path) -> None:
    records = {
        b"a": b'{"id":"x"}',
        b"b": b'{"id":"key:c"}',
        b"c": b'{"id":"x"}',
        b"d": b'{"id":"key:d~2"}',
        b"e": b"{}",
    }
    report, events = imported(make_foreign(tmp_path / "foreign", records), tmp_path / "target")
    assert [orjson.loads(value)["id"] for value in events] == ["x", "key:c", "key:c~2", "key:d~2", "key:e"]
    assert [(event.key, event.id, event.became) for event in report.renamed] == [("c", "x", "key:c~2")]
    assert original_value(orjson.loads(events[2]))["id"] == "x"


@pytest.mark.slow
@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9])
def test_a_damaged_table_is_refused_and_nothing_stays_behind(tmp_path: Path, part: float) -> None:
    source = unpacked("in_its_folder", tmp_path)
    table = max(source.glob("*.ldb"), key=lambda path: path.stat().st_size)
    flip(table, int(table.stat().st_size * part))
    with pytest.raises(ArchiveDamaged):
        import_foreign(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


@pytest.mark.parametrize("name", ["*.ldb", "CURRENT", "MANIFEST-*"])
def test_a_missing_file_is_refused_and_nothing_stays_behind(tmp_path: Path, name: str) -> None:
    source = unpacked("in_its_folder", tmp_path)
    next(source.glob(name)).unlink()
    with pytest.raises(ArchiveDamaged):
        import_foreign(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_damage_in_the_midst_of_the_log_is_refused(tmp_path: Path) -> None:
    source = unpacked("in_its_folder", tmp_path)
    flip(next(source.glob("*.log")), 30)
    with pytest.raises(ArchiveDamaged, match="log"):
        import_foreign(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveAlien):
        import_foreign(tmp_path / "none", tmp_path / "target")


def test_a_database_of_ours_is_not_taken_for_foreign_records(tmp_path: Path) -> None:
    create_database(tmp_path / "ours")
    with pytest.raises(ArchiveAlien, match="one of EventVault"):
        import_foreign(tmp_path / "ours", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    source = make_foreign(tmp_path / "foreign", {b"k": b"1"})
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").touch()
    with pytest.raises(DatabaseError):
        import_foreign(source, tmp_path / "target")
    assert (tmp_path / "target" / "mine").exists()


@pytest.mark.slow
def test_progress_is_told_and_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    import_foreign(
        unpacked("in_its_folder", tmp_path), tmp_path / "t", progress=lambda done, total: told.append((done, total))
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 0
    assert len(told) == 3


FULL_DISK = """
import resource, sys
from pathlib import Path
from eventvault.errors import NoSpace
from eventvault.foreign.importer import import_foreign
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    import_foreign(Path(sys.argv[1]), Path(sys.argv[2]))
except NoSpace as error:
    print(error.message)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, unpacked("in_its_folder", tmp_path), tmp_path / "target"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FIXTURE.parents[2])
    assert str(tmp_path / "target") in ended.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


@pytest.mark.parametrize("name", ["mine", "leveldb.ReverseComparator", "Corruption: comparator"])
def test_a_database_that_sorts_its_keys_in_an_own_way_is_alien(tmp_path: Path, name: str) -> None:
    def backwards(a: bytes, b: bytes) -> int:
        return (a < b) - (a > b)

    folder = tmp_path / "foreign"
    with closing(
        plyvel.DB(str(folder), create_if_missing=True, comparator=backwards, comparator_name=name.encode())
    ) as db:
        db.put(b"a", b"{}")
    assert is_foreign(folder)
    with pytest.raises(ArchiveAlien, match=f"order of keys of its own .comparator '{name}'"):
        import_foreign(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("number", OTHER)
def test_what_the_system_cannot_read_of_a_foreign_database_is_no_damage(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise from_leveldb(number)

    folder = unpacked(WHOLE[0], tmp_path)
    monkeypatch.setattr(plyvel, "DB", failing)
    for work in (is_foreign, read_foreign):
        with pytest.raises((DiskFailed, TooBusy, plyvel.IOError), match=os.strerror(number)):
            work(folder)
