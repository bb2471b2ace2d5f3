"""The route of a restore, in one place: choose → plan → build → swap → finish.

An archive, a moment and an undo take the same route. Only a moment needs a plan: it finds the event that the moment
means, and the files that lead there (`moments/planner.py`). The first three steps work beside the live data; writers
and readers wait for the swap alone. A staged restore stops after *build*: the next start does the rest (`swap_closed`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from eventvault import clock, data_folders
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.errors import DatabaseDamaged, DatabaseLocked, OperationCancelled, RestoreRunning
from eventvault.files import remove_durably
from eventvault.operations.operation import current
from eventvault.restore import estimate
from eventvault.restore.builder import ArchiveSource, Builder, BuildSource
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.planner import PlannedMoment
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap import undo
from eventvault.restore.swap.carry_over import ReplacedHead
from eventvault.restore.swap.finish import Finisher
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabase, PreviousDatabases
from eventvault.restore.swap.swapper import Swapper
from eventvault.restore.values import Moment, Restored
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class UndoRequest(msgspec.Struct, frozen=True):
    """name: of the previous database to bring back; None: the one that the newest restore replaced."""

    name: str | None = None


Wanted = ArchiveSource | Moment | UndoRequest


class RestoreForecast(msgspec.Struct, frozen=True):
    """The expected result of a restore under way, as far as its plan tells.

    sequence: of the last event. instant: as it was asked for, in microseconds. seconds: how long the restore takes.
    """

    sequence: int | None = None
    instant: int | None = None
    seconds: float | None = None


class Restorer:
    """Restores into the database of `bus`, one restore at a time.

    running: what is being restored, and since when in microseconds. forecast: None until that is planned. operation: of
    the newest restore. counts: restores since the start, by outcome, without those that were cancelled. on_begin:
    called with what is restored, once `running` says so.
    """

    def __init__(
        self, settings: Settings, bus: EventBus, chores: Chores, previous: PreviousDatabases, moments: MomentBuilder
    ) -> None:
        self.builder = Builder(settings, bus, chores, previous, moments)
        self.swapper = Swapper(settings, bus)
        self.finisher = Finisher(settings, previous)
        self.running: tuple[str, int] | None = None
        self.forecast: RestoreForecast | None = None
        self.operation = current()
        self.counts = {"restored": 0, "failed": 0}
        self.on_begin: Callable[[str], None] = lambda _: None
        self._settings = settings
        self._bus = bus
        self._moments = moments
        self._lock = threading.Lock()

    def restore(self, wanted: Wanted, *, operation: str, staged: bool = False, replay: bool = False) -> Restored:
        """Restore an archive or a moment, or undo a restore, in a new generation.

        operation: if the newest restore has this id, its answer is returned. staged: the next start of the service
        swaps. replay: read Kafka's topics again from the moment on.
        Raises RestoreRunning, DatabaseLocked, NoSpace, an ArchiveError, MomentUnavailable, UndoNotFound, NothingToUndo
        or OperationCancelled; then the live data is as it was. Raises StoreRestoring if the restore is decided and will
        be done (`outcome_of`).
        """
        self.finisher.finish_deferred()
        answer = self.answer_of(operation, staged=staged)
        if answer is not None:
            return answer
        with self._exclusively(_label(wanted)):
            chosen, head = self._choose(wanted)
            began = time.monotonic()
            source = self._plan(chosen)
            self.forecast = self._foretell(source)
            intent = self.builder.build(source, head, operation, began=began, replay=replay)
            if staged:
                return self._stage(intent)
            with self._swapping(intent):
                intent = self.swapper.swap(intent, source if isinstance(source, PreviousDatabase) else None)
                self.finisher.finish_or_defer(intent)
            return intent.restored

    def answer_of(self, operation: str, *, staged: bool = False) -> Restored | None:
        """Return the answer of this operation if it was the newest restore, or with `staged` the staged one."""
        last = intents.read_last(self._settings.storage_dir)
        if last is not None and last.operation == operation:
            return last.restored
        intent = intents.read_intent(self._settings.storage_dir, data_folders.STAGED_RESTORE) if staged else None
        return _as_staged(intent.restored) if intent is not None and intent.operation == operation else None

    def outcome_of(self, operation: str) -> Restored | None:
        """Return the answer of a restore that is done, or that the start of the store finishes; else None."""
        with suppress(DatabaseDamaged, OSError):  # first: the intent is removed once the newest restore is noted
            intent = intents.read_intent(self._settings.storage_dir)
            if intent is not None and intent.operation == operation:
                return intent.restored
        return self.answer_of(operation)

    def swap_closed(self, intent: Intent) -> None:
        """Do the last two steps at a start of the service, when nobody has the database open."""
        self.finisher.finish(self.swapper.swap_closed(intent))

    def _choose(self, wanted: Wanted) -> tuple[ArchiveSource | Moment | PreviousDatabase, ReplacedHead | None]:
        """Return what to restore, and the head of the database that it replaces."""
        if isinstance(self._bus.problem, DatabaseLocked):
            raise self._bus.problem
        if isinstance(wanted, UndoRequest):
            head = self.builder.read_head()
            previous = undo.choose(self._settings.storage_dir, wanted.name, head.identity if head else None)
            log.info("bringing back %s", previous.name)
            return previous, head
        log.info("restoring %s", _label(wanted))
        return wanted, self.builder.read_head()

    def _plan(self, chosen: ArchiveSource | Moment | PreviousDatabase) -> BuildSource:
        """Return what to build from: only a moment needs a plan."""
        current().step("plan")
        return self._moments.plan(chosen) if isinstance(chosen, Moment) else chosen

    def _foretell(self, source: BuildSource) -> RestoreForecast:
        match source:
            case ArchiveSource():
                size = source.path.stat().st_size if source.path.is_file() else 0
                return RestoreForecast(sequence=source.sequence, seconds=self._predict(size))
            case PlannedMoment():
                seconds = self._predict(self._moments.bytes_to_read(source.plan))
                return RestoreForecast(source.plan.target.sequence, source.moment.instant, seconds)
            case PreviousDatabase():
                return RestoreForecast(sequence=source.events)
            case _:
                return RestoreForecast()

    def _predict(self, size: int) -> float:
        return estimate.predict(estimate.read_durations(self._settings.storage_dir), size)

    def _stage(self, intent: Intent) -> Restored:
        """Leave the swap to the next start of the service."""
        try:
            current().decided()
            intents.stage(self._settings.storage_dir, intent)
        except BaseException:
            self._remove_built(intent)
            raise
        log.info("%s is staged for the next start of the service", intent.restored.source)
        return _as_staged(intent.restored)

    @contextmanager
    def _swapping(self, intent: Intent) -> Iterator[None]:
        """Keep others from opening the database. If nothing was decided, a failure removes what was built."""
        try:
            self._bus.before_swap()  # the swap calls it again while everybody waits: then little remains to be done
            with self.finisher.swapping.held():
                current().decided()
                current().step("swap")
                yield
        except BaseException:
            if not intents.is_decided(self._settings.storage_dir, intent):
                self._remove_built(intent)
            raise

    def _remove_built(self, intent: Intent) -> None:
        remove_durably(self._settings.storage_dir / Path(intent.new_database).parts[0])

    @contextmanager
    def _exclusively(self, label: str) -> Iterator[None]:
        """One restore at a time. Raises RestoreRunning."""
        if not self._lock.acquire(blocking=False):
            running = self.running
            other = running[0] if running else "something"
            raise RestoreRunning(
                f"a restore of {other} is under way", hint="wait: jobs.restore in GET /api/health", running=other
            )
        try:
            self.forecast, self.operation = None, current()
            self.running = label, clock.now()
            self.on_begin(label)
            yield
            self.counts["restored"] += 1
        except OperationCancelled:
            raise
        except BaseException:
            self.counts["failed"] += 1
            raise
        finally:
            self.running = None
            self._lock.release()


def _as_staged(restored: Restored) -> Restored:
    return msgspec.structs.replace(restored, staged=True, undo=None)


def _label(wanted: Wanted) -> str:
    match wanted:
        case ArchiveSource():
            return wanted.path.name
        case Moment():
            return "a moment"
        case UndoRequest():
            return wanted.name or "the previous database"
