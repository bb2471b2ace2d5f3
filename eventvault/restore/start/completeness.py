"""What archives and journal hold beyond the event to which a lost database would be recovered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import last_common, lineage
from eventvault.journal.folder import QuarantinedSegment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.plan import Sources, Target


def find_beyond(
    everything: Sources,
    target: Target,
    quarantined: Iterable[QuarantinedSegment],
    *,
    installation: str,
) -> Iterator[str]:
    """Yield a sentence for each file that holds events beyond `target`, damaged ones included; none: it is complete.

    everything: all sources, also those with a known problem. Events that no file holds are not named: nobody can decide
    about them.
    """
    generation, sequence = target.generation, target.sequence or 0
    bounds = dict(lineage(everything.generations, generation))
    for segment in quarantined:
        if min(segment.last, bounds.get(segment.generation, 0)) > sequence:
            yield f"{segment.path} is damaged, and had events up to {segment.last}"
    if plans.has_gap_after(plans.only_made_by(everything, installation), generation, sequence):
        yield f"events beyond {sequence} are in the journal, but those before them are not there"
    for archive in everything.archives:
        if _is_ours(archive, installation) and _reach(everything, archive, generation) > sequence:
            damage = f", and is damaged: {archive.problem}" if archive.problem else ""
            yield f"{archive.name} has events up to {archive.sequence}{damage}"
    own = everything.generations.keys() - everything.claimed
    for later in sorted(own - {generation}):
        if generation in dict(lineage(everything.generations, later)):
            yield f"generation {later} came after generation {generation}"


def unread_archives(archives: Iterable[BackupEntry]) -> Iterator[str]:
    """Name the archives that cannot be read at all, for a recovery that lacks events that were recorded."""
    return (f"{archive.name} cannot be read: {archive.problem}" for archive in archives if archive.generation is None)


def _is_ours(archive: BackupEntry, installation: str) -> bool:
    return archive.is_ours or archive.installation == installation


def _reach(sources: Sources, archive: BackupEntry, generation: str) -> int:
    """Return the last event of the lineage of `generation` that the archive has."""
    if archive.generation is None or archive.generation not in sources.generations or archive.sequence is None:
        return 0
    return min(archive.sequence, last_common(sources.generations, archive.generation, generation))
