"""Problems that wait for a decision: health names each one until its cause is gone or an operator accepts it.

A problem whose cause can be examined at any time comes from a source. A problem that one process detects and a later
one must still name is reported, and recorded in `STORAGE_DIR/problems.json`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.errors import InvalidInput, NoSpace, NothingToAccept
from eventvault.printable import encodable, printable
from eventvault.progress import Turn

log = logging.getLogger("BackupManager")

MAX_ACCEPTED = 1000
"""Beyond this number, the oldest accepted problems are forgotten."""

_KAFKA_LOSS = "the partition is read from the first offset that it has now; the messages before it are lost"
CONSEQUENCES: dict[str, str] = {
    "rolled_back": "the events stay in the archives and the journal, and health no longer names them",
    "backups_changed": "from now on BACKUP_DIR as it is now belongs to this installation, and backups go there",
    "recovery_incomplete": "the database is recovered without these events; what holds them stays as it is",
    "clock_ahead": "the current time of the clock is believed, and events are recorded with it",
    "kafka_topic_recreated": _KAFKA_LOSS,
    "kafka_cluster_changed": _KAFKA_LOSS,
    "kafka_topic_truncated": _KAFKA_LOSS,
    "kafka_topic_diverged": _KAFKA_LOSS,
    "kafka_messages_gone": _KAFKA_LOSS,
    "kafka_offset_out_of_range": _KAFKA_LOSS,
}
"""Code of a problem that can be accepted → what follows from accepting it."""

_KINDS = {
    "rolled_back": "generation",
    "recovery_incomplete": "generation",
    "stuck": "part",
    "backup_late": "schedule",
    "backup_name_invalid": "file",
    "notify_failing": "address",
    "kafka_topic_missing": "topic",
    "kafka_topic_refused": "topic",
    "kafka_waits": "topic",
}
_KINDS_BY_PREFIX = {
    "kafka": "partition",
    "backup": "backup",
    "seal": "backup",
    "journal": "segment",
    "restore": "restore",
    "rehearsal": "backup",
}


class Problem(msgspec.Struct, frozen=True):
    """A problem as health shows it.

    about: tells problems with the same code apart, such as `events/2` for a partition. since: microseconds, None if
    unknown. details: what a program may need of the message, such as sequences. degrades: health is `degraded`.
    """

    code: str
    message: str
    hint: str
    about: str | None = None
    since: int | None = None
    details: dict[str, Any] = {}
    degrades: bool = True

    def __post_init__(self) -> None:
        shown = {"message": printable(self.message), "hint": printable(self.hint), "details": encodable(self.details)}
        for name, value in {**shown, "about": self.about and printable(self.about)}.items():
            msgspec.structs.force_setattr(self, name, value)

    @property
    def kind(self) -> str:
        """Return what `about` names: `backup`, `partition`, `segment`, `restore`, `generation`, `part`, …"""
        return _KINDS.get(self.code) or _KINDS_BY_PREFIX.get(self.code.partition("_")[0], "file")

    def describe(self, *, acceptable: bool = False) -> dict[str, Any]:
        """Return the problem as health shows it. acceptable: it waits for a decision."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "about": None if self.about is None else {"kind": self.kind, "name": self.about},
            "since": clock.optional_milliseconds(self.since),
            "acceptable": acceptable,
            **({"details": self.details} if self.details else {}),
        }


CHECK_DISK = "check that disk, then remove the damaged file"


def damaged_file(path: Path, loss: str, hint: str = CHECK_DISK, code: str = "file_damaged") -> Problem:
    """Return the problem of a quarantined file. path: where it is now. loss: what its loss means."""
    was = path.with_name(small_files.name_before(path))
    return Problem(code, f"{was} was damaged and is {path} now; {loss}", hint, str(path))


class ProblemTimes:
    """Remembers since when each problem has been there without a break, as far as callers of `with_since` saw it."""

    def __init__(self, now: clock.Clock = clock.now) -> None:
        self._now = now
        self._since: dict[tuple[str, str | None], int] = {}

    def with_since(self, problems: Sequence[Problem]) -> list[Problem]:
        """Return these problems, each with `since`. problems: all that there are now; a missing one is over."""
        now = self._now()
        self._since = {_key(problem): self._since.get(_key(problem), problem.since or now) for problem in problems}
        return [
            msgspec.structs.replace(problem, since=problem.since or self._since[_key(problem)]) for problem in problems
        ]


class ProblemSource(Protocol):
    """A part of the store that knows at any time which of its problems wait for a decision."""

    def waiting(self) -> list[Problem]:
        """Return the problems. Never waits and never raises."""

    def accept(self, problem: Problem) -> None:
        """Do what CONSEQUENCES says of the problem; nothing if it is gone. A second call changes nothing."""


class _Accepted(msgspec.Struct, frozen=True):
    code: str
    about: str
    at: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1] = 1
    reported: tuple[Problem, ...] = ()
    accepted: tuple[_Accepted, ...] = ()


class OpenProblems:
    """All problems that wait for a decision. Safe for many threads."""

    def __init__(self, storage_dir: Path, now: clock.Clock = clock.now) -> None:
        self._path = storage_dir / data_folders.PROBLEMS
        self._now = now
        self._turn = Turn("record of problems")
        self._sources: list[ProblemSource] = [self]
        self._file = _File()
        self._is_loaded = False
        self._load()

    def add_source(self, source: ProblemSource) -> None:
        self._sources.append(source)

    def report(self, problem: Problem) -> None:
        """Record a problem until it is resolved or accepted.

        A problem that is reported again is brought up to date and keeps its `since`. A problem that was accepted with
        the same `about` is ignored. If the disk is full, only this store knows the problem.
        """
        self._load()
        with self._turn.held():
            if self._was_accepted(problem):
                return
            earlier = next((reported for reported in self._file.reported if _key(reported) == _key(problem)), None)
            since = earlier.since if earlier else problem.since or self._now()
            problem = msgspec.structs.replace(problem, since=since)
            if problem != earlier:
                self._replace_reported([*self._others(problem), problem])

    def is_accepted(self, problem: Problem) -> bool:
        """Return whether this problem was accepted before."""
        self._load()
        return self._was_accepted(problem)

    def is_known(self, code: str, about: str) -> bool:
        """Return whether this problem waits for a decision, or was accepted."""
        problems: list[Problem | _Accepted] = [*self._file.reported, *self._file.accepted]
        return any(_key(problem) == (code, about) for problem in problems)

    def resolve(self, code: str, about: str | None = None) -> None:
        """Forget a reported problem whose cause is gone."""
        self._load()
        with self._turn.held():
            reported = [problem for problem in self._file.reported if _key(problem) != (code, about)]
            if len(reported) < len(self._file.reported):
                self._replace_reported(reported)

    def waiting(self) -> list[Problem]:
        """Return the reported problems."""
        self._load()
        return list(self._file.reported)

    def all(self) -> list[Problem]:
        """Return the problems of all sources."""
        return [problem for source in self._sources for problem in source.waiting()]

    def find(self, code: str, about: str | None = None) -> Problem:
        """Return the problem to accept. about: may be left out if one problem has the code.

        Raises NothingToAccept if there is none, InvalidInput if several have the code.
        """
        waiting = [problem for problem in self.all() if problem.code == code]
        matching = [problem for problem in waiting if about in (None, problem.about)]
        names = ", ".join(str(problem.about) for problem in waiting)
        if not matching:
            where = f" about {about}" if about is not None else ""
            hint = f"`about` may be: {names}" if waiting else "GET /api/health names the problems there are"
            raise NothingToAccept(f"no problem {code}{where} waits for a decision; nothing was changed", hint=hint)
        if len(matching) > 1:
            message = f"{len(matching)} problems with the code {code} wait for a decision; nothing was changed"
            fields = {"about": [f"Name one of: {names}."]}
            raise InvalidInput(message, hint=f"name in `about` the one that you accept: {names}", fields=fields)
        return matching[0]

    def accept_waiting(self, problem: Problem) -> None:
        """Accept a problem; does nothing if it does not wait any more. Raises what its source raises."""
        for source in self._sources:
            if any(_key(waiting) == _key(problem) for waiting in source.waiting()):
                source.accept(problem)
                log.warning("an operator accepted %s: %s", problem.code, problem.message)

    def accept(self, problem: Problem) -> None:
        """Forget a reported problem for good. Raises NoSpace or OSError; then it still waits."""
        with self._turn.held():
            accepted = self._file.accepted
            if problem.about is not None:
                accepted = (*accepted, _Accepted(problem.code, problem.about, self._now()))[-MAX_ACCEPTED:]
            self._save(_File(reported=tuple(self._others(problem)), accepted=accepted))

    def _load(self) -> None:
        """Read the file once. If it cannot be read now, a later call tries again; until then it is not written."""
        if not self._is_loaded:
            with self._turn.held(), contextlib.suppress(OSError):
                self._load_in_turn()

    def _load_in_turn(self) -> None:
        if not self._is_loaded:
            recorded = small_files.read_or_quarantine(self._path, _File) or _File()
            keys = {*map(_key, recorded.reported), *map(_key, recorded.accepted)}
            newer = [problem for problem in self._file.reported if _key(problem) not in keys]
            self._file = _File(reported=(*recorded.reported, *newer), accepted=recorded.accepted)
            self._is_loaded = True

    def _was_accepted(self, problem: Problem) -> bool:
        return any(_key(accepted) == _key(problem) for accepted in self._file.accepted)

    def _others(self, problem: Problem) -> list[Problem]:
        return [reported for reported in self._file.reported if _key(reported) != _key(problem)]

    def _replace_reported(self, problems: list[Problem]) -> None:
        file = _File(reported=tuple(problems), accepted=self._file.accepted)
        try:
            self._save(file)
        except (OSError, NoSpace) as error:
            log.warning("the problems of this installation cannot be recorded: %s", error)
            self._file = file

    def _save(self, file: _File) -> None:
        """Write the file. Raises OSError also if it exists and could not be read: it may hold other problems."""
        if not self._is_loaded:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self._path))
        small_files.write(self._path, file)
        self._file = file


def _key(problem: Problem | _Accepted) -> tuple[str, str | None]:
    return problem.code, problem.about
