"""The guard of the clock: leaps ahead are held, small steps and long pauses between boots are believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault import clock
from eventvault.clock_guard import MAX_LEAD, MAX_LEAD_AFTER_BOOT, SAVE_EVERY, SETTLE_AFTER, ClockGuard, ClockReading

SECOND, HOUR, DAY, YEAR = 1_000_000, 3_600_000_000, 86_400_000_000, 365 * 86_400_000_000
START = clock.parse("2026-11-29T08:00:00Z")


class Machine:
    """A machine whose clock can be set. Both clocks advance by `pass_time` alone."""

    def __init__(self) -> None:
        self.wall, self.uptime, self.boot = START, 5 * HOUR, "first"

    def pass_time(self, microseconds: int) -> None:
        self.wall += microseconds
        self.uptime += microseconds

    def reboot(self, off: int) -> None:
        self.wall += off
        self.uptime, self.boot = 0, self.boot + "+"

    def guard(self, folder: Path) -> ClockGuard:
        return ClockGuard(folder, lambda: ClockReading(self.wall, self.uptime), lambda: self.boot)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def guard(machine: Machine, tmp_path: Path) -> ClockGuard:
    return machine.guard(tmp_path)


@pytest.mark.parametrize("step", [0, 1, SECOND, MAX_LEAD, -SECOND, -MAX_LEAD])
def test_a_small_step_is_believed(machine: Machine, guard: ClockGuard, step: int) -> None:
    machine.wall += step
    assert guard.now() == START + step
    assert guard.held_since is None


def test_a_leap_that_another_process_accepts_is_believed_here_too(machine: Machine, tmp_path: Path) -> None:
    """The dispatcher of jobs follows the store, and holds until then."""
    store, dispatcher = machine.guard(tmp_path), machine.guard(tmp_path)
    store.save()
    machine.wall += DAY
    for _ in range(3):
        dispatcher.follow()
        store.save()
        assert dispatcher.now() == store.now() == START
    store.accept()
    store.save()
    assert dispatcher.now() == START
    dispatcher.follow()
    assert dispatcher.now() == store.now() == START + DAY
    assert dispatcher.held_since is None


def test_a_clock_that_was_set_back_and_settled_elsewhere_may_not_leap_to_where_it_was(
    machine: Machine, tmp_path: Path
) -> None:
    store, dispatcher = machine.guard(tmp_path), machine.guard(tmp_path)
    machine.wall -= DAY
    for _ in range(2):
        store.settle(0)
        store.save()
        assert dispatcher.now() == store.now() == machine.wall
        dispatcher.follow()
        machine.pass_time(SETTLE_AFTER)
    believed = store.now()
    machine.wall += DAY
    assert dispatcher.now() == store.now() == believed


def test_a_note_of_another_boot_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    machine.guard(tmp_path).save()
    machine.reboot(0)
    dispatcher = machine.guard(tmp_path)
    machine.wall += YEAR
    for _ in range(2):
        assert dispatcher.now() == START
        dispatcher.follow()


@pytest.mark.parametrize("step", [MAX_LEAD + 1, DAY, 10 * YEAR])
def test_time_goes_on_by_the_witness_while_the_clock_is_ahead(machine: Machine, guard: ClockGuard, step: int) -> None:
    machine.pass_time(HOUR)
    machine.wall += step
    assert guard.now() == START + HOUR
    machine.pass_time(7 * SECOND)
    assert guard.now() == START + HOUR + 7 * SECOND
    assert (guard.held_since, guard.lead) == (START + HOUR, step)


@pytest.mark.parametrize("step", [MAX_LEAD + 1, DAY, 10 * YEAR])
def test_a_clock_that_returns_is_believed_again(machine: Machine, guard: ClockGuard, step: int) -> None:
    machine.wall += step
    guard.now()
    machine.wall -= step
    machine.pass_time(SECOND)
    assert guard.now() == START + SECOND
    assert guard.held_since is None


def test_a_clock_that_is_ahead_is_believed_once_it_is_accepted(machine: Machine, guard: ClockGuard) -> None:
    machine.wall += YEAR
    guard.now()
    guard.accept()
    machine.pass_time(SECOND)
    assert guard.now() == START + YEAR + SECOND
    assert guard.held_since is None


@pytest.mark.parametrize("step", [2 * HOUR, DAY, YEAR])
def test_a_clock_that_was_set_back_and_returns_is_not_ahead(machine: Machine, guard: ClockGuard, step: int) -> None:
    machine.wall -= step
    assert guard.now() == START - step
    machine.pass_time(DAY)
    machine.wall += step
    assert guard.now() == START + DAY
    assert guard.held_since is None


def test_a_clock_that_was_set_back_for_good_is_believed_once_it_passed_the_newest_event(
    machine: Machine, guard: ClockGuard
) -> None:
    machine.wall -= 2 * HOUR
    for _ in range(4):
        guard.settle(last_recorded=START)
        machine.pass_time(SETTLE_AFTER // 2)
    machine.pass_time(HOUR)
    guard.settle(last_recorded=START)
    machine.wall += 2 * HOUR
    assert guard.now() == machine.wall - 2 * HOUR
    assert guard.held_since is not None


def test_a_leap_while_no_store_runs_is_seen_within_one_boot(
    machine: Machine, guard: ClockGuard, tmp_path: Path
) -> None:
    guard.save()
    machine.pass_time(60 * SECOND)
    machine.wall += DAY
    successor = machine.guard(tmp_path)
    assert successor.now() == START + 60 * SECOND
    assert successor.held_since is not None


@pytest.mark.parametrize(("off", "believed"), [(DAY, True), (29 * DAY, True), (31 * DAY, False), (10 * YEAR, False)])
def test_a_boot_explains_thirty_days(
    machine: Machine, guard: ClockGuard, tmp_path: Path, off: int, believed: bool
) -> None:
    guard.save()
    machine.reboot(off)
    after = machine.guard(tmp_path)
    assert after.now() == (machine.wall if believed else START)
    assert (after.held_since is None) == believed


def test_a_boot_explains_a_leap_once_only(machine: Machine, guard: ClockGuard, tmp_path: Path) -> None:
    guard.save()
    machine.reboot(DAY)
    after = machine.guard(tmp_path)
    after.now()
    after.save()
    machine.wall += DAY
    assert after.now() == START + DAY
    assert machine.guard(tmp_path).now() == START + DAY


def test_a_machine_without_a_battery_catches_up_after_its_boot(
    machine: Machine, guard: ClockGuard, tmp_path: Path
) -> None:
    guard.save()
    machine.reboot(-YEAR)
    after = machine.guard(tmp_path)
    assert after.now() == machine.wall
    machine.pass_time(60 * SECOND)
    machine.wall = START + 3 * DAY
    assert after.now() == START + 3 * DAY
    assert after.held_since is None


def test_the_note_is_written_after_a_step_and_each_hour_only(
    machine: Machine, guard: ClockGuard, tmp_path: Path
) -> None:
    note = tmp_path / "clock.json"
    guard.save()
    first = note.stat().st_ino
    machine.pass_time(SAVE_EVERY // 2)
    guard.now()
    guard.save()
    assert note.stat().st_ino == first
    machine.wall += 2 * SECOND
    guard.now()
    guard.save()
    second = note.stat().st_ino
    assert second != first
    machine.pass_time(SAVE_EVERY + 1)
    guard.now()
    guard.save()
    assert note.stat().st_ino != second


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"format": 9}', b"{}"])
def test_a_note_that_cannot_be_understood_costs_the_protection_and_no_start(
    machine: Machine, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "clock.json").write_bytes(content)
    guard = machine.guard(tmp_path)
    assert guard.now() == START
    guard.save()
    assert machine.guard(tmp_path).now() == START


def test_a_folder_in_the_place_of_the_note_stops_no_start(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "clock.json").mkdir()
    assert machine.guard(tmp_path).now() == START


@pytest.mark.slow
@settings(max_examples=200)
@given(steps=st.lists(st.tuples(st.integers(0, 60 * SECOND), st.integers(-20 * YEAR, 20 * YEAR)), max_size=20))
def test_no_single_reading_moves_time_ahead_by_more_than_five_minutes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    machine = Machine()
    guard = machine.guard(tmp_path_factory.mktemp("guard"))
    latest, passed = guard.now(), 0
    for elapsed, offset in steps:
        machine.pass_time(elapsed)
        passed += elapsed
        machine.wall = START + passed + offset
        now = guard.now()
        assert now <= latest + elapsed + MAX_LEAD
        latest = max(latest + elapsed, now)


def test_the_bounds_are_those_that_the_documents_promise() -> None:
    assert (MAX_LEAD, MAX_LEAD_AFTER_BOOT) == (300 * SECOND, 30 * DAY)
