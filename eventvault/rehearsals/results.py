"""The results of rehearsals: their form, the history of the newest 100, and the problems of failed ones.

`STORAGE_DIR/rehearsals.json` has them. BACKUP_DIR has the newest result of each archive too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.errors import EventVaultError, NoSpace
from eventvault.problems import Problem
from eventvault.progress import Turn

log = logging.getLogger("BackupManager")

MAX_RESULTS = 100
PARTS = ("fetch", "unpack", "verify", "open")
"""The parts of a restore: find and open what it needs; write and sync the database with the replayed events; check it
as a restore does; open it as the store will."""

Kind = Literal["newest", "backup", "moment"]


class Failure(msgspec.Struct, frozen=True):
    """Why a rehearsal failed, in the form of an error of the API."""

    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: EventVaultError) -> Failure:
        return cls(error.code, error.message, error.hint)


class ReachedMoment(msgspec.Struct, frozen=True):
    """The moment that was restored. time: when its last event was recorded, in microseconds; None without an event."""

    sequence: int
    generation: str
    time: int | None = None


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one rehearsal. at: when it began, in microseconds. backup: the archive; None: the journal sufficed.

    kind: of the newest state, of a named backup alone, or of a moment. moment: what was reached; None for a named
    backup. rto: seconds by part, as in PARTS; None if it did not get that far. rpo: what a loss of STORAGE_DIR at the
    beginning would have cost; None if there is no live database. compared: the records that were compared with the live
    ones. bytes_read: of the archive and the segments. duration: of the whole rehearsal, in milliseconds.
    """

    ok: bool
    at: int
    kind: Kind
    backup: str | None = None
    segments: int = 0
    moment: ReachedMoment | None = None
    events: int | None = None
    rto: dict[str, float] | None = None
    rpo_seconds: float | None = None
    rpo_events: int | None = None
    compared: int = 0
    differing: int = 0
    proven: bool | None = None
    problem: Failure | None = None
    bytes_read: int | None = None
    duration: int = 0

    @property
    def rto_seconds(self) -> float | None:
        return None if self.rto is None else round(sum(self.rto.values()), 3)

    @property
    def subject(self) -> tuple[Kind, str | None]:
        """The subject of the result: a backup, the newest state, or moments."""
        return self.kind, self.backup if self.kind == "backup" else None

    def describe(self) -> dict[str, Any]:
        """Return the result as the API shows it."""
        return {
            "ok": self.ok,
            "at": clock.format_milliseconds(self.at),
            "kind": self.kind,
            "backup": self.backup,
            "segments": self.segments,
            "moment": None if self.moment is None else _describe_moment(self.moment),
            "events": self.events,
            "rtoSeconds": self.rto_seconds,
            "rto": self.rto,
            "rpoSeconds": self.rpo_seconds,
            "rpoEvents": self.rpo_events,
            "compared": self.compared,
            "differing": self.differing,
            "proven": self.proven,
            "problem": None if self.problem is None else msgspec.structs.asdict(self.problem),
            "bytesRead": self.bytes_read,
            "durationMs": self.duration,
        }


def _describe_moment(moment: ReachedMoment) -> dict[str, Any]:
    time = clock.optional_microseconds(moment.time)
    return {"time": time, "sequence": moment.sequence, "generation": moment.generation}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    rehearsals: tuple[Rehearsal, ...]


NO_REHEARSAL: dict[str, Any] = dict.fromkeys(Rehearsal(ok=True, at=0, kind="newest").describe())
"""What health shows before the first rehearsal, if one is due."""


class RehearsalHistory:
    """The newest results, newest first. Safe to use from many threads.

    If a result cannot be written, only this store knows it. While the file cannot be read, it is not written.
    """

    def __init__(self, storage_dir: Path) -> None:
        self._path = storage_dir / data_folders.REHEARSALS
        self._turn = Turn("record of the rehearsals")
        self._results: tuple[Rehearsal, ...] | None = None
        self._newer: tuple[Rehearsal, ...] = ()
        """The results that came while the file could not be read."""

    def results(self) -> Sequence[Rehearsal]:
        """Return the results, newest first. A file that cannot be read now counts as empty until it can."""
        if self._results is None:
            with self._turn.held(), contextlib.suppress(OSError):
                file = small_files.read_or_quarantine(self._path, _File)
                self._results = (*self._newer, *(file.rehearsals if file is not None else ()))
        return self._newer if self._results is None else self._results

    def newest(self) -> Rehearsal | None:
        return next(iter(self.results()), None)

    def add(self, result: Rehearsal) -> None:
        earlier = self.results()
        with self._turn.held():
            if self._results is None:
                self._newer = (result, *self._newer)[:MAX_RESULTS]
                return
            self._results = (result, *earlier)[:MAX_RESULTS]
            try:
                small_files.write(self._path, _File(1, self._results))
            except (OSError, NoSpace) as error:
                log.warning("the result of a rehearsal cannot be recorded: %s", error)


def failures(results: Sequence[Rehearsal], is_there: Callable[[str], bool]) -> list[Rehearsal]:
    """Return the failed results that no later result settles, newest first.

    A later result of the same subject settles it, and a success of the newest state also settles moments. is_there:
    whether an archive of that name exists: failures of a removed archive do not matter any more.
    """
    settled: set[tuple[Kind, str | None]] = set()
    failed: list[Rehearsal] = []
    for result in results:
        if result.subject in settled:
            continue
        settled |= {result.subject, ("moment", None)} if result.kind == "newest" and result.ok else {result.subject}
        if not result.ok and (result.backup is None or is_there(result.backup)):
            failed.append(result)
    return failed


def problem_of(result: Rehearsal) -> Problem:
    """Return the problem that health shows for a failed rehearsal."""
    assert result.problem is not None, "a rehearsal that failed says why"
    what = result.backup or "the journal"
    address = f"/api/backup/{result.backup}/rehearse" if result.kind == "backup" else "/api/backup/rehearse"
    return Problem(
        "rehearsal_failed",
        f"the rehearsal of a restore from {what} failed: {result.problem.message}",
        f"{result.problem.hint}; then rehearse again: POST {address}",
        about=result.backup,
        since=result.at,
        details={"code": result.problem.code},
    )
