"""Archives that are not proven to be ours: their events are replayed, and nothing else of them is believed."""

from __future__ import annotations

import bisect
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec
import pytest

from eventvault import clock, data_folders
from eventvault.archive import layout, reader, seal
from eventvault.archive.manifest import Manifest
from eventvault.database import keys
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.errors import ArchiveError, BackupsUnavailable, MomentUnavailable
from eventvault.events import event
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset, offset_put
from eventvault.leveldb import table
from eventvault.leveldb.log import LogReader, mask_checksum
from eventvault.leveldb.manifest import read_current
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import format_2
from tests.eventvault.leveldb.log_writer import fragment, write_log
from tests.forged_leveldb import varint
from tests.restoring import (
    LONG_AGO,
    drafts,
    flip,
    generation,
    ids,
    leftovers,
    live,
    make_database,
    make_foreign_database,
    opened,
    times_of,
    unreadable,
)
from tests.service import PROJECT
from tests.stores import running_service

pytestmark = pytest.mark.slow

NAME = "arrived.tar.gz"
EVENTS = 12
Forge = Callable[[Any], None]


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(5))
        yield service


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database of another installation."""
    make_database(tmp_path / "elsewhere" / "db", "foreign", EVENTS, subject="ü", data={"n": 1})
    return tmp_path / "elsewhere" / "db"


def forged(database: Path, forge: Forge) -> None:
    with opened(database) as db:
        forge(db)


def about(database: Path, **untrue: Any) -> Manifest:
    with closing(open_leveldb(database)) as db:
        registry = EventRegistry(db, database)
        identity, last, kafka = registry.identity, registry.last_sequence, registry.scan_meta(keys.KAFKA)
    times = times_of(database)
    true = Manifest(
        store_id=identity.store_id, installation="elsewhere", generation=identity.present,
        generations=list(identity.generations), first_sequence=1, last_sequence=last, first_time=times[0],
        last_time=times[1], events=last, kafka=offsets.describe(kafka), name=NAME, created=LONG_AGO,
    )  # fmt: skip
    return msgspec.structs.replace(true, **untrue)


def pack(database: Path, target: Path, manifest: Manifest, key: bytes | None = None) -> None:
    """Make an archive in our format of a closed database."""
    folder = target.with_name(f".{target.name}.staging")
    folder.mkdir()
    for file in database.iterdir():
        if file.name not in ("LOCK", "LOG", "LOG.old", data_folders.DATABASE_MARK):
            shutil.copy(file, folder)
    format_2.write_archive(target, folder, manifest, seal=partial(seal.seal_root, key) if key else None)
    shutil.rmtree(folder)


def put_event(sequence: int, change: Callable[[bytes], bytes]) -> Forge:
    def forge(db: Any) -> None:
        db.put(keys.event_key(sequence), change(db.get(keys.event_key(sequence))))

    return forge


def events_of(database: Path) -> list[bytes]:
    with closing(open_leveldb(database)) as db:
        return [value for _, value in EventRegistry(db, database).events(0, EVENTS)]


def test_its_events_are_restored_and_a_generation_of_its_own_begins(service: StoreService, database: Path) -> None:
    ours = service.bus.registry.identity if service.bus.registry else None
    pack(database, service.settings.backup_dir / NAME, about(database))

    plan = service.plan_restore(NAME)
    restored = service.restore(NAME)

    assert (plan["proven"], plan["eventsLeftBehind"]) == (False, 5)
    assert (restored.events, restored.proven, restored.checked) == (EVENTS, False, "records")
    assert service.status()["lastRestore"]["proven"] is False
    assert live(service) == events_of(database)
    identity = service.bus.registry.identity if service.bus.registry else None
    assert ours is not None
    assert identity is not None
    assert (identity.store_id, identity.present.parent, identity.present.fork_sequence) == (ours.store_id, None, 0)
    assert set(identity.by_id()) == {*ours.by_id(), identity.generation}
    assert service.append(drafts(1, "after")).last_sequence == EVENTS + 1
    assert service.append(drafts(1, "foreign", subject="ü", data={"n": 1})).results[0].duplicate
    assert len(service.scan(ScanQuery(subject="ü")).events) == EVENTS
    assert service.status()["status"] == "ok"
    assert service.undo().events == 5
    assert ids(service) == [f"live-{number}" for number in range(5)]
    assert service.status()["lastRestore"]["proven"] is True
    assert not leftovers(service.settings.storage_dir)


@pytest.mark.parametrize("posts", [0, 1, 3])
def test_each_of_its_moments_can_be_restored_as_it_can_be_read(
    service: StoreService, database: Path, posts: int
) -> None:
    pack(database, service.settings.backup_dir / NAME, about(database))
    own = generation(service)
    service.restore(NAME)
    for number in range(posts):
        service.append(drafts(1, f"after{number}"))
    times = [event.recorded_of(line) for line in live(service)]

    for instant in {times[0], times[EVENTS // 2], times[EVENTS - 1]}:
        plan = service.plan_restore(Moment(instant=instant))
        assert (plan["generation"], plan["sequence"]) == (generation(service), bisect.bisect_right(times, instant))
        assert plan["sequence"] == service.resolve_moment(Moment(instant=instant)).sequence
    assert service.plan_restore(Moment(sequence=5, generation=own))["generation"] == own
    for window in [found["window"] for found in service.timeline()["generations"]]:
        assert None in (window["newest"]["time"],) or window["oldest"]["time"] <= window["newest"]["time"]
    with pytest.raises(MomentUnavailable, match="before the registry began"):
        service.plan_restore(Moment(instant=times[0] - 1))


def test_every_key_of_the_new_database_is_as_a_registry_writes_it(service: StoreService, database: Path) -> None:
    pack(database, service.settings.backup_dir / NAME, about(database))
    service.restore(NAME)
    service.bus.close()

    def content(folder: Path) -> dict[bytes, bytes]:
        with opened(folder) as db, db.iterator() as rows:
            return {key: value[:8] if key.startswith(keys.IDENTITY) else value for key, value in rows
                    if not key.startswith(b"m")}  # fmt: skip

    assert content(service.settings.database) == content(database)


def test_forged_identities_and_indexes_hide_no_event_and_refuse_no_post(service: StoreService, database: Path) -> None:
    def forge(db: Any) -> None:
        for number in range(50):
            db.put(keys.identity_key(f"new-{number}", "eventvault"), keys.identity_value(1 + number, bytes(8)))
        db.put(keys.identity_key("new-1", "eventvault"), b"garbage")
        db.delete(keys.identity_key("foreign-3", "eventvault"))
        db.put(keys.index_key(keys.TYPE, "t", 2**40), b"")
        db.put(b"unknown", b"key")

    forged(database, forge)
    pack(database, service.settings.backup_dir / NAME, about(database))
    service.restore(NAME)

    results = service.append(drafts(50, "new")).results
    assert [result.sequence for result in results] == list(range(EVENTS + 1, EVENTS + 51))
    assert not any(result.duplicate for result in results)
    assert service.get("foreign-3")
    assert len(service.scan(ScanQuery(type="t", limit=1000)).events) == EVENTS + 50
    assert service.journal.flush()


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (put_event(4, lambda value: value.replace(b'"data":', b'"data":\n')), "event 4 .* one line"),
        (put_event(5, lambda value: value.replace(b'"sequence"', b'"type":"u","sequence"')), "event 5 .* comes twice"),
        (put_event(6, lambda value: value.replace(b'"recordedtime":"20', b'"recordedtime":"99')), "event 6 .* ahead"),
        (put_event(7, lambda value: value.replace(b'"sequence":7', b'"sequence":8')), "event 7 .* last members"),
        (put_event(9, lambda value: value.replace(b'"recordedtime":"20', b'"recordedtime":"10')), "event 9 .* earlier"),
        (lambda db: db.delete(keys.event_key(3)), "event 3 is missing"),
        (lambda db: db.put(keys.EVENT + b"x", b"{}"), f"event {EVENTS + 1} is missing"),
        (lambda db: db.put(b"kgarbage", b"{}"), "Kafka offsets"),
        (lambda db: db.put(*offset_put("../t", 0, StoredOffset(next=1))), "Kafka offsets"),
        (lambda db: db.put(*offset_put("t", 0, StoredOffset(next=-1))), "Kafka offsets"),
        (lambda db: db.put(*offset_put("t", 2**31, StoredOffset(next=1))), "Kafka offsets"),
        (lambda db: db.put(*offset_put("t", 0, StoredOffset(next=1, crc=2**32))), "Kafka offsets"),
        (lambda db: db.put(keys.META_STORE, b"[]"), "no identity"),
        (lambda db: db.put(keys.META_SCHEMA, b"x"), "schema key"),
    ],
)
def test_what_cannot_be_of_eventvault_is_refused_and_named(
    forge: Forge, reason: str, service: StoreService, database: Path
) -> None:
    true = about(database)
    forged(database, forge)
    pack(database, service.settings.backup_dir / NAME, true)
    present = generation(service)

    with pytest.raises(ArchiveError, match=reason):
        service.verify_backup(NAME)
    with pytest.raises(ArchiveError, match=reason):
        service.restore(NAME)

    assert (generation(service), len(ids(service))) == (present, 5)
    assert not leftovers(service.settings.storage_dir)


def test_two_events_of_one_id_and_source_are_refused(service: StoreService, database: Path) -> None:
    forged(database, put_event(8, lambda value: value.replace(b'"id":"foreign-7"', b'"id":"foreign-6"')))
    pack(database, service.settings.backup_dir / NAME, about(database))
    with pytest.raises(ArchiveError, match="event 7 has the id and source of a later one"):
        service.restore(NAME)
    assert len(ids(service)) == 5


def one_more(manifest: Manifest) -> Any:
    return {"generations": [*manifest.generations, msgspec.structs.replace(manifest.generation, id="1" * 16)]}


@pytest.mark.parametrize(
    "untrue",
    [
        lambda _: {"events": EVENTS + 1, "last_sequence": EVENTS + 1},
        lambda _: {"last_sequence": EVENTS - 1},
        lambda _: {"first_sequence": 2},
        lambda _: {"first_time": "2020-01-01T00:00:00.000000Z"},
        lambda _: {"last_time": None},
        lambda _: {"store_id": "0" * 16},
        lambda _: {"kafka": {"t": {"0": 7}}},
        one_more,
    ],
)
def test_a_manifest_that_is_not_true_is_refused(
    untrue: Callable[[Manifest], Any], service: StoreService, database: Path
) -> None:
    true = about(database)
    pack(database, service.settings.backup_dir / NAME, msgspec.structs.replace(true, **untrue(true)))
    with pytest.raises(ArchiveError, match=r"manifest"):
        service.restore(NAME)
    assert len(ids(service)) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda born: [msgspec.structs.replace(born, id="../../../x")],
        lambda born: [msgspec.structs.replace(born, parent="/etc")],
        lambda born: [msgspec.structs.replace(born, parent=born.id)],
        lambda born: [born, born],
        lambda born: [msgspec.structs.replace(born, parent="1" * 16),
                      msgspec.structs.replace(born, id="1" * 16, parent=born.id)],
        lambda born: [msgspec.structs.replace(born, reason="r" * 1000)],
    ],
)  # fmt: skip
def test_generations_that_cannot_be_are_refused(
    change: Callable[[Any], list[Any]], service: StoreService, database: Path
) -> None:
    true = about(database)
    generations = change(true.generation)
    identity = {"storeId": true.store_id, "generation": generations[0].id,
                "generations": msgspec.to_builtins(generations)}  # fmt: skip
    forged(database, lambda db: db.put(keys.META_STORE, msgspec.json.encode(identity)))
    untrue = msgspec.structs.replace(true, generation=generations[0], generations=generations)
    pack(database, service.settings.backup_dir / "by-manifest.tar.gz", untrue)
    (entry,) = service.list_backups()
    assert entry.problem is not None
    with pytest.raises(ArchiveError):
        service.restore("by-manifest.tar.gz")
    repack(database, service.settings.backup_dir / "without-manifest.tar.gz")
    with pytest.raises(ArchiveError, match="no identity"):
        service.restore("without-manifest.tar.gz")
    assert len(ids(service)) == 5


def repack(database: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz") as tar:
        tar.add(database, arcname=data_folders.DATABASE)


def test_a_database_of_ours_in_a_plain_tar_is_replayed_too(service: StoreService, database: Path) -> None:
    forged(database, lambda db: db.put(keys.identity_key("new-0", "eventvault"), b"garbage"))
    repack(database, service.settings.backup_dir / NAME)

    restored = service.restore(NAME)

    assert (restored.events, restored.proven) == (EVENTS, False)
    assert live(service) == events_of(database)
    assert not service.append(drafts(1, "new")).results[0].duplicate


@pytest.mark.parametrize(("tag", "number"), [(3, 2**64 - 3), (3, 2**40), (3, 1), (4, 2**56 - 2)])
def test_forged_counters_of_leveldb_cost_no_event(
    tag: int, number: int, service: StoreService, database: Path, tmp_path: Path
) -> None:
    for _ in range(6):  # tables that LevelDB merges as soon as it opens them
        open_leveldb(database).close()
        forged(database, lambda db: db.put(b"more", bytes(1000)))
    true = about(database)
    path = next(database.glob("MANIFEST-*"))
    with path.open("ab") as file:
        file.write(fragment(1, bytes([tag]) + varint(number)))
    pack(database, service.settings.backup_dir / NAME, true)

    assert service.restore(NAME).events == EVENTS
    for start in range(0, 1000, 100):
        service.append(drafts(100, f"after-{start}"))

    # As after `kill -9`: the files as they are now.
    shutil.copytree(service.settings.database, tmp_path / "killed")
    with closing(open_leveldb(tmp_path / "killed")) as db:
        assert EventRegistry(db, tmp_path / "killed").last_sequence == EVENTS + 1000
    assert max(int(file.stem) for file in service.settings.database.glob("*.log")) < 1000


@pytest.mark.parametrize("foreign", [False, True])
def test_tables_that_the_manifest_does_not_name_are_ignored(
    foreign: bool, service: StoreService, database: Path
) -> None:
    """As a merge leaves them that was killed."""
    if foreign:
        database = make_foreign_database(database.with_name("foreign"), EVENTS)
    for number in range(700, 703):
        (database / f"000{number}.ldb").write_bytes(b"half a table" * (number - 700))
    repack(database, service.settings.backup_dir / NAME)
    assert service.verify_backup(NAME).checked == "records"
    assert service.restore(NAME).events == EVENTS


def test_our_archive_that_was_changed_in_one_event_and_sealed_again_is_replayed(
    service: StoreService, tmp_path: Path
) -> None:
    made = Path(service.create_backup().backup.path)
    manifest = reader.unpack(made, tmp_path / "unpacked").manifest
    forged(
        tmp_path / "unpacked" / data_folders.DATABASE, put_event(2, lambda value: value.replace(b"live-1", b"EVIL-1"))
    )
    pack(tmp_path / "unpacked" / data_folders.DATABASE, made.with_name(NAME), manifest, key=bytes(32))

    assert service.plan_restore(NAME)["proven"] is False
    restored = service.restore(NAME)

    assert (restored.events, restored.proven) == (5, False)
    assert ids(service)[1] == "EVIL-1"
    assert service.bus.registry is not None
    assert service.bus.registry.identity.present.parent is None
    assert service.restore(made.name).proven
    assert ids(service)[1] == "live-1"


def test_a_wrong_seal_on_the_right_root_is_proven_by_the_catalogue_else_replayed(
    service: StoreService, settings: Settings
) -> None:
    made = Path(service.create_backup().backup.path)
    flip(made, -layout.CLOSING_SIZE - 20)
    assert service.restore(made.name).proven
    (settings.backup_dir / data_folders.CATALOGUE).unlink()

    restored = service.restore(made.name)

    assert (restored.proven, restored.events) == (False, 5)


@pytest.mark.parametrize("proven", [True, False])
def test_what_lies_in_restore_goes_through_the_same_gate(proven: bool, settings: Settings, database: Path) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        made = Path(service.create_backup().backup.path)
    settings.restore_dir.mkdir(exist_ok=True)
    if proven:
        shutil.move(made, settings.restore_dir / "any-name.tar.gz")
    else:
        pack(database, settings.restore_dir / "any-name.tar.gz", about(database))
    with running_service(settings) as service:
        last = service.status()["lastRestore"]
        assert (last["source"], last["proven"], last["events"]) == ("any-name.tar.gz", proven, 5 if proven else EVENTS)


@pytest.mark.parametrize(
    ("own", "ours", "then"),
    [
        ({"t": {0: 7, 1: 3}}, {"t": {0: 5, 1: 9}}, {"t": {"0": 5, "1": 3}}),
        ({"t": {0: 7}, "u": {0: 1}}, {"t": {1: 2}}, {"t": {"0": 7}, "u": {"0": 1}}),
        ({}, {"t": {0: 5}}, {}),
    ],
)
def test_the_lower_offset_counts(own: Any, ours: Any, then: Any, service: StoreService, database: Path) -> None:
    def puts(topics: Any) -> list[tuple[bytes, bytes]]:
        return [
            offset_put(topic, partition, StoredOffset(next=next_))
            for topic, partitions in topics.items()
            for partition, next_ in partitions.items()
        ]

    def forge(db: Any) -> None:
        for key, value in puts(own):
            db.put(key, value)

    forged(database, forge)
    pack(database, service.settings.backup_dir / NAME, about(database))
    with service.bus.using() as registry:
        for key, value in puts(ours):
            registry._db.put(key, value)

    service.restore(NAME)

    with service.bus.using() as registry:
        assert offsets.describe(registry.scan_meta(keys.KAFKA)) == then


def test_a_moment_that_only_an_archive_that_is_not_proven_has_is_replayed(
    service: StoreService, database: Path
) -> None:
    forged(database, lambda db: db.put(keys.identity_key("new-0", "eventvault"), b"garbage"))
    true = about(database)
    pack(database, service.settings.backup_dir / NAME, true)
    moment = Moment(sequence=EVENTS - 2, generation=true.generation.id)

    assert service.plan_restore(moment)["proven"] is False
    view = service.resolve_moment(Moment(archive=NAME))
    page = service.scan(ScanQuery(generation=view.generation, upto=view.sequence))
    assert page.events == events_of(database)
    restored = service.restore_moment(moment)

    assert (restored.events, restored.proven) == (EVENTS - 2, False)
    assert live(service) == events_of(database)[: EVENTS - 2]
    assert service.bus.registry is not None
    identity = service.bus.registry.identity
    assert identity.present.parent is None
    assert true.generation.id not in identity.by_id()
    assert not service.append(drafts(1, "new")).results[0].duplicate


def test_an_archive_is_not_taken_for_another_ones_while_the_key_cannot_be_read(
    service: StoreService, settings: Settings
) -> None:
    made = service.create_backup().backup.name
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    with (
        unreadable(settings.storage_dir / data_folders.INSTALLATION_KEY),
        pytest.raises(BackupsUnavailable, match="reading the key of this installation failed"),
    ):
        service.restore(made)
    assert service.restore(made).proven


def test_what_cannot_be_opened_as_the_store_opens_it_is_not_swapped_in(
    service: StoreService, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(database, service.settings.backup_dir / NAME, about(database))
    run = service.chores.run

    def damaging(name: str, **arguments: Any) -> Any:
        if name == "check_opening":
            manifest = next(Path(arguments["database"]).glob("MANIFEST-*"))
            flip(manifest, manifest.stat().st_size // 2)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", damaging)
    with pytest.raises(ArchiveError):
        service.restore(NAME)
    assert len(ids(service)) == 5
    assert not leftovers(service.settings.storage_dir)


def test_an_event_that_was_recorded_up_to_a_day_ahead_is_restored(service: StoreService, database: Path) -> None:
    ahead = clock.format_microseconds(clock.now() + 23 * 3600 * 10**6).encode()
    forged(database, put_event(EVENTS, lambda value: value[: event.RECORDED_TIME.start] + ahead + b'"}'))
    pack(database, service.settings.backup_dir / NAME, about(database))
    assert service.restore(NAME).events == EVENTS


def test_what_0_1_0_archived_is_taken_by_another_installation(service: StoreService, tmp_path: Path) -> None:
    fixtures = PROJECT / "tests" / "fixtures" / "installation-0.1.0"
    expected = msgspec.json.decode((fixtures / "expected.json").read_bytes())["used"]["archives"]
    with tarfile.open(fixtures / "used.tar.gz") as tar:
        tar.extractall(tmp_path / "used", filter="data")
    for name, events in expected.items():
        shutil.copy(tmp_path / "used" / "backups" / name, service.settings.backup_dir / f"from-{name}")
        assert service.verify_backup(f"from-{name}").checked == "records"
        restored = service.restore(f"from-{name}")
        assert (restored.proven, ids(service)) == (False, events)


@pytest.mark.parametrize("archive", ["at_the_top.tar.gz", "torn_log.tar.gz"])
def test_what_was_imported_from_another_program_is_replayed_equal(
    archive: str, service: StoreService, settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    folders = {"STORAGE_DIR": "s", "BACKUP_DIR": "b", "RESTORE_DIR": "r"}
    elsewhere = settings_with({name: str(tmp_path / "other" / folder) for name, folder in folders.items()})
    with running_service(elsewhere) as other:
        shutil.copy(PROJECT / "tests" / "fixtures" / "node" / archive, elsewhere.backup_dir)
        other.restore(archive)
        imported = live(other)
        made = Path(other.create_backup().backup.path)
    shutil.copy(made, service.settings.backup_dir / NAME)

    assert service.restore(NAME).proven is False
    assert live(service) == imported


Entries = list[table.Entry]


def misrouted(entries: Entries) -> Entries:
    """Look-ups by key go to the wrong block, while a scan reads all blocks."""
    return [(b"\x00" + bytes([number]) + key[-8:], offset, size) for number, (key, offset, size) in enumerate(entries)]


def without_one(entries: Entries) -> Entries:
    return [*entries[:2], *entries[3:]]


def one_twice(entries: Entries) -> Entries:
    return [*entries[:3], *entries[2:]]


@pytest.mark.parametrize(("forge", "refused"), [(misrouted, True), (without_one, True), (one_twice, False)])
def test_a_forged_index_of_a_table_hides_no_event(
    forge: Callable[[Entries], Entries], refused: bool, service: StoreService, tmp_path: Path
) -> None:
    database = tmp_path / "forged" / "db"
    make_database(database, "foreign", 500, data="x" * 100)
    with closing(open_leveldb(database)) as db:
        db.compact_range(start=keys.EVENT, stop=keys.IDENTITY)
        expected = [value for _, value in EventRegistry(db, database).events(0, 500)]
    true = about(database)
    with_forged_index(database, forge)
    pack(database, service.settings.backup_dir / NAME, true)

    if refused:
        with pytest.raises(ArchiveError, match=r"is missing|no schema key"):
            service.restore(NAME)
        assert len(ids(service)) == 5
    else:
        service.restore(NAME)
        assert live(service) == expected
        assert service.get("foreign-250") == expected[250]
    assert not leftovers(service.settings.storage_dir)


def with_forged_index(database: Path, forge: Callable[[Entries], Entries]) -> None:
    """Give the largest table another index block, with right checksums, and its new size to the MANIFEST."""
    path = max(database.glob("*.ldb"), key=lambda file: file.stat().st_size)
    content = path.read_bytes()
    metaindex, index = table._footer(content[-table.FOOTER_BYTES :])
    whole = table._Reader(lambda offset, count: content[offset : offset + count])
    block = b""
    for key, offset, size in forge(list(table._entries(whole.block(index), index[0]))):
        handle = varint(offset) + varint(size)
        block += b"\0" + varint(len(key)) + varint(len(handle)) + key + handle
    block += struct.pack("<II", 0, 1)
    checksum = mask_checksum(google_crc32c.value(block + b"\0"))
    footer = b"".join(map(varint, (*metaindex, index[0], len(block)))).ljust(40, b"\0") + content[-8:]
    forged_table = content[: index[0]] + block + b"\0" + struct.pack("<I", checksum) + footer
    path.write_bytes(forged_table)
    manifest = database / read_current(database)
    with manifest.open("rb") as file:
        records = list(LogReader(file))
    number = varint(int(path.stem))
    old, new = number + varint(len(content)), number + varint(len(forged_table))
    manifest.write_bytes(write_log([record.replace(old, new) for record in records]))


@pytest.mark.slow
@pytest.mark.parametrize("foreign", [False, True])
def test_a_value_that_would_fill_the_memory_is_refused_before_it_is_read(
    foreign: bool, service: StoreService, tmp_path: Path
) -> None:
    database = tmp_path / "huge" / "db"
    if foreign:
        make_foreign_database(database)
    else:
        make_database(database, events=3)
    true = None if foreign else about(database)
    forged(database, lambda db: db.put(keys.EVENT + b"\xff" * 8, bytes(160 * 2**20)))
    forged(database, lambda db: db.compact_range())
    if true is None:
        repack(database, service.settings.backup_dir / NAME)
    else:
        pack(database, service.settings.backup_dir / NAME, true)

    with pytest.raises(ArchiveError, match=r"holds 1677[0-9]+ bytes, more than"):
        service.restore(NAME)
    assert len(ids(service)) == 5
