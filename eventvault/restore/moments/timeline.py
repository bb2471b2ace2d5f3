"""What can be restored, ready to be drawn: the window, generations with their forks, archives, segments, gaps."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import Generation, lineage
from eventvault.journal import coverage
from eventvault.journal.segment import Segment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.build import Moments
from eventvault.restore.moments.plan import Sources


def timeline(moments: Moments) -> dict[str, Any]:
    """See `eventvault.store.ports.restores.Restores`. Each generation's moments reach from 0 to `lastSequence`."""
    sources = moments.sources()
    present = moments.present(sources)
    line = dict(lineage(sources.known, present)) if present else {}
    in_order = sorted(sources.known.values(), key=lambda each: each.at)
    return {
        "window": moments.window(sources, present) if present else None,
        "generation": present,
        "generations": [_generation(moments, sources, each, present, line) for each in in_order],
        "archives": [_archive(entry) for entry in sources.archives],
        "segments": [_segment(each) for each in sources.segments],
        "gaps": [gap for each in in_order for gap in _gaps(sources, each.id)],
    }


def _generation(
    moments: Moments, sources: Sources, generation: Generation, present: str | None, line: dict[str, int]
) -> dict[str, Any]:
    window = moments.window(sources, generation.id)
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
        "verified": None if entry.verified is None else clock.format_milliseconds(entry.verified),
    }


def _segment(each: Segment) -> dict[str, Any]:
    header = each.header
    return {
        "name": each.path.name,
        "generation": each.generation,
        "first": each.first,
        "last": each.last,
        "firstTime": header.first_time,
        "lastTime": header.last_time,
        "size": each.size,
    }


def _gaps(sources: Sources, generation: str) -> list[dict[str, Any]]:
    """Events that there were and that nothing holds; what comes after them in that generation is out of reach."""
    reach = plans.reachable(sources, generation)
    own = [(generation, dict(lineage(sources.known, generation))[generation])]
    held = coverage.in_lineage(sources.segments, own)
    lost = [min(last, own[0][1]) for each, first, last in sources.lost if each == generation and first <= own[0][1]]
    end = max((*(last for _, last, _ in held), *lost), default=0)
    if end <= reach:
        return []
    holes = coverage.missing(sources.segments, lineage(sources.known, generation), reach, end)
    return [{"generation": generation, "first": first, "last": last} for first, last in holes]
