"""Plans over segments: chains, holes, merges, removals."""

from __future__ import annotations

import random
from pathlib import Path

from eventvault.database.generation import NO_BOUND, Generation
from eventvault.journal import coverage
from eventvault.journal.segment import Segment, SegmentHeader
from tests.schedule import series_seed

OLD, NEW = "a" * 16, "b" * 16
ALONE = [(OLD, NO_BOUND)]
FORKED = [(NEW, NO_BOUND), (OLD, 5)]


def made(first: int, last: int, generation: str = OLD, *, merged: int = 1, size: int = 100, at: str = "00") -> Segment:
    instant = f"2026-01-31T12:00:{at}Z"
    header = SegmentHeader(store_id="s", installation="i", generation=Generation(generation, None, 0, "created", 1),
                    first=first, last=last, first_time=instant, last_time=instant, bytes=size, sha256="0" * 64,
                    merged=merged)  # fmt: skip
    return Segment(Path(f"{generation}/{first}-{last}"), header, size)


def spans(segments: list[Segment]) -> list[tuple[int, int]]:
    return [(each.first, each.last) for each in segments]


def test_a_chain_takes_the_fewest_and_stops_at_a_hole() -> None:
    there = [made(1, 2), made(3, 3), made(1, 4), made(5, 6), made(8, 9)]

    assert spans(coverage.chain(there, ALONE, 0, 100)) == [(1, 4), (5, 6)]
    assert spans(coverage.chain(there, ALONE, 4, 5)) == [(5, 6)]
    assert coverage.reach(there, ALONE, 0, 100) == 6
    assert coverage.reach(there, ALONE, 7, 100) == 9
    assert coverage.missing(there, ALONE, 0, 12) == [(7, 7), (10, 12)]


def test_beyond_the_fork_only_the_present_counts() -> None:
    there = [made(1, 8), made(7, 7, NEW)]
    assert coverage.reach(there, FORKED, 0, 100) == 5
    assert coverage.reach([*there, made(6, 6, NEW)], FORKED, 0, 100) == 7
    assert coverage.missing(there, FORKED, 0, 8) == [(6, 6), (8, 8)]


def test_chains_and_holes_agree_with_a_set_of_sequences() -> None:
    chance = random.Random(series_seed())
    for _ in range(300):
        starts = [(chance.randint(1, 20), chance.randint(0, 5)) for _ in range(chance.randint(0, 8))]
        there = [made(first, first + more, chance.choice((OLD, NEW))) for first, more in starts]
        held = {
            number for each in there for number in range(each.first, each.last + 1)
            if each.generation == NEW or number <= 5
        }  # fmt: skip
        after, upto = chance.randint(0, 10), chance.randint(10, 30)
        reached = after
        while reached + 1 in held and reached < upto:
            reached += 1
        assert coverage.reach(there, FORKED, after, upto) == reached
        holes = {
            number for first, last in coverage.missing(there, FORKED, after, upto) for number in range(first, last + 1)
        }
        assert holes == set(range(after + 1, upto + 1)) - held


def test_as_many_of_a_kind_are_merged_and_no_more_than_fit() -> None:
    small = [made(number, number) for number in range(1, coverage.MERGE_COUNT + 1)]
    assert coverage.plan_merge(small) == small
    assert coverage.plan_merge(small[:-1]) == []
    assert coverage.plan_merge([*small[:5], made(6, 6, merged=coverage.MERGE_COUNT), *small[6:]]) == []
    large = [made(number, number, size=coverage.MAX_MERGED_BYTES // 2) for number in range(1, coverage.MERGE_COUNT + 1)]
    assert spans(coverage.plan_merge(large)) == [(1, 1), (2, 2)]
    apart = [made(2 * number, 2 * number) for number in range(1, 40)]
    assert coverage.plan_merge(apart) == []


def test_what_a_killed_merge_left_is_superseded() -> None:
    found = coverage.superseded([made(1, 1), made(2, 2), made(1, 2), made(3, 3)])
    assert spans([needless for needless, _ in found]) == [(1, 1), (2, 2)]
    assert {(instead.first, instead.last) for _, instead in found} == {(1, 2)}


def test_retention_keeps_what_the_oldest_archive_does_not_hold() -> None:
    there = [made(1, 3), made(4, 5), made(6, 9, at="01"), made(6, 7, NEW, at="05"), made(8, 8, NEW, at="09")]
    holds = [(NEW, 7), (OLD, 5)]

    gone = coverage.plan_removal(there, holds, FORKED, since=1_769_860_805_000_000)

    assert [(each.first, each.last, each.generation) for each in gone] == [
        (1, 3, OLD), (4, 5, OLD), (6, 9, OLD), (6, 7, NEW),
    ]  # fmt: skip
    assert coverage.plan_removal(there, holds, FORKED, since=0)[2:] == [there[3]]


def test_retention_removes_what_lies_on_both_sides_of_a_fork_once_neither_is_needed() -> None:
    on_both = [made(4, 9, at="01")]

    assert coverage.plan_removal(on_both, [(NEW, 7), (OLD, 5)], FORKED, since=1_769_860_805_000_000) == on_both
    assert coverage.plan_removal(on_both, [(OLD, 4)], FORKED, since=1_769_860_805_000_000) == []
    assert coverage.plan_removal(on_both, [(NEW, 7), (OLD, 5)], FORKED, since=0) == []
