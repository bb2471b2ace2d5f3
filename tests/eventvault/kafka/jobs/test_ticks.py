"""The clock of leases: one tick is in flight at a time, an old copy is noticed, and of two dispatchers one acts."""

from __future__ import annotations

import pytest

from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.messages import Tick
from eventvault.kafka.jobs.ticks import LISTEN_TICKS, LOST_SECONDS, Ticks


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticks(clock: Clock) -> Ticks:
    made = Ticks("d5", 10, 2.5, clock)
    made.caught_up(is_late=False)
    return made


def go(ticks: Ticks, clock: Clock, count: int) -> None:
    """Let so many ticks be written and read back."""
    for _ in range(count):
        clock.now += ticks.due_in()
        assert ticks.read(ticks.next())


def other(name: str, *, stands_by: bool = False) -> Tick:
    return Tick(dispatcher=name, number=77, stands_by=stands_by)


def test_none_is_written_before_all_reports_are_read(clock: Clock) -> None:
    ticks = Ticks("d5", 10, 2.5, clock)
    assert ticks.due_in() == float("inf")
    assert not ticks.acts
    ticks.caught_up(is_late=False)
    assert ticks.due_in() == 0
    assert ticks.acts


def test_the_next_one_waits_until_this_one_is_read_back(ticks: Ticks, clock: Clock) -> None:
    first = ticks.next()
    assert first == Tick(dispatcher="d5", number=11)
    clock.now += 5
    assert ticks.due_in() > 0
    assert ticks.read(first)
    assert ticks.due_in() == 0
    assert ticks.next().number == 12
    assert ticks.due_in() > 0


def test_one_that_is_lost_is_written_again_with_its_number(ticks: Ticks, clock: Clock) -> None:
    assert ticks.next().number == 11
    clock.now += 2.5 + LOST_SECONDS
    assert ticks.next().number == 11
    ticks.failed()
    clock.now += 2.5
    assert ticks.next().number == 11


def test_each_number_counts_once(ticks: Ticks) -> None:
    tick = ticks.next()
    assert [ticks.read(tick), ticks.read(tick), ticks.read(Tick(dispatcher="d5", number=3))] == [True, False, False]


@pytest.mark.slow
def test_the_tick_on_its_road_at_a_kill_is_no_sign_of_an_old_copy(clock: Clock) -> None:
    ticks = Ticks("d5", 10, 2.5, clock)
    assert ticks.read(Tick(dispatcher="d5", number=11))
    assert not ticks.read(Tick(dispatcher="d5", number=11))
    ticks.caught_up(is_late=False)
    assert not ticks.is_rewound
    assert ticks.acts


def test_later_ticks_of_its_own_show_an_old_copy_and_it_goes_on_behind_them(clock: Clock) -> None:
    ticks = Ticks("d5", 10, 2.5, clock)
    for number in (11, 12, 13):
        ticks.read(Tick(dispatcher="d5", number=number))
    ticks.caught_up(is_late=False)
    assert ticks.is_rewound
    assert not ticks.acts
    assert ticks.next() == Tick(dispatcher="d5", number=14, stands_by=True)
    ticks.go_on()
    assert ticks.acts


def test_later_ticks_are_no_news_if_the_lost_changes_were_accepted_before_they_are_read(clock: Clock) -> None:
    ticks = Ticks("d5", 10, 2.5, clock)
    ticks.go_on(lacks_changes=True)
    for number in (11, 12, 13):
        ticks.read(Tick(dispatcher="d5", number=number))
    ticks.caught_up(is_late=False)
    assert ticks.acts
    assert ticks.next().number == 14


def test_a_resume_before_the_reports_are_read_accepts_no_old_copy_that_shows_later(clock: Clock) -> None:
    ticks = Ticks("d5", 10, 2.5, clock)
    ticks.go_on()
    for number in (11, 12):
        ticks.read(Tick(dispatcher="d5", number=number))
    assert ticks.is_rewound


def test_the_greater_id_stands_by_while_the_lower_one_lives(ticks: Ticks, clock: Clock) -> None:
    assert not ticks.read(other("d4"))
    assert ticks.stands_by
    assert not ticks.acts
    go(ticks, clock, LEASE_TICKS - 1)
    assert not ticks.acts
    go(ticks, clock, 1)
    assert ticks.acts


def test_the_lower_id_goes_on_and_names_one_that_acts_too(ticks: Ticks) -> None:
    for _ in range(2):
        ticks.read(other("d6"))
    assert ticks.acts
    assert ticks.others_that_act() == []
    ticks.read(other("d6"))
    assert ticks.others_that_act() == ["d6"]
    ticks.read(other("d6", stands_by=True))
    assert ticks.others_that_act() == []


@pytest.mark.parametrize("is_late", [True, False])
def test_one_that_finds_others_listens_first(clock: Clock, is_late: bool) -> None:
    ticks = Ticks("d5", 0, 2.5, clock)
    if not is_late:
        ticks.read(other("d9"))
    ticks.caught_up(is_late=is_late)
    assert not ticks.acts
    go(ticks, clock, LISTEN_TICKS)
    assert ticks.acts
