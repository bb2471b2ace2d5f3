"""A deed and its two entries: one before it, and one after it with the result."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventvault import data_folders
from eventvault.audit.lines import BEGUN, CANCELLED, DONE, ENDED, FAILED, INTERRUPTED, NOTED, AuditEntry, entry_now
from eventvault.audit.waiting import WaitingEntries
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import Cancelled, EventVaultError, OperationCancelled, StoreStopping

log = logging.getLogger("BackupManager")

Write = Callable[[AuditEntry], None]
"""Writes an entry. Never raises, and delays a deed for seconds at most."""


class DeedResult(NamedTuple):
    """The result of a deed that failed, and the error's code. The error's message could quote what a client sent."""

    result: str
    code: str


class Deed:
    """A deed that was begun. results: further details for its last entry."""

    def __init__(self, write: Write, begun: AuditEntry) -> None:
        self.begun = begun
        self.results: dict[str, Any] = {}
        self._write = write

    def fail(self, error: BaseException) -> None:
        outcome = outcome_of(error)
        self.end(outcome.result, code=outcome.code)

    def end(self, result: str = DONE, **details: Any) -> None:
        """Write the entry of its end."""
        about = self.begun
        self._write(
            entry_now(
                operation=about.operation,
                state=ENDED,
                action=about.action,
                who=about.who,
                target=about.target,
                result=result,
                details={**self.results, **details},
            )
        )


class Deeds:
    """Begins deeds. write: where their entries go."""

    def __init__(self, write: Write = lambda _: None) -> None:
        self.write = write
        self._tries: dict[str, DeedResult] = {}
        """Operation that is tried again until it succeeds → the outcome of its newest try."""

    def begin(
        self,
        action: str,
        who: str,
        target: str | None = None,
        *,
        operation: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Deed:
        """Write that a deed is about to begin; that is on a disk when this returns."""
        begun = _entry(BEGUN, action, who, target, operation, details)
        self.write(begun)
        return Deed(self.write, begun)

    def note(self, action: str, who: str, target: str | None = None, *, result: str = DONE, **details: Any) -> None:
        """Write one entry of something that took no time."""
        self.write(msgspec.structs.replace(_entry(NOTED, action, who, target, "", details), result=result))

    @contextmanager
    def doing(
        self,
        action: str,
        who: str,
        target: str | None = None,
        *,
        operation: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Iterator[Deed]:
        """Do a deed in this context. If an error ends it, the result is that it failed."""
        deed = self.begin(action, who, target, operation=operation, details=details)
        try:
            yield deed
        except BaseException as error:
            deed.fail(error)
            raise
        else:
            deed.end()

    @contextmanager
    def trying(
        self,
        action: str,
        who: str,
        target: str | None,
        operation: str,
        results: dict[str, Any],
        *,
        is_repeated: bool,
    ) -> Iterator[Deed]:
        """Do a deed as in `doing`. is_repeated: it is tried again until it succeeds, and equal outcomes are noted once.

        results: becomes `Deed.results`.
        """
        before = self._tries.get(operation)
        begun = _entry(BEGUN, action, who, target, operation, None)
        if before is None:
            self.write(begun)
        deed = Deed(self.write, begun)
        deed.results = results
        try:
            yield deed
        except BaseException as error:
            if outcome_of(error) != before:
                deed.fail(error)
            if is_repeated:
                self._tries[operation] = outcome_of(error)
            raise
        else:
            self._tries.pop(operation, None)
            deed.end()


def deeds_through(note: Write, storage_dir: Path) -> Deeds:
    """Return the Deeds of a process other than the store. note: hands an entry to the store; it may raise.

    If no store answers, the entry waits in STORAGE_DIR for the next store.
    """
    waiting = WaitingEntries(storage_dir / data_folders.AUDIT_WAITING)

    def write(entry: AuditEntry) -> None:
        try:
            note(entry)
        except EventVaultError:
            try:
                waiting.append(entry)
            except (EventVaultError, *SYSTEM_ERRORS) as error:
                log.warning("the audit lacks %s of %s by %s: %s", entry.state, entry.action, entry.who, error)

    return Deeds(write)


def outcome_of(error: BaseException) -> DeedResult:
    if isinstance(error, OperationCancelled):
        return DeedResult(CANCELLED, error.code)
    if isinstance(error, Cancelled | StoreStopping):
        return DeedResult(INTERRUPTED, error.code)
    if isinstance(error, SYSTEM_ERRORS):
        error = as_answer("it", error)
    return DeedResult(FAILED, error.code if isinstance(error, EventVaultError) else EventVaultError.code)


def _entry(
    state: str, action: str, who: str, target: str | None, operation: str, details: Mapping[str, Any] | None
) -> AuditEntry:
    return entry_now(
        operation=operation or secrets.token_hex(8),
        state=state,
        action=action,
        who=who,
        target=target,
        details=dict(details or {}),
    )
