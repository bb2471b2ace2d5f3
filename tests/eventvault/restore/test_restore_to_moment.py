"""Restores to a moment while the service runs, their preview, and recovery after a lost disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault import clock, data_folders
from eventvault.database import keys
from eventvault.database.generation import Generation
from eventvault.database.registry import AppendBatch
from eventvault.errors import ArchiveError, JournalDamaged, MomentUnavailable, NoSpace, RestoreRunning
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.folder import JournalFolder
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset
from eventvault.restore import estimate, space
from eventvault.restore.estimate import RestoreDuration
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import (
    accept_incomplete_recovery,
    drafts,
    flip,
    generation,
    leftovers,
    live,
    problem_codes,
    put,
    set_clock_back,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow

SLOW = {"JOURNAL_INTERVAL": "3600000"}


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """A service whose segments are written when a test says so."""
    with running_service(settings_with(SLOW)) as service:
        yield service


def test_a_restore_to_a_moment_begins_a_generation_there(service: StoreService) -> None:
    put(service, 3, "a")
    service.create_backup()
    put(service, 4, "b")
    before, events = generation(service), live(service)

    restored = service.restore_moment(Moment(sequence=5))

    assert (restored.events, restored.reason) == (5, "point in time")
    assert live(service) == events[:5]
    present = service.bus.registry.identity.present  # type: ignore[union-attr]
    assert (present.id, present.parent, present.fork_sequence) == (restored.generation, before, 5)
    assert restored.undo is not None
    assert service.append(drafts(1, "after")).last_sequence == 6
    assert service.status()["lastRestore"]["reason"] == "point in time"
    assert not leftovers(service.settings.storage_dir)


def test_the_future_that_was_left_behind_can_be_restored_too(service: StoreService) -> None:
    put(service, 6, "a")
    first, events = generation(service), live(service)
    service.restore_moment(Moment(sequence=2))
    put(service, 1, "b")

    service.restore_moment(Moment(sequence=6, generation=first))

    assert live(service) == events
    service.restore_moment(Moment(sequence=0))
    assert live(service) == []
    service.restore_moment(Moment(sequence=6, generation=first))
    assert live(service) == events


def test_generations_and_backups_stay_in_the_order_in_which_they_came_whatever_the_clock_said(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")
    begun, names = [generation(service)], [service.create_backup().backup.name]
    for days in (0, 300, 100, 200):
        set_clock_back(monkeypatch, days)
        service.restore_moment(Moment(sequence=2, generation=begun[0]))
        put(service, 1, f"back-{days}")
        begun.append(generation(service))
        names.append(service.create_backup().backup.name)

    assert service.bus.generations() == begun
    assert [each["id"] for each in service.timeline()["generations"]] == begun
    assert [backup.name for backup in service.list_backups()] == names[::-1]


def test_a_plan_says_what_a_restore_would_do_and_does_nothing(service: StoreService) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 4, "b")
    put(service, 2, "c")
    before = generation(service)

    plan = service.plan_restore(Moment(sequence=5))

    assert plan["archive"] == name
    assert len(plan["segments"]) == 1
    assert (plan["sequence"], plan["eventsLeftBehind"]) == (5, 4)
    assert [plan["firstLeftBehind"][member] for member in ("id", "sequence")] == ["b-2", 6]
    assert [plan["lastLeftBehind"][member] for member in ("id", "sequence")] == ["c-1", 9]
    assert plan["bytesToRead"] > 0
    assert plan["diskNeeded"] > 0
    assert plan["predictedSeconds"] > 0
    assert (generation(service), len(live(service))) == (before, 9)

    named = service.plan_restore(name)
    assert (named["archive"], named["segments"], named["eventsLeftBehind"]) == (name, [], 6)
    assert service.plan_restore(Moment(sequence=9))["firstLeftBehind"] is None


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "spoil", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_text("no archive at all")]
)
def test_a_plan_of_an_archive_that_is_none_says_what_its_restore_would(
    service: StoreService, spoil: Callable[[Path], object]
) -> None:
    put(service, 3, "a")
    made = service.create_backup().backup
    spoil(Path(made.path))

    with pytest.raises(ArchiveError) as told:
        service.plan_restore(made.name)
    with pytest.raises(ArchiveError) as done:
        service.restore(made.name)

    assert (told.value.code, told.value.message) == (done.value.code, done.value.message)


def test_a_plan_of_an_archive_that_was_found_to_be_damaged_says_so(service: StoreService) -> None:
    put(service, 3, "a")
    made = service.create_backup().backup
    flip(Path(made.path), made.size // 2)
    with pytest.raises(ArchiveError):
        service.verify_backup(made.name)

    with pytest.raises(ArchiveError) as told:
        service.plan_restore(made.name)

    assert told.value.message == service.catalogue.entry(made.name).problem
    assert told.value.hint


def test_a_damaged_segment_stops_it_before_the_live_data(service: StoreService) -> None:
    put(service, 3, "a")
    put(service, 3, "b")
    events, first = live(service), generation(service)
    service.restore_moment(Moment(sequence=0))
    for each in service.journal.folder.segments()[0]:
        if each.first == 4:
            flip(each.path, -10)

    with pytest.raises(JournalDamaged) as caught:
        service.restore_moment(Moment(sequence=5, generation=first))

    assert caught.value.hint
    assert live(service) == []
    service.restore_moment(Moment(sequence=3, generation=first))
    assert live(service) == events[:3]
    assert not leftovers(service.settings.storage_dir)


def test_a_full_disk_stops_it_before_anything_begins(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    put(service, 3, "a")
    monkeypatch.setattr(space, "free_bytes", lambda _: 10)
    with pytest.raises(NoSpace) as caught:
        service.restore_moment(Moment(sequence=2))
    assert caught.value.details["needed"] > 0
    assert len(live(service)) == 3


def test_a_second_restore_is_refused_and_names_the_first(service: StoreService) -> None:
    put(service, 3, "a")
    with service.restorer._lock:
        service.restorer.running = "a moment", 0
        with pytest.raises(RestoreRunning) as caught:
            service.restore_moment(Moment(sequence=2))
    assert caught.value.details["running"] == "a moment"


def test_a_staged_moment_waits_for_the_next_start(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with(SLOW)) as service:
        put(service, 4, "a")
        events = live(service)
        assert service.restore_moment(Moment(sequence=1), staged=True).staged
        assert live(service) == events
    with running_service(settings_with(SLOW)) as service:
        assert live(service) == events[:1]


def take_from_kafka(service: StoreService, count: int, following: int) -> None:
    note = offsets.offset_put("events", 0, StoredOffset(next=following))
    service.bus.committer.append(AppendBatch(drafts(count, f"at-{following}"), b"12345678", [note]))
    assert service.journal.flush()


def next_from_kafka(service: StoreService) -> int:
    with service.bus.using() as registry:
        return offsets.stored_by_topic(registry.scan_meta(keys.KAFKA))["events"][0].next


def test_what_kafka_brought_and_is_left_behind_is_not_taken_again(service: StoreService) -> None:
    take_from_kafka(service, 2, 2)
    take_from_kafka(service, 3, 5)

    service.restore_moment(Moment(sequence=2))

    assert next_from_kafka(service) == 5


def test_a_staged_restore_goes_on_in_kafka_behind_what_was_taken_until_the_restart(settings: Settings) -> None:
    with running_service(settings) as service:
        take_from_kafka(service, 2, 2)
        take_from_kafka(service, 3, 5)
        service.restore_moment(Moment(sequence=2), staged=True)
        take_from_kafka(service, 4, 9)

    with running_service(settings) as service:
        assert len(live(service)) == 2
        assert next_from_kafka(service) == 9
        (left,) = service.list_undo()
        assert left.events == 9
        service.undo()
        assert len(live(service)) == 9


def lose(settings: Settings) -> None:
    shutil.rmtree(settings.storage_dir)


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({**SLOW, "AUTO_RECOVER": "true"})


@pytest.mark.parametrize("backups", [0, 1, 2])
def test_a_lost_disk_costs_nothing_that_was_journaled(recovering: Settings, backups: int) -> None:
    with running_service(recovering) as service:
        for number in range(3):
            put(service, 3, f"part-{number}")
            if number < backups:
                service.create_backup()
        events, before = live(service), generation(service)
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == events
        last = service.status()["lastRestore"]
        assert (last["events"], last["reason"]) == (9, "recovered")
        assert "was gone: 9 events were recovered" in last["notes"][0]
        present = service.bus.registry.identity.present  # type: ignore[union-attr]
        assert (present.parent, present.fork_sequence, present.reason) == (before, 9, "recovered")
        assert service.status()["status"] == "ok"
        put(service, 1, "after")
    lose(recovering)
    with running_service(recovering) as service:
        assert live(service)[:9] == events
        assert len(live(service)) == 10


def test_a_lost_disk_brings_back_the_lineage_that_was_the_present_one(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 6, "a")
        service.restore_moment(Moment(sequence=2))
        put(service, 1, "b")
        events = live(service)
    lose(recovering)
    with running_service(recovering) as service:
        assert live(service) == events


def test_offsets_come_back_with_a_lost_disk(recovering: Settings) -> None:
    with running_service(recovering) as service:
        for following in (3, 7):
            note = offsets.offset_put("events", 2, StoredOffset(next=following, crc=9))
            service.bus.committer.append(AppendBatch(drafts(1, f"at-{following}"), b"12345678", [note]))
            service.journal.flush()
    lose(recovering)
    with running_service(recovering) as service, service.bus.using() as registry:
        kept = offsets.stored_by_topic(registry.scan_meta(keys.KAFKA)).get("events", {})
    assert kept == {2: StoredOffset(next=7, crc=9)}


def test_what_was_left_behind_in_kafka_stays_so_when_the_disk_is_lost_next(recovering: Settings) -> None:
    with running_service(recovering) as service:
        take_from_kafka(service, 2, 2)
        take_from_kafka(service, 3, 5)
        service.restore_moment(Moment(sequence=2))
        assert service.journal.flush()
    lose(recovering)

    with running_service(recovering) as service:
        assert len(live(service)) == 2
        assert next_from_kafka(service) == 5


def test_a_damaged_segment_costs_what_follows_it_and_is_named(recovering: Settings) -> None:
    with running_service(recovering) as service:
        for number in range(3):
            put(service, 2, f"part-{number}")
        events = live(service)
        damaged = service.journal.folder.segments()[0][1].path
    flip(damaged, -10)
    lose(recovering)

    with running_service(recovering) as service:
        accept_incomplete_recovery(service)
        assert live(service) == events[:2]
        assert any(damaged.name in note for note in service.status()["lastRestore"]["notes"])


def test_a_damaged_archive_is_done_without(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 2, "a")
        archive = Path(service.create_backup().backup.path)
        put(service, 2, "b")
        events = live(service)
    flip(archive, 900)
    lose(recovering)
    with running_service(recovering) as service:
        assert live(service) == events


def test_a_journal_alone_is_enough_to_refuse_an_empty_start(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with(SLOW)
    with running_service(settings) as service:
        put(service, 2, "a")
    lose(settings)
    with running_service(settings) as service:
        assert "database_missing" in problem_codes(service)
    with running_service(settings_with({**SLOW, "AUTO_RECOVER": "empty"})) as service:
        assert live(service) == []
        old = [each.generation for each in service.journal.folder.segments()[0]]
        service.restore_moment(Moment(sequence=2, generation=old[0]))
        assert len(live(service)) == 2


def test_a_foreign_journal_counts_for_nothing(settings_with: Callable[..., Settings], tmp_path: Path) -> None:
    settings = settings_with(SLOW)
    with running_service(settings) as service:
        put(service, 2, "a")
    lose(settings)
    (settings.backup_dir / ".installation.json").unlink()
    (settings.backup_dir / ".installation").write_text("another one")
    with running_service(settings) as service:
        assert service.status()["status"] == "ok"
        assert live(service) == []


def test_a_new_installation_has_nothing_to_recover(recovering: Settings) -> None:
    with running_service(recovering) as service:
        assert service.status()["lastRestore"] is None
    lose(recovering)
    with running_service(recovering) as service:
        assert live(service) == []


def test_the_timeline_names_all_that_can_be_had(service: StoreService) -> None:
    put(service, 4, "a")
    name = service.create_backup().backup.name
    put(service, 2, "b")
    put(service, 2, "c")
    first = generation(service)
    service.restore_moment(Moment(sequence=5))
    put(service, 1, "d")
    timeline = service.timeline()

    assert timeline["window"]["oldest"]["sequence"] == 0
    assert timeline["window"]["newest"]["sequence"] == 6
    assert timeline["generation"] == generation(service)
    assert [(each["id"], each["lastSequence"], each["present"]) for each in timeline["generations"]] == [
        (first, 8, False),
        (generation(service), 6, True),
    ]
    assert [each["name"] for each in timeline["archives"]] == [name]
    assert [(each["first"], each["last"]) for each in timeline["segments"] if each["generation"] == first] == [
        (1, 4),
        (5, 6),
        (7, 8),
    ]
    assert timeline["gaps"] == []
    gone = next(each for each in service.journal.folder.segments()[0] if each.first == 5)
    gone.path.unlink()
    (gap,) = service.timeline()["gaps"]
    assert (gap["generation"], gap["first"], gap["last"]) == (first, 6, 6)
    ends = {each["first"]: each["firstTime"] for each in timeline["segments"] if each["generation"] == first}
    fork = clock.format_microseconds(event.recorded_of(service.get("b-0")))
    assert (gap["fromTime"], gap["toTime"], timeline["generations"][1]["forkTime"]) == (fork, ends[7], fork)
    with pytest.raises(MomentUnavailable):
        service.restore_moment(Moment(sequence=8, generation=first))
    assert service.timeline()["generations"][0]["lastSequence"] == 5


@pytest.mark.parametrize(("keep", "kept"), [("2", True), ("1", True), ("0", False)])
def test_a_plan_says_which_previous_databases_the_next_backup_removes(
    settings_with: Callable[..., Settings], keep: str, kept: bool
) -> None:
    with running_service(settings_with({"KEEP_UNDO": keep})) as service:
        put(service, 3, "a")
        for sequence in (2, 1):
            service.restore_moment(Moment(sequence=sequence))
        before = {entry.name for entry in service.list_undo()}
        planned = service.plan_restore(Moment(sequence=0))["undo"]
        service.restore_moment(Moment(sequence=0))
        service.past._started_at = time.monotonic() - 3600  # readers of before had their time
        service.create_backup()
        after = {entry.name for entry in service.list_undo()}

        assert planned["kept"] is kept
        assert set(planned["drops"]) == before - after
        assert len(after) == int(keep)


def test_health_says_what_a_running_restore_leads_to(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    build, seen = service.restorer.builder.build, []

    def build_watched(*arguments: Any, **named: Any) -> Any:
        seen.append(service.status()["jobs"]["restore"])
        return build(*arguments, **named)

    monkeypatch.setattr(service.restorer.builder, "build", build_watched)
    put(service, 3, "a")
    name = service.create_backup().backup.name
    instant = clock.now()
    put(service, 2, "b")
    service.restore_moment(Moment(sequence=4))
    service.restore(name)
    service.undo()
    service.restore_moment(Moment(instant=instant))

    at = clock.format_microseconds(instant)
    targets = [(None, 4), (None, 3), (None, 4), (at, 3)]
    assert [(each["target"]["time"], each["target"]["sequence"]) for each in seen] == targets
    assert [each["predictedSeconds"] is None for each in seen] == [False, False, True, False]
    assert all(each["running"] and each["step"] == "plan" and 0 <= each["progress"] < 1 for each in seen)
    idle = service.status()["jobs"]["restore"]
    assert {idle[name] for name in ("target", "predictedSeconds", "progress", "step", "bytesDone", "bytesTotal")} == {
        None
    }


def test_predictions_follow_this_machines_own_restores(tmp_path: Path) -> None:
    assert estimate.predict([], 50_000_000) == 2.0
    took = [RestoreDuration(0, 1.0), RestoreDuration(100_000_000, 2.0), RestoreDuration(200_000_000, 3.0)]
    assert estimate.predict(took, 400_000_000) == 5.0
    for number in range(30):
        estimate.note(tmp_path, number, 1.0)
    assert [each.size for each in estimate.read_durations(tmp_path)] == list(range(10, 30))
    (tmp_path / data_folders.RESTORE_SPEEDS).write_text("no json")
    assert estimate.read_durations(tmp_path) == []


def with_archives_below(settings: Settings) -> tuple[list[Path], list[bytes]]:
    """A lost installation whose journal begins after its only archive; the archives' paths, and its events."""
    with running_service(settings) as service:
        put(service, 3, "archived")
        archive = Path(service.create_backup().backup.path)
        put(service, 3, "journaled")
        service.journal.folder.remove([each for each in service.journal.folder.segments()[0] if each.first == 1])
        events = live(service)
    lose(settings)
    return [archive], events


@pytest.mark.parametrize("harm", ["damaged", "deleted"])
def test_what_was_lost_for_good_is_not_taken_for_an_empty_registry(recovering: Settings, harm: str) -> None:
    archives, _ = with_archives_below(recovering)
    for archive in archives:
        if harm == "damaged":
            flip(archive, 900)
        else:
            archive.unlink()

    with running_service(recovering) as service:
        missing, *acceptable = service.status()["problems"]
        assert missing["code"] == "database_missing"
        assert [problem["code"] for problem in acceptable] == (["recovery_incomplete"] if harm == "damaged" else [])
        assert ("accept" if harm == "damaged" else "AUTO_RECOVER=empty") in missing["hint"]
        assert not recovering.database.exists()


def test_an_archive_that_is_put_back_lets_it_recover(recovering: Settings, tmp_path: Path) -> None:
    (archive,), events = with_archives_below(recovering)
    archive.rename(tmp_path / archive.name)
    with running_service(recovering) as service:
        assert problem_codes(service) == ["database_missing"]
    (tmp_path / archive.name).rename(archive)

    with running_service(recovering) as service:
        assert live(service) == events
        assert service.status()["status"] == "ok"


def test_an_archive_with_a_known_problem_is_tried_before_giving_up(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3, "archived")
        backup = service.create_backup().backup
        put(service, 3, "journaled")
        service.journal.folder.remove([each for each in service.journal.folder.segments()[0] if each.first == 1])
        service.catalogue.record_problem(backup.name, "its disk was away")
        events = live(service)
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == events


def test_a_record_alone_tells_that_there_was_something(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3, "a")
        service.restore_moment(Moment(sequence=2))
        service.journal.flush(survey=True)
        service.journal.folder.remove(service.journal.folder.segments()[0])
        service.journal.stop = lambda: None  # type: ignore[method-assign]
    lose(recovering)

    with running_service(recovering) as service:
        assert problem_codes(service) == ["database_missing"]


def test_it_is_recovered_as_empty_also_where_archives_hold_more_and_no_segment_is_left(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3, "a")
        service.create_backup()
        service.restore_moment(Moment(sequence=0))
        service.journal.flush(survey=True)
        service.journal.folder.remove(service.journal.folder.segments()[0])
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == []
        assert service.status()["lastRestore"]["reason"] == "recovered"


def test_a_registry_that_was_empty_is_recovered_as_empty(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3, "a")
        service.restore_moment(Moment(sequence=0))
        service.journal.flush(survey=True)
    lose(recovering)
    with running_service(recovering) as service:
        assert live(service) == []
        assert service.status()["status"] == "ok"


def test_what_lies_behind_a_gap_is_said_to_be_missing(recovering: Settings) -> None:
    with running_service(recovering) as service:
        for number in range(3):
            put(service, 2, f"part-{number}")
        events = live(service)
        service.journal.folder.remove([each for each in service.journal.folder.segments()[0] if each.first == 3])
        service.journal.stop = lambda: None  # type: ignore[method-assign]
    lose(recovering)
    with running_service(recovering) as service:
        accept_incomplete_recovery(service)
        assert live(service) == events[:2]
        assert any("beyond 2" in note for note in service.status()["lastRestore"]["notes"])


def of_another_installation(service: StoreService, *, later: bool) -> None:
    """Copy in segments of another installation, of a generation that began after ours."""
    (ours,) = service.journal.folder.segments()[0]
    born = ours.header.generation.at + (10**9 if later else 0)
    generation = Generation("00000000000000aa", None, 0, "created", born)
    about = msgspec.structs.replace(ours.header, installation="another one", generation=generation, previous=None)
    lines = [line.replace(b'"id":"a-', b'"id":"x-') for line in segment.read_lines(ours)]
    segment.write_segment(service.journal.folder.generation_folder(generation.id), about, lines)


@pytest.mark.parametrize("record", [True, False])
def test_the_journal_of_another_installation_is_not_recovered_in_place_of_ours(
    recovering: Settings, *, record: bool
) -> None:
    with running_service(recovering) as service:
        put(service, 4, "a")
        events = live(service)
        of_another_installation(service, later=True)
    if not record:
        (recovering.backup_dir / "journal" / "registry.json").unlink()
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == events
        service.restore_moment(Moment(sequence=2, generation="00000000000000aa"))
        assert b'"id":"x-1"' in live(service)[1]


@pytest.mark.parametrize("parts", [(10,), (3, 7)])
def test_an_archive_of_a_copy_that_went_on_elsewhere_is_not_mixed_with_our_journal(
    recovering: Settings, tmp_path: Path, parts: tuple[int, ...]
) -> None:
    """The last event of the archive is within our segment, or right before it."""
    with running_service(recovering) as service:
        put(service, 5, "shared")
    folders = {f"{name}_dir": tmp_path / "elsewhere" / name for name in ("storage", "backup", "restore")}
    shutil.copytree(recovering.storage_dir, folders["storage_dir"])
    with running_service(dataclasses.replace(recovering, **folders)) as elsewhere:
        elsewhere.accept_problem("backups_changed")
        put(elsewhere, 3, "theirs")
        archive = Path(elsewhere.create_backup().backup.path)
    with running_service(recovering) as service:
        for number, count in enumerate(parts):
            put(service, count, f"ours-{number}")
        events, left = live(service), generation(service)
        shutil.copy(archive, recovering.backup_dir)
        service.restore_moment(Moment(sequence=2))
        service.restore_moment(Moment(sequence=15, generation=left))
        assert live(service) == events
        restored = [entry.name for entry in service.list_backups()]
        assert restored == [archive.name], "it is what a way would begin with"
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == events


def test_a_clock_that_was_set_back_does_not_bring_a_left_generation_back(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 4, "a")
        service.restore_moment(Moment(sequence=2))
        put(service, 1, "b")
        events = live(service)
        record = service.journal.folder.read_record()
        assert record is not None
        (first, second) = record.registry.generations
        back = msgspec.structs.replace(second, at=first.at - 10**9)
        registry = msgspec.structs.replace(record.registry, generations=(back, first))
        service.journal.stop()
    for path in (recovering.backup_dir / "journal" / second.id).iterdir():
        found = segment.read_header(path)
        lines = segment.read_lines(found)
        segment.write_segment(path.parent, msgspec.structs.replace(found.header, generation=back), lines)
    JournalFolder(recovering.backup_dir).write_record(msgspec.structs.replace(record, registry=registry))
    lose(recovering)

    with running_service(recovering) as service:
        assert live(service) == events
