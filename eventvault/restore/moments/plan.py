"""The plan for a moment: which archive and which segments, as plain data. Nothing here reads or writes.

Events are only appended, so each state of a registry is a prefix of a lineage (a generation and its ancestors).
Whatever holds a later state holds the earlier ones too, once it is cut. "Nothing" counts as an archive at sequence 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import NO_BOUND, Generation, StoreIdentity, last_common, lineage
from eventvault.journal import coverage
from eventvault.journal.segment import Segment

Generations = Mapping[str, Generation]
"""Generations by id."""

JOURNAL = "the journal"
LIVE = "the present database"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Events 1 to `sequence` of `generation`. sequence: None if only the archive that is cut at `instant` tells it."""

    generation: str
    sequence: int | None = None
    instant: int | None = None


class Live(msgspec.Struct, frozen=True):
    """The database that is open: its generation and last sequence."""

    generation: str
    sequence: int


class Sources(msgspec.Struct, frozen=True):
    """What can be restored from.

    archives: those without a known problem, of `generations`. live: None if no database is open. lost: (generation,
    first, last) of damaged segments. claimed: the ids of generations that are named only by archives and segments not
    proven to be of this installation.
    """

    generations: Generations
    archives: Sequence[BackupEntry]
    segments: Sequence[Segment]
    live: Live | None = None
    lost: tuple[tuple[str, int, int], ...] = ()
    claimed: frozenset[str] = frozenset()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to build a moment: unpack the archive or copy the open database (`live`), cut it, and replay segments.

    archive: None without one. base: how many events of the archive or database are used; it is cut there. segments: in
    the order of their replay, up to the target.
    """

    target: Target
    archive: BackupEntry | None = None
    live: bool = False
    base: int = 0
    segments: tuple[Segment, ...] = ()

    @property
    def bytes_to_read(self) -> int:
        return (self.archive.size if self.archive else 0) + sum(segment.size for segment in self.segments)

    @property
    def source(self) -> str:
        """Return what the restore's answer names as its source."""
        return self.archive.name if self.archive else LIVE if self.live else JOURNAL


def without_files(sources: Sources, paths: Collection[Path]) -> Sources:
    """Return the sources without those archives and segments; the events of these segments count as lost."""
    lost = [(segment.generation, segment.first, segment.last) for segment in sources.segments if segment.path in paths]
    return msgspec.structs.replace(
        sources,
        archives=[archive for archive in sources.archives if Path(archive.path) not in paths],
        segments=[segment for segment in sources.segments if segment.path not in paths],
        lost=(*sources.lost, *lost),
    )


def choose_conflicting(sources: Sources, generation: str, archive: Path, segment: Path) -> Path:
    """Return the one to exclude of two files that hold different events: more events stay reachable without it.

    A tie excludes the archive. It may be of a copy that is used elsewhere, while segments hold a checksum of the events
    before them. An archive with events beyond the segment is excluded too: they do not continue those of the journal.
    """
    ends = {Path(entry.path): entry.sequence or 0 for entry in sources.archives}
    lasts = {entry.path: entry.last for entry in sources.segments}
    if ends.get(archive, 0) > lasts.get(segment, NO_BOUND):
        return archive
    return max((archive, segment), key=lambda path: last_reachable(without_files(sources, {path}), generation))


def only_made_by(sources: Sources, installation: str) -> Sources:
    """Return what an installation made itself. Another one may have continued the same generation otherwise."""
    return msgspec.structs.replace(
        sources,
        generations={id_: generation for id_, generation in sources.generations.items() if id_ not in sources.claimed},
        archives=[archive for archive in sources.archives if archive.is_ours],
        segments=[segment for segment in sources.segments if segment.header.installation == installation],
        claimed=frozenset(),
    )


def only_proven(sources: Sources) -> Sources:
    """Return the sources without archives that are neither made here nor trusted."""
    return msgspec.structs.replace(
        sources, archives=[archive for archive in sources.archives if archive.is_ours or archive.trusted]
    )


def has_gap_after(sources: Sources, generation: str, reach: int) -> bool:
    """Return True if events exist after `reach`, the last one that is reachable: those in between are lost."""
    line = lineage(sources.generations, generation)
    bounds = dict(line)
    journaled = [last for _, last, _ in coverage.in_lineage(sources.segments, line)]
    lost = [min(last, bounds[owner]) for owner, first, last in sources.lost if first <= bounds.get(owner, 0)]
    return any(min(last, last_of(sources, generation)) > reach for last in (*journaled, *lost))


def had_more_than(generations: Generations, generation: str, reach: int) -> bool:
    """Return True if a generation certainly had events after `reach`: a fork in its lineage lies after it."""
    bounds = dict(lineage(generations, generation))
    forks = ((child.fork_sequence, bounds[child.parent]) for child in generations.values() if child.parent in bounds)
    return any(min(fork) > reach for fork in forks)


def end_is_unknown(sources: Sources, generation: str, current: str, reach: int) -> bool:
    """Return True if nothing tells whether a previous generation had events after `reach`.

    That is so if all its events that exist are shared with the current one, unless an undo restored it completely.
    """
    if generation == current:
        return False
    shared = reach <= last_common(sources.generations, current, generation)
    archived = any(
        archive.generation == generation and (archive.sequence or 0) >= reach for archive in sources.archives
    )
    journaled = any(segment.generation == generation and segment.last >= reach for segment in sources.segments)
    if not shared and (archived or journaled):
        return False
    return not StoreIdentity("", current, tuple(sources.generations.values())).is_complete_at(generation, reach)


def last_reachable(sources: Sources, generation: str) -> int:
    """Return the last sequence of a generation that can be restored; every earlier one can be, too."""
    line = lineage(sources.generations, generation)
    bases = [reach for _, _, reach in _bases(sources, generation)]
    best = max(bases, default=0)
    while (further := coverage.reach(sources.segments, line, best, line[0][1])) > best:
        best = further
    return min(best, last_of(sources, generation))


def last_of(sources: Sources, generation: str) -> int:
    """Return the last sequence of the open database for its own generation; NO_BOUND for another one.

    Later events were posted after `sources` was made, or by another installation that uses a copy.
    """
    live = sources.live
    return live.sequence if live is not None and live.generation == generation else NO_BOUND


def find_plan(sources: Sources, target: Target) -> Plan | None:
    """Return the best plan for a target; None if there is none.

    First choice: the newest archive at or before the moment, with the segments up to it. Second: the journal from its
    beginning or a later archive, cut, whichever reads fewer bytes. Last: a copy of the open database, cut.
    """
    if target.sequence is None:
        return _cut_at_instant(sources, target)
    upto = target.sequence
    line = lineage(sources.generations, target.generation)
    ranked = []
    for archive, live, reach in [*_bases(sources, target.generation), (None, False, 0)]:
        base = min(reach, upto)
        segments = coverage.chain(sources.segments, line, base, upto)
        if coverage.reach(sources.segments, line, base, upto) < upto:
            continue
        candidate = Plan(target=target, archive=archive, live=live, base=base, segments=tuple(segments))
        exact = archive is not None and archive.sequence == base
        rank = 2 if live else 0 if exact else 1
        ranked.append(((rank, -base if exact else candidate.bytes_to_read), candidate))
    return min(ranked, key=lambda entry: entry[0])[1] if ranked else None


def journaled_event_of_base(plan: Plan, sources: Sources) -> tuple[str, int] | None:
    """Return (path, sequence): a segment, and the last event that it shares with the plan's archive."""
    if plan.archive is None:
        return None
    held = coverage.in_lineage(sources.segments, lineage(sources.generations, plan.target.generation))
    shared = [(min(last, plan.base), str(segment.path)) for first, last, segment in held if first <= plan.base]
    sequence, path = max(shared, default=(0, ""))
    return (path, sequence) if path else None


def find_latest_plan(sources: Sources, generation: str) -> Plan:
    """Return the plan for the last event of a generation that can be restored."""
    target = Target(generation=generation, sequence=last_reachable(sources, generation))
    best = find_plan(sources, target)
    assert best is not None, "what is reachable can be planned"
    return best


def _bases(sources: Sources, generation: str) -> Iterator[tuple[BackupEntry | None, bool, int]]:
    """Yield (archive, whether it is the open database, how many events of the lineage it holds)."""
    for entry in sources.archives:
        if entry.generation is not None and entry.generation in sources.generations and entry.sequence is not None:
            common = last_common(sources.generations, entry.generation, generation)
            if common or not entry.sequence:
                yield entry, False, min(entry.sequence, common)
    live = sources.live
    if live is not None and live.generation in sources.generations:
        yield None, True, min(live.sequence, last_common(sources.generations, live.generation, generation))


def _cut_at_instant(sources: Sources, target: Target) -> Plan | None:
    """Return a plan to cut the archive that holds most of the generation: the instant lies between the segments."""
    holding = [(reach, entry) for entry, _, reach in _bases(sources, target.generation) if entry is not None]
    if not holding:
        return None
    reach, entry = max(holding, key=lambda pair: pair[0])
    return Plan(target=target, archive=entry, base=reach)
