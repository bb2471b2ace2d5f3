"""Computes which events of a lineage the segments hold and lack, and which segments to merge or remove.

A lineage is a generation and its ancestors, each with its last sequence that belongs to it
(`eventvault.database.generation.lineage`). Everything here is plain data: nothing reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventvault.database.generation import NO_BOUND
from eventvault.journal.folder import QuarantinedSegment
from eventvault.journal.segment import Segment

Range = tuple[int, int]
"""The first and the last sequence, both included."""

MERGE_COUNT = 16
"""How many neighbours of one tier are merged into one segment."""
MAX_MERGED_BYTES = 8 * 2**20
"""The limit for the content of a merged segment, because a segment is read in one piece."""


def in_lineage(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]]) -> list[tuple[int, int, Segment]]:
    """Return (first, last, segment), sorted by `first`: each segment's range of events in the lineage."""
    bounds = dict(lineage)
    held = [
        (segment.first, min(segment.last, bounds[segment.generation]), segment)
        for segment in segments
        if segment.generation in bounds and segment.first <= bounds[segment.generation]
    ]
    return sorted(held, key=lambda item: item[:2])


def chain(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> list[Segment]:
    """Return the fewest segments that hold the events after `after` without a hole, up to `upto` or the first hole."""
    held = in_lineage(segments, lineage)
    chosen: list[Segment] = []
    position, number = after, 0
    while position < upto:
        best: tuple[int, Segment | None] = (position, None)
        while number < len(held) and held[number][0] <= position + 1:
            best = max(best, held[number][1:], key=lambda item: item[0])
            number += 1
        if best[1] is None:
            break
        chosen.append(best[1])
        position = best[0]
    return chosen


def reach(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> int:
    """Return the last sequence, at most `upto`, that the segments reach from `after` without a hole."""
    bounds = dict(lineage)
    ends = [min(segment.last, bounds[segment.generation]) for segment in chain(segments, lineage, after, upto)]
    return min(upto, max(after, *ends)) if ends else after


def missing(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> list[Range]:
    """Return the ranges after `after`, up to `upto`, that no segment of the lineage holds."""
    holes = []
    position = after
    for first, last, _ in in_lineage(segments, lineage):
        if first > upto:
            break
        if first > position + 1:
            holes.append((position + 1, first - 1))
        position = max(position, last)
    if position < upto:
        holes.append((position + 1, upto))
    return holes


def lost(
    damaged: Iterable[QuarantinedSegment], segments: Sequence[Segment], recoverable: Mapping[str, int]
) -> list[QuarantinedSegment]:
    """Return the damaged segments with events that nothing else holds.

    recoverable: generation → its last event in the database, which writes segments again, or in a good archive.
    """

    def is_lost(segment: QuarantinedSegment) -> bool:
        after = max(segment.first - 1, recoverable.get(segment.generation, 0))
        return bool(missing(segments, [(segment.generation, NO_BOUND)], after, segment.last))

    return [segment for segment in damaged if is_lost(segment)]


def superseded(segments: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
    """Return (superseded, superseding) for segments whose events another segment of their generation holds, too.

    A merge that was killed before it removed its sources leaves such segments.
    """
    pairs: list[tuple[Segment, Segment]] = []
    longest: dict[str, Segment] = {}
    for segment in sorted(segments, key=lambda segment: (segment.generation, segment.first, -segment.last)):
        superseding = longest.get(segment.generation)
        if superseding is not None and segment.last <= superseding.last:
            pairs.append((segment, superseding))
        else:
            longest[segment.generation] = segment
    return pairs


def plan_merge(segments: Sequence[Segment]) -> list[Segment]:
    """Return neighbours of one generation to merge into one segment; empty if there are none.

    segments: in order, none of them superseded. Because `MERGE_COUNT` segments of a tier become one of the next tier,
    an event is written only a few times.
    """
    run: list[Segment] = []
    for segment in segments:
        if run and not (_follows(run[-1], segment) and _tier(run[-1]) == _tier(segment)):
            run = []
        run.append(segment)
        if len(run) == MERGE_COUNT:
            fitting = _limit_to_one_segment(run)
            if len(fitting) > 1:
                return fitting
            run = run[1:]
    return []


def plan_removal(
    segments: Iterable[Segment], holds: Iterable[tuple[str, int]], current: Sequence[tuple[str, int]], since: int
) -> list[Segment]:
    """Return the segments that retention removes.

    holds: the lineage of the oldest verified archive, with the last sequence of every generation in it. since: the
    recorded time of its last event, in microseconds. current: the current lineage.

    A segment is removed if the archive holds it. It is also removed if a restore discarded its events and they ended
    before the archive was made: no archive remains from which they could be restored. A segment on both sides of the
    fork must meet both conditions.
    """
    archived, bounds = dict(holds), dict(current)
    removable = []
    for segment in segments:
        fork, held = bounds.get(segment.generation, 0), archived.get(segment.generation, 0)
        shared_is_held = segment.first > fork or held >= fork
        if segment.last <= held or (segment.last > fork and shared_is_held and segment.last_time < since):
            removable.append(segment)
    return removable


def _follows(earlier: Segment, later: Segment) -> bool:
    return earlier.generation == later.generation and later.first == earlier.last + 1


def _tier(segment: Segment) -> int:
    """Return 0 for a segment that was not merged, 1 for a merge of such segments, 2 for a merge of merges, etc."""
    tier, merged = 0, segment.header.merged
    while merged >= MERGE_COUNT:
        tier, merged = tier + 1, merged // MERGE_COUNT
    return tier


def _limit_to_one_segment(run: Sequence[Segment]) -> list[Segment]:
    total = 0
    for number, segment in enumerate(run):
        total += segment.header.content_bytes
        if total > MAX_MERGED_BYTES:
            return list(run[:number])
    return list(run)
