"""Restores to a moment while the service runs, what they would do, and what a lost disk leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault.errors import JournalDamaged, MomentUnavailable, NoSpace, RestoreRunning
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset
from eventvault.restore import moment as moments
from eventvault.restore import speed
from eventvault.restore.speed import Took
from eventvault.settings import Settings
from eventvault.store import keys
from eventvault.store.interface import Moment, ScanQuery
from eventvault.store.registry import AppendBatch
from eventvault.store.service import StoreService
from tests.restoring import drafts, flip, leftovers, problem_codes
from tests.stores import running_service

SLOW = {"JOURNAL_INTERVAL": "3600000"}


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """Segments are written when a test says so."""
    with running_service(settings_with(SLOW)) as service:
        yield service


def put(service: StoreService, count: int, prefix: str) -> None:
    service.append(drafts(count, prefix))
    assert service.journal.flush()


def live(service: StoreService) -> list[bytes]:
    return service.scan(ScanQuery(limit=1000)).events


def generation(service: StoreService) -> str:
    found: str = service.status()["store"]["generation"]
    return found


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
    monkeypatch.setattr(moments, "free_bytes", lambda _: 10)
    with pytest.raises(NoSpace) as caught:
        service.restore_moment(Moment(sequence=2))
    assert caught.value.details["needed"] > 0
    assert len(live(service)) == 3


def test_a_second_restore_is_refused_and_names_the_first(service: StoreService) -> None:
    put(service, 3, "a")
    with service.restorer._under_way:
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


def test_what_kafka_brought_and_is_left_behind_is_not_taken_again(service: StoreService) -> None:
    def taken(count: int, following: int) -> None:
        note = offsets.note("events", 0, StoredOffset(next=following))
        service.bus.committer.append(AppendBatch(drafts(count, f"at-{following}"), b"12345678", [note]))
        assert service.journal.flush()

    taken(2, 2)
    taken(3, 5)

    service.restore_moment(Moment(sequence=2))

    with service.bus.using() as registry:
        kept = offsets.stored_offsets("events", registry.notes(keys.KAFKA))
    assert kept[0].next == 5


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
            note = offsets.note("events", 2, StoredOffset(next=following, crc=9))
            service.bus.committer.append(AppendBatch(drafts(1, f"at-{following}"), b"12345678", [note]))
            service.journal.flush()
    lose(recovering)
    with running_service(recovering) as service, service.bus.using() as registry:
        kept = offsets.stored_offsets("events", registry.notes(keys.KAFKA))
    assert kept == {2: StoredOffset(next=7, crc=9)}


def test_a_damaged_segment_costs_what_follows_it_and_is_named(recovering: Settings) -> None:
    with running_service(recovering) as service:
        for number in range(3):
            put(service, 2, f"part-{number}")
        events = live(service)
        damaged = service.journal.folder.segments()[0][1].path
    flip(damaged, -10)
    lose(recovering)

    with running_service(recovering) as service:
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
    assert service.timeline()["gaps"] == [{"generation": first, "first": 6, "last": 6}]
    with pytest.raises(MomentUnavailable):
        service.restore_moment(Moment(sequence=8, generation=first))
    assert service.timeline()["generations"][0]["lastSequence"] == 5


def test_predictions_follow_this_machines_own_restores(tmp_path: Path) -> None:
    assert speed.predict([], 50_000_000) == 2.0
    took = [Took(0, 1.0), Took(100_000_000, 2.0), Took(200_000_000, 3.0)]
    assert speed.predict(took, 400_000_000) == 5.0
    for number in range(30):
        speed.note(tmp_path, number, 1.0)
    assert [each.size for each in speed.known(tmp_path)] == list(range(10, 30))
    (tmp_path / speed.NAME).write_text("no json")
    assert speed.known(tmp_path) == []
