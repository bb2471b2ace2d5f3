"""Retention: rotation to the newest archives, and what protects an archive from a deletion."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import Rules, check_deletion, plan_retention
from eventvault.errors import BackupProtected


def entry(number: int, **more: Any) -> BackupEntry:
    values: dict[str, Any] = {"origin": "created", "origin_proven": True, "verified": 1, **more}
    return BackupEntry(
        name=f"{number:03d}.tar.gz", path=f"/b/{number:03d}.tar.gz", size=1, created=number, arrived=number, **values
    )


def names(*numbers: int) -> list[str]:
    return [f"{number:03d}.tar.gz" for number in numbers]


def removed(entries: list[BackupEntry], newest: int, **more: Any) -> list[str]:
    return list(plan_retention(entries, Rules(newest=newest, zone=UTC), 10**9, **more).removed)


def test_the_oldest_go_first_beyond_the_number_that_is_kept() -> None:
    entries = [entry(number) for number in range(6)]
    assert removed(entries, 4) == names(0, 1)
    assert removed(entries, 6) == []
    assert removed(entries, 1) == names(0, 1, 2, 3, 4)


def test_archives_that_were_copied_or_uploaded_are_neither_counted_nor_removed() -> None:
    others = [entry(0, origin="found"), entry(1, origin="uploaded"), entry(9, origin="found")]
    assert removed([*others, entry(4), entry(5)], 2) == []
    assert removed([*others, entry(4), entry(5), entry(6)], 2) == names(4)


@pytest.mark.parametrize("proof", [{"origin_proven": False}, {"origin_proven": True, "trusted": True}])
def test_one_that_is_not_proven_any_more_is_neither_counted_nor_removed(proof: dict[str, bool]) -> None:
    others = [entry(0, **proof), entry(9, **proof)]
    assert removed([*others, entry(4), entry(5)], 2) == []
    assert removed([*others, entry(4), entry(5), entry(6)], 2) == names(4)


def test_a_damaged_one_does_not_count_as_one_that_is_kept() -> None:
    assert removed([entry(1), entry(2), entry(3, problem="damaged")], 2) == []
    assert removed([entry(1), entry(2), entry(3, problem="damaged"), entry(4)], 2) == names(1)


def test_a_damaged_one_does_not_go() -> None:
    entries = [entry(1, problem="damaged"), entry(2), entry(3)]
    assert removed(entries, 1) == names(2)
    assert plan_retention(entries, Rules(newest=1, zone=UTC), 9).retained["001.tar.gz"] == ("damaged",)


def test_a_pinned_one_stays_and_so_does_one_that_is_being_read() -> None:
    entries = [entry(1, pinned=True), entry(2), entry(3), entry(4)]
    assert removed(entries, 1, is_read=lambda name: name == "003.tar.gz") == names(2)


def test_the_one_just_made_stays_although_the_clock_was_set_back() -> None:
    entries = [entry(number) for number in range(5)]
    assert removed(entries, 3, just_made="000.tar.gz") == names(1)


def test_those_made_after_the_clock_was_set_back_are_not_the_oldest() -> None:
    before = [entry(50, generation="g", sequence=100), entry(60, generation="g", sequence=200)]
    after = [entry(1, generation="g", sequence=300), entry(2, generation="g", sequence=400)]
    assert removed([*before, *after], 2) == names(50, 60)


def test_those_of_the_present_generation_are_the_newest_although_an_older_one_is_from_the_future() -> None:
    left = [entry(number, generation="left", sequence=place) for place, number in enumerate((1, 2, 900, 4))]
    now = [entry(number, generation="present", sequence=number) for number in (5, 6)]
    assert removed([*left, *now], 3, generations=["left", "present"]) == names(1, 2, 900)


def test_one_that_cannot_be_read_is_as_old_as_its_time_says() -> None:
    there = [entry(number, generation="present", sequence=number) for number in (1, 3, 5)]
    there.append(entry(4, problem="damaged"))
    assert removed(there, 1, generations=["present"]) == names(1, 3)
    assert removed(there, 2, generations=["present"]) == names(1)


def test_only_those_that_would_go_are_asked_whether_they_are_read() -> None:
    asked: list[str] = []

    def busy(name: str) -> bool:
        asked.append(name)
        return False

    removed([entry(number) for number in range(5)], 3, is_read=busy)
    assert asked == names(0, 1)


def test_the_last_one_that_was_proven_good_stays() -> None:
    entries = [entry(1), entry(2, verified=None), entry(3, verified=None)]
    assert removed(entries, 1) == names(2)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry(1, pinned=True), entry(2)], "it is pinned"),
        ([entry(1)], "it is the last good backup"),
        ([entry(1), entry(2, problem="damaged")], "it is the last good backup"),
        ([entry(1), entry(2, origin="uploaded", origin_proven=False)], "it is the last good backup that is proven"),
        ([entry(1), entry(2, origin="found", origin_proven=False)], "it is the last good backup that is proven"),
        ([entry(1, origin="uploaded"), entry(2, origin_proven=False)], "it is the last good backup that is proven"),
        ([entry(1, origin_proven=False)], "it is the last good backup"),
        ([entry(1), entry(2, origin="found", verified=None)], "the last backup that was read and found good"),
    ],
)
def test_a_protected_one_is_deleted_only_by_force(entries: list[BackupEntry], reason: str) -> None:
    with pytest.raises(BackupProtected, match=reason) as caught:
        check_deletion(entries, "001.tar.gz")
    assert "force" in caught.value.hint
    check_deletion(entries, "001.tar.gz", force=True)


@pytest.mark.parametrize(
    "entries",
    [
        [entry(1), entry(2)],
        [entry(1, verified=None), entry(2, verified=None)],
        [entry(1), entry(2, origin="uploaded")],
        [entry(1), entry(2, origin="uploaded", origin_proven=True, trusted=True)],
        [entry(1, origin_proven=False), entry(2, origin_proven=False)],
        [entry(1, origin_proven=False), entry(2)],
        [entry(1, problem="damaged")],
        [entry(1, verified=None), entry(2)],
        [],
    ],
)
def test_any_other_may_be_deleted(entries: list[BackupEntry]) -> None:
    check_deletion(entries, "001.tar.gz")
