"""Group commit: one thread collects the appends of all callers into one synced write.

A caller gets its result once its events are on disk. The next group collects while the disk syncs the present one, so
many callers cost hardly more syncs than one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import plyvel

from eventvault.damage import is_damage
from eventvault.database.registry import AppendBatch, EventRegistry, LookupFailed
from eventvault.database.values import AppendResult
from eventvault.errors import DatabaseDamaged, DatabaseError, EventVaultError, NoSpace, StoreStopping, WriteFailed
from eventvault.events.event import Appended
from eventvault.system_errors import is_disk_full, text_of

log = logging.getLogger("EventBus")

GROUP_BYTES = 8 * 2**20
GROUP_BATCHES = 256

Done = Callable[[AppendResult | EventVaultError], None]
_Submission = tuple[AppendBatch, int, Done]
"""A batch, its size in bytes, and the callback for its result."""


class DatabaseHandle(Protocol):
    """The part of the bus that the committer uses."""

    def writing(self) -> AbstractContextManager[EventRegistry]:
        """Yield the registry to append to and keep it open. Raises EventVaultError if it is not open."""

    def reopen(self) -> None: ...

    def report_damage(self, error: plyvel.Error, *, stops_writes: bool = False) -> DatabaseDamaged:
        """Let health name the damage that LevelDB met. stops_writes: it refuses every write from now on."""


class CommitStats:
    """Appends, events and groups since the process started, and the seconds they took; read by `/metrics`."""

    def __init__(self) -> None:
        self.groups = 0
        self.batches = 0
        self.events = 0
        self.duplicates = 0
        self.failures = 0
        self.seconds = 0.0


class Committer:
    """Appends batches in the order of arrival, in a thread of its own."""

    def __init__(self, handle: DatabaseHandle) -> None:
        self.stats = CommitStats()
        self._handle = handle
        self._queue: deque[_Submission] = deque()
        self._queue_changed = threading.Condition()
        self._writing = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, batch: AppendBatch, done: Done) -> None:
        """Queue a batch. `done` is called in the committer's thread with the result or the error."""
        size = sum(len(draft.body) for draft in batch.drafts)
        with self._queue_changed:
            if not self._stopping:
                self._queue.append((batch, size, done))
                self._queue_changed.notify()
                return
        done(StoreStopping("the store is stopping", hint="send the request again"))

    def append(self, batch: AppendBatch) -> AppendResult:
        """Submit a batch and wait for its result. Raises the error of the append."""
        answered = threading.Event()
        answers: list[AppendResult | EventVaultError] = []

        def done(answer: AppendResult | EventVaultError) -> None:
            answers.append(answer)
            answered.set()

        self.submit(batch, done)
        answered.wait()
        answer = answers[0]
        if isinstance(answer, EventVaultError):
            raise answer
        return answer

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Wait for the present write and allow no other until the context is left. Appends wait in the queue."""
        with self._writing:
            yield

    def stop(self) -> None:
        """Commit the queue, refuse later appends, and end the thread."""
        with self._queue_changed:
            self._stopping = True
            self._queue_changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._run_once():
            pass  # a group's memory is free while the thread waits for the next one

    def _run_once(self) -> bool:
        """Wait for a group and write it. Returns False once the committer is stopped and its queue is empty."""
        group = self._gather()
        if not group:
            return False
        for done, answer in self._answers(group):
            try:
                done(answer)
            except Exception:
                log.exception("the callback of an append failed")
        return True

    def _answers(self, group: list[_Submission]) -> Iterator[tuple[Done, AppendResult | EventVaultError]]:
        """Commit a group and yield each caller's answer. Raises nothing: no error may end the committer's thread."""
        answers: Sequence[AppendResult | EventVaultError]
        try:
            with self._writing:
                answers = self._commit([batch for batch, _, _ in group])
        except EventVaultError as error:
            if isinstance(error, DatabaseDamaged) and len(group) > 1:
                yield from self._one_by_one(group)
                return
            self.stats.failures += 1
            answers = [error] * len(group)
        except Exception:
            log.exception("an append failed unexpectedly")
            if len(group) > 1:
                yield from self._one_by_one(group)
                return
            self.stats.failures += 1
            answers = [EventVaultError("the append failed", hint="the log of the store says why")]
        yield from zip((done for _, _, done in group), answers, strict=True)

    def _one_by_one(self, group: list[_Submission]) -> Iterator[tuple[Done, AppendResult | EventVaultError]]:
        """Commit each batch alone, so that all but the one that is the cause succeed."""
        for submission in group:
            yield from self._answers([submission])

    def _gather(self) -> list[_Submission]:
        with self._queue_changed:
            while not self._queue and not self._stopping:
                self._queue_changed.wait()
            group: list[_Submission] = []
            room = GROUP_BYTES
            while self._queue and len(group) < GROUP_BATCHES and (room > 0 or not group):
                group.append(self._queue.popleft())
                room -= group[-1][1]
            return group

    def _commit(self, batches: Sequence[AppendBatch]) -> list[AppendResult]:
        """Write one group. A failed write is tried once more, after the database was closed and opened again.

        LevelDB continues after a failed write and loses later writes at the next open. After the reopening it shows
        whether the failed write is on disk, and the nonce tells its events from duplicates.

        Damage that a look-up or a merge met is no failed write: nothing was written, and a reopening repairs nothing.
        """
        began = time.monotonic()
        try:
            results, last = self._write(batches)
        except (plyvel.Error, OSError) as error:
            self._raise_damage(error)
            log.warning("a write failed; the database is reopened before anything is acknowledged: %s",
                        text_of(error))  # fmt: skip
            self._reopen_after(error)
            try:
                results, last = self._write(batches)
            except (plyvel.Error, OSError) as again:
                self._raise_damage(again)
                self._reopen_after(again)
                raise write_error(again) from again
        self._count(results, time.monotonic() - began)
        return [AppendResult(result, last) for result in results]

    def _write(self, batches: Sequence[AppendBatch]) -> tuple[list[list[Appended]], int]:
        with self._handle.writing() as registry:
            try:
                results = registry.append(batches)
            except LookupFailed as failed:
                if is_damage(failed.error):
                    raise self._handle.report_damage(failed.error) from failed
                raise failed.error from None
            return results, registry.last_sequence

    def _raise_damage(self, error: plyvel.Error | OSError) -> None:
        """Raise DatabaseDamaged if a merge met damage: LevelDB then refuses a write before it begins."""
        if is_damage(error):
            raise self._handle.report_damage(error, stops_writes=True) from error

    def _reopen_after(self, error: plyvel.Error | OSError) -> None:
        """Reopen the database. If that fails, the answer is that of the write, which may be on disk or not."""
        try:
            self._handle.reopen()
        except DatabaseError:
            raise
        except EventVaultError as reason:
            raise write_error(error) from reason

    def _count(self, results: list[list[Appended]], seconds: float) -> None:
        self.stats.groups += 1
        self.stats.batches += len(results)
        self.stats.seconds += seconds
        for result in results:
            duplicates = sum(appended.duplicate for appended in result)
            self.stats.events += len(result) - duplicates
            self.stats.duplicates += duplicates


def write_error(error: Exception) -> EventVaultError:
    """Return NoSpace if the disk is full, else WriteFailed."""
    text = text_of(error)
    if is_disk_full(error):
        return NoSpace(
            f"the event database could not be written: {text}",
            hint="free some space on the disk of STORAGE_DIR, then send the request again",
        )
    return WriteFailed(
        f"the event database could not be written: {text}",
        hint="the events may be stored or not; send the request again with the same ids to find out",
    )
