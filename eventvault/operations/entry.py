"""The entries of the list of operations, and the query for a page of it."""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault.errors import Cancelled, OperationNotFound
from eventvault.operations.operation import Operation, Progress
from eventvault.operations.records import CANCELLED, INTERRUPTED, QUEUED, RUNNING, SUCCEEDED, OperationRecord

PAGE = 100
MAX_PAGE = 1000
ENDED_VERSION, AWAITING_VERSION = -1, -2
"""The versions of an operation that has ended, and of one that will be run again."""


class OperationEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. Times are in microseconds. result: JSON of what `method` returns.

    version: grows with each change while it runs. cancellable: whether a cancel would be accepted now.
    """

    id: str
    kind: str
    method: str
    state: str
    started_by: str
    started_at: int
    ended_at: int | None = None
    progress: Progress
    result: bytes | None = None
    error: dict[str, Any] | None = None
    version: int = 0
    cancellable: bool = False
    cancel_requested: bool = False


class OperationQuery(msgspec.Struct, frozen=True, kw_only=True):
    """before: the id of the last operation of the previous page. started_by: only operations of this caller."""

    states: list[str] = []
    kinds: list[str] = []
    limit: int = PAGE
    before: str | None = None
    started_by: str | None = None


def unknown_operation(operation_id: str) -> OperationNotFound:
    return OperationNotFound(
        f"there is no operation {operation_id[:80]!r}",
        hint="GET /api/operations lists those of the last 30 days, at most 10,000; earlier ones are gone",
    )


def entry_of(operation_id: str, record: OperationRecord) -> OperationEntry:
    """Return the entry of an operation that does not run."""
    unfinished = record.state in (QUEUED, RUNNING)  # its store was killed, and the next one has not dealt with it yet
    fraction = 1.0 if record.state == SUCCEEDED else record.fraction
    return OperationEntry(
        id=operation_id,
        kind=record.kind,
        method=record.method,
        state=INTERRUPTED if unfinished else record.state,
        started_by=record.started_by,
        started_at=record.started_at,
        ended_at=record.at if unfinished else record.ended_at,
        progress=Progress(fraction, record.step, record.bytes_done, record.bytes_total),
        result=bytes(record.answer) if record.state == SUCCEEDED else None,
        error=lost_error(operation_id).to_wire() if unfinished else record.error,
        version=ENDED_VERSION,
        cancel_requested=record.state == CANCELLED,
    )


def lost_error(operation_id: str) -> Cancelled:
    """Return the error of an operation whose store was killed, and which no other store carries on."""
    return Cancelled(
        f"the operation {operation_id} was interrupted, because its store ended",
        hint="what was unfinished was removed; start it again if it is wanted",
    )


def awaiting_entry(operation_id: str, record: OperationRecord) -> OperationEntry:
    """Return the entry of an operation that a store did not end and that will be run again."""
    return msgspec.structs.replace(
        entry_of(operation_id, record), state=QUEUED, ended_at=None, error=None, version=AWAITING_VERSION
    )


def running_entry(operation: Operation, record: OperationRecord) -> OperationEntry:
    """Return the entry of an operation that runs. record: of its beginning."""
    return OperationEntry(
        id=operation.id,
        kind=record.kind,
        method=record.method,
        state=QUEUED if operation.is_queued else RUNNING,
        started_by=record.started_by,
        started_at=record.started_at,
        progress=operation.progress(),
        version=operation.version,
        cancellable=not operation.is_decided,
        cancel_requested=operation.is_cancelled,
    )
