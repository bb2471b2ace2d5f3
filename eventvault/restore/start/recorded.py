"""How far a generation was recorded in BACKUP_DIR, and what can be restored of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from eventvault.archive import reader
from eventvault.archive.proof import Proof
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.heads import ArchiveHead, ArchiveHeads
from eventvault.database.generation import UNCHECKED, Generation, StoreIdentity, lineage, oldest_first
from eventvault.database.registry import EventRegistry
from eventvault.errors import ArchiveError, BackupNotFound, EventVaultError
from eventvault.journal import coverage, dead_letters, segment
from eventvault.journal.folder import JournalFolder
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.plan import Sources
from eventvault.restore.moments.replay import lines_of


class Recorded(NamedTuple):
    """What BACKUP_DIR has of a generation. last: its last event. latest: its newest descendant, if any.

    heads: of each generation, the archive with the most events.
    """

    last: int
    latest: Generation | None = None
    heads: Mapping[str, ArchiveHead] = MappingProxyType({})


class Beyond(NamedTuple):
    """The last event that can be restored of the events that a database lacked.

    after_gap: the first and the last event that segments hold after it, beyond a gap that nothing holds.
    """

    generation: str
    sequence: int
    after_gap: tuple[int, int] | None = None


class RecordedHistory:
    """Reads only BACKUP_DIR, never the database. Methods may raise OSError and BackupsUnavailable."""

    def __init__(self, backup_dir: Path, catalogue: Catalogue, heads: ArchiveHeads, journal: JournalFolder) -> None:
        self._folder = backup_dir
        self._catalogue = catalogue
        self._heads = heads
        self._journal = journal

    def proof(self) -> Proof:
        """Return what proves an archive now."""
        return self._catalogue.proof()

    def find(self, identity: StoreIdentity, *, is_known: bool = False) -> Recorded:
        """Return how far the current generation was recorded.

        It reads names, the journal's record and a cache, and one archive of each generation that `identity` does not
        have. So it is quick however many archives were read before. is_known: this process knows that the database
        lacks nothing of the one that it had open before. Then new archives are not read: there may be thousands, and
        everybody waits.
        """
        self._catalogue.check_folder()  # another folder would lack everything, which proves nothing
        current, record = identity.generation, self._journal.read_record()
        heads = self._heads.by_generation(may_read_archives=not is_known)
        recorded = [self._journal.last_named(current)]
        generations = identity.by_id()
        if record is not None:
            generations = record.registry.by_id() | generations
            if record.registry.generation == current:
                recorded.append(record.sequence)
        if current in heads:
            recorded.append(heads[current].sequence)
        generations |= self._unknown_generations(generations, {name: head.archive for name, head in heads.items()})
        recorded += [fork.fork_sequence for fork in generations.values() if fork.parent == current]
        return Recorded(max(recorded), _latest(generations, identity, current), heads)

    def segments_named(self, generation: str) -> list[tuple[int, int, Path]]:
        """Return (first, last, path) of a generation's segments, also those of other installations, by their names."""
        return self._journal.named(generation)

    def lines_if_ours(self, path: Path) -> list[bytes] | None:
        """Return the events of a segment; None for one of another installation. Raises JournalDamaged too."""
        source = segment.read_header(path)
        return lines_of(source) if source.header.installation == self._catalogue.installation else None

    def end_of(self, archive: ArchiveHead) -> str | None:
        """Return `recordedtime` of an archive's last event, as printed. Raises ArchiveError or BackupNotFound too."""
        return reader.read_manifest(self._folder / archive.archive).last_time

    def check_dead_letters(self) -> None:
        """Raise why a file with quarantined messages cannot be read: then they cannot be put back."""
        dead_letters.check_readable(self._journal.root, self._catalogue.installation)

    def put_dead_letters_back(self, registry: EventRegistry) -> None:
        """Put the quarantined messages that the journal has and the database lacks."""
        registry.change_beside(lambda db: dead_letters.put_back(db, self._journal.root, self._catalogue.installation))

    def sources(self, identity: StoreIdentity) -> Sources:
        """Return the proven sources of a restore, without the database itself."""
        segments = self._journal.segments_of(self._catalogue.installation)
        entries = [entry for entry in self._heads.entries() if entry.origin_proven and not entry.problem]
        record = self._journal.read_record()
        generations = {found.generation: found.header.generation for found in segments} | identity.by_id()
        generations |= record.registry.by_id() if record is not None else {}
        archives = {entry.generation: entry.name for entry in entries if entry.generation is not None}
        generations |= self._unknown_generations(generations, archives)
        return Sources(generations, [entry for entry in entries if entry.generation in generations], segments)

    def find_beyond(self, identity: StoreIdentity, begun: Generation) -> Beyond:
        """Return what can be restored of the history that the generation `begun` does not continue."""
        sources = self.sources(identity)
        earlier = begun.parent or begun.id
        if begun.reason != UNCHECKED:  # one that began unchecked continued the events of the database itself
            line = (name for name, _ in lineage(sources.generations, earlier))
            earlier = next((name for name in line if _lacks_events_of(sources, name, begun.fork_sequence)), earlier)
        latest = _latest(sources.generations, identity, earlier)
        generation = earlier if latest is None else latest.id
        reach = plans.last_reachable(sources, generation)
        ranges = coverage.in_lineage(sources.segments, lineage(sources.generations, generation))
        stranded = [(first, last) for first, last, _ in ranges if last > reach]
        after_gap = (stranded[0][0], max(last for _, last in stranded)) if stranded else None
        return Beyond(generation, reach, after_gap)

    def describe_remedy(self, identity: StoreIdentity, last: int) -> str:
        """Say which restore of archives and journal replaces a damaged database whose last event is `last`."""
        reach = min(last, plans.last_reachable(self.sources(identity), identity.generation))
        restore = f'POST /api/backup/restore {{"sequence": {reach}}}'
        if not reach:
            return "neither archives nor journal have its events: save what can be read with GET /api/events/export"
        if reach == last:
            return f"{restore} builds the database anew from archives and journal, and loses no event"
        return (
            f"{restore} builds it anew from archives and journal, but these do not have the events after {reach}: save "
            "them first with GET /api/events/export"
        )

    def describe_recovery(self) -> str | None:
        """Say which restore brings back most of a database that cannot be opened; None if the journal does not tell."""
        with suppress(EventVaultError, OSError):
            record = self._journal.read_record()
            if record is not None and record.installation == self._catalogue.installation:
                generation = record.registry.generation
                reach = plans.last_reachable(self.sources(record.registry), generation)
                restore = f'POST /api/backup/restore {{"sequence": {reach}, "generation": "{generation}"}}'
                built = f"builds the database anew from archives and journal, up to event {reach}"
                return f"{restore} {built}; the damaged database is kept"
        return None

    def _unknown_generations(self, known: dict[str, Generation], archives: dict[str, str]) -> dict[str, Generation]:
        """Return the generations that only a segment or an archive describes. archives: one of each generation."""
        found: dict[str, Generation] = {}
        for name in set(self._journal.generations()) - known.keys():
            generation = self._journal.read_generation(name)
            found |= {name: generation} if generation is not None else {}
        for name in archives.keys() - known.keys() - found.keys():
            with suppress(ArchiveError, BackupNotFound):
                found |= _by_id(reader.read_manifest(self._folder / archives[name]).generations)
        return found


def _by_id(generations: Iterable[Generation]) -> dict[str, Generation]:
    return {generation.id: generation for generation in generations}


def _lacks_events_of(sources: Sources, generation: str, fork: int) -> bool:
    """Return whether the events after `fork` that the database lacks are of this generation.

    One that began unchecked only continued another generation, unless it has recorded events of its own beyond `fork`.
    """
    begun = sources.generations[generation]
    if begun.reason != UNCHECKED:
        return True
    if fork < begun.fork_sequence:
        return False
    ends = [found.last for found in sources.segments if found.generation == generation]
    ends += [entry.sequence or 0 for entry in sources.archives if entry.generation == generation]
    return max(ends, default=0) > fork


def _latest(generations: Mapping[str, Generation], identity: StoreIdentity, ancestor: str) -> Generation | None:
    """Return the newest generation that descends from `ancestor` and is not one of `identity`; None if there is none.

    A database knows all generations before its own, so such a generation came later.
    """
    known = identity.by_id()
    later = (
        generation
        for generation in reversed(oldest_first(generations.values()))
        if generation.id not in known and ancestor in dict(lineage(generations, generation.id))
    )
    return next(later, None)
