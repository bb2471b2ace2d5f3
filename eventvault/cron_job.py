"""Jobs that run at the firings of a schedule: each once, whatever the clock does and however often the store starts.

Before a run begins, its firing is noted on disk as over and the run as due; after it, as ended. A firing that was
missed while no store ran, and a run that ended with its store, are made up for once after a start. A run counts as late
by the time that a store ran while it was due: not by that in which the machine was off, or the process was paused.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, small_files
from eventvault.errors import Cancelled, NoSpace
from eventvault.progress import PAUSE_SECONDS
from eventvault.schedules import History, Schedule

log = logging.getLogger("BackupManager")

SAVE_SECONDS = 60.0
"""Seconds between two updates of the file's time of change, while a run is due."""


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """due: since when a run is due that has not ended; an instant. is_repeated: that run was begun a second time."""

    format: Literal[1]
    schedule: str
    history: History = History()
    due: int | None = None
    is_repeated: bool = False


class DueRun:
    """The note on disk about one schedule: its history, since when a run is due, and for how long a store ran since.

    The file's time of change is the time until which the store ran. One thread calls `each_second`. Only one thread at
    a time changes the note.
    """

    def __init__(self, path: Path, schedule: str) -> None:
        """schedule: as text; the note of another schedule is ignored."""
        self.seconds = 0.0
        """For how long the run has been due."""
        self._path = path
        self._note = _Note(1, schedule)
        self._saved: _Note | None = None
        self._looked = self._touched = time.monotonic()

    @property
    def since(self) -> int | None:
        return self._note.due

    @property
    def history(self) -> History:
        return self._note.history

    def is_late_by(self, grace: int) -> bool:
        """Return whether a run has been due for at least `grace` microseconds."""
        return self._note.due is not None and self.seconds * 1e6 >= grace

    def load(self) -> bool:
        """Read the note. Return whether an interrupted run has to be repeated. An unreadable note counts as missing."""
        try:
            note = small_files.read_or_quarantine(self._path, _Note)
            if note is None or note.schedule != self._note.schedule:
                return False
            self._note = self._saved = note
            if note.due is not None:
                self.seconds = max(0, self._path.stat().st_mtime_ns // 1000 - note.due) / 1e6
        except OSError as error:
            log.warning("%s cannot be read, so no missed run is made up for: %s", self._path, error)
        return self._note.due is not None and not self._note.is_repeated

    def begin(self, since: int, history: History | None = None, *, is_repeated: bool = False) -> None:
        """Note that a run is due, unless an earlier one still is; `save` writes it to disk."""
        if self._note.due is None:
            self.seconds = 0.0
        due = since if self._note.due is None else self._note.due
        history = self._note.history if history is None else history
        self._note = msgspec.structs.replace(self._note, history=history, due=due, is_repeated=is_repeated)

    def run(self, job: Callable[[], None], is_stopping: Callable[[], bool]) -> None:
        """Run the job that is due. If it raises Cancelled because the store is stopping, it stays due."""
        try:
            job()
        except Cancelled:
            if is_stopping():
                self._note = msgspec.structs.replace(self._note, is_repeated=False)
                self.save()
                return
        self.end()

    def end(self) -> None:
        """Note that no run is due any more."""
        self._note = msgspec.structs.replace(self._note, due=None, is_repeated=False)
        if self._saved is not None and self._saved.due is not None:
            self.save()

    def use_history(self, history: History) -> None:
        """Write a new history to the note."""
        if history != self._note.history:
            self._note = msgspec.structs.replace(self._note, history=history)
            self.save()

    def save(self) -> None:
        """Write the note if it changed. If that fails, only this store knows it."""
        if self._note == self._saved:
            return
        note = self._note
        try:
            small_files.write(self._path, note)
            self._saved = note
        except (OSError, NoSpace) as error:
            log.warning("could not record the schedule in %s: %s", self._path, error)
        self._touch()

    def each_second(self) -> None:
        """Count the time that the run has been due; a pause of this process counts for little."""
        before, self._looked = self._looked, time.monotonic()
        if self._note.due is None:
            self.seconds = 0.0
            return
        self.seconds += min(self._looked - before, PAUSE_SECONDS)
        if self._looked - self._touched >= SAVE_SECONDS:
            self._touch()

    def _touch(self) -> None:
        self._touched = time.monotonic()
        if self._note.due is not None and self._saved is not None:
            try:
                instant = (self._note.due + round(self.seconds * 1e6)) * 1000
                os.utime(self._path, ns=(instant, instant))
            except OSError as error:
                log.debug("the time of %s cannot be set: %s", self._path, error)


class CronJob:
    """Runs `job` at the firings of `schedule`, one run at a time. One more makes up for the firings during a run.

    job: may raise Cancelled; if that is because of `stop`, the next store repeats it.
    """

    def __init__(
        self, name: str, schedule: Schedule, path: Path, job: Callable[[], None], now: clock.Clock = clock.now
    ) -> None:
        """name: a noun, for the log and the thread. path: of the note on disk."""
        self.due = DueRun(path, str(schedule))
        self.schedule = schedule
        self._name = name
        self._job = job
        self._now = now
        self._repeats = False
        self._is_started = False
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    @property
    def next_run(self) -> int | None:
        """When the job runs next, in microseconds; None if it never does, or was not started."""
        if not self._is_started:
            return None
        now = self._now()
        return self.due.history.at(now).next_firing(self.schedule, now)

    @property
    def grace(self) -> int:
        """By how many microseconds the run that is due may be late."""
        return self.schedule.grace(self.due.since or self._now())

    def start(self) -> None:
        """Run the job from now on, if the schedule is on. What was missed is made up for with the next second."""
        if not self.schedule.cron.is_on:
            return
        self._repeats = self.due.load()
        self.due.use_history(self.due.history.at(self._now()))
        self._is_started = True
        log.info("%s: scheduled at %s, next at %s", self._name, self.schedule, _text(self.next_run))

    def stop(self) -> None:
        """Begin no further run."""
        self._is_stopped = True

    def each_second(self) -> None:
        if not self._is_started or self._is_stopped:
            return
        self.due.each_second()
        if self._thread is None or not self._thread.is_alive():
            self._run_if_due(self._now())

    def _run_if_due(self, now: int) -> None:
        history = self.due.history.at(now)
        self.due.use_history(history)
        firing = history.next_firing(self.schedule, now)
        if firing is not None and firing <= now:
            history = history.fired(self.schedule, firing, now)
        elif self._repeats:
            firing = now
        else:
            return
        self.due.begin(firing, history, is_repeated=self._repeats)
        self._repeats = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.due.save()
        self.due.run(self._job, lambda: self._is_stopped)


def _text(instant: int | None) -> str:
    return "no time" if instant is None else clock.format_milliseconds(instant)
