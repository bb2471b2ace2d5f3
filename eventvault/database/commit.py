"""Group commit: one thread collects the appends of all callers into one synced write.

A caller gets its result once its events are on disk. The next group gathers while the disk syncs the current one, so
many callers cost hardly more syncs than one.

No caller waits forever. A batch that is not begun within QUEUE_SECONDS is removed from the queue and never written
(TooBusy). A batch that is being written is waited for; after ANSWER_SECONDS its outcome is unknown (OutcomeUnknown).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

import plyvel

from eventvault.damage import SYSTEM_ERRORS, is_damage
from eventvault.database.registry import AppendBatch, BatchOutdated, EventRegistry, LookupFailed
from eventvault.database.values import AppendResult
from eventvault.errors import (
    DatabaseDamaged,
    DatabaseError,
    EventVaultError,
    NoSpace,
    OutcomeUnknown,
    StoreStopping,
    TooBusy,
    WriteFailed,
)
from eventvault.events.event import Appended
from eventvault.progress import WAIT_SECONDS, Activity, Turn, running, wait_for, wait_for_thread
from eventvault.system_errors import is_disk_full, reason_of

log = logging.getLogger("EventBus")

GROUP_BYTES = 8 * 2**20
GROUP_BATCHES = 256
COMMITTER = "committer"
IDLE_SECONDS = 60.0
"""The longest sleep of an idle committer."""
LONGEST_TURN_SECONDS = 3600.0
"""How long the committer waits for its turn: the store ends much earlier if no thread makes progress."""

QUEUE_SECONDS = 10.0
ANSWER_SECONDS = 25.0
_CHECK_SECONDS = 0.5
"""Seconds between two checks of the deadlines."""

Done = Callable[[AppendResult | EventVaultError], None]


class _Submission:
    """A batch, its size in bytes, the (monotonic) time of its submission, and the callback for its result."""

    __slots__ = ("_answered", "_done", "at", "batch", "size")

    def __init__(self, batch: AppendBatch, done: Done) -> None:
        self.batch = batch
        self.size = sum([len(draft.body) for draft in batch.drafts])
        self.at = time.monotonic()
        self._done = done
        self._answered = threading.Lock()

    def answer(self, answer: AppendResult | EventVaultError) -> None:
        """Call the callback, but only with the first answer."""
        if not self._answered.acquire(blocking=False):
            return
        try:
            self._done(answer)
        except Exception:
            log.exception("the callback of an append failed")


class DatabaseHandle(Protocol):
    """The methods of the bus that the committer uses."""

    def writing(self) -> AbstractContextManager[EventRegistry]:
        """Yield the registry for appends and keep it open. Raises EventVaultError if it is not open."""

    def reopen(self) -> None: ...

    def report_damage(self, error: plyvel.Error, *, stops_writes: bool = False) -> DatabaseDamaged:
        """Report damage that LevelDB met to health. stops_writes: LevelDB refuses every write from now on."""


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

    def __init__(self, handle: DatabaseHandle, on_answered: Callable[[], None] = lambda: None) -> None:
        """on_answered: called once the appends of a group were answered."""
        self.stats = CommitStats()
        self._handle = handle
        self._on_answered = on_answered
        self._queue: deque[_Submission] = deque()
        self._group: list[_Submission] = []
        """The submissions that are being written."""
        self._queue_changed = threading.Condition()
        self._writing = Turn("write of events")
        self._stopping = False
        self._activity: Activity | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._ended = threading.Event()

    def start(self) -> None:
        self._thread.start()
        threading.Thread(target=self._watch, name="append deadlines", daemon=True).start()

    def submit(self, batch: AppendBatch, done: Done) -> None:
        """Queue a batch. `done` is called with the result or the error, mostly in the committer's thread."""
        submission = _Submission(batch, done)
        with self._queue_changed:
            if not self._stopping:
                self._queue.append(submission)
                self._queue_changed.notify()
                return
        done(StoreStopping("the store is stopping", hint="send the request again"))

    def append(self, batch: AppendBatch) -> AppendResult:
        """Submit a batch and wait for its result. Raises the error of the append."""
        return self.answer_to(lambda done: self.submit(batch, done))

    def answer_to(self, submit: Callable[[Done], None]) -> AppendResult:
        """Call `submit` and wait for the answer that `done` receives. Raises the answer if it is an error."""
        answered = threading.Event()
        answers: list[AppendResult | EventVaultError] = []

        def done(answer: AppendResult | EventVaultError) -> None:
            answers.append(answer)
            answered.set()

        submit(done)
        wait_for(answered.wait, "the committer", lambda: self._activity)
        answer = answers[0]
        if isinstance(answer, EventVaultError):
            raise answer
        return answer

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Wait for the current write and allow no other until the context is left. Appends wait in the queue."""
        with self._writing.held():
            yield

    def stop(self, seconds: float = WAIT_SECONDS) -> None:
        """Commit the queue, refuse later appends, and end the thread.

        Raises TooBusy if the thread makes no progress for `seconds`; queued appends are not acknowledged then.
        """
        with self._queue_changed:
            self._stopping = True
            self._queue_changed.notify()
        if self._thread.ident is not None:
            wait_for_thread(self._thread, "the committer", lambda: self._activity, seconds)

    def _run(self) -> None:
        with running(COMMITTER) as self._activity:
            while self._run_once(self._activity):
                pass  # its locals are free now: no group occupies memory while the thread waits for the next one
        self._ended.set()

    def _run_once(self, activity: Activity) -> bool:
        """Wait for a group and write it. Returns False once the committer is stopped and its queue is empty."""
        activity.rest()
        with self._queue_changed:
            while not self._queue and not self._stopping:
                self._queue_changed.wait(IDLE_SECONDS)
            if not self._queue:
                return False
        activity.step("writes appends")
        answers: list[tuple[_Submission, AppendResult | EventVaultError]] = []
        # The turn comes first: while this thread waits for it, the deadline can still remove appends from the queue.
        with suppress(TooBusy), self._writing.held(LONGEST_TURN_SECONDS):
            answers = list(self._commit_and_answer(self._gather()))
        activity.step("answers appends")
        for submission, answer in answers:
            submission.answer(answer)
        self._on_answered()
        with self._queue_changed:
            self._group = []
        return True

    def _watch(self) -> None:
        while not self._ended.wait(_CHECK_SECONDS):
            self._answer_late(time.monotonic())

    def _answer_late(self, now: float) -> None:
        """Answer the submissions that have passed their deadline. now: monotonic."""
        with self._queue_changed:
            refused: list[_Submission] = []
            while self._queue and self._queue[0].at + QUEUE_SECONDS <= now:
                refused.append(self._queue.popleft())
            unknown = [submission for submission in self._group if submission.at + ANSWER_SECONDS <= now]
        for submission in refused:
            submission.answer(_too_busy())
        for submission in unknown:
            submission.answer(_outcome_unknown())

    def _commit_and_answer(
        self, group: list[_Submission]
    ) -> Iterator[tuple[_Submission, AppendResult | EventVaultError]]:
        """Commit a group and yield each caller's answer. Raises nothing: no error may end the committer's thread."""
        answers: Sequence[AppendResult | EventVaultError]
        if not group:
            return
        try:
            answers = self._commit([submission.batch for submission in group])
        except EventVaultError as error:
            if isinstance(error, DatabaseDamaged | BatchOutdated) and len(group) > 1:
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
        yield from zip(group, answers, strict=True)

    def _one_by_one(self, group: list[_Submission]) -> Iterator[tuple[_Submission, AppendResult | EventVaultError]]:
        """Commit each batch alone, so that all succeed except the one that caused the failure."""
        for submission in group:
            yield from self._commit_and_answer([submission])

    def _gather(self) -> list[_Submission]:
        with self._queue_changed:
            group: list[_Submission] = []
            room = GROUP_BYTES
            while self._queue and len(group) < GROUP_BATCHES and (room > 0 or not group):
                group.append(self._queue.popleft())
                room -= group[-1].size
            self._group = group
            return group

    def _commit(self, batches: Sequence[AppendBatch]) -> list[AppendResult]:
        """Write one group. A failed write is tried once more, after the database was closed and opened again.

        LevelDB continues after a failed write and loses later writes at the next opening. After the reopening the
        database shows whether the failed write is on disk, and the nonce tells its events from duplicates.

        Damage that a look-up or a merge met is not a failed write: nothing was written, and reopening repairs nothing.
        """
        began = time.monotonic()
        try:
            results, last = self._write(batches)
        except SYSTEM_ERRORS as error:
            self._raise_damage(error)
            log.warning("a write failed; the database is reopened before anything is acknowledged: %s",
                        reason_of(error))  # fmt: skip
            self._reopen_after(error)
            try:
                results, last = self._write(batches)
            except SYSTEM_ERRORS as again:
                self._raise_damage(again)
                self._reopen_after(again)
                raise write_error(again) from again
        self._count_results(results, time.monotonic() - began)
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

    def _raise_damage(self, error: Exception) -> None:
        """Raise DatabaseDamaged if a merge met damage: LevelDB then refuses a write before it begins."""
        if is_damage(error):
            raise self._handle.report_damage(error, stops_writes=True) from error

    def _reopen_after(self, error: Exception) -> None:
        """Reopen the database. If that fails, raise the error of the write, which may be on disk or not."""
        try:
            self._handle.reopen()
        except DatabaseError:
            raise
        except EventVaultError as reason:
            raise write_error(error) from reason

    def _count_results(self, results: list[list[Appended]], seconds: float) -> None:
        self.stats.groups += 1
        self.stats.batches += len(results)
        self.stats.seconds += seconds
        for result in results:
            duplicates = sum([appended.duplicate for appended in result])
            self.stats.events += len(result) - duplicates
            self.stats.duplicates += duplicates


def _too_busy() -> TooBusy:
    return TooBusy(
        f"the events were not stored: the store was busy with other work for {QUEUE_SECONDS:.0f} s",
        hint="send the request again in a moment",
    )


def _outcome_unknown() -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the events are still being written after {ANSWER_SECONDS:.0f} s: they may be stored or not",
        hint="check the disk of STORAGE_DIR; send the request again with the same ids to find out",
    )


def write_error(error: Exception) -> EventVaultError:
    """Return NoSpace if the disk is full, else WriteFailed."""
    text = reason_of(error)
    if is_disk_full(error):
        return NoSpace(
            f"the event database could not be written: {text}",
            hint="free some space on the disk of STORAGE_DIR, then send the request again",
        )
    return WriteFailed(
        f"the event database could not be written: {text}",
        hint="the events may be stored or not; send the request again with the same ids to find out",
    )
