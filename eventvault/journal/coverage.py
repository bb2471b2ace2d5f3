"""What segments give, as plain data: which events they hold in a lineage, what is missing, what is merged, what may go.

A lineage is a generation and its ancestors, each with the last of its sequences that belongs to it
(`eventvault.database.generation.lineage`). Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventvault.database.generation import NO_BOUND
from eventvault.journal.folder import QuarantinedSegment
from eventvault.journal.segment import Segment

Range = tuple[int, int]
"""The first and the last sequence, both included."""

MERGE_COUNT = 16
"""So many neighbours of about the same kind become one."""
MAX_MERGED_BYTES = 8 * 2**20
"""A merged segment holds at most so many bytes of events, so that it is read in one piece."""


def in_lineage(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]]) -> list[tuple[int, int, Segment]]:
    """(first, last, segment): what each holds of the lineage, by `first`."""
    bounds = dict(lineage)
    held = [
        (each.first, min(each.last, bounds[each.generation]), each)
        for each in segments
        if each.generation in bounds and each.first <= bounds[each.generation]
    ]
    return sorted(held, key=lambda item: item[:2])


def chain(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> list[Segment]:
    """The fewest segments that hold what follows `after` without a hole, as far as they go, at most up to `upto`."""
    held = in_lineage(segments, lineage)
    found: list[Segment] = []
    position, number = after, 0
    while position < upto:
        best: tuple[int, Segment | None] = (position, None)
        while number < len(held) and held[number][0] <= position + 1:
            best = max(best, held[number][1:], key=lambda item: item[0])
            number += 1
        if best[1] is None:
            break
        found.append(best[1])
        position = best[0]
    return found


def reach(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> int:
    """The last sequence that can be had by segments alone from `after` on, at most `upto`."""
    bounds = dict(lineage)
    found = chain(segments, lineage, after, upto)
    return min(upto, max(after, *(min(each.last, bounds[each.generation]) for each in found))) if found else after


def missing(segments: Iterable[Segment], lineage: Sequence[tuple[str, int]], after: int, upto: int) -> list[Range]:
    """The ranges beyond `after`, up to `upto`, that no segment of the lineage holds."""
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
    damaged: Iterable[QuarantinedSegment], segments: Sequence[Segment], kept: Mapping[str, int]
) -> list[QuarantinedSegment]:
    """Damaged segments whose events are not all elsewhere.

    kept: up to where a generation is in the database, which writes them again, or in a good archive.
    """
    return [
        each
        for each in damaged
        if missing(
            segments, [(each.generation, NO_BOUND)], max(each.first - 1, kept.get(each.generation, 0)), each.last
        )
    ]


def superseded(segments: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
    """(needless, instead): those whose events another segment of their generation holds too.

    A merge was killed before it removed them.
    """
    gone: list[tuple[Segment, Segment]] = []
    best: dict[str, Segment] = {}
    for each in sorted(segments, key=lambda each: (each.generation, each.first, -each.last)):
        instead = best.get(each.generation)
        if instead is not None and each.last <= instead.last:
            gone.append((each, instead))
        else:
            best[each.generation] = each
    return gone


def plan_merge(segments: Sequence[Segment]) -> list[Segment]:
    """Neighbours of one generation that are to become one segment; empty where none are.

    segments: in order, none of them superseded. As `MERGE_COUNT` of a tier become one of the next tier, an event is
    written a few times at most.
    """
    run: list[Segment] = []
    for each in segments:
        if run and not (_follows(run[-1], each) and _tier(run[-1]) == _tier(each)):
            run = []
        run.append(each)
        if len(run) == MERGE_COUNT:
            fitting = _fit_in_one(run)
            if len(fitting) > 1:
                return fitting
            run = run[1:]
    return []


def plan_removal(
    segments: Iterable[Segment], holds: Iterable[tuple[str, int]], known: Sequence[tuple[str, int]], since: int
) -> list[Segment]:
    """Segments that retention removes.

    holds: the lineage of the oldest kept archive that was verified, each generation with the last of its sequences
    that the archive has. since: the recorded time of its last event, microseconds. known: the present lineage.

    What the archive has is not needed any more. Nor is what belongs to a future that was left behind, and ended
    before that archive was made: the archives that it could be restored from are gone. What lies on both sides of the
    fork needs both.
    """
    archived, present = dict(holds), dict(known)
    gone = []
    for each in segments:
        kept_for, held = present.get(each.generation, 0), archived.get(each.generation, 0)
        shared_is_held = each.first > kept_for or held >= kept_for
        if each.last <= held or (each.last > kept_for and shared_is_held and each.last_time < since):
            gone.append(each)
    return gone


def _follows(one: Segment, other: Segment) -> bool:
    return one.generation == other.generation and other.first == one.last + 1


def _tier(segment: Segment) -> int:
    """0 for one as it was written, 1 for what was merged once, 2 for what was merged of those, …"""
    kind, merged = 0, segment.header.merged
    while merged >= MERGE_COUNT:
        kind, merged = kind + 1, merged // MERGE_COUNT
    return kind


def _fit_in_one(run: Sequence[Segment]) -> list[Segment]:
    """The first of them that fit into one segment."""
    total = 0
    for number, each in enumerate(run):
        total += each.header.bytes
        if total > MAX_MERGED_BYTES:
            return list(run[:number])
    return list(run)
