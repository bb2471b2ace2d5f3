"""Rehearses, and records the result: in the history, beside the archive, and for the prediction of restores."""

from __future__ import annotations

import logging
from typing import Any

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.errors import EventVaultError, NoSpace
from eventvault.operations.operation import current
from eventvault.problems import Problem
from eventvault.rehearsals.rehearse import Rehearser
from eventvault.rehearsals.results import Rehearsal, RehearsalHistory, failures, problem_of
from eventvault.restore import estimate
from eventvault.restore.values import Moment
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class RecordedRehearsals:
    """counts: rehearsals since the start, by outcome. no_room: the error of a due rehearsal that found no room."""

    def __init__(self, settings: Settings, catalogue: Catalogue, rehearser: Rehearser) -> None:
        self.history = RehearsalHistory(settings.storage_dir)
        self.counts = {"succeeded": 0, "failed": 0}
        self.no_room: NoSpace | None = None
        self._settings = settings
        self._catalogue = catalogue
        self._rehearser = rehearser

    def rehearse(self, wanted: Moment | str | None) -> Rehearsal:
        """Do what `Rehearser.rehearse` does, and record the result."""
        result = self._rehearser.rehearse(wanted)
        current().decided()
        self.no_room = None
        self.counts["succeeded" if result.ok else "failed"] += 1
        self._record(result)
        what = result.backup or "the journal"
        if result.problem is not None:
            log.error("the rehearsal of a restore from %s failed: %s", what, result.problem.message)
        else:
            log.info("a restore from %s was rehearsed: back in %s s", what, result.rto_seconds)
        if result.ok and result.bytes_read is not None and result.rto_seconds is not None:
            estimate.note(self._settings.storage_dir, result.bytes_read, result.rto_seconds)
        return result

    def _record(self, result: Rehearsal) -> None:
        """Add the result to the history, and write it beside the archive; an error of the latter is only logged."""
        self.history.add(result)
        if result.backup is not None:
            try:
                self._catalogue.note_rehearsal(result.backup, result.describe())
            except (EventVaultError, OSError) as error:
                log.warning("the result of a rehearsal cannot be noted beside %s: %s", result.backup, error)

    def describe_running(self) -> dict[str, Any]:
        """Return the members of `jobs.rehearsal` of health about the rehearsal that runs."""
        source, since = self._rehearser.running or (None, None)
        shown = clock.optional_milliseconds(since)
        return {"running": source is not None, "source": source, "since": shown}

    def problems(self) -> list[Problem]:
        """Return the problems for health: of failed rehearsals, and of one that found no room when it was due."""
        problems = [problem_of(result) for result in failures(self.history.results(), self._is_there)]
        if self.no_room is not None:
            hint = "free some space in STORAGE_DIR, or set REHEARSAL_CRON=off"
            problems.append(Problem("rehearsal_no_room", self.no_room.message, hint, degrades=False))
        return problems

    def _is_there(self, name: str) -> bool:
        return (self._settings.backup_dir / name).exists()
