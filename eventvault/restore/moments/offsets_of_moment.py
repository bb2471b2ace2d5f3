"""Kafka's offsets at a moment: where a restore that reads the topics again begins.

An earlier offset is right too, because no event is stored twice. Without any, the topics are read from their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.generation import NO_BOUND, Generation, lineage
from eventvault.errors import DatabaseDamaged
from eventvault.kafka import offsets
from eventvault.kafka.offsets import Offsets
from eventvault.restore.moments.plan import Plan, Sources
from eventvault.restore.values import POINT_IN_TIME


def live_offsets(bus: EventBus) -> Offsets | None:
    """Return the offsets of the open database; None if none is open, or if damage makes them unreadable."""
    if bus.registry is None:
        return None
    with suppress(DatabaseDamaged), bus.using() as registry:
        return offsets.read_or_empty(registry.scan_meta(keys.KAFKA))
    return None


class Base(NamedTuple):
    """The archive that a plan begins with, if all of its events are used. offsets: of the archive."""

    generation: str
    sequence: int
    offsets: Offsets


def is_cut(plan: Plan, sequence: int) -> bool:
    """Return whether the base of a plan may have events that are not used, so that its offsets are beyond the moment.

    The open database may grow until it is copied. An archive of another generation may have events after the fork.
    """
    if plan.live:
        return True
    if plan.archive is None:
        return False
    return plan.archive.sequence is None or plan.archive.sequence > min(plan.base, sequence)


def read_again_from(
    plan: Plan, sources: Sources, sequence: int, based: Offsets, *, archived: Offsets, live: Offsets | None
) -> Offsets:
    """Return the offsets from which a restore to this event reads the topics again.

    Dead letters before these offsets must be in the quarantine, which will be that of the base and of the live
    database. based: the offsets of the base. archived: those in the archive, empty without one. live: those of the live
    database, None if there is none, or if it cannot be read: a note says then that the quarantine may lack some.
    """
    base = None
    archive = plan.archive
    if archive is not None and archive.generation is not None and not is_cut(plan, sequence):
        base = Base(archive.generation, archive.sequence or 0, based)
    moment = offsets_at(sources, plan.target.generation, sequence, base)
    return moment if live is None else _listed_upto(moment, (archived, live))


def offsets_at(sources: Sources, generation: str, sequence: int, base: Base | None = None) -> Offsets:
    """Return the newest known offsets that are not beyond an event of a generation; empty if none are known.

    A restore without `replay` begins a generation at the offsets where the one before ended: the messages that this
    restore took out of the registry are not read again.
    """
    upto = sequence
    for owner, bound in lineage(sources.generations, generation):
        upto, begun = min(upto, bound), sources.generations.get(owner)
        if begun is not None and begun.parent is not None and upto <= begun.fork_sequence:
            continue
        found = [(base.sequence, base.offsets)] if base and base.generation == owner and base.sequence <= upto else []
        found += [
            (segment.last, segment.header.kafka)
            for segment in sources.segments
            if segment.generation == owner and segment.header.kafka and segment.last <= upto
        ]
        if found:
            return max(found, key=lambda each: each[0])[1]
        if begun is not None and begun.parent is not None and _continues_parent(begun):
            return offsets_at(sources, begun.parent, NO_BOUND, base)
    return {}


def _continues_parent(generation: Generation) -> bool:
    return generation.reason == POINT_IN_TIME and not generation.replay


def _listed_upto(moment: Offsets, lists: Sequence[Offsets]) -> Offsets:
    """Return the offsets, each limited to what one of the quarantines covers; 0 where none covers the partition."""

    def limit(topic: str, number: str, offset: dict[str, Any]) -> dict[str, Any]:
        ends = [listed[topic][number] for listed in lists if number in listed.get(topic, {})]
        same = [end for end in ends if len({end.get("topicId"), offset.get("topicId")} - {None}) < 2]
        nothing = {"next": 0, "topicId": offset.get("topicId"), "clusterId": offset.get("clusterId")}
        return min(offset, max(same, key=_next, default=nothing), key=_next)

    return {
        topic: {number: limit(topic, number, offset) for number, offset in partitions.items()}
        for topic, partitions in moment.items()
    }


def _next(offset: dict[str, Any]) -> int:
    return int(offset["next"])
