"""Restores to a moment, and what they would do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.database.bus import EventBus
from eventvault.database.generation import last_common
from eventvault.errors import ArchiveDamaged
from eventvault.files import free_bytes
from eventvault.restore import estimate
from eventvault.restore.moments.build import Moments
from eventvault.restore.moments.plan import Plan, Sources, Target
from eventvault.restore.swap import undo
from eventvault.restore.swap.intent import POINT_IN_TIME, Intent
from eventvault.restore.swap.restorer import Restorer
from eventvault.restore.values import Moment, Restored
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

JOURNAL = "the journal"
LIVE = "the present database"


class PointInTime:
    """Brings moments back through `restorer`, so that there is one restore at a time."""

    def __init__(
        self, settings: Settings, bus: EventBus, catalogue: Catalogue, moments: Moments, restorer: Restorer
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._moments = moments
        self._restorer = restorer

    def restore(self, moment: Moment, *, staged: bool, operation: str) -> Restored:
        """Restore to a moment, in a new generation. Raises MomentUnavailable; as `Restorer.restore` else.

        Kafka goes on behind what was taken until now: what is left behind does not come back by itself.
        """

        def make(staging: Path) -> dict[str, Any]:
            way, answer = self._moments.make(moment, staging, POINT_IN_TIME)
            return {**answer, "source": source_of(way), "read": self._moments.bytes_to_read(way)}

        def prepare() -> Intent:
            known = self._restorer.known()
            return self._restorer.prepare_by(make, "a moment", known, operation, reason=POINT_IN_TIME)

        return self._restorer.run("a moment", prepare, staged=staged, operation=operation)

    def plan(self, asked: Moment | str) -> dict[str, Any]:
        """See `eventvault.store.ports.restores.Restores.plan_restore`."""
        if isinstance(asked, str):
            entry = self._catalogue.entry(asked)
            check_known(entry)
            sources = self._moments.sources()
            way, common = self._way_to(entry, sources)
        else:
            way, sources = self._moments.way_to(asked)
            common = self._common(way.target, sources)
        size, needed = self._moments.bytes_to_read(way), self._moments.disk_needed(way)
        sequence = way.target.sequence
        instant = None if sequence is None else self._moments.time_of(sources, way.target.generation, sequence)
        return {
            "generation": way.target.generation or None,
            "sequence": sequence,
            "time": None if instant is None else clock.format_microseconds(instant),
            "archive": way.archive.name if way.archive else None,
            "segments": [each.path.name for each in way.segments],
            "presentDatabase": way.live,
            "bytesToRead": size,
            "diskNeeded": needed,
            "diskFree": free_bytes(self._settings.storage_dir),
            "predictedSeconds": estimate.predict(estimate.known(self._settings.storage_dir), size),
            **self._left_behind(common),
        }

    def _way_to(self, entry: BackupEntry, sources: Sources) -> tuple[Plan, int]:
        """A restore of an archive by its name, and how many of the present events it holds."""
        known = entry.generation is not None and entry.generation in sources.known
        target = Target(generation=entry.generation or "", sequence=entry.sequence)
        common = self._common(target, sources) if known else 0
        return Plan(target=target, archive=entry, base=entry.sequence or 0), common

    def _common(self, target: Target, sources: Sources) -> int:
        """The last of the present events that the target has too."""
        if sources.live is None:
            return 0
        shared = last_common(sources.known, target.generation, sources.live.generation)
        return min(shared, sources.live.sequence if target.sequence is None else target.sequence)

    def _left_behind(self, common: int) -> dict[str, Any]:
        if self._bus.registry is None:
            return {"eventsLeftBehind": 0, "firstLeftBehind": None, "lastLeftBehind": None}
        with self._bus.using() as registry:
            behind = undo.left_behind(registry, common)
        return {"eventsLeftBehind": behind.count, "firstLeftBehind": behind.first, "lastLeftBehind": behind.last}


def check_known(entry: BackupEntry) -> None:
    """Raises the ArchiveError that a restore would, as far as the archive's two ends and what is known of it tell."""
    path = Path(entry.path)
    if reader.kind(path) == "own":
        reader.read_manifest(path)
    if entry.problem is not None:
        raise ArchiveDamaged(
            entry.problem, hint="restore another archive; POST /api/backup/<name>/verify checks this one again"
        )


def source_of(way: Plan) -> str:
    """What a restore says that it restored from."""
    return way.archive.name if way.archive else LIVE if way.live else JOURNAL
