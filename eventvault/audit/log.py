"""Writes the audit so that no deed is stopped or slowed, whatever the disk does.

A thread appends to the chain. A deed waits for it, at most WRITE_SECONDS. An entry that cannot be appended waits in
STORAGE_DIR, or in memory if that cannot be written either, until BACKUP_DIR can be written again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from eventvault import data_folders
from eventvault.audit.chain import Chain
from eventvault.audit.lines import AuditEntry
from eventvault.audit.waiting import WaitingEntries
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import BackupsChanged, EventVaultError, TooBusy
from eventvault.problems import Problem
from eventvault.progress import running

log = logging.getLogger("BackupManager")

WAITS = "audit_waits"
WRITE_SECONDS = 2.0
"""How long a deed waits for its entry. While a write takes longer, deeds do not wait at all."""
STOP_SECONDS = 3.0
MAX_IN_MEMORY = 10_000
_IDLE_SECONDS = 10.0


@dataclass
class _Item:
    entry: AuditEntry
    written: threading.Event = field(default_factory=threading.Event)


class AuditLog:
    """Safe for many threads. check: as for `Chain`."""

    def __init__(self, storage_dir: Path, backup_dir: Path, check: Callable[[], None] = lambda: None) -> None:
        self.chain = Chain(storage_dir, backup_dir, check)
        self.waiting = WaitingEntries(storage_dir / data_folders.AUDIT_WAITING)
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._in_memory: deque[AuditEntry] = deque(maxlen=MAX_IN_MEMORY)
        """Entries that could be written to neither folder. Beyond MAX_IN_MEMORY the oldest are lost."""
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._is_due = False
        self._is_stopping = False
        self._failure: EventVaultError | None = None

    def write(self, entry: AuditEntry) -> None:
        """Write an entry. It is on a disk when this returns, unless no disk can be written. Never raises."""
        item = _Item(entry)
        if self._is_stuck() or not self._enqueue(item):
            self._postpone(entry)
        elif not item.written.wait(WRITE_SECONDS):
            self._withdraw(item)

    def each_second(self) -> None:
        """Have the waiting entries appended, including those of other processes."""
        if self._in_memory or self.waiting.size():
            with self._changed:
                self._is_due = True
                self._start()
                self._changed.notify_all()

    def stop(self) -> None:
        """Wait until what was written is on a disk, at most STOP_SECONDS. Nothing is written after that."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(STOP_SECONDS)

    def problems(self) -> list[Problem]:
        failure = self._failure
        if self._is_stuck():
            failure = TooBusy(
                f"a write to {self.chain.folder} does not end",
                hint="check the disk of BACKUP_DIR; the audit is written again once it answers",
            )
        if failure is None or isinstance(failure, BackupsChanged):  # that is a problem of its own
            return []
        where = "in memory, because STORAGE_DIR cannot be written either" if self._in_memory else "in STORAGE_DIR"
        message = f"lines of the audit wait {where}: {failure.message}"
        return [Problem(WAITS, message, failure.hint, str(self.chain.folder))]

    def _is_stuck(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > WRITE_SECONDS

    def _enqueue(self, item: _Item) -> bool:
        with self._changed:
            if self._is_stopping or not self._start():
                return False
            self._queue.append(item)
            self._changed.notify_all()
        return True

    def _withdraw(self, item: _Item) -> None:
        """Let an entry wait instead. If the thread is writing it just now, `may_be_there` skips it later."""
        with self._changed:
            if item in self._queue:
                self._queue.remove(item)
        self._postpone(item.entry)

    def _start(self) -> bool:
        """Start the thread. Returns False if the system has no thread for it."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="audit", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_due or self._is_stopping, _IDLE_SECONDS)
                items, is_due = list(self._queue), self._is_due
                self._queue.clear()
                self._is_due = False
                if not items and not is_due:  # stopping, or nothing was written for a while
                    self._thread = None
                    return
            if items or is_due:
                self._busy_since = time.monotonic()
                self._deliver(items)
                self._busy_since = None

    def _deliver(self, items: list[_Item]) -> None:
        try:
            with running("audit", "writes to BACKUP_DIR"):
                self._deliver_waiting()
                if items:
                    self.chain.append([item.entry for item in items])
        except EventVaultError as error:
            self._fail(error, items)
        except SYSTEM_ERRORS as error:
            self._fail(as_answer(f"writing {self.chain.folder}", error), items)
        except Exception as error:
            log.exception("writing the audit failed")
            self._fail(EventVaultError(f"writing the audit failed: {error}", hint="the log says more"), items)
        else:
            self._failure = None
        for item in items:
            item.written.set()

    def _deliver_waiting(self) -> None:
        """Append the waiting entries first, so that the chain has the order of the deeds."""
        while self.waiting.size():
            entries, end = self.waiting.read()
            if entries:
                self.chain.append(entries, may_be_there=True)
            self.waiting.drop(end)
        while self._in_memory:
            entries = list(self._in_memory)
            self.chain.append(entries, may_be_there=True)
            for entry in entries:
                if self._in_memory[0] is entry:  # else MAX_IN_MEMORY has pushed it out
                    self._in_memory.popleft()

    def _fail(self, error: EventVaultError, items: list[_Item]) -> None:
        if self._failure is None:
            log.warning("lines of the audit wait: %s", error)
        self._failure = error
        for item in items:
            self._postpone(item.entry)

    def _postpone(self, entry: AuditEntry) -> None:
        try:
            self.waiting.append(entry)
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("an entry of the audit is in memory only: %s", error)
            self._in_memory.append(entry)
