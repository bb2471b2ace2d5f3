"""The recovery of a database that is gone, from all that its installation has in BACKUP_DIR.

What was there and cannot be had is never taken for an empty registry: an empty one comes back only where it was empty.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventvault.backups.catalogue import Catalogue
from eventvault.database.generation import lineage
from eventvault.errors import (
    ArchiveError,
    ArchiveUnreadable,
    BackupNotFound,
    BackupsUnavailable,
    DatabaseMissing,
    EventVaultError,
    JournalDamaged,
)
from eventvault.files import FileIdentity
from eventvault.journal.folder import JournalFolder, is_unreadable, segment_of
from eventvault.journal.writer import Offsets
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.build import Moments
from eventvault.restore.moments.plan import Plan, Sources
from eventvault.restore.moments.point_in_time import source_of
from eventvault.restore.start.lost import Left, left_of
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.restorer import Restorer
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

Refused = Callable[[EventVaultError | str], None]
"""Is told of what was damaged and done without."""


class Recovery:
    """Looks at BACKUP_DIR when no database is open. Methods may raise OSError and BackupsUnavailable."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, restorer: Restorer, journal: JournalFolder, moments: Moments
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._restorer = restorer
        self._journal = journal
        self._moments = moments
        self._warned = ""
        self._in_vain: tuple[dict[Path, FileIdentity | None], DatabaseMissing] | None = None
        """What there was when nothing of it could be recovered, and what was said of that."""

    def what_is_left(self) -> Left:
        """What there is of a database that this installation had."""
        return left_of(self._catalogue, self._journal)

    def recover(self, left: Left) -> None:
        """Up to the last event that can be had. Raises DatabaseMissing where there is none, or NoSpace.

        A start is tried again every second: all that was read in vain is read again only once it is not the same any
        more, or where an archive could not even be opened.
        """
        database, backups = self._settings.database, self._settings.backup_dir
        there = self._sources_seen()
        if self._in_vain is not None and self._in_vain[0] == there:
            raise self._in_vain[1].with_traceback(None)  # else it would grow with each second
        self._warn(f"{database} is gone, recovering it from {backups}")
        refused: list[EventVaultError | str] = []
        intent = self._prepare(refused.append)
        reasons = list(dict.fromkeys(map(str, refused)))
        if intent is None:
            why = "; ".join(reasons) or "what the journal begins with is not there"
            missing = DatabaseMissing(
                f"{database} is gone, and nothing of it could be recovered from {left} in {backups}: {why}",
                hint="put a good archive into the restore folder, or back into BACKUP_DIR, and restart, or set "
                "AUTO_RECOVER=empty to start anew",
            )
            if not any(isinstance(each, ArchiveUnreadable) for each in refused):
                self._in_vain = there, missing
            raise missing
        self._apply(intent, reasons)

    def _warn(self, text: str) -> None:
        """Once, however often the start is tried."""
        if text != self._warned:
            log.warning("%s", text)
        self._warned = text

    def _apply(self, intent: Intent, reasons: list[str]) -> None:
        """Loudly, in the log and in what health shows of the last restore."""
        restored = intent.restored
        said = f"{self._settings.database} was gone: {restored.events} events were recovered from {restored.source}"
        kept = [f"what was left there is kept in {intent.kept}"] if self._settings.database.exists() else []
        notes = [said, *kept, *(f"done without: {reason}" for reason in reasons), *restored.notes]
        intent = msgspec.structs.replace(
            intent, restored=msgspec.structs.replace(restored, notes=notes, reason="recovered")
        )
        self._restorer.settle(self._restorer.apply(intent))
        for note in notes:
            log.warning("%s", note)

    def _sources_seen(self) -> dict[Path, FileIdentity | None]:
        """The archives and the files of the journal, as they look: what they lead to is the same until that changes."""
        archives = [Path(entry.path) for entry in self._catalogue.entries()]
        return {path: FileIdentity.at(path) for path in (*archives, *self._journal.root.rglob("*"))}

    def _prepare(self, refused: Refused) -> Intent | None:
        """A database that is ready to take the place of the one that is gone: up to the last event that can be had.

        From the journal with the archives, else from the newest archive that is whole, those with a known problem at
        the end. None where nothing that was there can be had. Raises NoSpace, and BackupsUnavailable where a segment
        cannot be read now that may hold more: what is damaged is done without, but this may be good.
        """
        self._journal.retry_unreadable()
        empty, left = self._was_empty(), self.what_is_left()
        if left.journaled or empty:
            for doubtful in (False, True):
                intent = self._to_the_end(refused, empty=empty, doubtful=doubtful)
                if intent is not None:
                    return intent
        unreadable = list(filter(is_unreadable, self._journal.segments()[1]))
        if unreadable:
            raise _not_now(unreadable[0])
        for entry in left.archives:
            if entry.sequence == 0 and not empty:
                refused(f"{entry.name} holds no event, and there were some")
                continue
            try:
                return self._restorer.prepare(Path(entry.path), secrets.token_hex(8))
            except (ArchiveError, BackupNotFound) as error:
                refused(error)
        return None

    def _to_the_end(self, refused: Refused, *, empty: bool, doubtful: bool) -> Intent | None:
        """Up to the last event of the present lineage. empty: no event at all will do too."""
        all_of_it = self._moments.sources(doubtful=doubtful)
        generation = self._moments.present(all_of_it)
        if generation is None:
            return None
        sources = self._trusted(all_of_it, generation)
        gone: set[Path] = set()
        while True:
            left = plans.without(sources, gone)
            way = plans.latest(left, generation)
            self._check_readable(left, way)
            if way.target.sequence == 0 and not empty:
                return None
            try:
                intent = self._made(way, left)
            except (ArchiveError, BackupNotFound) as error:
                if isinstance(error, JournalDamaged) and is_unreadable(error):
                    self._journal.quarantine(error)  # known before anything is unpacked, when this is tried again
                    raise _not_now(error) from error
                refused(error)
                gone |= _blamed(error, way, left)
                if "segment" in error.details and Path(error.details["segment"]) in gone:
                    self._journal.mark_suspect(Path(error.details["segment"]))
                continue
            if plans.has_gap_after(left, generation, way.target.sequence or 0):
                refused(f"events beyond {way.target.sequence} are in the journal, but what leads to them is not there")
            elif (last := self._last_known(generation)) > (way.target.sequence or 0):
                refused(f"the events up to {last}, which there were and which neither an archive nor the journal has")
            return intent

    def _last_known(self, generation: str) -> int:
        """The last event of a generation that there was, by the journal's record and what was set aside as damaged."""
        record = self._moments.our_record()
        recorded = record.sequence if record is not None and record.registry.generation == generation else 0
        return max([recorded, *(each.last for each in self._journal.quarantined() if each.generation == generation)])

    def _check_readable(self, sources: Sources, way: Plan) -> None:
        """Raises BackupsUnavailable where what lies beyond the end of `way` may be in a segment that cannot be read."""
        bounds = dict(lineage(sources.known, way.target.generation))
        for error in self._journal.segments()[1]:
            held = segment_of(error)
            wanted = min(held.last, bounds.get(held.generation, 0))
            if is_unreadable(error) and wanted > (way.target.sequence or 0):
                raise _not_now(error)

    def _made(self, way: Plan, sources: Sources) -> Intent:
        source = source_of(way)
        log.info("going to event %s of generation %s: from %s and %s segments", way.target.sequence,
                 way.target.generation, source, len(way.segments))  # fmt: skip

        def make(staging: Path) -> dict[str, Any]:
            return self._moments.prepare(way, staging, sources, "recovered", self._recorded_offsets(way))

        operation = secrets.token_hex(8)
        return self._restorer.prepare_by(make, source, self._restorer.known(), operation, reason="recovered")

    def _recorded_offsets(self, way: Plan) -> Offsets:
        """Where Kafka stood at the end of `way`, as far as the journal's record tells: a restore moved it, say."""
        record = self._moments.our_record()
        standing = (way.target.generation, way.target.sequence)
        return record.kafka if record and (record.registry.generation, record.sequence) == standing else {}

    def _trusted(self, sources: Sources, generation: str) -> Sources:
        """What this installation made; of others only archives of older generations, which it may have begun with."""
        ours = self._moments.ours(sources)
        older = [each for each in sources.archives if each.origin != "created" and each.generation != generation]
        return msgspec.structs.replace(ours, archives=[*ours.archives, *older])

    def _was_empty(self) -> bool:
        """Whether the registry had no event when it was seen last: neither its record nor anything else says so."""
        record = self._moments.our_record()
        sources = self._moments.sources()
        segments = [each.generation for each in self._moments.ours(sources).segments]
        held = [*segments, *(generation for generation, _, _ in sources.lost)]
        entries = [each for each in self._catalogue.entries() if each.origin == "created" or each.problem is not None]
        held += [each.generation or "" for each in entries if each.sequence != 0]
        if record is None:
            return not held
        return record.sequence == 0 and not {record.registry.generation, ""} & set(held)


def _not_now(error: EventVaultError) -> BackupsUnavailable:
    return BackupsUnavailable(
        f"the database is gone, and not all that there is of it can be read: {error}",
        hint="let the service read it, and it recovers by itself; or move it away to go on without what it holds",
    )


def _blamed(error: ArchiveError | BackupNotFound, way: Plan, sources: Sources) -> set[Path]:
    """What is done without after a failure: the segment that it names, else the archive, else all that was used."""
    named, other = error.details.get("segment"), error.details.get("archive")
    if named is not None and other is not None:
        return {plans.choose_conflicting(sources, way.target.generation, Path(other), Path(named))}
    if named is not None:
        return {Path(named)}
    if way.archive is not None and not isinstance(error, JournalDamaged):
        return {Path(way.archive.path)}
    return {each.path for each in way.segments}
