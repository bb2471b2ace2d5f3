"""Kafka's offsets at a moment: where a restore that reads the topics again begins.

An earlier offset is right too, because an event that is stored already is not stored twice. Without any the topics are
read from their beginning.
"""

from __future__ import annotations

from eventvault.database.generation import lineage
from eventvault.kafka.offsets import Offsets
from eventvault.restore.moments.plan import Plan, Sources


def is_cut(plan: Plan, sequence: int) -> bool:
    """Return whether the base of a plan may have events that are not used, so that its offsets are beyond the moment.

    The open database may grow until it is copied. An archive of another generation may have events after the fork.
    """
    if plan.live:
        return True
    if plan.archive is None:
        return False
    return plan.archive.sequence is None or plan.archive.sequence > min(plan.base, sequence)


def offsets_before(sources: Sources, generation: str, sequence: int, *, after: int = 0) -> Offsets:
    """Return the newest offsets that are not beyond this event, as far as the journal has them; else none.

    after: only those of a segment that has events after this one.
    """
    bounds = dict(lineage(sources.generations, generation))
    candidates = [
        segment
        for segment in sources.segments
        if segment.header.kafka and after < segment.last <= min(bounds.get(segment.generation, 0), sequence)
    ]
    newest = max(candidates, key=lambda segment: segment.last, default=None)
    return {} if newest is None else newest.header.kafka
