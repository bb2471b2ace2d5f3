"""The journal of a running store: a thread that writes a segment every JOURNAL_INTERVAL, merges and removes old ones.

Whatever goes wrong with BACKUP_DIR is said in health and tried again; no append ever waits for it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import plyvel

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.installation import ensure_installation
from eventvault.database.bus import EventBus
from eventvault.database.registry import EventRegistry
from eventvault.errors import EventVaultError, JournalDamaged, JournalFailed
from eventvault.events import event
from eventvault.journal.compaction import Compaction
from eventvault.journal.folder import JournalFolder
from eventvault.journal.rollback import check_rolled_back
from eventvault.journal.scrub import SegmentScrub
from eventvault.journal.writer import Covered, SegmentWriter
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

SURVEY_SECONDS = 10.0
"""How often the folders are looked at: what was deleted is written again, small segments are merged, old ones go."""
BACKLOG_SECONDS = 0.5
"""How long a tick writes of what is missing since before it."""
QUICK_FLUSH_SECONDS = 0.1
EVENTS, FOLDERS = "events", "folders"
"""What the journal does: write what is missing, and see after what it has."""
STOP_SECONDS = 10.0
"""How long a store that ends waits for the segment that is being written."""


class _UnwrittenEvent(NamedTuple):
    """An event, and since when it waits: recorded, in microseconds since the epoch, and seen first (monotonic seconds).

    Both, as the clock may be set back: then an event can have been recorded in the future.
    """

    generation: str
    sequence: int
    recorded: int
    seen: float


class Journal:
    """Safe to use from many threads. Without `start` it writes when `flush` is called."""

    def __init__(self, settings: Settings, bus: EventBus, catalogue: Catalogue) -> None:
        self.folder = JournalFolder(settings.backup_dir)
        self.counts = {"segments": 0, "failures": 0, "merged": 0, "removed": 0}
        self._writer = SegmentWriter(self.folder, bus, catalogue.installation, catalogue.entries)
        self._scrub = SegmentScrub(self.folder, catalogue.installation)
        self._bus = bus
        self._catalogue = catalogue
        self._settings = settings
        self._seconds = settings.journal_interval / 1000
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._flush_waiting = threading.Event()
        """Set while somebody waits for `_lock`: what can wait does."""
        self._surveyed = -SURVEY_SECONDS
        self._problems: dict[str, EventVaultError] = {}
        """What failed when it was done last, of EVENTS and FOLDERS: one that goes well tells nothing of the other."""
        self._failed_at = 0
        self._last_clean_poll = time.monotonic()
        """When a look began after which nothing that was missing stayed so, as far as it was to be written at once."""
        self._oldest_unwritten: _UnwrittenEvent | None = None
        """The oldest event that is covered by nothing, as far as was looked."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def check(self, registry: EventRegistry) -> None:
        """Begin a generation where the database holds less than what was kept of it. Call it before any append."""
        check_rolled_back(registry, self.folder, self._catalogue)

    def start(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.remove_temporary()
        self._thread.start()

    def stop(self) -> None:
        """Write what is still missing, and end. The database must be open, and nothing appended any more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        self.flush(BACKLOG_SECONDS)
        with self._lock:
            self._attempt(EVENTS, self._save_record)

    def flush(self, seconds: float = 0.0, *, survey: bool = False) -> bool:
        """Write what was committed last, now. False where that failed; `problem` says why.

        seconds: how long what else is missing may take besides, such as the base after a restore from outside.
        survey: look at the folders first, for what was deleted there.
        """
        self._flush_waiting.set()
        with self._lock:
            self._flush_waiting.clear()
            if survey:
                self._surveyed = -SURVEY_SECONDS
                self._write(0.0, survey=True)
            return self._write(seconds, survey=False)

    def flush_quickly(self) -> None:
        """`flush` for whoever keeps others waiting meanwhile."""
        self.flush(QUICK_FLUSH_SECONDS)

    def refresh(self) -> None:
        """Look at the folders at the next tick: an archive was made or removed."""
        self._surveyed = -SURVEY_SECONDS

    def status(self) -> dict[str, Any]:
        """The member `journal` of `/api/health`; answers at once."""
        covered, registry = self._writer.covered, self._bus.registry
        if registry is not None and not _is_of(covered, registry):
            covered = None
        present = registry.identity.generation if registry else None
        return {
            "state": "failed" if self.problem else "behind" if self._writer.is_behind() else "ok",
            "generation": covered.generation if covered else present,
            "lastSequence": covered.last if covered else None,
            "secondsAtRisk": self.seconds_at_risk(),
            "intervalMs": round(self._seconds * 1000),
            "segmentsWritten": self.counts["segments"],
        }

    def seconds_at_risk(self) -> float:
        """The age of the oldest committed event that neither a segment nor an archive has, at most.

        What is not known to be covered counts as not covered: before the first look at the folders, and after a
        restore until the journal has noticed it.
        """
        registry, covered = self._bus.registry, self._writer.covered
        if registry is None:
            return 0.0
        known = covered if _is_of(covered, registry) else None
        if registry.last_sequence <= (known.last if known else 0):
            return 0.0
        waiting = self._oldest_unwritten if known else None
        unseen = time.monotonic() - (waiting.seen if waiting else self._last_clean_poll)
        recorded = (clock.now() - waiting.recorded) / 1e6 if waiting else 0.0
        return round(max(unseen, recorded), 3)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            with self._lock:
                good = self._write(BACKLOG_SECONDS, survey=True)
            if not (good and self._writer.holes):
                self._stopping.wait(max(0.001, self._seconds - (time.monotonic() - began)))

    @property
    def problem(self) -> EventVaultError | None:
        """Why the journal is behind, or does not see after what it has; None: it does."""
        return self._problems.get(EVENTS) or self._problems.get(FOLDERS)

    def _write(self, seconds: float, *, survey: bool) -> bool:
        """What is missing, and then what the folders need, when it is time for that. False where either failed."""
        began = time.monotonic()
        if not self._attempt(EVENTS, lambda: self._write_events(began + seconds)):
            return False
        due = survey and time.monotonic() - self._surveyed >= SURVEY_SECONDS
        return not due or self._attempt(FOLDERS, lambda: self._maintain_folder(began + self._seconds / 2))

    def _attempt(self, part: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except (EventVaultError, OSError, plyvel.Error) as error:
            self._record_failure(part, error)
            return False
        except Exception as error:
            log.exception("the journal could not be written in a way that nobody thought of")
            self._record_failure(part, error)
            return False
        if self._problems.pop(part, None) is not None and not self._problems:
            log.info("the journal is written again")
        return True

    def _write_events(self, deadline: float) -> None:
        """What was committed last; then, until the deadline, what else is missing."""
        looked = time.monotonic()
        if not self._writer.poll():
            self._survey()
        self._track_oldest_unwritten()
        while self._writer.has_recent() or (self._writer.holes and self._in_time(deadline)):
            if not self._writer.write_next():
                break
            self.counts["segments"] += 1
            self._track_oldest_unwritten()
        self._last_clean_poll = looked

    def _maintain_folder(self, until: float) -> None:
        self._surveyed = time.monotonic()
        if not self._flush_waiting.is_set():
            self._scrub.step()
        self._survey()
        self._track_oldest_unwritten()
        self._compact(until)

    def _save_record(self) -> None:
        if self._writer.identity is not None:
            self._writer.save_record()

    def _compact(self, until: float) -> None:
        """Begin steps until then, but one at least: many must neither keep the next segment waiting nor pile up."""
        assert self._writer.identity is not None, "a survey comes first"
        asked = itertools.count()

        def go_on() -> bool:
            return not self._flush_waiting.is_set() and (next(asked) == 0 or time.monotonic() < until)

        tidier = Compaction(self.folder, self._catalogue.installation, go_on)
        if not tidier.run(self._catalogue.entries(), self._writer.identity):
            self.refresh()
        self.counts["removed"] += tidier.removed
        self.counts["merged"] += tidier.merged

    def _in_time(self, deadline: float) -> bool:
        return time.monotonic() < deadline and not self._flush_waiting.is_set()

    def _survey(self) -> None:
        """A BACKUP_DIR that was deleted is made again."""
        ensure_installation(self._settings, self._catalogue.installation)
        self._writer.survey()

    def _track_oldest_unwritten(self) -> None:
        """Keep in mind since when the oldest event waits."""
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

    def problem_since(self, made: int | None) -> EventVaultError | None:
        """Why the newest segment could not be written; None once a backup was made (microseconds) after that."""
        return None if made is not None and made > self._failed_at else self.problem

    @property
    def damage(self) -> EventVaultError | None:
        """Segments that are damaged, or cannot be read, and held what can be written again from nowhere."""
        lost = self._writer.lost
        if not lost:
            return None
        more = f" (and {len(lost) - 1} others)" if len(lost) > 1 else ""
        return JournalDamaged(
            f"{lost[0].path}{more} is damaged or cannot be read, and what this segment held is nowhere else: events "
            f"{lost[0].first} to {lost[0].last} of generation {lost[0].generation}",
            hint="GET /api/backup/timeline shows what can be restored; let the service read it, put a good copy of the "
            "segment beside it, or remove it to go on without",
        )

    def _record_failure(self, part: str, error: Exception) -> None:
        """A database that is not open is not the journal's problem: health says so already."""
        self.counts["failures"] += 1
        self._failed_at = clock.now()
        if self._bus.registry is None:
            return
        message = f"the journal could not be written: {error}"
        known = self._problems.get(part)
        if known is None or known.message != message:
            log.warning("%s", message)
        self._problems[part] = JournalFailed(message, hint="see to it that BACKUP_DIR is there, writable and not full")


def _is_of(covered: Covered | None, registry: EventRegistry) -> bool:
    return covered is not None and covered.generation == registry.identity.generation
