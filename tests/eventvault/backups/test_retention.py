"""Retention: plans for all kinds of folders, and what must be true of all plans."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import check_deletion, plan_retention, why_protected
from eventvault.errors import BackupProtected


def entry(number: int, **more: Any) -> BackupEntry:
    values: dict[str, Any] = {"origin": "created", "origin_proven": True, "verified": 1, **more}
    return BackupEntry(
        name=f"{number:03d}.tar.gz", path=f"/b/{number:03d}.tar.gz", size=1, created=number, arrived=number, **values
    )


def names(*numbers: int) -> list[str]:
    return [f"{number:03d}.tar.gz" for number in numbers]


ENTRIES = st.lists(
    st.builds(
        dict,
        origin=st.sampled_from(["created", "created", "created", "uploaded", "found"]),
        origin_proven=st.sampled_from([True, True, True, False]),
        trusted=st.sampled_from([False, False, False, True]),
        pinned=st.sampled_from([False, False, False, True]),
        problem=st.sampled_from([None, None, "damaged"]),
        verified=st.sampled_from([None, 5]),
    ),
    max_size=14,
).map(lambda kinds: [entry(number, **values) for number, values in enumerate(kinds)])
KEEP = st.integers(1, 6)


def good(entries: list[BackupEntry]) -> list[BackupEntry]:
    return [each for each in entries if each.problem is None]


def counts(each: BackupEntry) -> bool:
    """Made here, as far as is proven: a damaged archive was proven before."""
    return each.origin == "created" and (bool(each.problem) or (each.origin_proven and not each.trusted))


@given(ENTRIES, KEEP, st.sets(st.integers(0, 14)), st.randoms(use_true_random=False))
def test_what_rotation_never_does(
    entries: list[BackupEntry], keep: int, read: set[int], shuffle: random.Random
) -> None:
    busy = set(names(*read))
    plan = plan_retention(entries, keep, busy.__contains__)
    gone = [each for each in entries if each.name in plan]
    left = [each for each in entries if each.name not in plan]
    assert plan == sorted(plan)
    assert len(gone) == len(plan)
    assert all(counts(each) and not each.pinned and each.name not in busy for each in gone)
    assert bool(good(entries)) == bool(good(left))
    assert any(each.verified for each in good(entries)) == any(each.verified for each in good(left))
    ours = [each for each in entries if counts(each)]
    newest_good = [each.name for each in good(ours)[-keep:]]
    assert not set(newest_good) & set(plan)
    shuffled = list(entries)
    shuffle.shuffle(shuffled)
    assert plan_retention(shuffled, keep, busy.__contains__) == plan


@given(ENTRIES, KEEP)
def test_what_is_left_is_what_must_stay_and_a_second_run_removes_nothing(entries: list[BackupEntry], keep: int) -> None:
    plan = plan_retention(entries, keep)
    left = [each for each in entries if each.name not in plan]
    assert plan_retention(left, keep) == []
    beyond = good([each for each in left if counts(each)])[:-keep]
    assert all(why_protected(left, each) for each in beyond)


def test_the_oldest_go_first_beyond_the_number_that_is_kept() -> None:
    entries = [entry(number) for number in range(6)]
    assert plan_retention(entries, 4) == names(0, 1)
    assert plan_retention(entries, 6) == []
    assert plan_retention(entries, 1) == names(0, 1, 2, 3, 4)


def test_archives_that_were_copied_or_uploaded_are_neither_counted_nor_removed() -> None:
    others = [entry(0, origin="found"), entry(1, origin="uploaded"), entry(9, origin="found")]
    assert plan_retention([*others, entry(4), entry(5)], 2) == []
    assert plan_retention([*others, entry(4), entry(5), entry(6)], 2) == names(4)


@pytest.mark.parametrize("proof", [{"origin_proven": False}, {"origin_proven": True, "trusted": True}])
def test_one_that_is_not_proven_any_more_is_neither_counted_nor_removed(proof: dict[str, bool]) -> None:
    others = [entry(0, **proof), entry(9, **proof)]
    assert plan_retention([*others, entry(4), entry(5)], 2) == []
    assert plan_retention([*others, entry(4), entry(5), entry(6)], 2) == names(4)


def test_a_damaged_one_does_not_count_as_one_that_is_kept() -> None:
    assert plan_retention([entry(1), entry(2), entry(3, problem="damaged")], 2) == []
    assert plan_retention([entry(1), entry(2), entry(3, problem="damaged"), entry(4)], 2) == names(1)


def test_a_damaged_one_goes_once_enough_good_ones_are_newer() -> None:
    assert plan_retention([entry(1, problem="damaged"), entry(2), entry(3)], 2) == names(1)


def test_a_pinned_one_stays_and_so_does_one_that_is_being_read() -> None:
    entries = [entry(1, pinned=True), entry(2), entry(3), entry(4)]
    assert plan_retention(entries, 1, lambda name: name == "003.tar.gz") == names(2)


def test_the_one_just_made_stays_although_the_clock_was_set_back() -> None:
    entries = [entry(number) for number in range(5)]
    assert plan_retention(entries, 3, just_made="000.tar.gz") == names(1)


def test_those_made_after_the_clock_was_set_back_are_not_the_oldest() -> None:
    before = [entry(50, generation="g", sequence=100), entry(60, generation="g", sequence=200)]
    after = [entry(1, generation="g", sequence=300), entry(2, generation="g", sequence=400)]
    assert plan_retention([*before, *after], 2) == names(50, 60)


def test_those_of_the_present_generation_are_the_newest_although_an_older_one_is_from_the_future() -> None:
    left = [entry(number, generation="left", sequence=place) for place, number in enumerate((1, 2, 900, 4))]
    now = [entry(number, generation="present", sequence=number) for number in (5, 6)]
    assert plan_retention([*left, *now], 3, generations=["left", "present"]) == names(1, 2, 900)


def test_one_that_cannot_be_read_is_as_old_as_its_time_says() -> None:
    there = [entry(number, generation="present", sequence=number) for number in (1, 3, 5)]
    there.append(entry(4, problem="damaged"))
    assert plan_retention(there, 1, generations=["present"]) == names(1, 3, 4)
    assert plan_retention(there, 2, generations=["present"]) == names(1)


def test_only_those_that_would_go_are_asked_whether_they_are_read() -> None:
    asked: list[str] = []

    def busy(name: str) -> bool:
        asked.append(name)
        return False

    plan_retention([entry(number) for number in range(5)], 3, busy)
    assert asked == names(0, 1)


def test_the_last_one_that_was_proven_good_stays() -> None:
    entries = [entry(1), entry(2, verified=None), entry(3, verified=None)]
    assert plan_retention(entries, 1) == names(2)


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
