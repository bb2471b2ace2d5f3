"""The journal of a running store: a thread that writes a segment every JOURNAL_INTERVAL and maintains the old ones.

Health reports every failure of BACKUP_DIR, and the journal tries again. No append ever waits for it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation import ensure_installation
from eventvault.backups.installation_folder import check_folder
from eventvault.damage import SYSTEM_ERRORS, advice, as_answer, is_damage
from eventvault.database.bus import EventBus
from eventvault.database.generation import StoreIdentity
from eventvault.database.registry import EventRegistry
from eventvault.errors import BackupsChanged, EventVaultError, JournalDamaged, JournalFailed, TooBusy
from eventvault.events import event
from eventvault.journal.compaction import Compaction
from eventvault.journal.folder import JournalFolder
from eventvault.journal.scrub import SegmentScrub
from eventvault.journal.writer import Covered, SegmentWriter, archived_prefix
from eventvault.leveldb.manifest import HINT
from eventvault.operations.operation import current
from eventvault.progress import WAIT_SECONDS, Turn, paused_since, running
from eventvault.settings import Settings
from eventvault.system_errors import reason_of, text_of

log = logging.getLogger("BackupManager")

SURVEY_SECONDS = 10.0
"""Seconds between two surveys of the folders, which find deleted events, and between two compactions."""
CHANGE_SECONDS = 1.0
PAUSE_FACTOR = 20
"""While BACKUP_DIR changes: the shortest pause between surveys, and how many times longer than a survey it must be."""
BACKLOG_SECONDS = 0.5
"""How long one round writes older missing events."""
QUICK_FLUSH_SECONDS = 0.1
"""The same for a flush that a caller waits for."""
EVENTS, FOLDERS = "events", "folders"
"""The parts of a round that can fail: writing missing events, and maintaining the folder."""
STOP_SECONDS = 5.0
"""How long a stop waits for the segment that is being written."""
QUICK_WAIT_SECONDS = 2.0
"""How long such a flush waits for a round that makes no progress."""
JOURNAL = "journal"
MAX_SECONDS_AT_RISK = 10.0
MAX_INTERVALS_AT_RISK = 10
"""Health reports events that neither a segment nor an archive holds, once they are older than the larger limit."""


Entries = Callable[[], list[BackupEntry]]


class _UnwrittenEvent(NamedTuple):
    """An event that is not covered yet. recorded: microseconds since the epoch. seen: first time, in monotonic seconds.

    Both are needed, because the clock may be set back: then `recorded` lies in the future.
    """

    generation: str
    sequence: int
    recorded: int
    seen: float


class Journal:
    """Writes and maintains the journal. Safe to use from many threads. Without `start` it writes only in `flush`."""

    def __init__(self, settings: Settings, bus: EventBus, catalogue: Catalogue, entries: Entries) -> None:
        """entries: returns the archives in the catalogue."""
        self.folder = JournalFolder(settings.backup_dir)
        self.counts = {"segments": 0, "failures": 0, "merged": 0, "removed": 0}
        self._entries = entries
        self._leaving: list[frozenset[str]] = []
        """The archives that are about to be removed. They no longer count as holding events."""
        self._writer = SegmentWriter(self.folder, bus, catalogue.installation, self._staying)
        self._scrub = SegmentScrub(self.folder, catalogue.installation)
        self._bus = bus
        self._catalogue = catalogue
        self._settings = settings
        self._interval = settings.journal_interval / 1000
        """Seconds."""
        self._turn = Turn("round of the journal")
        self._stopping = threading.Event()
        self._flush_waiting = threading.Event()
        """Set while a flush waits for its turn: then less urgent work stops."""
        self._surveyed = self._compacted = -SURVEY_SECONDS
        self._backups_changed_at = 0
        self._survey_took = 0.0
        """Seconds that the newest survey took."""
        self._problems: dict[str, EventVaultError] = {}
        """The newest failure of each part, EVENTS and FOLDERS, until that part succeeds."""
        self._failed_at = 0.0
        self._began = self._last_clean_poll = time.monotonic()
        """Start time (monotonic) of the last poll that left no recent event unwritten; health reports its age."""
        self._oldest_unwritten: _UnwrittenEvent | None = None
        """The oldest event that was not covered at the newest poll."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        with contextlib.suppress(OSError), self._turn.held_if_free() as is_free:
            if is_free:  # otherwise a request writes the journal already; then the next start removes them
                self.folder.remove_temporary()
        self._began = self._last_clean_poll = time.monotonic()  # the start itself does not count as lag
        self._thread.start()

    def stop(self) -> None:
        """Write the missing events, and end. The database must be open, and appends must have ended.

        Raises TooBusy if BACKUP_DIR does not answer within STOP_SECONDS.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        self.flush(BACKLOG_SECONDS, wait_seconds=QUICK_FLUSH_SECONDS)
        with self._turn.held(QUICK_FLUSH_SECONDS):
            self._attempt(EVENTS, self._save_record)

    def flush(self, seconds: float = 0.0, *, survey: bool = False, wait_seconds: float = WAIT_SECONDS) -> bool:
        """Write the newest events now. Returns False if that failed; `problem` has the reason.

        seconds: how long to write older missing events in addition, such as those of a restored archive.
        survey: survey the folders first, to find events whose files were deleted. wait_seconds: how long to wait for a
        running round that makes no progress; then TooBusy is raised.
        """
        self._flush_waiting.set()
        with self._turn.held(wait_seconds):
            self._flush_waiting.clear()
            if survey:
                self.refresh()
                self._write(0.0, survey=True)
            return self._write(seconds, survey=False)

    def flush_quickly(self) -> None:
        """Flush for at most QUICK_WAIT_SECONDS: the caller continues even if BACKUP_DIR does not answer."""
        thread = threading.Thread(target=self._flush_for_others, name="quick flush", daemon=True)
        thread.start()
        thread.join(QUICK_WAIT_SECONDS)

    def _flush_for_others(self) -> None:
        with contextlib.suppress(TooBusy):
            self.flush(QUICK_FLUSH_SECONDS, wait_seconds=QUICK_WAIT_SECONDS)

    @contextmanager
    def without(self, names: Collection[str]) -> Iterator[None]:
        """Treat these archives as removed while the context lasts, in which the caller removes them.

        Events that only the database would hold are written first. If that fails, the error says why they must stay.
        """
        identity, leaving = self._identity(), frozenset(names)
        held = _archived_upto(self._entries(), identity)
        self._leaving.append(leaving)
        try:
            if _archived_upto(self._staying(), identity) < held:
                self._write_up_to(held, min(names))
            yield
        finally:
            self._leaving.remove(leaving)
            self.refresh()

    def refresh(self) -> None:
        """Survey the folders in the next round, and compact the journal then."""
        self._surveyed = self._compacted = -SURVEY_SECONDS

    def status(self) -> dict[str, Any]:
        """Return the member `journal` of `/api/health`, without waiting."""
        covered, registry = self._writer.covered, self._bus.registry
        if registry is not None and not _is_of(covered, registry):
            covered = None
        current = registry.identity.generation if registry else None
        return {
            "state": "failed" if self.problem else "behind" if self._writer.is_behind() else "ok",
            "generation": covered.generation if covered else current,
            "lastSequence": covered.last if covered else None,
            "secondsAtRisk": self.seconds_at_risk(),
            "intervalMs": round(self._interval * 1000),
            "segmentsWritten": self.counts["segments"],
        }

    def seconds_at_risk(self) -> float:
        """Return an upper bound for the age of the oldest committed event that neither a segment nor an archive holds.

        Before the first survey, and after a restore until the next one, no event counts as covered.
        """
        registry, covered = self._bus.registry, self._writer.covered
        if registry is None:
            return 0.0
        current = covered if _is_of(covered, registry) else None
        if registry.last_sequence <= (current.last if current else 0):
            return 0.0
        oldest = self._oldest_unwritten if current else None
        since_seen = time.monotonic() - (oldest.seen if oldest else self._last_clean_poll)
        since_recorded = (clock.now() - oldest.recorded) / 1e6 if oldest else 0.0
        return round(max(since_seen, since_recorded), 3)

    def _run(self) -> None:
        with running(JOURNAL) as activity:
            while not self._stopping.is_set():
                activity.step("writes to BACKUP_DIR")
                started, good = time.monotonic(), False
                with contextlib.suppress(TooBusy), self._turn.held():
                    good = self._write(BACKLOG_SECONDS, survey=True)
                activity.rest()
                if not (good and self._writer.must_write(in_time=True)):
                    self._stopping.wait(max(0.001, self._interval - (time.monotonic() - started)))

    @property
    def problem(self) -> EventVaultError | None:
        """Why events could not be written, or the folder could not be maintained; None if both succeeded."""
        return self._problems.get(EVENTS) or self._problems.get(FOLDERS)

    def _write(self, seconds: float, *, survey: bool) -> bool:
        """Write missing events and, if a survey is due, maintain the folder. Returns False if either failed."""
        started = time.monotonic()
        if not self._attempt(EVENTS, lambda: self._write_events(started + seconds)):
            return False
        due = survey and self._is_survey_due()
        return not due or self._attempt(FOLDERS, lambda: self._maintain_folder(started + self._interval / 2))

    def _is_survey_due(self) -> bool:
        """Return whether a survey is due: sooner after a change of BACKUP_DIR, which may be the loss of an archive."""
        seconds = time.monotonic() - self._surveyed
        changed = _changed_at(self._settings.backup_dir) != self._backups_changed_at
        return seconds >= SURVEY_SECONDS or (
            changed and seconds >= max(CHANGE_SECONDS, PAUSE_FACTOR * self._survey_took)
        )

    def _attempt(self, part: str, work: Callable[[], None]) -> bool:
        try:
            check_folder(self._settings)
            work()
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            self._record_failure(part, error)
            return False
        except Exception as error:
            log.exception("the journal failed with an unexpected error")
            self._record_failure(part, error)
            return False
        if self._problems.pop(part, None) is not None and not self._problems:
            log.info("the journal works again")
        return True

    def _write_events(self, deadline: float) -> None:
        """Write the newest events first, then older missing ones until the deadline."""
        poll_started = time.monotonic()
        if not self._writer.poll():
            self._survey()
        self._track_oldest_unwritten()
        while self._writer.must_write(in_time=self._has_time(deadline)):
            if not self._writer.write_next():
                break
            self.counts["segments"] += 1
            self._track_oldest_unwritten()
        self._last_clean_poll = poll_started

    def _maintain_folder(self, until: float) -> None:
        self._surveyed = time.monotonic()
        self._backups_changed_at = _changed_at(self._settings.backup_dir)
        if not self._flush_waiting.is_set():
            self._scrub.step()
        self._survey()
        self._survey_took = time.monotonic() - self._surveyed
        self._track_oldest_unwritten()
        if self._surveyed - self._compacted >= SURVEY_SECONDS:  # a change of BACKUP_DIR alone removes no segment sooner
            self._compacted = self._surveyed
            self._compact(until)

    def _staying(self) -> list[BackupEntry]:
        return self._without_leaving(self._entries())

    def _without_leaving(self, entries: list[BackupEntry]) -> list[BackupEntry]:
        leaving = frozenset[str]().union(*self._leaving)
        return [entry for entry in entries if entry.name not in leaving]

    def _identity(self) -> StoreIdentity | None:
        if (registry := self._bus.registry) is not None:
            return registry.identity
        record = self.folder.read_record()
        return record.registry if record is not None else None

    def _write_up_to(self, last: int, leaving: str) -> None:
        """Write the events up to `last` that no segment or remaining archive holds. leaving: named in the error."""
        try:
            with self._turn.held():
                check_folder(self._settings)
                self._survey()
            while (covered := self._writer.covered) is None or covered.last < min(last, self._writer.upto):
                current().check_cancelled()
                with self._turn.held():
                    check_folder(self._settings)
                    self._write_events(time.monotonic() + BACKLOG_SECONDS)
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            answer = error if isinstance(error, EventVaultError) else as_answer("writing the journal", error)
            raise type(answer)(
                f"{leaving} was not removed: without it only the database would hold its events, so the journal writes "
                f"them first, and that failed: {answer.message}",
                hint=answer.hint,
                **answer.details,
            ) from error

    def _save_record(self) -> None:
        if self._writer.identity is not None:
            self._writer.save_record()

    def _compact(self, until: float) -> None:
        """Compact until the time `until`, but do at least one step: steps must not delay segments, nor pile up."""
        assert self._writer.identity is not None, "a survey comes first"
        steps = itertools.count()

        def may_continue() -> bool:
            return not self._flush_waiting.is_set() and (next(steps) == 0 or time.monotonic() < until)

        compaction = Compaction(self.folder, self._catalogue.installation, may_continue)
        staying = self._without_leaving(self._catalogue.entries())
        if not compaction.run(staying, self._writer.identity):
            self.refresh()
        self.counts["removed"] += compaction.removed
        self.counts["merged"] += compaction.merged

    def _has_time(self, deadline: float) -> bool:
        return time.monotonic() < deadline and not self._flush_waiting.is_set()

    def _survey(self) -> None:
        """Survey the folders. If BACKUP_DIR was deleted, it is created again."""
        ensure_installation(self._settings, self._catalogue.installation)
        self._writer.survey()

    def _track_oldest_unwritten(self) -> None:
        writer = self._writer
        if not writer.holes or writer.identity is None:
            self._oldest_unwritten = None
            return
        generation, sequence = writer.identity.generation, writer.holes[0][0]
        if self._oldest_unwritten is not None and self._oldest_unwritten[:2] == (generation, sequence):
            return
        with self._bus.using() as registry:
            if registry.identity.generation == generation:
                recorded = event.recorded_of(registry.at(sequence))
                self._oldest_unwritten = _UnwrittenEvent(generation, sequence, recorded, time.monotonic())

    def problem_since(self, last_backup: float | None) -> EventVaultError | None:
        """Return why the newest segment could not be written; None if a backup was made after that.

        last_backup: when the newest one of this process was made, in monotonic seconds.
        """
        return None if last_backup is not None and last_backup > self._failed_at else self.problem

    @property
    def lag(self) -> EventVaultError | None:
        """The error for events that only the database has held for too long; None if there are none.

        Time before the start of this store does not count: the journal had no chance to write.
        """
        seconds = min(self.seconds_at_risk(), time.monotonic() - self._began)
        running = seconds - paused_since(time.monotonic() - seconds)
        if running <= max(MAX_SECONDS_AT_RISK, MAX_INTERVALS_AT_RISK * self._interval):
            return None
        covered = self._writer.covered
        if covered is not None and self._writer.lacks_older():
            return JournalFailed(
                f"events {covered.last + 1} to {self._writer.upto} are in the database alone, as no file in BACKUP_DIR "
                "holds all of them: the journal is writing them",
                hint="wait until it has written them; do not remove anything from BACKUP_DIR or STORAGE_DIR until then",
            )
        return JournalFailed(
            f"for {seconds:.0f} s events have been in the database alone: the journal is behind",
            hint="see whether the disk of BACKUP_DIR answers and keeps up; the journal continues automatically",
        )

    @property
    def damage(self) -> EventVaultError | None:
        """The error for segments that are damaged or cannot be read, with events that nothing else holds."""
        lost = self._writer.lost
        if not lost:
            return None
        more = f" (and {len(lost) - 1} others)" if len(lost) > 1 else ""
        return JournalDamaged(
            f"{lost[0].path}{more} is damaged or cannot be read, and nothing else holds what it held: "
            f"events {lost[0].first} to {lost[0].last} of generation {lost[0].generation}",
            hint="GET /api/backup/timeline shows what can be restored; make it readable for the service, put a good "
            "copy of the segment beside it, or remove it to do without its events",
            about=f"{lost[0].generation}/{lost[0].path.name}",
        )

    def _record_failure(self, part: str, error: Exception) -> None:
        """Count a failure and report it, except while the database is not open, which health reports anyway."""
        self.counts["failures"] += 1
        self._failed_at = time.monotonic()
        if self._bus.registry is None:
            return
        problem = _problem_of(error)
        previous = self._problems.get(part)
        if previous is None or previous.message != problem.message:
            log.warning("%s", problem.message)
        self._problems[part] = problem


def _problem_of(error: Exception) -> EventVaultError:
    """Return the problem with a hint for its cause, which may be BACKUP_DIR or the database."""
    if isinstance(error, BackupsChanged):
        return error
    if isinstance(error, EventVaultError):
        return JournalFailed(f"the journal could not be written: {error.message}", hint=error.hint)
    if is_damage(error):
        return JournalFailed(f"the journal could not be written: the database is damaged: {text_of(error)}", hint=HINT)
    if isinstance(error, SYSTEM_ERRORS):
        return JournalFailed(f"the journal could not be written: {reason_of(error)}", hint=advice(error))
    return JournalFailed(f"the journal could not be written: {error}", hint="the log of the store says more")


def _changed_at(folder: Path) -> int:
    """Return when a file last appeared in a folder or vanished, in nanoseconds; 0 if the system does not say."""
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime_ns
    return 0


def _archived_upto(entries: Sequence[BackupEntry], identity: StoreIdentity | None) -> int:
    """Return the sequence up to which the archives hold the current lineage."""
    return 0 if identity is None else archived_prefix(entries, identity.by_id(), identity.generation)


def _is_of(covered: Covered | None, registry: EventRegistry) -> bool:
    return covered is not None and covered.generation == registry.identity.generation
