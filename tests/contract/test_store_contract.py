"""What every Store promises, asked of the one in memory, the one that owns LevelDB, and the one behind the socket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import (
    ArchiveError,
    BackupExists,
    BackupNotFound,
    BackupProtected,
    EventNotFound,
    GenerationSuperseded,
    InvalidInput,
    MomentUnavailable,
    NothingToUndo,
    PartitionNotStopped,
    UndoNotFound,
)
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports.store import Store
from tests.stores import running_client, running_service


@pytest.fixture(params=["memory", "service", "client"])
def store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    if request.param == "memory":
        settings.backup_dir.mkdir(parents=True)
        yield MemoryStore(settings.backup_dir)
    elif request.param == "service":
        with running_service(settings) as service:
            yield service
    else:
        with running_client(settings) as client:
            yield client


def drafts(*ids: str, **attributes: Any) -> list[EventDraft]:
    return [event.draft({"type": "t", "id": name, **attributes}, clock.now()) for name in ids]


def ids(store: Store, query: ScanQuery | None = None) -> list[str]:
    return [orjson.loads(value)["id"] for value in store.scan(query or ScanQuery(limit=1000)).events]


def test_an_append_answers_with_the_sequences(store: Store) -> None:
    result = store.append(drafts("a", "b"))

    assert [each.sequence for each in result.results] == [1, 2]
    assert result.last_sequence == 2


def test_what_was_appended_can_be_had_by_its_id(store: Store) -> None:
    store.append(drafts("a", data={"n": 1}))

    found = orjson.loads(store.get("a"))

    assert (found["data"], found["sequence"]) == ({"n": 1}, 1)
    with pytest.raises(EventNotFound):
        store.get("b")


def test_an_id_means_the_event_that_was_there_by_then(store: Store) -> None:
    (before,) = store.append(drafts("other")).results
    (first,) = store.append(drafts("a", source="one")).results
    while store.append(drafts("b", source=f"at {clock.now()}")).results[0].recorded == first.recorded:
        pass
    store.append(drafts("a", source="two"))

    assert orjson.loads(store.get("a", recorded_to=first.recorded))["source"] == "one"
    assert orjson.loads(store.get("a", "one", first.recorded))["source"] == "one"
    for source in (None, "one"):
        with pytest.raises(EventNotFound):
            store.get("a", source, before.recorded - 1)
    with pytest.raises(EventNotFound):
        store.get("a", "two", first.recorded)
    for instant in (clock.now(), None):
        with pytest.raises(InvalidInput):
            store.get("a", recorded_to=instant)
        assert orjson.loads(store.get("a", "two", instant))["source"] == "two"


def test_a_duplicate_names_the_first(store: Store) -> None:
    store.append(drafts("a", data=1))

    (again,) = store.append(drafts("a", data=2)).results

    assert (again.sequence, again.duplicate, again.differs) == (1, True, True)


def test_pages_are_bounded_and_continue(store: Store) -> None:
    store.append(drafts(*(f"{number:02}" for number in range(12))))

    first = store.scan(ScanQuery(limit=5))
    second = store.scan(ScanQuery(limit=5, after=first.next or 0))
    third = store.scan(ScanQuery(limit=5, after=second.next or 0))

    assert (first.next, second.next, third.next) == (5, 10, None)
    assert len(first.events) + len(second.events) + len(third.events) == 12


def test_a_backup_is_listed_and_can_be_read(store: Store) -> None:
    store.append(drafts("a", "b"))

    made = store.create_backup("before lunch").backup

    assert (made.events, made.sequence, made.label, made.origin) == (2, 2, "before lunch", "created")
    assert [entry.name for entry in store.list_backups()] == [made.name]
    assert Path(store.backup_path(made.name)).stat().st_size == made.size
    assert store.backup_manifest(made.name)["label"] == "before lunch"


def test_a_good_backup_verifies_and_a_damaged_one_is_refused_and_marked(store: Store) -> None:
    store.append(drafts("a"))
    made = store.create_backup().backup

    assert store.verify_backup(made.name).problem is None
    with Path(made.path).open("r+b") as file:
        file.seek(made.size // 2)
        file.write(b"damage")
    with pytest.raises(ArchiveError):
        store.verify_backup(made.name)
    assert store.list_backups()[0].problem
    assert store.list_backups()[0].verified is None


def test_a_backup_that_is_not_there_is_not_found(store: Store) -> None:
    for call in (store.backup_manifest, store.backup_path, store.verify_backup, store.delete_backup, store.restore):
        with pytest.raises(BackupNotFound):
            call("backup_2024-12-27_120000.tar.gz")


def test_a_restore_brings_back_what_was_there(store: Store) -> None:
    store.append(drafts("a"))
    name = store.create_backup().backup.name
    store.append(drafts("b"))

    restored = store.restore(name)

    assert (restored.source, restored.events) == (name, 1)
    assert ids(store) == ["a"]
    assert store.append(drafts("c")).results[0].sequence == 2
    assert store.status()["lastRestore"]["source"] == name


def test_a_restore_can_be_undone_and_so_can_an_undo(store: Store) -> None:
    store.append(drafts("a"))
    name = store.create_backup().backup.name
    store.append(drafts("b"))
    undo = store.restore(name).undo
    store.append(drafts("c", "d", data=1))
    assert undo is not None
    assert [(entry.name, entry.events, entry.source) for entry in store.list_undo()] == [(undo.name, 2, name)]

    undone = store.undo()

    assert (undone.source, undone.events) == (undo.name, 2)
    assert ids(store) == ["a", "b"]
    assert undone.left_behind is not None
    assert undone.left_behind.count == 2
    first, last = undone.left_behind.first or {}, undone.left_behind.last or {}
    assert (first["id"], last["id"], "data" in first) == ("c", "d", False)
    assert store.undo(undone.undo.name if undone.undo else None).events == 3
    assert ids(store) == ["a", "c", "d"]


def test_a_moment_of_the_past_is_read_as_it_was(store: Store) -> None:
    store.append(drafts("a"))
    instant = store.append(drafts("b")).results[0].recorded
    name = store.create_backup().backup.name
    store.append(drafts("c"))
    old = store.scan(ScanQuery()).generation
    store.restore(name)
    store.append(drafts("d"))

    for moment, there in {
        Moment(): ["a", "b", "d"],
        Moment(instant=instant): ["a", "b"],
        Moment(instant=clock.now(), generation=old): ["a", "b", "c"],
        Moment(sequence=1): ["a"],
        Moment(sequence=3, generation=old): ["a", "b", "c"],
        Moment(archive=name): ["a", "b"],
    }.items():
        view = store.resolve_moment(moment)
        assert ids(store, ScanQuery(generation=view.generation, upto=view.sequence)) == there, moment
        assert view.generation_id == (
            old if moment.archive or moment.generation else store.scan(ScanQuery()).generation
        )
    for moment in (Moment(sequence=4), Moment(instant=2**55), Moment(instant=1), Moment(sequence=1, generation="x")):
        with pytest.raises(MomentUnavailable) as caught:
            store.resolve_moment(moment)
        assert set(caught.value.details["window"]) == {"oldest", "newest"}


def test_what_is_not_kept_cannot_be_undone(store: Store) -> None:
    with pytest.raises(NothingToUndo):
        store.undo()
    with pytest.raises(UndoNotFound):
        store.undo("previous-0000000000000000")


def test_a_staged_restore_changes_nothing_yet(store: Store) -> None:
    store.append(drafts("a"))
    name = store.create_backup().backup.name
    store.append(drafts("b"))

    assert store.restore(name, staged=True).staged
    assert ids(store) == ["a", "b"]


def staged_of(store: Store) -> Any:
    return store.status()["jobs"]["restore"]["staged"]


def test_a_staged_restore_is_shown_and_whatever_drops_it_says_so(store: Store) -> None:
    store.append(drafts("a"))
    name = store.create_backup().backup.name
    store.append(drafts("b"))
    assert staged_of(store) is None
    assert store.restore(name).notes == []

    first = store.restore(name, staged=True)
    assert (first.notes, staged_of(store)["source"], staged_of(store)["events"]) == ([], name, 1)
    assert staged_of(store)["since"] == clock.format_milliseconds(first.at)
    (note,) = store.restore_moment(Moment(sequence=0), staged=True).notes
    assert name in note
    assert staged_of(store)["events"] == 0
    (note,) = store.undo().notes
    assert "staged" in note
    assert staged_of(store) is None
    store.restore(name, staged=True)
    (note,) = store.restore(name).notes
    assert name in note
    assert staged_of(store) is None


def test_a_cursor_beyond_the_fork_is_refused_and_one_before_it_goes_on(store: Store) -> None:
    store.append(drafts("a", "b"))
    name = store.create_backup().backup.name
    store.append(drafts("c", "d"))
    old = store.scan(ScanQuery()).generation
    store.restore(name)
    store.append(drafts("e"))

    assert ids(store, ScanQuery(after=1, generation=old)) == ["b", "e"]
    with pytest.raises(GenerationSuperseded):
        store.scan(ScanQuery(after=3, generation=old))


def test_two_generations_share_what_was_there_when_they_forked(store: Store) -> None:
    store.append(drafts("a", "b"))
    name = store.create_backup().backup.name
    found = []
    for event_id in ("c", "d"):
        store.append(drafts(event_id))
        found.append(store.scan(ScanQuery()).generation)
        store.restore(name)
    present = store.scan(ScanQuery()).generation

    assert store.last_common(*found) == store.last_common(found[1], found[0]) == 2
    assert store.last_common(found[0], present) == store.last_common(present, found[0]) == 2
    assert store.last_common(found[0], "0" * 16) is store.last_common("0" * 16, present) is None


def test_a_scan_with_a_fixed_end_is_served_to_its_end_across_a_restore(store: Store) -> None:
    store.append(drafts("a", "b"))
    name = store.create_backup().backup.name
    store.append(drafts("c", "d"))
    first = store.scan(ScanQuery(limit=1))
    with store.lease_generation(first.generation) as hold:
        store.restore(name)
        store.append(drafts("x", "y", "z"))
        store.create_backup()
        hold.renew()

        rest = store.scan(ScanQuery(after=1, upto=first.last_sequence, generation=first.generation))

        assert [orjson.loads(value)["id"] for value in rest.events] == ["b", "c", "d"]
        assert rest.next is None


def test_a_generation_that_nobody_knows_is_refused_whatever_it_is_called(store: Store) -> None:
    store.append(drafts("a"))
    for generation in ("0" * 16, "../event_registry_db", "x/../../event_registry_db"):
        with pytest.raises(GenerationSuperseded):
            store.scan(ScanQuery(generation=generation, upto=1))


def test_the_name_of_an_archives_copy_is_no_generation(store: Store, settings: Settings) -> None:
    store.append(drafts("a"))
    copy = settings.backup_dir / ".upload-1.tmp"
    shutil.copyfile(store.create_backup().backup.path, copy)
    store.adopt_upload(str(copy), "from-elsewhere.tar.gz")

    view = store.resolve_moment(Moment(archive="from-elsewhere.tar.gz"))

    assert ids(store, ScanQuery(generation=view.generation, upto=view.sequence)) == ["a"]
    assert view.generation_id != view.generation
    moment = Moment(sequence=1, generation=view.generation)
    for ask in (store.resolve_moment, store.restore_moment, store.plan_restore):
        with pytest.raises(MomentUnavailable):
            ask(moment)


def test_the_last_good_backup_is_deleted_only_by_force(store: Store) -> None:
    store.append(drafts("a"))
    older, newer = store.create_backup("one").backup.name, store.create_backup("two").backup.name

    store.delete_backup(older)
    with pytest.raises(BackupProtected):
        store.delete_backup(newer)
    store.delete_backup(newer, force=True)

    assert store.list_backups() == []


def test_a_pinned_backup_is_protected_until_it_is_unpinned(store: Store) -> None:
    store.append(drafts("a"))
    name = store.create_backup("one").backup.name
    store.create_backup("two")

    assert store.pin_backup(name, pinned=True).pinned
    with pytest.raises(BackupProtected):
        store.delete_backup(name)
    store.pin_backup(name, pinned=False)
    store.delete_backup(name)


def test_an_upload_is_entered_under_its_name_once(store: Store, settings: Settings) -> None:
    store.append(drafts("a"))
    made = store.create_backup()
    copy = settings.backup_dir / ".upload-1.tmp"
    shutil.copyfile(made.backup.path, copy)

    entry = store.adopt_upload(str(copy), "from-elsewhere.tar.gz")

    assert (entry.name, entry.origin, entry.events) == ("from-elsewhere.tar.gz", "uploaded", 1)
    assert not copy.exists()
    assert store.adopt_upload(str(copy), "from-elsewhere.tar.gz") == entry, "the reply may have been lost"
    shutil.copyfile(made.backup.path, copy)
    with pytest.raises(BackupExists):
        store.adopt_upload(str(copy), "from-elsewhere.tar.gz")


def test_a_new_store_is_well(store: Store) -> None:
    status = store.status()

    assert (status["status"], status["problems"]) == ("ok", [])
    assert (status["store"]["events"], status["backup"]["count"], status["backup"]["latest"]) == (0, 0, None)


def test_a_restore_to_a_moment_keeps_the_events_up_to_it(store: Store) -> None:
    store.append(drafts("a", "b"))
    instant = event.recorded_of(store.get("b"))
    store.append(drafts("c"))
    left = store.scan(ScanQuery()).generation

    restored = store.restore_moment(Moment(sequence=1))

    assert (restored.events, ids(store)) == (1, ["a"])
    assert restored.undo is not None
    assert store.restore_moment(Moment(instant=instant, generation=left)).events == 2
    assert ids(store) == ["a", "b"]
    assert store.restore_moment(Moment(sequence=0)).events == 0


def test_a_plan_says_what_is_left_behind_and_changes_nothing(store: Store) -> None:
    store.append(drafts("a", "b", "c"))

    plan = store.plan_restore(Moment(sequence=1))

    assert (plan["sequence"], plan["eventsLeftBehind"]) == (1, 2)
    assert (plan["firstLeftBehind"]["id"], plan["lastLeftBehind"]["id"]) == ("b", "c")
    assert {"archive", "segments", "bytesToRead", "diskNeeded", "predictedSeconds"} <= plan.keys()
    assert ids(store) == ["a", "b", "c"]
    name = store.create_backup().backup.name
    assert store.plan_restore(name)["archive"] == name
    with pytest.raises(BackupNotFound):
        store.plan_restore("never.tar.gz")


def test_a_plan_promises_nothing_of_an_archive_that_is_cut_off(store: Store) -> None:
    store.append(drafts("a"))
    made = store.create_backup().backup
    Path(made.path).write_bytes(Path(made.path).read_bytes()[: made.size // 2])

    for call in (store.plan_restore, store.restore):
        with pytest.raises(ArchiveError):
            call(made.name)


def test_a_moment_that_cannot_be_had_is_answered_with_the_window(store: Store) -> None:
    store.append(drafts("a", "b"))
    present = store.scan(ScanQuery()).generation
    for moment, nearest in (
        (Moment(sequence=3), 2),
        (Moment(sequence=1, generation="0123456789abcdef"), 2),
        (Moment(instant=clock.now() + 10**9), 2),
        (Moment(instant=0), 0),
    ):
        for ask in (store.restore_moment, store.plan_restore, store.resolve_moment):
            with pytest.raises(MomentUnavailable) as caught:
                ask(moment)
            assert caught.value.details["window"]["newest"]["sequence"] == 2
            (near,) = caught.value.details["nearest"]
            assert (near.keys(), near["generation"]) == ({"generation", "time", "sequence"}, present)
            assert near["sequence"] == nearest
    assert ids(store) == ["a", "b"]


def test_the_timeline_has_all_generations(store: Store) -> None:
    store.append(drafts("a", "b"))
    left = store.scan(ScanQuery()).generation
    store.restore_moment(Moment(sequence=1))

    timeline = store.timeline()

    present = store.scan(ScanQuery()).generation
    assert timeline["window"]["newest"]["sequence"] == 1
    assert {each["id"]: each["lastSequence"] for each in timeline["generations"]} == {left: 2, present: 1}
    assert {"archives", "segments", "gaps"} <= timeline.keys()


def test_there_is_no_loss_to_accept_where_no_partition_is_stopped(store: Store) -> None:
    with pytest.raises(PartitionNotStopped):
        store.accept_loss(0)
