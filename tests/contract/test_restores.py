"""What every Restores promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import ArchiveError, BackupNotFound, MomentUnavailable, NothingToUndo, UndoNotFound
from eventvault.events import event
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from tests.contract.events import drafts, ids, unique

pytestmark = pytest.mark.slow


def test_a_restore_brings_back_what_was_there(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))
    assert empty_store.plan_restore(name)["checked"] == "digests"

    restored = empty_store.restore(name)

    assert (restored.source, restored.events, restored.checked) == (name, 1, "digests")
    assert ids(empty_store) == ["a"]
    assert empty_store.append(drafts("c")).results[0].sequence == 2
    assert empty_store.status()["lastRestore"]["source"] == name


def test_a_backup_that_is_not_there_cannot_be_restored(store: Store) -> None:
    with pytest.raises(BackupNotFound):
        store.restore("backup_2024-12-27_120000.tar.gz")


def test_a_restore_can_be_undone_and_so_can_an_undo(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))
    undo = empty_store.restore(name).undo
    empty_store.append(drafts("c", "d", data=1))
    assert undo is not None
    assert [(entry.name, entry.events, entry.source) for entry in empty_store.list_undo()] == [(undo.name, 2, name)]

    undone = empty_store.undo()

    assert (undone.source, undone.events) == (undo.name, 2)
    assert ids(empty_store) == ["a", "b"]
    assert undone.replaced_events is not None
    assert undone.replaced_events.count == 2
    first, last = undone.replaced_events.first or {}, undone.replaced_events.last or {}
    assert (first["id"], last["id"], "data" in first) == ("c", "d", False)
    assert empty_store.undo(undone.undo.name if undone.undo else None).events == 3
    assert ids(empty_store) == ["a", "c", "d"]


def test_what_is_not_kept_cannot_be_undone(empty_store: Store) -> None:
    with pytest.raises(NothingToUndo):
        empty_store.undo()
    with pytest.raises(UndoNotFound):
        empty_store.undo("previous-0000000000000000")


def test_a_staged_restore_changes_nothing_yet(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))

    assert empty_store.restore(name, staged=True).staged
    assert ids(empty_store) == ["a", "b"]


def staged_of(store: Store) -> Any:
    return store.status()["jobs"]["restore"]["staged"]


def test_a_staged_restore_is_shown_and_whatever_drops_it_says_so(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))
    assert staged_of(empty_store) is None
    assert empty_store.restore(name).notes == []

    first = empty_store.restore(name, staged=True)
    assert (first.notes, staged_of(empty_store)["source"], staged_of(empty_store)["events"]) == ([], name, 1)
    assert staged_of(empty_store)["since"] == clock.format_milliseconds(first.at)
    (note,) = empty_store.restore_moment(Moment(sequence=0), staged=True).notes
    assert name in note
    assert staged_of(empty_store)["events"] == 0
    (note,) = empty_store.undo().notes
    assert "staged" in note
    assert staged_of(empty_store) is None
    empty_store.restore(name, staged=True)
    (note,) = empty_store.restore(name).notes
    assert name in note
    assert staged_of(empty_store) is None


def test_a_restore_to_a_moment_keeps_the_events_up_to_it(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    instant = event.recorded_of(empty_store.get("b"))
    empty_store.append(drafts("c"))
    left = empty_store.scan(ScanQuery()).generation

    restored = empty_store.restore_moment(Moment(sequence=1))
    moments = [entry.moment for entry in empty_store.list_undo()]
    assert [None if each is None else each.sequence for each in moments] == [1]

    assert (restored.events, ids(empty_store)) == (1, ["a"])
    assert restored.undo is not None
    assert empty_store.restore_moment(Moment(instant=instant, generation=left)).events == 2
    assert ids(empty_store) == ["a", "b"]
    assert empty_store.restore_moment(Moment(sequence=0)).events == 0


def test_health_says_what_the_last_restore_was_and_which_moment_it_restored(empty_store: Store) -> None:
    def last() -> tuple[Any, ...]:
        restore = empty_store.status()["lastRestore"]
        behind = (restore["leftBehind"] or {}).get("count")
        return restore["kind"], restore["reason"], restore["moment"], behind

    empty_store.append(drafts("a", "b"))
    name = empty_store.create_backup().backup.name
    b = event.recorded_of(empty_store.get("b"))
    empty_store.append(drafts("c"))
    generation = empty_store.scan(ScanQuery()).generation
    empty_store.restore(name)
    assert last() == ("backup", "restored", None, 1)
    empty_store.restore_moment(Moment(instant=b, generation=generation))
    assert last() == ("moment", "point in time", {"time": clock.format_microseconds(b), "sequence": 2}, 0)
    empty_store.restore_moment(Moment(sequence=1, generation=generation))
    a = clock.format_microseconds(event.recorded_of(empty_store.get("a")))
    assert last() == ("moment", "point in time", {"time": a, "sequence": 1}, 1)
    empty_store.append(drafts("d"))
    empty_store.undo()
    assert last() == ("undo", "undone", None, 1)
    empty_store.restore_moment(Moment(sequence=0, generation=generation))
    assert last() == ("moment", "point in time", {"time": None, "sequence": 0}, 2)


def test_a_plan_says_what_is_left_behind_and_changes_nothing(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b", "c"))

    plan = empty_store.plan_restore(Moment(sequence=1))

    assert (plan["sequence"], plan["eventsLeftBehind"]) == (1, 2)
    assert (plan["firstLeftBehind"]["id"], plan["lastLeftBehind"]["id"]) == ("b", "c")
    assert (plan["lastKept"]["id"], plan["lastKept"]["sequence"]) == ("a", 1)
    assert {"type", "recordedtime"} <= plan["lastKept"].keys()
    assert plan["undo"] == {"kept": True, "drops": []}
    assert (plan["types"], plan["typesComplete"]) == ([{"type": plan["lastKept"]["type"], "events": 2}], True)
    assert empty_store.plan_restore(Moment(sequence=0))["lastKept"] is None
    assert {"archive", "segments", "bytesToRead", "diskNeeded", "predictedSeconds"} <= plan.keys()
    assert ids(empty_store) == ["a", "b", "c"]
    name = empty_store.create_backup().backup.name
    assert empty_store.plan_restore(name)["archive"] == name
    with pytest.raises(BackupNotFound):
        empty_store.plan_restore("never.tar.gz")


def test_a_plan_promises_nothing_of_an_archive_that_is_cut_off(store: Store) -> None:
    store.append(drafts(unique("a")))
    made = store.create_backup().backup
    Path(made.path).write_bytes(Path(made.path).read_bytes()[: made.size // 2])

    for call in (store.plan_restore, store.restore):
        with pytest.raises(ArchiveError):
            call(made.name)


def test_a_moment_that_cannot_be_had_is_answered_with_the_window(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    present = empty_store.scan(ScanQuery()).generation
    for moment, nearest in (
        (Moment(sequence=3), 2),
        (Moment(sequence=1, generation="0123456789abcdef"), 2),
        (Moment(instant=clock.now() + 10**9), 2),
        (Moment(instant=0), 0),
    ):
        for ask in (empty_store.restore_moment, empty_store.plan_restore, empty_store.resolve_moment):
            with pytest.raises(MomentUnavailable) as caught:
                ask(moment)
            assert caught.value.details["window"]["newest"]["sequence"] == 2
            (near,) = caught.value.details["nearest"]
            assert (near.keys(), near["generation"]) == ({"generation", "time", "sequence"}, present)
            assert near["sequence"] == nearest
    assert ids(empty_store) == ["a", "b"]


def test_the_timeline_has_all_generations(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    left = empty_store.scan(ScanQuery()).generation
    empty_store.restore_moment(Moment(sequence=1))

    timeline = empty_store.timeline()

    present = empty_store.scan(ScanQuery()).generation
    assert timeline["window"]["newest"]["sequence"] == 1
    assert {each["id"]: each["lastSequence"] for each in timeline["generations"]} == {left: 2, present: 1}
    assert {"archives", "segments", "gaps"} <= timeline.keys()
    (previous,) = empty_store.list_undo()
    assert {each["id"]: each["kept"] for each in timeline["generations"]} == {left: previous.name, present: None}


def test_a_thinned_timeline_counts_the_archives(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    names = [empty_store.create_backup(label).backup.name for label in ("one", "two", "three")]
    empty_store.pin_backup(names[0], pinned=True)

    timeline = empty_store.timeline(buckets=1)

    (mark,) = timeline["marks"]
    assert (mark["count"], mark["newest"], mark["pinned"], mark["damaged"]) == (3, names[-1], 1, 0)
    assert {"archives", "segments"} & timeline.keys() == set()
    empty_store.append(drafts("c"))
    later = empty_store.timeline(buckets=1)
    assert (later["window"]["newest"]["sequence"], later["generations"][-1]["lastSequence"]) == (3, 3)
