"""The registry of operations: it runs each operation id once, and knows all operations of the last 30 days.

A client sends a request again if its store is lost before the answer. A repeated request gets the answer of the first
one, also from the next store. A record holds the owner's notes, from which the next store finds out whether an
operation whose store was killed took effect. `append` needs no record: the database has its id as a nonce.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.audit.deeds import Deeds
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import (
    Cancelled,
    EventVaultError,
    OperationCancelled,
    OperationEnded,
    OperationNotFound,
    StoreStopping,
    TooBusy,
)
from eventvault.operations.caller import Caller
from eventvault.operations.entry import (
    AWAITING_VERSION,
    ENDED_VERSION,
    OperationEntry,
    OperationQuery,
    awaiting_entry,
    entry_of,
    lost_error,
    running_entry,
    unknown_operation,
)
from eventvault.operations.listing import Listing, OperationSummary
from eventvault.operations.operation import Operation, working_on
from eventvault.operations.records import (
    CANCELLED,
    FAILED,
    INTERRUPTED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    OperationRecord,
    OperationRecords,
)
from eventvault.progress import Activity, Turn, current, result_of, running

log = logging.getLogger("BackupManager")

ANSWER_MICROSECONDS = 24 * 3600 * 1_000_000
MAX_ANSWERS = 1000
"""For how long, and how many, answers of calls that are not operations are stored, for requests that are sent again."""
MAX_RUNNING = 64
"""How many operations whose callers do not wait may run at a time."""
RESEND_SECONDS = 15.0
"""How long waiting clients have to send their requests again after another store took over."""
STOP_SECONDS = 3.0
"""How long a stop waits until the operations that it interrupted are recorded."""
_PRUNE_EVERY = 100
_WATCH_SECONDS = 0.1
_LOAD_SECONDS = 10.0
"""How long a list waits until the records of earlier stores are read."""
_NONE = msgspec.Raw(b"null")
_ID = re.compile(r"[0-9a-f]{16}\Z")

Work = Callable[[Operation], Any]


@dataclass(frozen=True)
class Call:
    """One call of a method that changes something. kind: empty if it is not an operation. arguments: JSON.

    is_repeatable: whether it may take effect twice.
    """

    method: str
    result_type: Any = Any
    kind: str = ""
    operation_id: str = field(default_factory=lambda: secrets.token_hex(8))
    arguments: bytes = b"null"
    caller: Caller = field(default_factory=Caller)
    is_repeatable: bool = False


@dataclass
class _Attempt:
    """record: of the beginning. activity: of the thread that works on the answer. ended: the record of the end."""

    operation: Operation
    record: OperationRecord
    answer: Future[Any] = field(default_factory=Future)
    activity: Activity | None = None
    ended: OperationRecord | None = None
    writing: Turn = field(default_factory=lambda: Turn("record of the operation"))

    @property
    def summary(self) -> OperationSummary:
        state = QUEUED if self.operation.is_queued else RUNNING
        return OperationSummary(
            self.record.started_at, self.operation.id, self.record.kind, state, self.record.started_by
        )


class OperationRegistry:
    """Safe for many threads. storage_dir: None: the records are only in memory.

    service: the start of the service that the store belongs to.
    """

    def __init__(self, storage_dir: Path | None, now: clock.Clock = clock.now, service: str = "") -> None:
        self._records = OperationRecords(storage_dir)
        self._now = now
        self._service = service
        self._changed = threading.Condition()
        self._running: dict[str, _Attempt] = {}
        self._ended = Listing()
        self.outcome_of: Callable[[str, OperationRecord], Any] = lambda _id, _record: None
        """Returns the answer of an operation that took effect, or that the start of the service finishes; else None."""
        self.awaits_serving: Callable[[OperationRecord], bool] = lambda _record: False
        """Whether `outcome_of` can answer only once the store serves."""
        self.deeds = Deeds()
        """Writes the deeds into the audit."""
        self._answers: list[tuple[int, str]] = []
        """When calls that are not operations were answered, and their ids; oldest first."""
        self._awaiting: dict[str, OperationRecord] = {}
        """Operations of this start of the service that an earlier store did not end, until they are run again."""
        self._loaded = threading.Event()
        self._written = 0
        self._is_stopping = False
        if storage_dir is None:
            self._loaded.set()

    def run(self, call: Call, work: Work) -> Any:
        """Return the answer of `work`, or the recorded answer; a second request waits for the answer of the first.

        An error of `work` is raised; the operation may be tried again under its id, unless it was cancelled.
        """
        attempt, is_first = self._join(call)
        if not is_first:
            return result_of(attempt.answer, "the answer to the first request", lambda: attempt.activity)
        return self._complete(attempt, call, work)

    def begin(self, call: Call, work: Work) -> None:
        """Begin an operation in a thread of its own; it is recorded when this returns. Raises TooBusy."""
        if len(self._running) >= MAX_RUNNING:
            raise TooBusy(f"{MAX_RUNNING} operations are running", hint="try again when one of them has ended")
        attempt, is_first = self._join(call)
        if not is_first:
            return
        try:
            if self._read(call) is None:
                self._records.write(call.operation_id, attempt.record)
        except EventVaultError as error:
            attempt.answer.set_exception(error)
            self._leave(call, attempt)
            raise
        thread = threading.Thread(target=self._run_alone, args=(attempt, call, work), name=call.method, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._records.remove(call.operation_id)
            self._leave(call, attempt)
            raise TooBusy("no thread is free for the operation", hint="try again in a moment") from error

    @contextmanager
    def internal(
        self,
        kind: str,
        method: str,
        started_by: str,
        operation_id: str | None = None,
        *,
        deed: str = "",
        about: str = "",
    ) -> Iterator[Operation]:
        """List work of this context that the store begins itself, from its first step. Its `result` may be set.

        operation_id: of an earlier attempt, which this one replaces. deed, about: action and target in the audit.
        """
        call = Call(method, Any, kind, operation_id or secrets.token_hex(8), caller=Caller(started_by))
        attempt, _ = self._join(call)
        noting = self._noting(call, attempt, deed, about, is_repeated=operation_id is not None)
        try:
            with working_on(attempt.operation), noting:
                yield attempt.operation
        except BaseException as error:
            self._note_failure(call, attempt, error)
            raise
        else:
            if attempt.operation.has_begun:
                self._note_success(call, attempt, attempt.operation.result)
        finally:
            self._leave(call, attempt)

    def _noting(
        self, call: Call, attempt: _Attempt, deed: str, about: str, *, is_repeated: bool
    ) -> AbstractContextManager[object]:
        if not deed:
            return nullcontext()
        who, operation = call.caller.started_by, attempt.operation
        return self.deeds.trying(deed, who, about or None, operation.id, operation.outcome, is_repeated=is_repeated)

    def stop(self) -> None:
        """Begin nothing new, interrupt what runs, and wait for its end, at most STOP_SECONDS."""
        with self._changed:
            self._is_stopping = True
            for attempt in self._running.values():
                attempt.operation.interrupt()
            self._changed.wait_for(lambda: not self._running, STOP_SECONDS)

    @property
    def is_busy(self) -> bool:
        with self._changed:
            return any(attempt.record.kind for attempt in self._running.values())

    def load(self) -> None:
        """Read the records of earlier stores. Operations that they did not end are `interrupted`, or run again."""
        with suppress(OSError):
            for operation_id in self._records.ids():
                self._load(operation_id)
        with self._changed:
            self._answers.sort()
        self._loaded.set()
        self._prune()

    def carry_on(self, resume: Callable[[str, OperationRecord], None]) -> None:
        """Have `resume` begin again the operations that an earlier store did not end and that nobody waits for.

        Clients that wait send their requests again. After RESEND_SECONDS the remaining operations are `interrupted`.
        """
        self._loaded.wait(_LOAD_SECONDS)
        for operation_id, record in list(self._awaiting.items()):
            if record.asynchronous and self._is_of_this_service(record):
                with suppress(EventVaultError):
                    resume(operation_id, record)
                self._interrupt(operation_id)
            elif not self._is_of_this_service(record):
                self._interrupt(operation_id)
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping, RESEND_SECONDS)
        for operation_id in list(self._awaiting):
            self._interrupt(operation_id)

    def get(self, operation_id: str) -> OperationEntry:
        """Return the entry of an operation. Raises OperationNotFound."""
        entry = self._unfinished_entry(operation_id)
        if entry is not None:
            return entry
        record = self._records.read(operation_id) if _ID.match(operation_id) else None
        if record is not None and record.kind and record.state == RUNNING:
            # `load` lists it now, or did so since it was asked for: a caller must not take it for ended.
            self._loaded.wait(_LOAD_SECONDS)
            entry = self._unfinished_entry(operation_id)
            if entry is not None:
                return entry
            record = self._records.read(operation_id)
        if record is None or not record.kind:
            raise unknown_operation(operation_id)
        return entry_of(operation_id, record)

    def _unfinished_entry(self, operation_id: str) -> OperationEntry | None:
        """Return the entry of an operation that runs, or that will be run again."""
        with self._changed:
            attempt, awaiting = self._running.get(operation_id), self._awaiting.get(operation_id)
        if attempt is not None and attempt.record.kind:
            return running_entry(attempt.operation, attempt.record)
        return awaiting_entry(operation_id, awaiting) if awaiting is not None else None

    def state_of(self, operation_id: str) -> str:
        """Return the state of an operation; empty if there is none."""
        with suppress(OperationNotFound):
            return self.get(operation_id).state
        return ""

    def last_state(self, operation_id: str) -> str:
        """Return the state of any call that changes something; empty if nothing is known of it."""
        if operation_id in self._running:
            return RUNNING
        record = self._records.read(operation_id) if _ID.match(operation_id) else None
        if record is None or record.kind:
            return self.state_of(operation_id)
        return SUCCEEDED if record.done else INTERRUPTED

    def page(self, query: OperationQuery) -> list[OperationEntry]:
        """Return the operations that match, newest first. Raises InvalidInput for an unknown `before`."""
        self._loaded.wait(_LOAD_SECONDS)
        with self._changed:
            summaries = self._ended.matching(query, self._alive())
        entries = []
        for summary in summaries:
            with suppress(OperationNotFound):  # it has just been removed
                entries.append(self.get(summary.id))
        return entries

    def watch(self, versions: Mapping[str, int], seconds: float) -> dict[str, OperationEntry]:
        """Wait until one of these operations has another version, at most `seconds`; return those that have."""
        deadline = time.monotonic() + seconds
        while True:
            changed = {
                operation_id: self.get(operation_id)
                for operation_id, version in versions.items()
                if self._version_of(operation_id) != version
            }
            if changed or time.monotonic() >= deadline:
                return changed
            with self._changed:
                self._changed.wait(_WATCH_SECONDS)

    def cancel(self, operation_id: str) -> OperationEntry:
        """Have an operation end. Raises OperationNotFound, OperationDecided, or OperationEnded."""
        attempt = self._running.get(operation_id)
        if attempt is not None and attempt.record.kind:
            attempt.operation.cancel()
            with attempt.writing.held():
                if attempt.ended is None:  # if this store is killed now, the next one must not carry it on
                    cancelled = _failed(attempt, CANCELLED, _cancelled(operation_id), self._now())
                    self._records.write(operation_id, cancelled)
            return running_entry(attempt.operation, attempt.record)
        entry = self.get(operation_id)
        if entry.state == CANCELLED:
            return entry
        raise OperationEnded(
            f"the operation {operation_id} has ended: {entry.state}", hint=f"GET /api/operations/{operation_id}"
        )

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many operations of each kind are in each state."""
        with self._changed:
            return Counter((summary.kind, summary.state) for summary in (*self._ended, *self._alive()))

    def _join(self, call: Call) -> tuple[_Attempt, bool]:
        """Return the attempt of this operation id, and whether this call made it. Raises StoreStopping."""
        operation = Operation(call.operation_id, kind=call.kind, save=lambda notes: self._save(mine, notes))
        mine = _Attempt(operation, self._new_record(call))
        with self._changed:
            if self._is_stopping:
                raise StoreStopping("the store is stopping", hint="send the request again")
            first = self._running.setdefault(call.operation_id, mine)
            if first is mine:
                self._awaiting.pop(call.operation_id, None)
                self._ended.remove(call.operation_id)
            return first, first is mine

    def _new_record(self, call: Call) -> OperationRecord:
        now = self._now()
        if not call.kind:
            return OperationRecord(call.method, now)
        return OperationRecord(
            call.method,
            now,
            kind=call.kind,
            started_by=call.caller.started_by,
            started_at=now,
            service=self._service,
            asynchronous=call.caller.asynchronous,
            arguments=msgspec.Raw(call.arguments),
        )

    def _run_alone(self, attempt: _Attempt, call: Call, work: Work) -> None:
        with running(call.method):
            try:
                self._complete(attempt, call, work)
            except (EventVaultError, *SYSTEM_ERRORS) as error:
                log.warning("the operation %s (%s) ended: %s", call.operation_id, call.kind, error)
            except Exception:
                log.exception("the operation %s (%s) failed", call.operation_id, call.kind)

    def _complete(self, attempt: _Attempt, call: Call, work: Work) -> Any:
        attempt.activity = current()
        try:
            attempt.answer.set_result(self._work_once(attempt, call, work))
        except BaseException as error:  # noqa: BLE001 - every caller that waits gets the error, whatever it is
            attempt.answer.set_exception(error)
        finally:
            self._leave(call, attempt)
        return attempt.answer.result(0)

    def _work_once(self, attempt: _Attempt, call: Call, work: Work) -> Any:
        operation, earlier = attempt.operation, self._read(call)
        if earlier is not None and earlier.done:
            with suppress(msgspec.MsgspecError):  # of another version: the notes tell whether it took effect
                answer = msgspec.json.decode(earlier.answer, type=call.result_type)
                attempt.ended = earlier
                return answer
        if earlier is not None:
            operation.notes = dict(earlier.notes)
            operation.has_begun = bool(earlier.kind)
            attempt.record = _continued(attempt.record, earlier)
            if earlier.state == CANCELLED:
                operation.is_cancelled = True  # it may have been cancelled just now, too
        try:
            with working_on(operation):
                operation.check_cancelled()
                answer = work(operation)
        except BaseException as error:
            self._note_failure(call, attempt, error)
            raise
        self._note_success(call, attempt, answer)
        return answer

    def _leave(self, call: Call, attempt: _Attempt) -> None:
        with self._changed:
            del self._running[call.operation_id]
            if attempt.ended is not None and attempt.ended.kind:
                self._ended.enter(_summary_of(call.operation_id, attempt.ended))
            elif attempt.ended is not None:
                self._answers.append((attempt.ended.at, call.operation_id))
            self._changed.notify_all()
            is_due = self._written % _PRUNE_EVERY == 0
            self._written += 1
        if is_due:
            self._prune()

    def _read(self, call: Call) -> OperationRecord | None:
        """Return the record of an earlier attempt, else None. Raises DiskFailed or similar if it cannot be read."""
        read = self._records.read if call.is_repeatable else self._records.read_surely
        record = read(call.operation_id)
        return record if record is not None and record.method == call.method else None

    def _save(self, attempt: _Attempt, notes: dict[str, Any]) -> None:
        with attempt.writing.held():
            if not attempt.operation.is_cancelled:
                record = msgspec.structs.replace(attempt.record, at=self._now(), notes=notes)
                self._records.write(attempt.operation.id, record)

    def _note_success(self, call: Call, attempt: _Attempt, answer: Any) -> None:
        now, operation = self._now(), attempt.operation
        encoded = msgspec.Raw(msgspec.json.encode(answer))
        done = msgspec.structs.replace(
            attempt.record, at=now, notes=operation.notes, done=True, answer=encoded, arguments=_NONE
        )
        if call.kind:
            done = msgspec.structs.replace(done, state=SUCCEEDED, ended_at=now, **_reached(operation))
        with attempt.writing.held():
            attempt.ended = done
            self._records.write(call.operation_id, done)

    def _note_failure(self, call: Call, attempt: _Attempt, error: BaseException) -> None:
        """Record how the call ended, unless it was refused before its work began and its caller waits."""
        operation, waits = attempt.operation, not attempt.record.asynchronous
        stopped = isinstance(error, Cancelled | StoreStopping) and not isinstance(error, OperationCancelled)
        if not call.kind and stopped:
            return  # the next store continues it
        if not call.kind or (waits and not operation.has_begun and not operation.is_cancelled):
            self._records.remove(call.operation_id)
            return
        state = INTERRUPTED if stopped else CANCELLED if isinstance(error, OperationCancelled) else FAILED
        with attempt.writing.held():
            attempt.ended = _failed(attempt, state, _as_error(call, error), self._now())
            self._records.write(call.operation_id, attempt.ended)

    def _load(self, operation_id: str) -> None:
        record = self._records.read(operation_id) if _ID.match(operation_id) else None
        if record is None:
            return
        with self._changed:
            if operation_id in self._running or operation_id in self._ended:
                return
            if not record.kind:
                self._answers.append((record.at, operation_id))
            elif record.state not in (RUNNING, INTERRUPTED):
                self._ended.enter(_summary_of(operation_id, record))
            else:
                self._awaiting[operation_id] = record
        if not record.kind or self._is_of_this_service(record) or self.awaits_serving(record):
            return
        if self.outcome_of(operation_id, record) is None:
            self._interrupt(operation_id)

    def _is_of_this_service(self, record: OperationRecord) -> bool:
        return bool(self._service) and record.service == self._service

    def _interrupt(self, operation_id: str) -> None:
        """List an operation that was not run again as `interrupted`, unless it took effect."""
        record = self._awaiting.get(operation_id)
        if record is None:
            return
        answer = self.outcome_of(operation_id, record)
        was_noted = record.state == INTERRUPTED and answer is None
        if answer is not None:
            record = _succeeded(record, answer)
        elif not was_noted:
            error = lost_error(operation_id).to_wire()
            record = msgspec.structs.replace(record, state=INTERRUPTED, ended_at=record.at, error=error)
        if operation_id not in self._awaiting:
            return
        if not was_noted:
            self._records.write(operation_id, record)  # first, so that `get` finds it either awaiting or in the record
        with self._changed:
            if self._awaiting.pop(operation_id, None) is not None:
                self._ended.enter(_summary_of(operation_id, record))

    def _alive(self) -> list[OperationSummary]:
        running = [attempt.summary for attempt in self._running.values() if attempt.record.kind]
        return [*running, *(_summary_of(key, record)._replace(state=QUEUED) for key, record in self._awaiting.items())]

    def _version_of(self, operation_id: str) -> int:
        attempt = self._running.get(operation_id)
        if attempt is not None:
            return attempt.operation.version
        return AWAITING_VERSION if operation_id in self._awaiting else ENDED_VERSION

    def _prune(self) -> None:
        """Remove records that are old or too many; called after the first call and every 100th."""
        if not self._loaded.is_set():
            return
        now = self._now()
        with self._changed:
            expired = self._ended.take_expired(now)
            recent = [answer for answer in self._answers[-MAX_ANSWERS:] if answer[0] >= now - ANSWER_MICROSECONDS]
            expired += [operation_id for _, operation_id in {*self._answers} - {*recent}]
            self._answers = recent
        for operation_id in expired:
            self._records.remove(operation_id)


def _summary_of(operation_id: str, record: OperationRecord) -> OperationSummary:
    return OperationSummary(record.started_at, operation_id, record.kind, record.state, record.started_by)


def _continued(record: OperationRecord, earlier: OperationRecord) -> OperationRecord:
    """Return the record of an attempt that carries on an earlier one."""
    if not earlier.kind:
        return record
    return msgspec.structs.replace(record, started_at=earlier.started_at, started_by=earlier.started_by)


def _succeeded(record: OperationRecord, answer: Any) -> OperationRecord:
    """Return the record of an operation that took effect although its store ended before it could record that."""
    encoded = msgspec.Raw(msgspec.json.encode(answer))
    return msgspec.structs.replace(
        record,
        ended_at=record.at,
        state=SUCCEEDED,
        done=True,
        answer=encoded,
        error=None,
        arguments=_NONE,
        fraction=1.0,
    )


def _failed(attempt: _Attempt, state: str, error: EventVaultError, now: int) -> OperationRecord:
    return msgspec.structs.replace(
        attempt.record,
        at=now,
        ended_at=now,
        state=state,
        notes=attempt.operation.notes,
        error=error.to_wire(),
        arguments=attempt.record.arguments if state == INTERRUPTED else _NONE,
        **_reached(attempt.operation),
    )


def _reached(operation: Operation) -> dict[str, Any]:
    progress = operation.progress()
    return {
        "step": progress.step,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "fraction": progress.fraction,
    }


def _as_error(call: Call, error: BaseException) -> EventVaultError:
    if isinstance(error, EventVaultError):
        return error
    if isinstance(error, SYSTEM_ERRORS):
        return as_answer(call.method.replace("_", " "), error)
    return EventVaultError(f"{call.method} failed", hint="the log says why")


def _cancelled(operation_id: str) -> OperationCancelled:
    return OperationCancelled(
        f"the operation {operation_id} was cancelled", hint="nothing was changed; start it again if it is wanted"
    )
