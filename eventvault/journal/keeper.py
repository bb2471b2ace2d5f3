"""The journal of a running store: a thread that writes a segment every JOURNAL_INTERVAL, merges and removes old ones.

Whatever goes wrong with BACKUP_DIR is said in health and tried again; no append ever waits for it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from typing import Any, NamedTuple

import plyvel

from eventvault import clock, event
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.installation import keep_installation
from eventvault.errors import EventVaultError, JournalDamaged, JournalFailed
from eventvault.journal.folder import JournalFolder
from eventvault.journal.rollback import check_rolled_back
from eventvault.journal.tidy import Tidier
from eventvault.journal.writer import SegmentWriter
from eventvault.settings import Settings
from eventvault.store.bus import EventBus
from eventvault.store.registry import EventRegistry

log = logging.getLogger("BackupManager")

SURVEY_SECONDS = 10.0
"""How often the folders are looked at: what was deleted is written again, small segments are merged, old ones go."""
BASE_SECONDS = 0.5
"""How long a tick writes of what is missing since before it."""
HURRY_SECONDS = 0.1
STOP_SECONDS = 10.0
"""How long a store that ends waits for the segment that is being written."""


class _Waiting(NamedTuple):
    """An event, and when it was recorded: microseconds since the epoch."""

    generation: str
    sequence: int
    recorded: int


class Journal:
    """Safe to use from many threads. Without `start` it writes when `flush` is called."""

    def __init__(self, settings: Settings, bus: EventBus, catalogue: Catalogue) -> None:
        self.folder = JournalFolder(settings.backup_dir)
        self.problem: EventVaultError | None = None
        self.counts = {"segments": 0, "failures": 0, "merged": 0, "removed": 0}
        self._writer = SegmentWriter(self.folder, bus, catalogue.installation, catalogue.entries)
        self._bus = bus
        self._catalogue = catalogue
        self._settings = settings
        self._seconds = settings.journal_interval / 1000
        self._working = threading.Lock()
        self._stopping = threading.Event()
        self._hurried = threading.Event()
        """Set while somebody waits for `_working`: what can wait does."""
        self._surveyed = -SURVEY_SECONDS
        self._failed_at = 0
        self._looked = clock.now()
        self._waiting: _Waiting | None = None
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
        self.flush(BASE_SECONDS)

    def flush(self, seconds: float = 0.0, *, survey: bool = False) -> bool:
        """Write what was committed last, now. False where that failed; `problem` says why.

        seconds: how long what else is missing may take besides, such as the base after a restore from outside.
        survey: look at the folders first, for what was deleted there.
        """
        self._hurried.set()
        with self._working:
            self._hurried.clear()
            if survey:
                self._surveyed = -SURVEY_SECONDS
                self._guarded(0.0, survey=True)
            return self._guarded(seconds, survey=False)

    def hurry(self) -> None:
        """`flush` for whoever keeps others waiting meanwhile."""
        self.flush(HURRY_SECONDS)

    def refresh(self) -> None:
        """Look at the folders at the next tick: an archive was made or removed."""
        self._surveyed = -SURVEY_SECONDS

    def status(self) -> dict[str, Any]:
        """The member `journal` of `/api/health`; answers at once."""
        identity = self._writer.identity
        return {
            "state": "failed" if self.problem else "behind" if self._writer.behind() else "ok",
            "generation": identity.generation if identity else None,
            "lastSequence": self._covered(),
            "secondsAtRisk": self.seconds_at_risk(),
            "intervalMs": round(self._seconds * 1000),
            "segmentsWritten": self.counts["segments"],
        }

    def seconds_at_risk(self) -> float:
        """The age of the oldest committed event that neither a segment nor an archive has, at most."""
        registry = self._bus.registry
        covered = self._covered()
        if registry is None or covered is None or registry.last_sequence <= covered:
            return 0.0
        since = self._waiting.recorded if self._waiting else self._looked
        return max(0.0, round((clock.now() - since) / 1e6, 3))

    def _covered(self) -> int | None:
        """Up to here everything is covered."""
        writer = self._writer
        if writer.identity is None:
            return None
        holes = writer.holes
        return holes[0][0] - 1 if holes else writer.upto

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            with self._working:
                good = self._guarded(BASE_SECONDS, survey=True)
            if not (good and self._writer.holes):
                self._stopping.wait(max(0.001, self._seconds - (time.monotonic() - began)))

    def _guarded(self, seconds: float, *, survey: bool) -> bool:
        try:
            self._tick(seconds, survey=survey)
        except (EventVaultError, OSError, plyvel.Error) as error:
            self._fail(error)
            return False
        except Exception as error:
            log.exception("BackupManager: the journal could not be written in a way that nobody thought of")
            self._fail(error)
            return False
        if self.problem is not None:
            log.info("BackupManager: the journal is written again")
        self.problem = None
        return True

    def _tick(self, seconds: float, *, survey: bool) -> None:
        """What was committed last; then, for so many seconds, what else is missing; then what the folders need."""
        began, looked = time.monotonic(), clock.now()
        deadline = began + seconds
        if not self._writer.look():
            self._survey()
        self._note_waiting()
        while self._writer.has_tail() or (self._writer.holes and self._in_time(deadline)):
            if not self._writer.write_next():
                break
            self.counts["segments"] += 1
            self._note_waiting()
        self._looked = looked
        if survey and time.monotonic() - self._surveyed >= SURVEY_SECONDS:
            self._surveyed = time.monotonic()
            self._survey()
            self._note_waiting()
            self._tidy(until=began + self._seconds / 2)

    def _tidy(self, until: float) -> None:
        """Begin steps until then, but one at least: many must neither keep the next segment waiting nor pile up."""
        assert self._writer.identity is not None, "a survey comes first"
        asked = itertools.count()

        def go_on() -> bool:
            return not self._hurried.is_set() and (next(asked) == 0 or time.monotonic() < until)

        tidier = Tidier(self.folder, self._catalogue.installation, go_on)
        if not tidier.tidy(self._catalogue.entries(), self._writer.identity):
            self.refresh()
        self.counts["removed"] += tidier.removed
        self.counts["merged"] += tidier.merged

    def _in_time(self, deadline: float) -> bool:
        return time.monotonic() < deadline and not self._hurried.is_set()

    def _survey(self) -> None:
        """A BACKUP_DIR that was deleted is made again."""
        keep_installation(self._settings, self._catalogue.installation)
        self._writer.survey()

    def _note_waiting(self) -> None:
        """Keep in mind since when the oldest event waits."""
        writer = self._writer
        if not writer.holes or writer.identity is None:
            self._waiting = None
            return
        generation, sequence = writer.identity.generation, writer.holes[0][0]
        if self._waiting is not None and self._waiting[:2] == (generation, sequence):
            return
        with self._bus.using() as registry:
            if registry.identity.generation == generation:
                self._waiting = _Waiting(generation, sequence, event.recorded_of(registry.at(sequence)))

    def problem_since(self, made: int | None) -> EventVaultError | None:
        """Why the newest segment could not be written; None once a backup was made (microseconds) after that."""
        return None if made is not None and made > self._failed_at else self.problem

    @property
    def damage(self) -> EventVaultError | None:
        """Segments that are damaged and held what can be written again from nowhere."""
        lost = self._writer.lost
        if not lost:
            return None
        more = f" (and {len(lost) - 1} others)" if len(lost) > 1 else ""
        return JournalDamaged(
            f"{lost[0].path}{more} is a damaged segment, and what it held is nowhere else: events {lost[0].first} to "
            f"{lost[0].last} of generation {lost[0].generation}",
            hint="GET /api/backup/timeline shows what can be restored; put a good copy of the segment beside it, or "
            "remove it to go on without",
        )

    def _fail(self, error: Exception) -> None:
        """A database that is not open is not the journal's problem: health says so already."""
        self.counts["failures"] += 1
        self._failed_at = clock.now()
        if self._bus.registry is None:
            return
        message = f"the journal could not be written: {error}"
        if self.problem is None or self.problem.message != message:
            log.warning("BackupManager: %s", message)
        self.problem = JournalFailed(message, hint="see to it that BACKUP_DIR is there, writable and not full")
