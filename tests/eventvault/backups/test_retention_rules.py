"""What is true of every retention plan, whatever archives there are, whatever the rules and the clock say."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.backups.order import newest_first
from eventvault.backups.retention import BEING_READ, CLOCK, PERIODS, RetentionPlan, Rules, plan_retention
from eventvault.backups.shared_size import SharedSize

HOUR = 3_600_000_000
DAY = 24 * HOUR
YEAR = 365 * DAY
NOW = clock.parse("2026-03-29T12:00:00Z")
BERLIN = ZoneInfo("Europe/Berlin")
RUNS = {number: 3 + number for number in range(4)}
"""Number of a run that archives may share → bytes. An archive has 100 bytes and more."""


def entry(number: int, created: int, **more: Any) -> BackupEntry:
    values: dict[str, Any] = {
        "origin": "created", "origin_proven": True, "verified": 1, "generation": "g", "sequence": number, "size": 100,
        "arrived": number, **more,
    }  # fmt: skip
    name = f"{number:04d}.tar.gz"
    return BackupEntry(name=name, path=f"/b/{name}", created=created, **values)


def every_hour(count: int, **more: Any) -> list[BackupEntry]:
    """The newest is number `count`, made just now."""
    return [entry(number, NOW - (count - number) * HOUR, **more) for number in range(1, count + 1)]


class Case(msgspec.Struct, kw_only=True, frozen=True):
    entries: list[BackupEntry]
    rules: Rules
    read: frozenset[str]
    runs: dict[str, dict[int, int]]
    is_clock_held: bool

    def plan(self, entries: list[BackupEntry] | None = None, now: int = NOW, **more: Any) -> RetentionPlan:
        given = {"runs": self.runs, "is_clock_held": self.is_clock_held, "is_read": self.read.__contains__, **more}
        return plan_retention(self.entries if entries is None else entries, self.rules, now, **given)


GAPS = st.sampled_from(
    [0, 1_000_000, HOUR, HOUR, HOUR, 3 * HOUR, DAY, DAY, 20 * DAY, YEAR, -HOUR, -10 * YEAR, 10 * YEAR]
)
KINDS = st.fixed_dictionaries(
    {
        "origin": st.sampled_from(["created"] * 5 + ["uploaded", "found"]),
        "origin_proven": st.sampled_from([True] * 5 + [False]),
        "trusted": st.sampled_from([False] * 5 + [True]),
        "pinned": st.sampled_from([False] * 5 + [True]),
        "problem": st.sampled_from([None] * 5 + ["damaged"]),
        "verified": st.sampled_from([None, 5]),
        "size": st.integers(100, 130),
    }
)
COUNTS = st.one_of(st.just(0), st.integers(1, 4))


@st.composite
def cases(draw: st.DrawFn, *, limits: bool = True, future: bool = True) -> Case:
    """limits: of size, too. future: archives may be dated later than now."""
    drawn = draw(st.lists(st.tuples(GAPS, KINDS), max_size=14))
    dates = list(accumulate(gap for gap, _ in drawn))
    latest = NOW + draw(st.sampled_from([0, -HOUR, *[HOUR, 10 * YEAR] * future])) - max(dates, default=0)
    made = [entry(number, latest + date, **kind)
            for number, (date, (_, kind)) in enumerate(zip(dates, drawn, strict=True), start=1)]  # fmt: skip
    rules = Rules(
        newest=draw(st.integers(1, 6)),
        zone=draw(st.sampled_from([BERLIN, ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe")])),
        calendar={period: draw(COUNTS) for period in PERIODS},
        max_age=draw(st.sampled_from([None, HOUR, DAY, 90 * DAY])),
        max_bytes=draw(st.none() | st.integers(1, 1500)) if limits else None,
    )
    holders = {each.name: draw(st.sets(st.sampled_from(sorted(RUNS)), max_size=3)) for each in made}
    runs = {name: {number: RUNS[number] for number in numbers} for name, numbers in holders.items()}
    read = draw(st.sets(st.sampled_from(sorted(holders)))) if holders else set()
    return Case(entries=made, rules=rules, read=frozenset(read), runs=runs, is_clock_held=draw(st.booleans()))


def good(entries: list[BackupEntry]) -> list[BackupEntry]:
    return [each for each in entries if each.origin_proven and each.problem is None]


def counts(each: BackupEntry) -> bool:
    return each.origin == "created" and each.origin_proven and not each.trusted and each.problem is None


def left_by(plan: RetentionPlan, case: Case) -> list[BackupEntry]:
    return [each for each in case.entries if each.name not in plan.removed]


@pytest.mark.slow
@given(cases())
def test_what_no_plan_ever_removes(case: Case) -> None:
    plan = case.plan()
    gone, left = [each for each in case.entries if each.name in plan.removed], left_by(plan, case)
    assert len(gone) == len(plan.removed)
    assert all(counts(each) and not each.pinned and each.name not in case.read for each in gone)
    assert bool(good(case.entries)) == bool(good(left))
    assert any(each.verified for each in good(case.entries)) == any(each.verified for each in good(left))


@pytest.mark.slow
@given(cases())
def test_each_archive_stays_with_a_reason_or_goes(case: Case) -> None:
    plan = case.plan()
    assert plan.retained.keys() | set(plan.removed) == {each.name for each in case.entries}
    assert plan.retained.keys().isdisjoint(plan.removed)
    for name, reasons in plan.retained.items():
        assert reasons
        assert len(set(reasons)) == len(reasons), name


@pytest.mark.slow
@given(cases())
def test_a_second_plan_removes_nothing(case: Case) -> None:
    plan = case.plan()
    again = case.plan(left_by(plan, case))
    assert again.removed == ()
    assert (again.retained, again.excess) == (plan.retained, plan.excess)


@pytest.mark.slow
@given(cases(), st.randoms(use_true_random=False))
def test_a_plan_does_not_depend_on_the_order_of_the_list(case: Case, chance: random.Random) -> None:
    shuffled = list(case.entries)
    chance.shuffle(shuffled)
    assert case.plan(shuffled) == case.plan()


@pytest.mark.slow
@given(cases(limits=False, future=False), st.sampled_from([-10 * YEAR, -HOUR, HOUR, 10 * YEAR]))
def test_a_clock_that_is_wrong_removes_nothing_that_a_right_one_would_not(case: Case, shift: int) -> None:
    """The clock may be believed although it is wrong: here it is not held."""
    assert set(case.plan(now=NOW + shift).removed) <= set(case.plan(is_clock_held=False).removed)
    assert set(case.plan(is_clock_held=True).removed) <= set(case.plan(is_clock_held=False).removed)


@pytest.mark.slow
@given(cases(limits=False))
def test_while_the_clock_is_not_believed_calendar_and_age_remove_nothing(case: Case) -> None:
    removed = set(case.plan(is_clock_held=True).removed)
    by_number = Rules(newest=case.rules.newest, zone=case.rules.zone)
    alone = plan_retention(case.entries, by_number, NOW, is_read=case.read.__contains__)
    assert removed == (set() if any(case.rules.calendar.values()) else set(alone.removed))


@pytest.mark.slow
@given(cases(limits=False), st.integers(0, 13), st.sampled_from([-10 * YEAR, -HOUR, HOUR, 10 * YEAR]))
def test_an_archive_that_is_dated_wrongly_removes_nothing_that_it_would_not_otherwise(
    case: Case, place: int, shift: int
) -> None:
    """Of archives that were made hour by hour, one is dated by a wrong clock; a newer one shows that."""
    if place >= len(case.entries) - 1:
        return
    straight = [msgspec.structs.replace(each, created=NOW - (14 - number) * HOUR)
                for number, each in enumerate(case.entries)]  # fmt: skip
    wrong = list(straight)
    wrong[place] = msgspec.structs.replace(wrong[place], created=wrong[place].created + shift)
    dates = [each.created for each in wrong if counts(each)]
    if not counts(wrong[place]) or not any(map(counts, wrong[place + 1 :])) or dates == sorted(dates):
        return  # nothing shows it
    assert set(case.plan(wrong).removed) <= set(case.plan(straight).removed)


@pytest.mark.slow
@given(cases())
def test_the_newest_good_archives_stay_unless_a_limit_says_otherwise(case: Case) -> None:
    plan = case.plan()
    ours = [each for each in newest_first(case.entries, ()) if counts(each)]
    if case.rules.max_age is None and case.rules.max_bytes is None:
        assert {each.name for each in ours[: case.rules.newest]}.isdisjoint(plan.removed)
    assert {each.name for each in ours[:1]}.isdisjoint(plan.removed)


@pytest.mark.slow
@given(cases())
def test_the_limit_of_size_holds_but_for_those_that_must_not_go(case: Case) -> None:
    plan = case.plan()
    if case.rules.max_bytes is None:
        assert plan.excess == 0
        return
    ours = [each for each in left_by(plan, case) if counts(each) and BEING_READ not in plan.retained[each.name]]
    total = size_of(ours, case.runs)
    assert max(0, total - case.rules.max_bytes) == plan.excess
    if plan.excess:
        newest = newest_first(ours, ())[:1]
        assert all(each.pinned or each in newest or "last-good" in plan.retained[each.name] for each in ours)


@pytest.mark.slow
@given(cases())
def test_the_limit_of_size_removes_no_more_than_it_must(case: Case) -> None:
    """With the newest of those that it removes, the others would be too large."""
    if [each.created for each in case.entries] != sorted(each.created for each in case.entries):
        return  # for the sake of one that goes, others may have been in doubt
    plan = case.plan()
    unlimited = msgspec.structs.replace(case, rules=msgspec.structs.replace(case.rules, max_bytes=None)).plan()
    by_size = [name for name in plan.removed if name in unlimited.retained]
    if not by_size or case.rules.max_bytes is None:
        return
    ours = [each for each in newest_first(case.entries, ()) if counts(each) and each.name in unlimited.retained]
    assert not [each for each in ours if each.name in by_size and each.pinned]
    newest = next(each for each in ours if each.name in by_size)
    stay = [each for each in left_by(plan, case) if counts(each) and BEING_READ not in plan.retained[each.name]]
    assert size_of([*stay, newest], case.runs) > case.rules.max_bytes


def size_of(entries: list[BackupEntry], runs: dict[str, dict[int, int]]) -> int:
    shared = {number: size for each in entries for number, size in runs[each.name].items()}
    return sum(each.size - sum(runs[each.name].values()) for each in entries) + sum(shared.values())


@pytest.mark.slow
@given(cases(), st.randoms(use_true_random=False))
def test_bytes_become_free_once_whatever_goes_first(case: Case, chance: random.Random) -> None:
    going = list(case.entries)
    chance.shuffle(going)
    taken = SharedSize(case.entries, case.runs)
    assert taken.bytes == size_of(case.entries, case.runs)
    for number, each in enumerate(going):
        before = taken.bytes
        assert before - taken.remove(each) == taken.bytes == size_of(going[number + 1 :], case.runs)


def retained_by(plan: RetentionPlan, reason: str) -> list[int]:
    """Return the numbers of the archives, the greatest first."""
    return sorted((int(name[:4]) for name, reasons in plan.retained.items() if reason in reasons), reverse=True)


def test_the_newest_of_each_period_that_holds_one_stays_with_all_its_reasons() -> None:
    entries = [entry(1, NOW - 400 * DAY), entry(2, NOW - 40 * DAY), entry(3, NOW - 39 * DAY), *(
        entry(4 + hour, NOW - (20 - hour) * HOUR) for hour in range(21)
    )]  # fmt: skip
    rules = Rules(newest=1, zone=BERLIN, calendar={"hourly": 2, "daily": 3, "monthly": 3, "yearly": 5})
    plan = plan_retention(entries, rules, NOW)
    assert plan.retained["0024.tar.gz"] == ("newest", "hourly", "daily", "monthly", "yearly")
    assert retained_by(plan, "hourly") == [24, 23]
    assert retained_by(plan, "daily") == [24, 10, 3], "days without an archive do not count"
    assert retained_by(plan, "monthly") == [24, 3, 1]
    assert retained_by(plan, "yearly") == [24, 1]
    assert len(plan.retained) == 5


def test_damaged_uploaded_and_found_archives_take_no_period() -> None:
    others = [{"problem": "damaged"}, {"origin": "uploaded"}, {"origin": "found"}, {"origin_proven": False}]
    entries = [entry(1, NOW - 5 * DAY), *(entry(2 + day, NOW - (4 - day) * DAY, **kind)
                                          for day, kind in enumerate(others)), entry(9, NOW)]  # fmt: skip
    plan = plan_retention(entries, Rules(newest=1, zone=BERLIN, calendar={"daily": 2}), NOW)
    assert plan.removed == ()
    assert retained_by(plan, "daily") == [9, 1]
    assert plan.retained["0002.tar.gz"] == ("damaged",)
    assert all(plan.retained[f"000{number}.tar.gz"] == ("not-ours",) for number in (3, 4, 5))


def test_a_damaged_newest_archive_of_a_day_leaves_its_place_to_the_one_before() -> None:
    entries = [entry(1, NOW - DAY - 2 * HOUR), entry(2, NOW - DAY - HOUR, problem="damaged"), entry(3, NOW)]
    plan = plan_retention(entries, Rules(newest=1, zone=BERLIN, calendar={"daily": 2}), NOW)
    assert retained_by(plan, "daily") == [3, 1]


def test_archives_that_are_too_old_go_although_a_rule_keeps_them() -> None:
    entries = [entry(1, NOW - 91 * DAY), entry(2, NOW - 90 * DAY), entry(3, NOW)]
    rules = Rules(newest=10, zone=BERLIN, calendar={"yearly": 9}, max_age=90 * DAY)
    assert plan_retention(entries, rules, NOW).removed == ("0001.tar.gz",)
    assert plan_retention([msgspec.structs.replace(entries[0], pinned=True), *entries[1:]], rules, NOW).removed == ()


def test_ages_count_to_the_newest_backup() -> None:
    entries = [entry(1, NOW - 89 * DAY), entry(2, NOW)]
    rules = Rules(newest=10, zone=BERLIN, max_age=90 * DAY)
    assert plan_retention(entries, rules, NOW + 2 * YEAR).removed == ()
    assert plan_retention([*entries, entry(3, NOW + 2 * DAY)], rules, NOW + 2 * YEAR).removed == ("0001.tar.gz",)


def test_the_oldest_go_until_the_size_fits_and_what_they_share_counts_once() -> None:
    entries = every_hour(4)
    shared = {each.name: {1: 90} for each in entries}
    rules = Rules(newest=10, zone=BERLIN, max_bytes=120)
    assert plan_retention(entries, rules, NOW, runs=shared).removed == ("0001.tar.gz",), "3 × 10 + 90"
    assert plan_retention(entries, rules, NOW).removed == ("0001.tar.gz", "0002.tar.gz", "0003.tar.gz")


def test_pins_that_exceed_the_size_are_named_and_stay() -> None:
    entries = every_hour(3, pinned=True)
    plan = plan_retention([*entries, entry(4, NOW)], Rules(newest=1, zone=BERLIN, max_bytes=250), NOW)
    assert (plan.removed, plan.excess) == ((), 150), "the newest one stays, too"


def test_what_is_not_ours_counts_for_no_size() -> None:
    entries = [*every_hour(3, origin="uploaded"), entry(4, NOW)]
    plan = plan_retention(entries, Rules(newest=1, zone=BERLIN, max_bytes=100), NOW)
    assert (plan.removed, plan.excess) == ((), 0)


def test_nothing_goes_in_the_place_of_one_that_is_read() -> None:
    entries = every_hour(4)
    rules = Rules(newest=10, zone=BERLIN, max_bytes=300)
    plan = plan_retention(entries, rules, NOW, is_read=lambda name: name == "0001.tar.gz")
    assert (plan.removed, plan.retained["0001.tar.gz"], plan.excess) == ((), (BEING_READ,), 0)


@pytest.mark.parametrize(
    ("shift", "in_doubt", "removed"),
    [
        (3 * HOUR, {6, 7, 8, 9}, {1, 2, 3, 4, 5, 10, 11}),
        (-3 * HOUR, {3, 4, 5, 6}, {1, 2, 7, 8, 9, 10, 11}),
        (10 * YEAR, {6, 7, 8, 9, 10, 11}, {1, 2, 3, 4}),
        (-10 * YEAR, {1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11}),
    ],
)
def test_an_archive_with_a_wrong_date_and_those_that_contradict_it_stay(
    shift: int, in_doubt: set[int], removed: set[int]
) -> None:
    entries = every_hour(12)
    entries[5] = msgspec.structs.replace(entries[5], created=entries[5].created + shift)
    plan = plan_retention(entries, Rules(newest=1, zone=BERLIN, calendar={"daily": 1}), NOW)
    assert set(retained_by(plan, CLOCK)) == in_doubt
    assert {int(name[:4]) for name in plan.removed} == removed


def test_no_date_is_too_far_for_a_calendar() -> None:
    entries = [entry(1, 0), entry(2, clock.YEAR_10000 - 1)]
    rules = Rules(newest=1, zone=ZoneInfo("Pacific/Kiritimati"), calendar=dict.fromkeys(PERIODS, 3))
    assert plan_retention(entries, rules, NOW).removed == ()
