"""What a restore could use if STORAGE_DIR were lost: archives and the journal, but no database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.errors import ArchiveError, BackupNotFound
from eventvault.journal.folder import JournalFolder
from eventvault.rehearsals.results import Kind
from eventvault.restore.builder import ArchiveSource, Builder
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.plan import Sources
from eventvault.restore.moments.planner import MomentPlanner, PlannedMoment
from eventvault.restore.swap.previous import PreviousDatabases
from eventvault.restore.values import Moment
from eventvault.settings import Settings

_NO_DATABASE = "no database"


class Reach(NamedTuple):
    """The last event of a generation that can be restored. generation: None if it is foreign or not proven."""

    generation: str | None
    sequence: int


class Chosen(NamedTuple):
    """What to rehearse. backup: the archive, if only one is used. reach: how far a restore could come now."""

    kind: Kind
    source: ArchiveSource | PlannedMoment
    backup: BackupEntry | None
    reach: Reach


class BackupSources:
    """Chooses what to restore, and builds it, from BACKUP_DIR alone. Safe to use from many threads.

    Methods may raise OSError, and BackupsUnavailable if BACKUP_DIR is missing.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, journal: JournalFolder) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._journal = journal
        self._bus = EventBus(settings.storage_dir / _NO_DATABASE)  # it is never opened, as if the database were lost
        self._locator = MomentLocator(self._bus, catalogue, journal)
        self._planner = MomentPlanner(self._locator, journal)

    def builder(self, chores: Chores, on_replanned: Callable[[PlannedMoment], None]) -> Builder:
        """Return the builder. chores: of this rehearsal alone, to cancel it. on_replanned: as for `MomentBuilder`."""
        moments = MomentBuilder(self._settings, self._bus, self._locator, self._journal, chores, on_replanned)
        previous = PreviousDatabases(self._settings.storage_dir)
        return Builder(self._settings, self._bus, chores, previous, moments)

    def choose(self, wanted: Moment | str | None, live: str | None) -> Chosen:
        """Choose how to restore a named archive, a moment, or (None) the newest state.

        live: the generation of the live database, None if there is none. Raises BackupNotFound if there is nothing to
        restore from, MomentUnavailable, or JournalDamaged.
        """
        if isinstance(wanted, str):
            return self._backup(self._catalogue.entry(wanted))
        sources = self._locator.find_sources()
        generation = live if live in sources.generations else self._locator.current_generation(sources)
        reach = Reach(generation, 0 if generation is None else self._reachable(sources, generation))
        if wanted is not None:
            generation = wanted.generation or generation
            moment = Moment(instant=wanted.instant, sequence=wanted.sequence, generation=generation)
            return Chosen("moment", self._planner.plan(moment), None, reach)
        if reach.sequence == 0:
            return self._newest_archive()
        moment = Moment(sequence=reach.sequence, generation=generation)
        return Chosen("newest", self._planner.plan(moment), None, reach)

    def manifest_of(self, entry: BackupEntry) -> Manifest | None:
        """Return the manifest of an archive; None if it has none that can be read."""
        try:
            return reader.read_manifest(Path(entry.path))
        except ArchiveError:
            return None

    def _reachable(self, sources: Sources, generation: str) -> int:
        """Return the last event that a restore reaches. It prefers the sources in the order in which a restore does."""
        for preferred in (self._locator.only_ours(sources), plans.only_proven(sources), sources):
            if generation in preferred.generations and (reach := plans.last_reachable(preferred, generation)):
                return reach
        return 0

    def _newest_archive(self) -> Chosen:
        """Return the newest archive without a known problem; used if no moment is known, as for a foreign archive."""
        for entry in self._catalogue.entries():
            if entry.problem is None:
                return self._backup(entry, kind="newest")
        raise BackupNotFound(
            f"{self._settings.backup_dir} holds no backup to rehearse", hint="make one with POST /api/backup/create"
        )

    def _backup(self, entry: BackupEntry, kind: Kind = "backup") -> Chosen:
        source = ArchiveSource(Path(entry.path), entry.checksum if entry.content_checked else None)
        reach = Reach(entry.generation if entry.origin_proven else None, entry.sequence or 0)
        return Chosen(kind, source, entry, reach)
