"""Which problems are told as new and as over, from one look at health to the next."""

from __future__ import annotations

from typing import Any

import pytest

from eventvault.notifications.conditions import OVER_SECONDS, Conditions
from eventvault.notifications.values import Change

DISK = {"backups": {"daysLeft": None}, "storage": {}, "same": True}


class Watched:
    """Conditions with a clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.conditions = Conditions(now=lambda: self.seconds)

    def look(self, *problems: dict[str, Any], days: int | None = None, **disk: Any) -> list[tuple[str, str]]:
        shown = {**DISK, "backups": {"daysLeft": days}, **disk}
        return said(self.conditions.update(problems, shown, round(self.seconds * 1e6)))

    def look_until_over(self, *problems: dict[str, Any]) -> list[tuple[str, str]]:
        changes = self.look(*problems)
        self.seconds += OVER_SECONDS
        return changes + self.look(*problems)

    def restart(self) -> None:
        self.conditions = Conditions(self.conditions.all(), now=lambda: self.seconds)


def problem(code: str, about: Any = None, message: str = "it is wrong") -> dict[str, Any]:
    return {"code": code, "about": about, "message": message, "hint": "mend it"}


def said(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.kind, change.code) for change in changes]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_problem_is_told_once_and_its_end_once(watched: Watched) -> None:
    assert watched.look(problem("backup_damaged", "a")) == [("began", "backup_damaged")]
    assert watched.look(problem("backup_damaged", "a", "and worse")) == []
    assert watched.look_until_over() == [("ended", "backup_damaged")]
    assert watched.look_until_over() == []


@pytest.mark.parametrize("about", [None, "b", {"kind": "backup", "name": "b"}])
def test_problems_with_the_same_code_are_told_apart_by_what_they_are_about(watched: Watched, about: Any) -> None:
    watched.look(problem("backup_damaged", "a"))
    both = [problem("backup_damaged", "a"), problem("backup_damaged", about)]
    assert watched.look(*both) == [("began", "backup_damaged")]
    assert watched.look(*reversed(both)) == []
    assert watched.look_until_over(both[0]) == [("ended", "backup_damaged")]


def test_a_problem_began_when_health_says_so_and_else_when_it_was_found(watched: Watched) -> None:
    watched.seconds = 7.0
    watched.look({**problem("a"), "since": "2023-11-14T22:13:20.123Z"}, {**problem("b"), "since": None})
    assert [condition.since for condition in watched.conditions.all()] == [1_700_000_000_123_000, 7_000_000]


def test_a_problem_that_comes_and_goes_within_a_minute_is_one(watched: Watched) -> None:
    watched.look(problem("kafka_unreachable"))
    for _ in range(5):
        assert watched.look() == []
        watched.seconds += OVER_SECONDS - 1
        assert watched.look(problem("kafka_unreachable")) == []


def test_a_restart_tells_no_problem_again_and_calls_none_over_before_it_was_looked_for(watched: Watched) -> None:
    watched.look(problem("journal_failed"))
    watched.restart()
    assert watched.look() == []
    watched.seconds += OVER_SECONDS - 1
    assert watched.look(problem("journal_failed")) == []
    assert watched.look_until_over() == [("ended", "journal_failed")]


def test_nothing_is_over_while_the_archives_cannot_be_listed(watched: Watched) -> None:
    watched.look(problem("backup_damaged", "a"))
    shown = [problem("backups_unavailable")]
    for _ in range(3):
        watched.conditions.update(shown, DISK, 0, is_complete=False)
        watched.seconds += OVER_SECONDS
    assert watched.look(problem("backup_damaged", "a")) == []
    assert watched.look_until_over() == [("ended", "backup_damaged"), ("ended", "backups_unavailable")]


def test_that_notifications_fail_is_told_to_nobody(watched: Watched) -> None:
    assert watched.look(problem("notify_failing", "ntfy://…"), problem("store_starting")) == []
    assert watched.look_until_over() == []


def test_a_failed_backup_is_told_once_and_is_over_with_the_next_good_one(watched: Watched) -> None:
    failed = watched.conditions.backup_failed("the disk is full: 1 byte", "make room", 5)
    assert said(failed) == [("began", "backup_failed")]
    assert watched.conditions.backup_failed("the disk is full: 2 bytes", "make room", 9) == []
    shown = problem("no_space", message="the periodic backup failed: the disk is full: 2 bytes")
    assert watched.look(shown) == []
    watched.restart()
    assert watched.look(shown) == []
    assert watched.look_until_over() == []
    (over,) = watched.conditions.backup_succeeded(20)
    assert (over.kind, over.code, over.since, over.at) == ("ended", "backup_failed", 5, 20)
    assert watched.conditions.backup_succeeded(21) == []


def test_what_else_is_wrong_while_backups_fail_is_told(watched: Watched) -> None:
    watched.conditions.backup_failed("the folder is gone", "bring it back", 5)
    assert watched.look(problem("backups_changed", message="another folder")) == [("began", "backups_changed")]


def test_a_disk_that_is_full_within_seven_days_is_told_until_it_has_more(watched: Watched) -> None:
    assert watched.look(days=7) == []
    assert watched.look(days=6) == [("began", "disk_full_soon")]
    assert [condition.about for condition in watched.conditions.all()] == ["BACKUP_DIR"]
    for days in (7, 0, 6):
        watched.seconds += OVER_SECONDS
        assert watched.look(days=days) == []
    watched.look(days=8)
    watched.seconds += OVER_SECONDS
    assert watched.look(days=8) == [("ended", "disk_full_soon")]


def test_each_disk_has_a_forecast_of_its_own_and_one_disk_has_one(watched: Watched) -> None:
    soon = {"daysLeft": 2}
    assert watched.look(days=2, storage=soon, same=False) == [("began", "disk_full_soon")] * 2
    assert Watched().look(days=2, storage=soon, same=True) == [("began", "disk_full_soon")]
    assert Watched().look(backups=None, storage=None, same=None) == []
