"""A year of hourly backups with keep rules, against a plain table by calendar that knows nothing of the code.

The table takes the local time from the C library and groups by its text; the code takes it from zoneinfo.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import pytest

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import PERIODS, Rules, plan_retention

HOUR = 3_600_000_000
BEGIN = clock.parse("2026-01-01T00:20:00Z")
HOURS = 366 * 24
KEPT = {"hourly": 30, "daily": 9, "weekly": 5, "monthly": 6, "yearly": 2}
NEWEST = 3
FORMATS = {"hourly": "%Y-%m-%d %H %z", "daily": "%Y-%m-%d", "weekly": "%G week %V", "monthly": "%Y-%m", "yearly": "%Y"}


def made(hour: int, instant: int) -> BackupEntry:
    name = f"{hour:05d}.tar.gz"
    return BackupEntry(name=name, path=f"/b/{name}", size=1, created=instant, arrived=hour, verified=1, generation="g",
                       sequence=hour, origin="created", origin_proven=True)  # fmt: skip


@contextmanager
def local_time_of(zone: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


class Table:
    """What stays of all backups that were ever made, by group and position in it."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.newest_of: dict[str, dict[str, str]] = {period: {} for period in KEPT}
        """Period → its text → the newest backup in it. Texts are in the order of time."""
        self.all: list[str] = []

    def add(self, name: str, instant: int) -> None:
        self.all.append(name)
        local = time.localtime(instant // 1_000_000)
        for period, form in FORMATS.items():
            self.newest_of[period][time.strftime(form, local)] = name

    def kept(self) -> dict[str, tuple[str, ...]]:
        rules = [("newest", self.all[-NEWEST:])]
        rules += [(period, list(self.newest_of[period].values())[-count:]) for period, count in KEPT.items()]
        names = {name for _, those in rules for name in those}
        return {name: tuple(rule for rule, those in rules if name in those) for name in names}


def without_last_good(kept: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(reason for reason in reasons if reason != "last-good") for name, reasons in kept.items()}


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_a_year_of_hourly_backups_leaves_what_the_calendar_says(zone: str) -> None:
    """Checked after each hour around both changes of daylight saving, and else once a day."""
    rules, table, present = Rules(newest=NEWEST, zone=ZoneInfo(zone), calendar=KEPT), Table(zone), list[BackupEntry]()
    offsets = set()
    with local_time_of(zone):
        for hour in range(HOURS):
            instant = BEGIN + hour * HOUR
            present.append(made(hour, instant))
            table.add(present[-1].name, instant)
            before, after = (time.localtime(instant // 1_000_000 + shift).tm_gmtoff for shift in (-90_000, 90_000))
            offsets.add(after)
            if hour % 24 and before == after:
                continue
            plan = plan_retention(present, rules, instant)
            present = [entry for entry in present if entry.name not in plan.removed]
            assert without_last_good(dict(plan.retained)) == table.kept(), clock.format_milliseconds(instant)
    assert len(offsets) == 2, "the year has both changes"
    assert {period for reasons in plan.retained.values() for period in reasons} >= set(PERIODS)


@pytest.mark.slow
@pytest.mark.parametrize(("back", "tolerance"), [(2, 2), (10 * 365 * 24, 0)])
def test_a_clock_that_was_set_back_for_a_day_costs_no_backup_that_the_calendar_keeps(back: int, tolerance: int) -> None:
    """back: hours. The table has the right times; a neighbour within so many hours may stay instead."""
    zone, wrong = "Europe/Berlin", range(30 * 24, 31 * 24)
    rules, table, present = Rules(newest=NEWEST, zone=ZoneInfo(zone), calendar=KEPT), Table(zone), list[BackupEntry]()
    with local_time_of(zone):
        for hour in range(50 * 24):
            instant = BEGIN + hour * HOUR
            dated = instant - back * HOUR * (hour in wrong)
            present.append(made(hour, dated))
            table.add(present[-1].name, instant)
            plan = plan_retention(present, rules, dated)
            present = [entry for entry in present if entry.name not in plan.removed]
            if hour % 24 == 0 or hour in range(29 * 24, 33 * 24):
                numbers = {int(entry.name[:5]) for entry in present}
                wanted = [int(name[:5]) for name in table.kept()]
                assert [number for number in wanted if numbers.isdisjoint(around(number, tolerance))] == []


def around(number: int, tolerance: int) -> range:
    return range(number - tolerance, number + tolerance + 1)


def test_hours_that_pass_twice_are_two_hours_and_a_day_has_25_of_them() -> None:
    first = clock.parse("2026-10-24T22:00:00Z")  # midnight in Berlin
    entries = [made(hour, first + hour * HOUR) for hour in range(25)]
    rules = Rules(newest=1, zone=ZoneInfo("Europe/Berlin"), calendar={"hourly": 25, "daily": 1})
    assert plan_retention(entries, rules, first + 25 * HOUR).removed == ()
    assert len(plan_retention([*entries, made(25, first + 25 * HOUR)], rules, first + 26 * HOUR).removed) == 1
