"""What can be restored, as a timeline: the window, generations with their forks, archives, segments and gaps."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, lineage
from eventvault.journal import coverage
from eventvault.journal.segment import Segment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.plan import Sources


def timeline(locator: MomentLocator) -> dict[str, Any]:
    """See `eventvault.store.ports.restores.Restores`. Each generation's moments reach from 0 to `lastSequence`."""
    sources = locator.sources()
    present = locator.present(sources)
    line = dict(lineage(sources.generations, present)) if present else {}
    generations = sorted(sources.generations.values(), key=lambda generation: generation.at)
    return {
        "window": locator.window(sources, present) if present else None,
        "generation": present,
        "generations": [_generation(locator, sources, generation, present, line) for generation in generations],
        "archives": [_archive(entry) for entry in sources.archives],
        "segments": [_segment(segment) for segment in sources.segments],
        "gaps": [gap for generation in generations for gap in _gaps(sources, generation.id)],
    }


def _generation(
    locator: MomentLocator, sources: Sources, generation: Generation, present: str | None, line: dict[str, int]
) -> dict[str, Any]:
    window = locator.window(sources, generation.id)
    return {
        "id": generation.id,
        "parent": generation.parent,
        "forkSequence": generation.fork_sequence,
        "reason": generation.reason,
        "at": clock.format_microseconds(generation.at),
        "present": generation.id == present,
        "inLineage": generation.id in line,
        "lastSequence": window["newest"]["sequence"],
        "window": window,
    }


def _archive(entry: BackupEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "generation": entry.generation,
        "sequence": entry.sequence,
        "created": clock.format_milliseconds(entry.created),
        "size": entry.size,
        "proven": entry.origin_proven,
        "verified": None if entry.verified is None else clock.format_milliseconds(entry.verified),
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "name": segment.path.name,
        "generation": segment.generation,
        "first": segment.first,
        "last": segment.last,
        "firstTime": segment.header.first_time,
        "lastTime": segment.header.last_time,
        "size": segment.size,
    }


def _gaps(sources: Sources, generation: str) -> list[dict[str, Any]]:
    """The events that nothing holds any more; later events of that generation cannot be restored."""
    reach = plans.reachable(sources, generation)
    bound = dict(lineage(sources.generations, generation))[generation]
    journaled = coverage.in_lineage(sources.segments, [(generation, bound)])
    lost = [min(last, bound) for owner, first, last in sources.lost if owner == generation and first <= bound]
    end = max((*(last for _, last, _ in journaled), *lost), default=0)
    if end <= reach:
        return []
    holes = coverage.missing(sources.segments, lineage(sources.generations, generation), reach, end)
    return [{"generation": generation, "first": first, "last": last} for first, last in holes]
