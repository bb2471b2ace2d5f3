"""A job at the firings of a schedule: once each, also over restarts, and late by the time in which a store ran."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventvault import clock, cron_job
from eventvault.cron_job import CronJob, DueRun
from eventvault.errors import Cancelled
from eventvault.schedules import Cron, Schedule, parse_zone

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
NOON = clock.parse("2026-06-01T12:00:00Z")


class Hand:
    """A job and its clock in the hand of a test; `job` makes another one over the same note, as the next store does."""

    def __init__(self, path: Path, cron: str = "0 * * * *", zone: str = "UTC") -> None:
        self.path, self.cron, self.zone = path, cron, zone
        self.now = NOON
        self.runs: list[int] = []
        self.work: Callable[[], None] = lambda: None
        self.start()

    def start(self) -> None:
        schedule = Schedule(Cron(self.cron), parse_zone(self.zone))
        self.job = CronJob("job", schedule, self.path, self._run, lambda: self.now)
        self.job.start()

    def at(self, now: int) -> int:
        """Set the clock, let the job see it, and return how many runs there were by then."""
        self.now = now
        self.job.each_second()
        self.wait()
        return len(self.runs)

    def wait(self) -> None:
        thread = self.job._thread
        if thread is not None:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self) -> None:
        self.runs.append(self.now)
        self.work()


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path / "schedule.json")


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hand], None]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def work() -> None:
        raise Killed

    return lambda hand: setattr(hand, "work", work)


def test_it_runs_at_each_firing_once(hand: Hand) -> None:
    assert hand.job.next_run == NOON + HOUR
    assert hand.at(NOON + HOUR - 1) == 0
    assert hand.at(NOON + HOUR) == 1
    assert hand.at(NOON + HOUR + 1) == 1
    assert hand.job.next_run == NOON + 2 * HOUR
    assert hand.at(NOON + 2 * HOUR) == 2


def test_one_that_is_off_does_nothing_and_writes_nothing(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "schedule.json", cron="off")
    assert hand.at(NOON + DAY) == 0
    assert hand.job.next_run is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_missed_while_nothing_ran_is_made_up_for_once(hand: Hand) -> None:
    hand.at(NOON + HOUR)
    hand.now = NOON + 10 * HOUR + MINUTE
    hand.start()
    assert hand.at(hand.now) == 2
    assert hand.at(hand.now + MINUTE) == 2
    assert hand.at(NOON + 11 * HOUR) == 3


def test_the_very_first_firing_can_be_missed_too(hand: Hand) -> None:
    hand.now = NOON + 2 * HOUR
    hand.start()
    assert hand.at(hand.now) == 1


def test_a_restart_without_a_missed_firing_makes_nothing_up(hand: Hand) -> None:
    hand.at(NOON + HOUR)
    for _ in range(3):
        hand.start()
        assert hand.at(NOON + HOUR + MINUTE) == 1


def test_a_schedule_that_was_changed_begins_anew(hand: Hand) -> None:
    hand.at(NOON + HOUR)
    hand.cron, hand.now = "30 * * * *", NOON + 10 * HOUR
    hand.start()
    assert hand.at(hand.now) == 1
    hand.zone = "Asia/Kolkata"
    hand.now += 10 * HOUR
    hand.start()
    assert hand.at(hand.now) == 1


@pytest.mark.parametrize("back", [MINUTE, 3 * HOUR, 365 * DAY])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_set_back_fires_nothing_twice(hand: Hand, back: int, restarts: bool) -> None:
    hand.at(NOON + HOUR)
    hand.at(NOON + 2 * HOUR)
    hand.now = NOON + 2 * HOUR - back
    if restarts:
        hand.start()
    before = len(hand.runs)
    assert hand.at(hand.now) == before
    if back == 365 * DAY:
        assert hand.at(hand.now + HOUR) == before + 1, "a clock that is set back to before the beginning goes on"
    else:
        assert hand.at(NOON + 2 * HOUR + MINUTE) == before
        assert hand.at(NOON + 3 * HOUR) == before + 1


def test_a_run_that_ended_with_its_store_is_repeated_once(hand: Hand, kill: Callable[[Hand], None]) -> None:
    kill(hand)
    assert hand.at(NOON + HOUR) == 1
    for expected in (2, 2, 2):
        hand.start()
        assert hand.at(NOON + HOUR + MINUTE) == expected
    assert hand.job.due.since == NOON + HOUR, "it is still due"
    hand.work = lambda: None
    assert hand.at(NOON + 2 * HOUR) == 3
    assert hand.job.due.since is None


def test_a_run_that_is_cancelled_by_a_stop_is_repeated_and_one_by_a_user_is_not(hand: Hand) -> None:
    def cancelled() -> None:
        raise Cancelled("cancelled", hint="x")

    def stopped() -> None:
        hand.job.stop()
        cancelled()

    hand.work = cancelled
    hand.at(NOON + HOUR)
    hand.start()
    assert hand.at(NOON + HOUR + MINUTE) == 1
    hand.work = stopped
    assert hand.at(NOON + 2 * HOUR) == 2
    assert hand.at(NOON + 3 * HOUR) == 2, "after a stop nothing begins"
    for expected in (3, 4):
        hand.start()
        assert hand.at(NOON + 2 * HOUR + MINUTE) == expected, "a stop is no crash, so it is repeated after each"
    hand.work = lambda: None
    hand.start()
    assert hand.at(NOON + 2 * HOUR + MINUTE) == 5


def test_firings_during_a_run_are_made_up_for_by_one(hand: Hand) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert goes_on.wait(60)

    hand.work = slow
    hand.now = NOON + HOUR
    hand.job.each_second()
    assert begun.wait(60)
    for hour in range(2, 6):
        hand.now = NOON + hour * HOUR
        hand.job.each_second()
    assert len(hand.runs) == 1
    goes_on.set()
    hand.wait()
    assert hand.at(NOON + 5 * HOUR + MINUTE) == 2
    assert hand.at(NOON + 5 * HOUR + 2 * MINUTE) == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"\0" * 100])
def test_a_damaged_note_is_quarantined_and_makes_nothing_up(hand: Hand, content: bytes) -> None:
    hand.at(NOON + HOUR)
    hand.path.write_bytes(content)
    hand.now = NOON + 10 * HOUR
    hand.start()
    assert hand.at(hand.now) == 1
    assert hand.path.with_name("schedule.json.damaged").exists()
    assert hand.at(NOON + 11 * HOUR) == 2


def test_a_note_that_cannot_be_written_holds_up_no_run(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cron_job.small_files, "write", full)
    with caplog.at_level(logging.WARNING):
        assert hand.at(NOON + HOUR) == 1
    assert "No space left" in caplog.text
    assert hand.at(NOON + HOUR + 1) == 1


class Seconds:
    """The monotonic clock of `DueRun`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(cron_job, "time", SimpleNamespace(monotonic=lambda: self.now))

    def pass_by(self, run: DueRun, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            run.each_second()


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    return Seconds(monkeypatch)


def test_a_run_counts_as_late_by_the_time_that_it_was_due(tmp_path: Path, seconds: Seconds) -> None:
    run = DueRun(tmp_path / "note", "x")
    seconds.pass_by(run, 100)
    run.begin(NOON)
    seconds.pass_by(run, 30)
    assert not run.is_late_by(31_000_000)
    assert run.is_late_by(30_000_000)
    run.run(lambda: None, lambda: False)
    assert not run.is_late_by(0)


def test_a_pause_of_the_process_makes_nothing_late(tmp_path: Path, seconds: Seconds) -> None:
    run = DueRun(tmp_path / "note", "x")
    run.begin(NOON)
    seconds.now += 8 * 3600
    run.each_second()
    assert run.seconds <= 5


def test_stores_that_are_killed_one_after_the_other_make_a_run_late_and_the_time_between_them_does_not(
    tmp_path: Path, seconds: Seconds
) -> None:
    path = tmp_path / "note"
    for life in range(3):
        run = DueRun(path, "x")
        assert run.load() == (life > 0)
        run.begin(NOON + life * DAY)
        run.save()
        seconds.pass_by(run, 150)
        seconds.now += DAY / 1e6
    found = DueRun(path, "x")
    found.load()
    assert found.since == NOON
    assert 3 * 120 <= found.seconds <= 3 * 150


def test_what_was_due_under_another_schedule_counts_no_more(tmp_path: Path) -> None:
    run = DueRun(tmp_path / "note", "x")
    run.begin(NOON)
    run.save()
    other = DueRun(tmp_path / "note", "y")
    assert not other.load()
    assert other.since is None


def test_the_time_of_the_file_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "note"
    run = DueRun(path, "x")
    run.begin(NOON)
    run.save()
    os.utime(path, (0, 0))
    found = DueRun(path, "x")
    assert found.load()
    assert found.seconds == 0
