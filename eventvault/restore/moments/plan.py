"""How to get at a moment: which archive, which segments, as plain data. Nothing here reads or writes.

Events are only ever appended, so each state of a registry is a prefix of a lineage (a generation and its ancestors),
and what holds a later state holds the earlier ones too, when it is cut. "Nothing" is an archive at sequence 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import NO_BOUND, Generation, StoreIdentity, last_common, lineage
from eventvault.journal import coverage
from eventvault.journal.segment import Segment

Known = Mapping[str, Generation]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A moment that was found: the events 1 to `sequence` of `generation`.

    sequence: None where only the archive that is to be cut at `instant` can tell it.
    """

    generation: str
    sequence: int | None = None
    instant: int | None = None


class Live(msgspec.Struct, frozen=True):
    """The database that is open: its generation and last sequence."""

    generation: str
    sequence: int


class Sources(msgspec.Struct, frozen=True):
    """What there is to restore from.

    known: all generations by id. archives: those with which nothing is known to be wrong, of known generations.
    live: None where no database is open. lost: (generation, first, last) of segments that are there and damaged.
    """

    known: Known
    archives: Sequence[BackupEntry]
    segments: Sequence[Segment]
    live: Live | None = None
    lost: tuple[tuple[str, int, int], ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """archive: what is unpacked, None: nothing. live: a copy of the open database is taken instead.

    base: how many of its events are used; it is cut there. segments: what is put upon it, in order, up to the target.
    """

    target: Target
    archive: BackupEntry | None = None
    live: bool = False
    base: int = 0
    segments: tuple[Segment, ...] = ()

    @property
    def bytes_to_read(self) -> int:
        return (self.archive.size if self.archive else 0) + sum(each.size for each in self.segments)


def without(sources: Sources, gone: Collection[Path]) -> Sources:
    """What is left where those archives and segments are of no use; the events of the latter count as lost."""
    lost = [(each.generation, each.first, each.last) for each in sources.segments if each.path in gone]
    return msgspec.structs.replace(
        sources,
        archives=[each for each in sources.archives if Path(each.path) not in gone],
        segments=[each for each in sources.segments if each.path not in gone],
        lost=(*sources.lost, *lost),
    )


def choose_conflicting(sources: Sources, generation: str, archive: Path, segment: Path) -> Path:
    """Which of two that have different events is done without: the one without which more can be had.

    Where it is all the same that is the archive: one of a copy that went on elsewhere says nothing of that, while
    segments hang together.
    """
    return max((archive, segment), key=lambda gone: reachable(without(sources, {gone}), generation))


def only(sources: Sources, installation: str) -> Sources:
    """What an installation made itself. Another one may have gone on from the same generation with other events."""
    return msgspec.structs.replace(
        sources,
        archives=[each for each in sources.archives if each.origin == "created"],
        segments=[each for each in sources.segments if each.header.installation == installation],
    )


def has_gap_after(sources: Sources, generation: str, reach: int) -> bool:
    """Whether there are events beyond what can be reached: what lies between is lost."""
    line = lineage(sources.known, generation)
    bounds = dict(line)
    held = [last for _, last, _ in coverage.in_lineage(sources.segments, line)]
    lost = [min(last, bounds[each]) for each, first, last in sources.lost if first <= bounds.get(each, 0)]
    return any(min(last, _end(sources, generation)) > reach for last in (*held, *lost))


def had_more_than(known: Known, generation: str, reach: int) -> bool:
    """Whether a generation had events beyond `reach` for certain, as what forks off it, or itself does, forks later."""
    bounds = dict(lineage(known, generation))
    forks = ((each.fork_sequence, bounds[each.parent]) for each in known.values() if each.parent in bounds)
    return any(min(fork) > reach for fork in forks)


def end_is_unknown(sources: Sources, generation: str, present: str, reach: int) -> bool:
    """Whether all that is left of a generation that was left behind is what it shares with others.

    Then nothing tells whether it had more, unless it was brought back from its end.
    """
    if generation == present:
        return False
    shared = reach <= last_common(sources.known, present, generation)
    archived = any(each.generation == generation and (each.sequence or 0) >= reach for each in sources.archives)
    journaled = any(each.generation == generation and each.last >= reach for each in sources.segments)
    if not shared and (archived or journaled):
        return False
    return not StoreIdentity("", present, tuple(sources.known.values())).is_complete_at(generation, reach)


def reachable(sources: Sources, generation: str) -> int:
    """The last sequence of a generation that can be restored; so can each before it."""
    line = lineage(sources.known, generation)
    bases = [reach for _, _, reach in _bases(sources, generation)]
    best = max(bases, default=0)
    while (further := coverage.reach(sources.segments, line, best, line[0][1])) > best:
        best = further
    return min(best, _end(sources, generation))


def _end(sources: Sources, generation: str) -> int:
    """The last sequence that there is of the open database's generation; any, of another one.

    What lies beyond was posted since it was looked at, or by another installation that went on from a copy.
    """
    live = sources.live
    return live.sequence if live is not None and live.generation == generation else NO_BOUND


def plan(sources: Sources, target: Target) -> Plan | None:
    """The best way to a target; None where there is none.

    First the newest archive at or before the moment, with the segments up to it. Else whatever reads the least: the
    journal from its beginning, or an archive beyond the moment, cut. Else a copy of the open database, cut.
    """
    if target.sequence is None:
        return _cut_at_instant(sources, target)
    upto = target.sequence
    line = lineage(sources.known, target.generation)
    ways = []
    for archive, live, reach in [*_bases(sources, target.generation), (None, False, 0)]:
        base = min(reach, upto)
        found = coverage.chain(sources.segments, line, base, upto)
        if coverage.reach(sources.segments, line, base, upto) < upto:
            continue
        way = Plan(target=target, archive=archive, live=live, base=base, segments=tuple(found))
        exact = archive is not None and archive.sequence == base
        rank = 2 if live else 0 if exact else 1
        ways.append(((rank, -base if exact else way.bytes_to_read), way))
    return min(ways, key=lambda way: way[0])[1] if ways else None


def latest(sources: Sources, generation: str) -> Plan:
    """The way to the last event of a generation that can be had at all."""
    target = Target(generation=generation, sequence=reachable(sources, generation))
    found = plan(sources, target)
    assert found is not None, "what is reachable can be planned"
    return found


def _bases(sources: Sources, generation: str) -> Iterator[tuple[BackupEntry | None, bool, int]]:
    """(archive, is it the open database, how much of the lineage it holds)."""
    for entry in sources.archives:
        if entry.generation is not None and entry.generation in sources.known and entry.sequence is not None:
            common = last_common(sources.known, entry.generation, generation)
            if common or not entry.sequence:
                yield entry, False, min(entry.sequence, common)
    live = sources.live
    if live is not None and live.generation in sources.known:
        yield None, True, min(live.sequence, last_common(sources.known, live.generation, generation))


def _cut_at_instant(sources: Sources, target: Target) -> Plan | None:
    """The archive that holds the most of the generation: what is sought lies between its segments."""
    holding = [(reach, entry) for entry, _, reach in _bases(sources, target.generation) if entry is not None]
    if not holding:
        return None
    reach, entry = max(holding, key=lambda each: each[0])
    return Plan(target=target, archive=entry, base=reach)
