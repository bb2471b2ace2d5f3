"""The scheduled backups: when they run, when one is skipped, and what health reports if one fails or is late."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventvault import clock
from eventvault.backups.schedule import first_delay
from eventvault.database.registry import create_database
from eventvault.errors import BackupsUnavailable, EventVaultError, NoSpace
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, put_in_the_way

HOUR = 3_600_000
NOW = 1_800_000_000_000_000


class HandScheduler:
    """Runs the periodic backup when the test asks for it, and no other job."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.stopped = False
        self.asked_late = False

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        self.asked_late = self.asked_late or self.stopped
        if name != "auto-backup":
            return
        self.asked.append((interval, delay))
        self.run = job

    def next_run(self, name: str) -> int | None:
        return NOW if name == "auto-backup" and self.asked else None

    def stop(self) -> None:
        self.stopped = True


class Scheduled:
    def __init__(self, settings: Settings) -> None:
        self.scheduler = HandScheduler()
        self.service = StoreService(
            settings, service_starts=True, scheduler=self.scheduler, with_kafka=False, health_shared=0.0
        )

    @property
    def job(self) -> dict[str, Any]:
        return dict(self.service.status()["jobs"]["autoBackup"])


@pytest.fixture
def scheduled(settings: Settings) -> Iterator[Scheduled]:
    one = Scheduled(settings)
    one.service.initialize()
    yield one
    one.service.stop()
    one.service.bus.close()
    assert one.scheduler.stopped


@pytest.mark.parametrize(
    ("newest", "delay"),
    [
        (None, HOUR),
        (NOW, HOUR),
        (NOW - 600_000_000, HOUR - 600_000),
        (NOW - HOUR * 1000, 0),
        (NOW - 5 * HOUR * 1000, 0),
        (NOW + 1, HOUR),
    ],
)
def test_the_first_run_is_when_the_newest_backup_is_one_interval_old(newest: int | None, delay: int) -> None:
    assert first_delay(HOUR, newest, NOW) == delay


def test_it_is_asked_for_once_with_the_interval_of_the_settings(scheduled: Scheduled) -> None:
    assert scheduled.scheduler.asked == [(HOUR, HOUR)]
    assert scheduled.job == {
        "enabled": True, "intervalMs": HOUR, "cron": None, "timeZone": "UTC", "lastRun": None, "lastOutcome": None,
        "nextRun": clock.format_milliseconds(NOW),
    }  # fmt: skip


@pytest.mark.slow
def test_a_store_that_is_stopped_while_it_starts_schedules_nothing_afterwards(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Scheduled(settings)
    lifecycle, real = one.service.lifecycle, one.service.bus.init
    opening = threading.Event()

    def init(*arguments: Any) -> None:
        opening.set()
        assert lifecycle._stopping.wait(60)
        real(*arguments)

    monkeypatch.setattr(one.service.bus, "init", init)
    starting = threading.Thread(target=one.service.initialize)
    starting.start()
    assert opening.wait(60)

    one.service.stop()
    starting.join(60)
    one.service.bus.close()

    assert one.scheduler.stopped
    assert not one.scheduler.asked_late
    assert one.service.state == "stopping"


@pytest.mark.slow
def test_the_newest_backup_of_an_earlier_run_counts(settings: Settings) -> None:
    one = Scheduled(settings)
    one.service.initialize()
    one.service.append(drafts(1))
    one.service.create_backup()
    one.service.stop()
    one.service.bus.close()
    other = Scheduled(settings)
    other.service.initialize()
    other.service.stop()
    other.service.bus.close()

    ((_, delay),) = other.scheduler.asked
    assert delay < HOUR


@pytest.mark.slow
def test_it_backs_up(scheduled: Scheduled) -> None:
    scheduled.service.append(drafts(2))

    scheduled.scheduler.run()

    (entry,) = scheduled.service.list_backups()
    assert (entry.events, entry.label) == (2, None)
    assert scheduled.job["lastOutcome"] == entry.name
    assert scheduled.job["lastRun"]


@pytest.mark.slow
def test_it_is_skipped_and_said_so_when_nothing_changed(scheduled: Scheduled, caplog: pytest.LogCaptureFixture) -> None:
    scheduled.service.append(drafts(2))
    scheduled.scheduler.run()
    with caplog.at_level(logging.INFO, "BackupManager"):
        scheduled.scheduler.run()

    assert len(scheduled.service.list_backups()) == 1
    assert "skipped" in scheduled.job["lastOutcome"]
    assert any(record.name == "BackupManager" and "nothing changed" in record.message for record in caplog.records)
    scheduled.service.append(drafts(1, "more"))
    scheduled.scheduler.run()
    assert len(scheduled.service.list_backups()) == 2


def test_an_empty_registry_is_not_backed_up(scheduled: Scheduled) -> None:
    scheduled.scheduler.run()

    assert scheduled.service.list_backups() == []
    assert "skipped" in scheduled.job["lastOutcome"]


@pytest.mark.slow
def test_a_restore_is_a_change(scheduled: Scheduled) -> None:
    scheduled.service.append(drafts(2))
    scheduled.scheduler.run()
    (entry,) = scheduled.service.list_backups()
    scheduled.service.restore(entry.name)

    scheduled.scheduler.run()

    assert len(scheduled.service.list_backups()) == 2


@pytest.mark.slow
def test_one_that_was_deleted_by_hand_is_made_again(scheduled: Scheduled, settings: Settings) -> None:
    scheduled.service.append(drafts(2))
    scheduled.scheduler.run()
    next(settings.backup_dir.glob("*.tar.gz")).unlink()

    scheduled.scheduler.run()

    assert len(scheduled.service.list_backups()) == 1


@pytest.mark.slow
def test_a_failure_degrades_health_until_a_backup_is_made(scheduled: Scheduled) -> None:
    run = scheduled.service.chores.run

    def full(name: str, **_: object) -> dict[str, Any]:
        raise NoSpace("the disk is full", hint="free some space")

    scheduled.service.append(drafts(2))
    scheduled.service.chores.run = full  # type: ignore[method-assign]
    scheduled.scheduler.run()

    status = scheduled.service.status()
    assert status["status"] == "degraded"
    assert any("the disk is full" in problem["message"] and problem["hint"] for problem in status["problems"])
    assert "failed" in scheduled.job["lastOutcome"]
    assert scheduled.service.append(drafts(1, "goes-on")).last_sequence == 3
    scheduled.service.chores.run = run  # type: ignore[method-assign]
    scheduled.service.create_backup("by hand")
    assert scheduled.service.status()["status"] == "ok"
    scheduled.service.append(drafts(1, "more"))
    scheduled.scheduler.run()
    assert scheduled.service.status()["status"] == "ok"


@pytest.mark.slow
def test_a_backup_folder_that_is_no_folder_fails_the_run_and_it_recovers(
    scheduled: Scheduled, settings: Settings
) -> None:
    scheduled.service.append(drafts(2))
    put_in_the_way(settings.backup_dir)
    scheduled.scheduler.run()

    assert scheduled.service.status()["status"] == "degraded"
    assert scheduled.service.append(drafts(1, "goes-on")).last_sequence == 3
    settings.backup_dir.unlink()
    scheduled.service.accept_problem("backups_changed")
    scheduled.scheduler.run()
    assert scheduled.service.status()["status"] == "ok"
    assert len(scheduled.service.list_backups()) == 1


@pytest.mark.slow
def test_a_backup_folder_that_was_deleted_comes_back_with_the_next_run_after_that_was_accepted(
    scheduled: Scheduled, settings: Settings
) -> None:
    scheduled.service.append(drafts(2))
    scheduled.scheduler.run()
    settings.backup_dir.rename(settings.backup_dir.with_name("deleted"))

    scheduled.scheduler.run()
    assert not settings.backup_dir.exists()
    scheduled.service.accept_problem("backups_changed")
    scheduled.scheduler.run()

    assert len(scheduled.service.list_backups()) == 1
    assert scheduled.service.status()["status"] == "ok"


@pytest.mark.slow
def test_a_catalogue_that_cannot_be_read_at_the_start_keeps_nobody_from_serving(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Scheduled(settings)
    entries = one.service.catalogue.entries

    def unreadable() -> Any:
        raise BackupsUnavailable("reading failed", hint="x")

    monkeypatch.setattr(one.service.catalogue, "entries", unreadable)
    settings.database.parent.mkdir(parents=True, exist_ok=True)
    create_database(settings.database)
    one.service.initialize()
    try:
        assert one.service.append(drafts(1)).last_sequence == 1
        assert one.scheduler.asked == [(HOUR, HOUR)]
    finally:
        monkeypatch.setattr(one.service.catalogue, "entries", entries)
        one.service.stop()
        one.service.bus.close()


@pytest.mark.slow
def test_it_can_be_switched_off(settings_with: Callable[..., Settings]) -> None:
    one = Scheduled(settings_with({"AUTO_BACKUP_ENABLED": "false"}))
    one.service.initialize()
    try:
        assert one.scheduler.asked == []
        assert (one.job["enabled"], one.job["intervalMs"], one.job["nextRun"]) == (False, None, None)
    finally:
        one.service.stop()
        one.service.bus.close()


def test_cron_stays_on_when_the_interval_is_switched_off(settings_with: Callable[..., Settings]) -> None:
    one = Scheduled(
        settings_with(
            {"AUTO_BACKUP_ENABLED": "false", "BACKUP_CRON": "0 0 1 1 *", "SCHEDULE_TIME_ZONE": "Europe/Berlin"}
        )
    )
    one.service.initialize()
    try:
        assert one.scheduler.asked == []
        assert one.job.items() >= {"enabled": True, "cron": "0 0 1 1 *", "timeZone": "Europe/Berlin"}.items()
        assert one.job["nextRun"].endswith("-12-31T23:00:00.000Z")
    finally:
        one.service.stop()
        one.service.bus.close()


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b'{"format": 1}', b"\0" * 100])
def test_a_damaged_note_of_the_schedule_is_named_and_stops_nothing(
    settings_with: Callable[..., Settings], content: bytes
) -> None:
    settings = settings_with({"BACKUP_CRON": "0 0 1 1 *"})
    settings.storage_dir.mkdir(parents=True, exist_ok=True)
    (settings.storage_dir / "schedule_cron.json").write_bytes(content)
    one = Scheduled(settings)
    one.service.initialize()
    try:
        (problem,) = one.service.status()["problems"]
        assert problem["code"] == "file_damaged"
        assert "schedule_cron.json" in problem["message"]
        assert one.job["nextRun"]
    finally:
        one.service.stop()
        one.service.bus.close()


class Heard:
    """Notes what the listeners to the scheduled backups hear."""

    def __init__(self, scheduled: Scheduled) -> None:
        self.words: list[str] = []
        scheduled.service.schedule.outcomes.add(self)

    def begun(self) -> None:
        self.words.append("begun")

    def succeeded(self) -> None:
        self.words.append("succeeded")

    def failed(self, error: EventVaultError) -> None:
        self.words.append(error.code)


@pytest.mark.slow
def test_each_one_is_told_of_when_it_begins_and_ends(scheduled: Scheduled) -> None:
    heard = Heard(scheduled)
    scheduled.service.append(drafts(1))
    scheduled.scheduler.run()
    scheduled.scheduler.run()
    run = scheduled.service.chores.run

    def full(name: str, **_: object) -> dict[str, Any]:
        raise NoSpace("the disk is full", hint="free some space")

    scheduled.service.append(drafts(1, "more"))
    scheduled.service.chores.run = full  # type: ignore[method-assign]
    scheduled.scheduler.run()
    scheduled.service.chores.run = run  # type: ignore[method-assign]
    scheduled.service.create_backup("by hand")

    assert heard.words == ["begun", "succeeded", "begun", "succeeded", "begun", "no_space"]


def late(scheduled: Scheduled) -> dict[str, Any] | None:
    problems = scheduled.service.status()["problems"]
    return next((problem for problem in problems if problem["code"] == "backup_late"), None)


@pytest.mark.slow
def test_one_that_is_due_for_half_its_interval_and_not_made_is_late_until_it_is(scheduled: Scheduled) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    run, interval = scheduled.service.chores.run, scheduled.service.schedule._interval

    def slow(name: str, **arguments: Any) -> dict[str, Any]:
        begun.set()
        assert goes_on.wait(60)
        return run(name, **arguments)

    scheduled.service.append(drafts(1))
    scheduled.service.chores.run = slow  # type: ignore[method-assign]
    running = threading.Thread(target=scheduled.scheduler.run)
    running.start()
    assert begun.wait(60)
    interval.seconds = HOUR / 1000 / 2 - 60
    assert late(scheduled) is None

    interval.seconds = HOUR / 1000 / 2 + 60
    problem = late(scheduled)
    assert problem is not None
    assert (problem["about"], problem["acceptable"]) == ({"kind": "schedule", "name": "AUTO_BACKUP_INTERVAL"}, False)
    assert problem["since"]
    assert scheduled.service.status()["status"] == "degraded"
    goes_on.set()
    running.join(60)
    assert late(scheduled) is None
    assert scheduled.service.status()["status"] == "ok"


def interrupted(settings: Settings, *, is_repeated: bool) -> Scheduled:
    """A store that starts after one was killed while it backed up."""
    one = Scheduled(settings)
    one.service.initialize()
    one.service.append(drafts(1))
    one.service.schedule._interval.begin(clock.now(), is_repeated=is_repeated)
    one.service.schedule._interval.save()
    one.service.stop()
    one.service.bus.close()
    other = Scheduled(settings)
    other.service.initialize()
    return other


@pytest.mark.slow
@pytest.mark.parametrize("is_repeated", [False, True])
def test_one_that_was_interrupted_is_repeated_at_once_and_then_after_a_whole_interval(
    settings: Settings, is_repeated: bool
) -> None:
    other = interrupted(settings, is_repeated=is_repeated)
    try:
        assert other.scheduler.asked == [(HOUR, HOUR if is_repeated else 0)]
    finally:
        other.service.stop()
        other.service.bus.close()


@pytest.mark.slow
def test_one_that_was_interrupted_counts_as_due_in_the_next_store_until_one_is_made(settings: Settings) -> None:
    other = interrupted(settings, is_repeated=False)
    try:
        other.service.schedule._interval.seconds = HOUR / 1000
        assert late(other) is not None
        other.service.create_backup("by hand")
        assert late(other) is None, "a backup that is made on request is one"
        other.scheduler.run()
        assert other.service.schedule._interval.since is None
    finally:
        other.service.stop()
        other.service.bus.close()
