"""The route of a rehearsal, in one place: choose → check room → build → compare → measure.

A rehearsal does the steps of a real restore, in a scratch folder, up to the database that would be swapped in. Then it
reads and compares every record, and removes the folder. Its processes have the CPU priority of a restore, whose time it
measures, but use the disk only while nobody else does. A real restore cancels it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.chores import IDLE_NICENESS, Chores
from eventvault.database.bus import EventBus
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.generation import StoreIdentity
from eventvault.errors import (
    ArchiveError,
    ArchiveTooNew,
    ArchiveUnreadable,
    Cancelled,
    DatabaseError,
    DiskFailed,
    EventVaultError,
    JournalDamaged,
    RehearsalDiffers,
    RehearsalRunning,
    RestoreRunning,
)
from eventvault.files import FileIdentity, folder_size
from eventvault.operations.operation import current
from eventvault.rehearsals.compare import Comparison, Order
from eventvault.rehearsals.results import Failure, ReachedMoment, Rehearsal
from eventvault.rehearsals.risk import Risk, risk_of
from eventvault.rehearsals.scratch import scratch_folder
from eventvault.rehearsals.sources import BackupSources, Chosen
from eventvault.restore.builder import Built
from eventvault.restore.moments.planner import PlannedMoment
from eventvault.restore.records import has_links
from eventvault.restore.space import check_space
from eventvault.restore.values import Moment
from eventvault.settings import Settings

RESERVE_BYTES = 64 * 2**20
"""Bytes that a rehearsal leaves free in STORAGE_DIR, so that events can still be posted."""
END_SECONDS = 10.0
"""How long a restore waits for the end of the rehearsal that it cancels."""
FAILURES = (ArchiveError, DatabaseError, DiskFailed)
"""Errors that are the result of a rehearsal; after any other error there is no result."""
_NO_DAMAGE = (JournalDamaged, ArchiveUnreadable, ArchiveTooNew)
"""Errors that do not mean that the archive is damaged."""


@dataclass
class _Course:
    """How far a rehearsal got, for its result if it fails. archive: that is read, with its identity before."""

    chosen: Chosen | None = None
    archive: tuple[Path, FileIdentity | None] | None = None
    risk: Risk = field(default_factory=Risk)
    built: Built | None = None
    rto: dict[str, float] | None = None
    comparison: Comparison = field(default_factory=Comparison)

    def replanned(self, planned: PlannedMoment) -> None:
        """A file of the plan was damaged or missing: from now on another plan is tried."""
        if self.chosen is not None:
            self.chosen = self.chosen._replace(source=planned)
        self.note_archive()

    def note_archive(self) -> None:
        path = _archive_of(self.chosen) if self.chosen is not None else None
        self.archive = None if path is None else (path, FileIdentity.at(path))


class Rehearser:
    """Rehearses restores, one at a time. It only reads the live database and BACKUP_DIR.

    live: None without a live database. restoring: returns what is being restored, as `Restorer.running`. on_damaged:
    called for a damaged archive with its name, the identity of the file that was read, and the error. running: what is
    rehearsed, and since when in microseconds.
    """

    def __init__(
        self,
        settings: Settings,
        sources: BackupSources,
        live: EventBus | None = None,
        restoring: Callable[[], tuple[str, int] | None] = lambda: None,
        on_damaged: Callable[[str, FileIdentity, ArchiveError], None] = lambda *_: None,
    ) -> None:
        self.running: tuple[str, int] | None = None
        self._settings = settings
        self._sources = sources
        self._live = live
        self._restoring = restoring
        self._on_damaged = on_damaged
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._chores = Chores(IDLE_NICENESS)
        self._cancelled_for: str | None = None
        self._is_stopping = False

    def rehearse(self, wanted: Moment | str | None) -> Rehearsal:
        """Rehearse a restore of a named archive, of a moment, or (None) of the newest state.

        If a backup cannot be restored, the result says so. Raises BackupNotFound if there is nothing to rehearse,
        MomentUnavailable, NoSpace with the `needed` bytes, RehearsalRunning, RestoreRunning if a restore is under way
        or cancels the rehearsal, Cancelled, or a system error of BACKUP_DIR.
        """
        with self._exclusively(_label(wanted)):
            began, started, course = clock.now(), time.monotonic(), _Course()
            failure: EventVaultError | None = None
            try:
                self._run(wanted, course)
            except FAILURES as error:
                failure = error
            result = _result(course, wanted, began, failure)
            return msgspec.structs.replace(result, duration=round((time.monotonic() - started) * 1000))

    def cancel(self, restored: str) -> None:
        """End the rehearsal under way and wait until its folder is gone, because a restore of `restored` begins."""
        if self._lock.locked():
            self._cancelled_for = restored
            self._chores.cancel()
            self._ended.wait(END_SECONDS)

    def stop(self) -> None:
        """End the rehearsal under way, and begin no further one."""
        self._is_stopping = True
        self._chores.cancel()

    def _run(self, wanted: Moment | str | None, course: _Course) -> None:
        started = time.monotonic()
        course.chosen = chosen = self._sources.choose(wanted, self._live_generation())
        if self._live is not None:
            course.risk = risk_of(self._live, *chosen.reach)
        current().step("plan")
        builder, storage = self._sources.builder(self._chores, course.replanned), self._settings.storage_dir
        what = f"a rehearsal of {_label(wanted)}"
        check_space(storage, builder.disk_needed(chosen.source) + RESERVE_BYTES, what)
        with scratch_folder(storage) as scratch:
            with self._blaming_archive(course):
                course.built = built = builder.build_and_open(chosen.source, scratch / "restored", None)
            course.rto = _rto(built, time.monotonic() - started)
            order = self._order(course.chosen, built, scratch)  # `chosen`, unless the moment was planned again
            answer = self._chores.run("compare_events", order=msgspec.to_builtins(order))
        course.comparison = msgspec.convert(answer, Comparison)
        _check_equal(course.comparison, built.source)

    def _order(self, chosen: Chosen, built: Built, scratch: Path) -> Order:
        """Return what to compare. This copies the live database by hard links."""
        order = Order(
            source=built.source,
            database=str(scratch / "restored" / data_folders.DATABASE),
            events=built.answer["events"],
        )
        manifest = self._sources.manifest_of(chosen.backup) if chosen.backup is not None else None
        if manifest is not None:
            order = msgspec.structs.replace(order, first_time=manifest.first_time, last_time=manifest.last_time)
        generation = _generation(chosen) if built.answer["proven"] else None
        if generation is None or self._live is None or self._live.registry is None or self._live.is_read_only:
            return order
        identity, last = self._copy_live(self._live, scratch / "live", Path(order.database))
        common = min(identity.last_common(generation) or 0, last, order.events)
        return msgspec.structs.replace(order, live=str(scratch / "live"), common=common)

    def _copy_live(self, live: EventBus, folder: Path, built: Path) -> tuple[StoreIdentity, int]:
        """Copy the live database. Returns its identity and its last event at that instant."""
        if not has_links(built):
            check_space(
                folder.parent, folder_size(self._settings.database) + RESERVE_BYTES, "comparing with the events"
            )

        @contextmanager
        def paused() -> Iterator[tuple[StoreIdentity, int]]:
            with live.committer.paused():
                if live.registry is None:
                    raise RestoreRunning("the database was closed meanwhile", hint="rehearse again once it is open")
                yield live.registry.identity, live.registry.last_sequence

        with live.swap_lock.held():
            return take_checkpoint(self._settings.database, folder, paused).context

    @contextmanager
    def _blaming_archive(self, course: _Course) -> Iterator[None]:
        """Report damage of the archive that is read, as a verification does."""
        course.note_archive()
        try:
            yield
        except ArchiveError as error:
            path, identity = course.archive or (None, None)
            if path is not None and identity is not None and not isinstance(error, _NO_DAMAGE):
                self._on_damaged(path.name, identity, error)
            raise

    def _live_generation(self) -> str | None:
        registry = self._live.registry if self._live is not None else None
        return registry.identity.generation if registry is not None else None

    @contextmanager
    def _exclusively(self, label: str) -> Iterator[None]:
        """Run the only rehearsal, and none during a restore. Raises RehearsalRunning, RestoreRunning, Cancelled."""
        if not self._lock.acquire(blocking=False):
            other = self.running[0] if self.running else "something"
            raise RehearsalRunning(
                f"a rehearsal of {other} is under way", hint="wait until it has ended: GET /api/health shows it"
            )
        try:
            self._ended.clear()
            self._cancelled_for, self._chores = None, Chores(IDLE_NICENESS)
            if self._is_stopping:
                self._chores.cancel()
            restoring = self._restoring()  # a restore that begins later cancels this rehearsal
            if restoring is not None:
                raise _restore_runs("was not begun because", restoring[0])
            self.running = label, clock.now()
            try:
                yield
            except Cancelled as error:
                if self._cancelled_for is None:
                    raise
                raise _restore_runs("was cancelled because", self._cancelled_for) from error
        finally:
            self.running = None
            self._lock.release()
            self._ended.set()


def _restore_runs(what: str, restored: str) -> RestoreRunning:
    return RestoreRunning(
        f"the rehearsal {what} a restore of {restored} is under way",
        hint="rehearse once it has ended: jobs.restore in GET /api/health",
        running=restored,
    )


def _label(wanted: Moment | str | None) -> str:
    return wanted if isinstance(wanted, str) else "the newest state" if wanted is None else "a moment"


def _generation(chosen: Chosen) -> str | None:
    """Return the generation of the restored events; None if nothing proves it."""
    if isinstance(chosen.source, PlannedMoment):
        return chosen.source.plan.target.generation
    return chosen.reach.generation


def _archive_of(chosen: Chosen) -> Path | None:
    if not isinstance(chosen.source, PlannedMoment):
        return chosen.source.path
    archive = chosen.source.plan.archive
    return None if archive is None else Path(archive.path)


def _rto(built: Built, elapsed: float) -> dict[str, float]:
    """Return the seconds of each part. `fetch`, finding and opening the sources, is the rest of the elapsed time."""
    seconds = built.answer["seconds"]
    parts = {
        "unpack": seconds.get("unpack", 0.0) + seconds.get("replay", 0.0),
        "verify": seconds.get("verify", 0.0),
        "open": seconds["open"],
    }
    parts = {"fetch": max(0.0, elapsed - sum(parts.values())), **parts}
    return {part: round(value, 3) for part, value in parts.items()}


def _check_equal(comparison: Comparison, source: str) -> None:
    if comparison.differing:
        raise RehearsalDiffers(
            f"{comparison.differing} of {comparison.compared} events that were restored from {source} are not those "
            f"of the live database; the first is event {comparison.first}",
            hint="GET /api/events?asOf= shows the live one; keep both until you know which is right",
            sequence=comparison.first,
        )


def _result(course: _Course, wanted: Moment | str | None, began: int, failure: EventVaultError | None) -> Rehearsal:
    chosen, built = course.chosen, course.built
    members: dict[str, Any] = {
        "kind": "backup" if isinstance(wanted, str) else "newest" if wanted is None else "moment"
    }
    if isinstance(wanted, str):
        members["backup"] = wanted
    if chosen is not None:
        members |= _describe_plan(chosen)
    if built is not None:
        members |= {"events": built.answer["events"], "proven": built.answer["proven"], "bytes_read": built.bytes_read}
        members |= {"moment": _reached(chosen, built)}
    return Rehearsal(
        ok=failure is None,
        at=began,
        rto=course.rto,
        rpo_events=course.risk.events,
        rpo_seconds=course.risk.seconds,
        compared=course.comparison.compared,
        differing=course.comparison.differing,
        problem=None if failure is None else Failure.of(failure),
        **members,
    )


def _describe_plan(chosen: Chosen) -> dict[str, Any]:
    if not isinstance(chosen.source, PlannedMoment):
        return {"kind": chosen.kind, "backup": chosen.source.path.name}
    plan = chosen.source.plan
    backup = plan.archive.name if plan.archive is not None else None
    return {"kind": chosen.kind, "backup": backup, "segments": len(plan.segments)}


def _reached(chosen: Chosen | None, built: Built) -> ReachedMoment | None:
    if chosen is None or not isinstance(chosen.source, PlannedMoment):
        return None
    target = chosen.source.plan.target
    return ReachedMoment(built.answer["sequence"], target.generation, built.answer["recorded"] or None)
