"""The scheduled rehearsal: when it runs, what is no failure, and what health says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.errors import RestoreRunning
from eventvault.operations.entry import OperationQuery
from eventvault.rehearsals import rehearse
from eventvault.rehearsals.schedule import RehearsalSchedule
from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.restoring import flip, problem_codes, put
from tests.stores import folders_beneath, running_service

pytestmark = pytest.mark.slow

SATURDAY = clock.parse("2026-11-28T12:00:00Z")
SUNDAY_AT_THREE = clock.parse("2026-11-29T03:00:00Z")
WEEK = 7 * 86_400_000_000


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        yield service


class Scheduled:
    """The schedule of a store, at a time that the test sets."""

    def __init__(self, service: StoreService, **settings: str) -> None:
        self.now = SATURDAY
        changed = load({**folders_beneath(service.settings.storage_dir.parent), **settings})
        self.schedule = RehearsalSchedule(changed, service.rehearsals, service.operations, lambda: self.now)
        self.schedule.start()

    def pass_to(self, now: int) -> None:
        self.now = now
        self.schedule.each_second()
        running = self.schedule._cron._thread
        if running is not None:
            running.join(60)

    @property
    def outcome(self) -> str | None:
        outcome: str | None = self.schedule.describe()["lastOutcome"]
        return outcome


@pytest.mark.slow
def test_it_rehearses_the_newest_state_each_sunday_at_three(service: StoreService) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    scheduled = Scheduled(service)
    assert scheduled.schedule.next_run == "2026-11-29T03:00:00.000Z"

    scheduled.pass_to(SUNDAY_AT_THREE - 1)
    assert service.list_rehearsals() == []
    for instant in (SUNDAY_AT_THREE, SUNDAY_AT_THREE + 1_000_000, SUNDAY_AT_THREE + WEEK - 1):
        scheduled.pass_to(instant)
    assert [result.backup for result in service.list_rehearsals()] == [name]
    assert scheduled.outcome == f"{name} can be restored"
    assert scheduled.schedule.describe()["lastRun"] == "2026-11-29T03:00:00.000Z"
    assert scheduled.schedule.next_run == "2026-12-06T03:00:00.000Z"

    scheduled.pass_to(SUNDAY_AT_THREE + WEEK)
    assert len(service.list_rehearsals()) == 2


def test_its_time_is_that_of_the_zone_and_off_is_never(service: StoreService) -> None:
    berlin = Scheduled(service, REHEARSAL_CRON="30 4 * * *", SCHEDULE_TIME_ZONE="Europe/Berlin")
    off = Scheduled(service, REHEARSAL_CRON="off")

    assert berlin.schedule.next_run == "2026-11-29T03:30:00.000Z"
    assert off.schedule.next_run is None
    off.pass_to(SUNDAY_AT_THREE)
    assert off.schedule.describe()["enabled"] is False
    assert off.outcome is None


def test_no_archive_and_a_restore_under_way_are_no_failure(service: StoreService) -> None:
    scheduled = Scheduled(service)
    scheduled.pass_to(SUNDAY_AT_THREE)
    assert (scheduled.outcome or "").startswith("skipped: ")
    put(service, 3, "a")
    service.restorer.running = "something", clock.now()
    with pytest.raises(RestoreRunning):
        service.rehearse()

    scheduled.pass_to(SUNDAY_AT_THREE + WEEK)

    assert (scheduled.outcome or "").startswith("skipped: ")
    assert service.list_rehearsals() == []
    assert problem_codes(service) == []


def test_no_room_is_a_problem_that_does_not_degrade_until_there_is_room(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")
    scheduled = Scheduled(service)
    with monkeypatch.context() as patch:
        patch.setattr(rehearse, "RESERVE_BYTES", 2**62)
        scheduled.pass_to(SUNDAY_AT_THREE)

    assert (scheduled.outcome or "").startswith("skipped: ")
    (problem,) = service.status()["problems"]
    assert problem["code"] == "rehearsal_no_room"
    assert "bytes" in problem["message"]
    assert service.status()["status"] == "ok"
    assert service.list_rehearsals() == []

    scheduled.pass_to(SUNDAY_AT_THREE + WEEK)
    assert problem_codes(service) == []
    assert len(service.list_rehearsals()) == 1


@pytest.mark.slow
def test_a_failed_one_degrades_and_says_where(service: StoreService) -> None:
    put(service, 50, "a")
    entry = service.create_backup().backup
    flip(Path(entry.path), entry.size // 2)
    scheduled = Scheduled(service)

    scheduled.pass_to(SUNDAY_AT_THREE)

    assert (scheduled.outcome or "").startswith("failed: ")
    problems = {problem["code"]: problem for problem in service.status()["problems"]}
    assert "byte" in problems["rehearsal_failed"]["message"]
    assert service.status()["status"] == "degraded"


@pytest.mark.slow
def test_each_run_is_listed_as_an_operation_of_the_schedule_and_a_skipped_one_is_not(service: StoreService) -> None:
    scheduled = Scheduled(service)
    scheduled.pass_to(SUNDAY_AT_THREE)
    assert service.list_operations(OperationQuery()) == []
    put(service, 3, "a")

    scheduled.pass_to(SUNDAY_AT_THREE + WEEK)

    (entry,) = service.list_operations(OperationQuery())
    assert (entry.kind, entry.started_by, entry.state) == ("rehearse", "schedule", "succeeded")


def test_the_settings_are_checked_at_the_start(settings: Settings) -> None:
    assert str(settings.rehearsal_cron) == "0 3 * * 0"
    assert settings.rehearsal_cron.is_on
    for wrong in ("0 3 * *", "0 0 3 * * 0", "61 * * * *", "0 0 31 2 *", "sundays"):
        with pytest.raises(Exception, match="REHEARSAL_CRON"):
            load({"REHEARSAL_CRON": wrong})
