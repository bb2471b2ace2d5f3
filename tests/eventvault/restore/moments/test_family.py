"""What is said of all generations at once is what `plan` says of each."""

from __future__ import annotations

import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, last_common
from eventvault.journal.segment import Segment, SegmentHeader
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.family import Family
from eventvault.restore.moments.plan import Live, Sources

pytestmark = pytest.mark.slow

MOST = 12


def generation(number: int, parent: int | None, fork: int) -> Generation:
    return Generation(f"{number:016x}", None if parent is None else f"{parent:016x}", fork, "restored", number)


def segment(of: Generation, first: int, last: int) -> Segment:
    header = SegmentHeader(
        store_id="s", installation="i", generation=of, first=first, last=last,
        first_time="2024-01-01T00:00:00Z", last_time="2024-01-01T00:00:00Z", bytes=1, sha256="0" * 64,
    )  # fmt: skip
    return Segment(Path(f"{of.id}/{first}-{last}"), header, 1)


def archive(of: Generation, sequence: int) -> BackupEntry:
    return BackupEntry(name=f"{of.id}-{sequence}", path="", size=1, created=1, sequence=sequence, generation=of.id)


@st.composite
def sources(draw: st.DrawFn) -> Sources:
    """Any tree, unknown parents and circles included, with anything held of it."""
    count = draw(st.integers(1, 8))
    number, sequence = st.integers(0, count - 1), st.integers(0, MOST)
    generations = [generation(each, draw(st.none() | st.integers(0, count)), draw(sequence)) for each in range(count)]
    held = [(generations[draw(number)], *sorted((draw(sequence), draw(sequence)))) for _ in range(draw(sequence))]
    archives = [archive(generations[draw(number)], draw(sequence)) for _ in range(draw(st.integers(0, 4)))]
    live = Live(generations[draw(number)].id, draw(sequence)) if draw(st.booleans()) else None
    segments = [segment(of, max(1, first), last) for of, first, last in held if last]
    ordered = sorted(segments, key=lambda each: (each.generation, each.first, -each.last))
    return Sources({each.id: each for each in generations}, archives, ordered, live)


def has_circle(found: Sources) -> bool:
    for start in found.generations:
        passed, current = set(), start
        while current in found.generations and current not in passed:
            passed.add(current)
            current = found.generations[current].parent or ""
        if current in passed:
            return True
    return False


@hypothesis.given(sources())
@hypothesis.settings(max_examples=300, deadline=None)
def test_each_generation_reaches_and_shares_what_plan_says(found: Sources) -> None:
    hypothesis.assume(not has_circle(found))
    for present in found.generations:
        family = Family(found, present)
        for name in found.generations:
            extent = family.extents[name]
            assert extent.reach == plans.last_reachable(found, name), name
            if name != present:
                assert extent.shared == last_common(found.generations, present, name), name


@hypothesis.given(sources())
@hypothesis.settings(max_examples=100, deadline=None)
def test_generations_that_descend_from_themselves_end_nothing(found: Sources) -> None:
    assert Family(found, next(iter(found.generations))).extents.keys() == found.generations.keys()


def test_the_cost_grows_with_the_number_of_generations_and_not_with_its_square() -> None:
    """A chain of restores, each with a segment and archives: the time of four times as many is not sixteen times it."""

    def seconds(count: int) -> float:
        line = [generation(number, number - 1 if number else None, number) for number in range(count)]
        segments = [segment(each, number + 1, number + 1) for number, each in enumerate(line)]
        archives = [archive(each, number) for number, each in enumerate(line) for _ in range(10)]
        found = Sources({each.id: each for each in line}, archives, segments, Live(line[-1].id, count))
        began = time.process_time()
        family = Family(found, line[-1].id)
        assert family.extents[line[-1].id].reach == count
        return time.process_time() - began

    few = min(seconds(250) for _ in range(3))
    assert min(seconds(1000) for _ in range(3)) < 12 * few
