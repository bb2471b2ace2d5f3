"""Recovers a lost database from what its installation has in BACKUP_DIR.

It never mistakes lost events for an empty registry: it recovers an empty one only if it was empty.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.order import newest_first
from eventvault.database.generation import Generation, StoreIdentity, first_identity, lineage, oldest_first
from eventvault.errors import (
    ArchiveError,
    ArchiveUnreadable,
    BackupNotFound,
    BackupsUnavailable,
    DatabaseMissing,
    EventVaultError,
    JournalDamaged,
    JournalUnreadable,
)
from eventvault.files import FileIdentity, matching
from eventvault.journal.folder import JournalFolder, segment_of
from eventvault.kafka.offsets import Offsets
from eventvault.problems import OpenProblems, Problem
from eventvault.restore.builder import ArchiveSource, LostDatabase
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.plan import Plan, Sources, Target
from eventvault.restore.restorer import Restorer
from eventvault.restore.start.completeness import find_beyond, unread_archives
from eventvault.restore.start.lost import RecoverySources, find_recovery_sources
from eventvault.restore.swap.intent import Intent
from eventvault.restore.values import RECOVERED
from eventvault.settings import Settings
from eventvault.wording import counted

log = logging.getLogger("BackupManager")

INCOMPLETE = "recovery_incomplete"
_COMPLETE_HINT = (
    "put the missing files back into BACKUP_DIR, or, of two files with different events, move the wrong one away, and "
    "the service recovers automatically; or accept the loss with "
    f"POST /api/problems/{INCOMPLETE}/accept or flask problems accept {INCOMPLETE}, and recover again, "
    "unless AUTO_RECOVER=true does so"
)

Omissions = list[EventVaultError | str]
"""Why the recovery omits something: the error of a damaged file, or a sentence."""


class Beyond(NamedTuple):
    """Reasons to believe that events exist beyond the target to which a database would be recovered."""

    target: Target
    reasons: list[str]


class _Incomplete(DatabaseMissing):
    """Nothing was recovered: events would be lost, and nobody has accepted that."""


class Recoverer:
    """Recovers while no database is open. Methods may raise OSError and BackupsUnavailable."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        restorer: Restorer,
        journal: JournalFolder,
        locator: MomentLocator,
        problems: OpenProblems,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._restorer = restorer
        self._journal = journal
        self._locator = locator
        self._problems = problems
        self._warned = ""
        self._failed: tuple[dict[Path, FileIdentity | None], DatabaseMissing] | None = None
        """The files that an earlier try could not recover from, and its error."""
        self._refused: Problem | None = None
        """Why that try was refused, if somebody can accept it."""

    def find_sources(self) -> RecoverySources:
        """Return what this installation's lost database can be recovered from."""
        return find_recovery_sources(self._catalogue, self._journal)

    def fresh_identity(self) -> StoreIdentity:
        """Return the identity of a registry that begins anew, after all of our generations in BACKUP_DIR."""
        before: Collection[Generation] = ()
        try:
            before = self._locator.only_ours(self._locator.find_sources(doubtful=True)).generations.values()
        except (EventVaultError, OSError) as error:
            log.warning("could not read which generations began before: %s", error)
        return first_identity(clock.now(), begun_before=before)

    def recover(self, sources: RecoverySources) -> None:
        """Recover to the last event that can be restored. Raises DatabaseMissing if there is none, or NoSpace.

        A start is tried every second. After a failure the same files are not read again before one of them changes.
        An archive that cannot be read now does not count as a failure: it may be good, so the start is tried again.
        """
        database, backups = self._settings.database, self._settings.backup_dir
        files = self._source_files()
        if self._failed is not None and self._failed[0] == files and not self._is_accepted():
            raise self._failed[1].with_traceback(None)  # else the traceback would get longer every second
        self._warn_once(f"{database} is gone, recovering it from {backups}")
        omissions: Omissions = []
        try:
            intent = self._build(omissions)
        except _Incomplete as error:
            self._failed = files, error
            raise
        reasons = list(dict.fromkeys(map(str, omissions)))
        if intent is None:
            why = "; ".join(reasons) or "the first events of the journal are missing"
            missing = DatabaseMissing(
                f"{database} is gone, and nothing of it could be recovered from {sources} in {backups}: {why}",
                hint="put a good archive into the restore folder, or back into BACKUP_DIR, and restart, or set "
                "AUTO_RECOVER=empty to start anew",
            )
            self._failed = files, missing
            raise missing
        self._swap_and_finish(intent, reasons)

    def _warn_once(self, text: str) -> None:
        """Warn once, however often the start is tried."""
        if text != self._warned:
            log.warning("%s", text)
        self._warned = text

    def _swap_and_finish(self, intent: Intent, reasons: list[str]) -> None:
        """Swap and finish, and say in the log and in health's last restore what was recovered, and what was not."""
        restored = intent.restored
        events = f"{counted(restored.events, 'event')} {'was' if restored.events == 1 else 'were'}"
        notes = [f"{self._settings.database} was gone: {events} recovered from {restored.source}"]
        if self._settings.database.exists():
            notes.append(f"its remaining files are in {intent.previous_name}")
        notes += [*(f"done without: {reason}" for reason in reasons), *restored.notes]
        restored = msgspec.structs.replace(restored, notes=notes, reason=RECOVERED)
        self._restorer.swap_closed(msgspec.structs.replace(intent, restored=restored))
        for problem in self._problems.waiting():
            if problem.code == INCOMPLETE:
                self._problems.resolve(INCOMPLETE, problem.about)
        for note in notes:
            log.warning("%s", note)

    def _source_files(self) -> dict[Path, FileIdentity | None]:
        """Return the identities of archives and journal files: recovery has the same result until one changes."""
        archives = [Path(entry.path) for entry in self._catalogue.entries()]
        journal = [file for folder in (self._journal.root, *matching(self._journal.root)) for file in matching(folder)]
        return {path: FileIdentity.at(path) for path in (*archives, *journal)}

    def _build(self, omissions: Omissions) -> Intent | None:
        """Build a database to replace the lost one, up to the last event that can be restored.

        Uses the journal with the archives, else the newest good archive, those with a known problem last. Returns None
        if nothing can be restored. Raises NoSpace, and BackupsUnavailable if a segment that may hold later events
        cannot be read now: a damaged one is omitted, but this one may be good.
        """
        self._journal.retry_unreadable()
        was_empty, sources = self._was_empty(), self.find_sources()
        _check_archives_readable(sources)
        if sources.journaled or was_empty:
            for doubtful in (False, True):
                intent = self._build_latest(omissions, was_empty=was_empty, doubtful=doubtful)
                if intent is not None:
                    return intent
        unreadable = [error for error in self._journal.segments()[1] if isinstance(error, JournalUnreadable)]
        if unreadable:
            raise _unreadable_now(unreadable[0])
        for entry in self._newest_first(sources.archives):
            if entry.sequence == 0 and not was_empty:
                omissions.append(f"{entry.name} holds no event, but the database did")
                continue
            if entry.generation is not None:
                target = Target(generation=entry.generation, sequence=entry.sequence or 0)
                omissions += self._find_accepted_losses(self._find_beyond(target))
            try:
                return self._build_from(ArchiveSource(Path(entry.path)))
            except ArchiveUnreadable as error:
                raise _archive_unreadable_now(error.message) from error
            except (ArchiveError, BackupNotFound) as error:
                omissions.append(error)
        return None

    def _newest_first(self, archives: Sequence[BackupEntry]) -> list[BackupEntry]:
        """Order our own archives by generation: the catalogue has only their times while no database is open."""
        everything = self._locator.find_sources(doubtful=True).generations.values()
        generations = [generation.id for generation in oldest_first(everything)]
        ours = newest_first((entry for entry in archives if entry.is_ours), generations)
        ours.sort(key=lambda entry: entry.problem is not None)
        return [*ours, *(entry for entry in archives if not entry.is_ours)]

    def _build_latest(self, omissions: Omissions, *, was_empty: bool, doubtful: bool) -> Intent | None:
        """Build up to the last event of the current lineage that can be restored. was_empty: no event suffices."""
        everything = self._locator.find_sources(doubtful=doubtful)
        generation = self._locator.current_generation(everything)
        if generation is None:
            return None
        trusted = self._choose_trusted(everything, generation)
        excluded: set[Path] = set()
        conflicts: list[str] = []
        while True:
            sources = plans.without_files(trusted, excluded)
            plan = plans.find_latest_plan(sources, generation)
            self._check_readable(sources, plan)
            if plan.target.sequence == 0 and not was_empty:
                return None
            beyond = self._find_beyond(plan.target)
            beyond.reasons.extend(conflicts)
            if beyond.reasons and not doubtful:
                return None  # an archive with a known problem may have more
            losses = self._find_accepted_losses(beyond)
            log.info("recovering event %s of generation %s from %s and %s segments", plan.target.sequence,
                     plan.target.generation, plan.source, len(plan.segments))  # fmt: skip
            try:
                lost = LostDatabase(plan, sources, self._recorded_offsets(plan), self._recorded_as_published(plan))
                intent = self._build_from(lost)
            except ArchiveUnreadable as error:
                raise _archive_unreadable_now(error.message) from error
            except (ArchiveError, BackupNotFound) as error:
                if isinstance(error, JournalUnreadable):
                    self._journal.quarantine(error)  # so that the next try fails before it unpacks anything
                    raise _unreadable_now(error) from error
                omissions.append(error)
                conflicts += [str(error)] if _is_conflict(error) else []
                excluded |= _blamed(error, plan, sources)
                if "segment" in error.details and Path(error.details["segment"]) in excluded:
                    self._journal.mark_suspect(Path(error.details["segment"]))
                continue
            self._note_missing(omissions, plan, losses)
            return intent

    def _build_from(self, source: ArchiveSource | LostDatabase) -> Intent:
        builder = self._restorer.builder
        return builder.build(source, builder.read_head(), secrets.token_hex(8))

    def _note_missing(self, omissions: Omissions, plan: Plan, losses: list[str]) -> None:
        omissions += losses
        last = self._last_recorded(plan.target.generation)
        if not losses and last > (plan.target.sequence or 0):
            omissions.append(f"the events up to {last}, which neither an archive nor the journal has any more")

    def _find_beyond(self, target: Target) -> Beyond:
        """Return what archives and journal hold beyond `target`, damaged files included."""
        everything = self._locator.find_sources(doubtful=True)
        reasons = list(
            find_beyond(everything, target, self._journal.quarantined(), installation=self._catalogue.installation)
        )
        if self._last_recorded(target.generation) > (target.sequence or 0):
            reasons += unread_archives(self._catalogue.unattributed())
        return Beyond(target, reasons)

    def _find_accepted_losses(self, beyond: Beyond) -> list[str]:
        """Return what an operator has accepted to lose; empty if nothing is lost. Raises _Incomplete otherwise."""
        if not beyond.reasons:
            return []
        generation, sequence = beyond.target.generation, beyond.target.sequence or 0
        reasons = "; ".join(beyond.reasons)
        message = f"only the events up to {sequence} of generation {generation} can be recovered, but {reasons}"
        problem = Problem(INCOMPLETE, message, _COMPLETE_HINT, about=f"{generation}:{sequence}")
        if self._problems.is_accepted(problem):
            return beyond.reasons
        self._problems.report(problem)
        self._refused = problem
        raise _Incomplete(f"{self._settings.database} is gone, and {message}", hint=_COMPLETE_HINT)

    def _is_accepted(self) -> bool:
        return self._refused is not None and self._problems.is_accepted(self._refused)

    def _last_recorded(self, generation: str) -> int:
        """Return the last event that a generation had, by the journal's record and the quarantined segments."""
        record = self._locator.our_record()
        recorded = record.sequence if record is not None and record.registry.generation == generation else 0
        quarantined = [segment.last for segment in self._journal.quarantined() if segment.generation == generation]
        return max([recorded, *quarantined])

    def _check_readable(self, sources: Sources, plan: Plan) -> None:
        """Raise BackupsUnavailable if a segment that cannot be read may hold events after the plan's target."""
        bounds = dict(lineage(sources.generations, plan.target.generation))
        for error in self._journal.segments()[1]:
            segment = segment_of(error)
            last = min(segment.last, bounds.get(segment.generation, 0))
            if isinstance(error, JournalUnreadable) and last > (plan.target.sequence or 0):
                raise _unreadable_now(error)

    def _recorded_offsets(self, plan: Plan) -> Offsets:
        """Return Kafka's offsets at the plan's target if the journal's record has them: a restore may have set them."""
        record = self._locator.our_record()
        target = (plan.target.generation, plan.target.sequence)
        return record.kafka if record and (record.registry.generation, record.sequence) == target else {}

    def _recorded_as_published(self, plan: Plan) -> int:
        """Return the last event up to which nothing waits to be published, by the journal's record; 0 if unknown."""
        record = self._locator.our_record()
        if record is None or record.registry.generation != plan.target.generation:
            return 0
        return record.published if isinstance(record.published, int) else 0

    def _choose_trusted(self, sources: Sources, generation: str) -> Sources:
        """Return what this installation made; if that does not reach the last event, also archives that are not proven.

        These are archives that claim to be made here, and those of older generations, from which it may have begun.
        """
        ours = self._locator.only_ours(sources)
        if generation in ours.generations and plans.last_reachable(ours, generation) >= self._last_needed(generation):
            return ours
        claims = [archive for archive in sources.archives if self._may_be_base(archive, generation)]
        return msgspec.structs.replace(
            ours, archives=[*ours.archives, *claims], generations=sources.generations, claimed=sources.claimed
        )

    def _last_needed(self, generation: str) -> int:
        return max(1, self._last_recorded(generation))

    def _may_be_base(self, archive: BackupEntry, generation: str) -> bool:
        claims_ours = archive.installation == self._catalogue.installation
        return not archive.is_ours and (claims_ours or archive.generation != generation)

    def _was_empty(self) -> bool:
        """Return True if neither the journal's record nor another file shows that the lost registry had an event."""
        record = self._locator.our_record()
        sources = self._locator.find_sources()
        with_events = [segment.generation for segment in self._locator.only_ours(sources).segments]
        with_events += [generation for generation, _, _ in sources.lost]
        with_events += [
            entry.generation or ""
            for entry in self._catalogue.entries()
            if (entry.installation == self._catalogue.installation or entry.is_ours or entry.problem is not None)
            and entry.sequence != 0
        ]
        if record is None:
            return not with_events
        return record.sequence == 0 and not {record.registry.generation, ""} & set(with_events)


def _unreadable_now(error: EventVaultError) -> BackupsUnavailable:
    return BackupsUnavailable(
        f"the database is gone, and not everything that may hold its events can be read: {error}",
        hint="make it readable, and the service recovers automatically; or move it away to recover without it",
    )


def _blamed(error: ArchiveError | BackupNotFound, plan: Plan, sources: Sources) -> set[Path]:
    """Return the files to exclude after an error: its segment, else the archive, else all segments of the plan."""
    segment, archive = error.details.get("segment"), error.details.get("archive")
    if segment is not None and archive is not None:
        return {plans.choose_conflicting(sources, plan.target.generation, Path(archive), Path(segment))}
    if segment is not None:
        return {Path(segment)}
    if plan.archive is not None and not isinstance(error, JournalDamaged):
        return {Path(plan.archive.path)}
    return {used.path for used in plan.segments}


def _is_conflict(error: EventVaultError) -> bool:
    """Return True if the error names two files that hold different events: without one of them, its events are lost."""
    return {"segment", "archive"} <= error.details.keys()


def _check_archives_readable(sources: RecoverySources) -> None:
    """Raise BackupsUnavailable for an archive that may hold later events, and that cannot be read now."""
    for entry in sources.archives:
        if entry.unreadable:
            raise _archive_unreadable_now(f"{entry.name}: {entry.problem}")


def _archive_unreadable_now(why: str) -> BackupsUnavailable:
    return BackupsUnavailable(
        f"the database is not recovered without an archive that cannot be read now: {why}",
        hint="make it readable for the service; it is tried again each second. Move it out of BACKUP_DIR to recover "
        "without it",
    )
