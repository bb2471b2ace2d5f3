"""`verify`, `rehearse`, `export` and `prune`: operations of the store, as jobs.

The result of a job is what the API answers to the same request. If an attempt is cancelled or runs too long, its
operation is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from app.operations.following import begin, follow
from app.operations.results import result_json
from eventvault import clock, scopes, settings
from eventvault.backups.entry import BackupEntry
from eventvault.database.values import ScanQuery
from eventvault.errors import (
    ArchiveDamaged,
    BackupNotFound,
    EventVaultError,
    InvalidInput,
    MomentUnavailable,
    NoSpace,
    RehearsalRunning,
    RestoreRunning,
    StoreRestoring,
    StoreUnavailable,
    from_wire,
)
from eventvault.operations.entry import OperationEntry
from eventvault.operations.operation import Progress
from eventvault.operations.records import SUCCEEDED
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from worker.jobs import Fail, Job, Retry, Stopped, job

_NEWEST = "newest"
_LONGEST = timedelta(hours=6)
_TRANSIENT = (RehearsalRunning, RestoreRunning, StoreRestoring, StoreUnavailable, NoSpace)
"""Errors that pass on their own, or when somebody frees some space."""
_FINAL = {error.code for error in (ArchiveDamaged, BackupNotFound, InvalidInput, MomentUnavailable)}
_AGAIN_SECONDS = 60.0
_PAGE = 1000
_LONGEST_NAME = 80
"""Most characters of `startedBy` of an operation."""


class _Payload(Schema):
    class Meta:
        unknown = RAISE


class _Instant(fields.String):
    """An RFC 3339 instant; loads as microseconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"format": "date-time"}, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        text: str = super()._deserialize(value, attr, data, **options)
        try:
            return clock.parse_lenient(text)
        except (ValueError, OverflowError):
            raise ValidationError("Not an RFC 3339 instant with an offset, such as 2026-01-31T12:34:56Z.") from None


class VerifySchema(_Payload):
    backup = fields.String(load_default=_NEWEST, metadata={"description": "Its name; by default the newest backup."})
    records = fields.Boolean(load_default=False, metadata={"description": "Read every record, not only the digests."})


class RehearseSchema(_Payload):
    """The target; by default the newest state that archives and journal hold."""

    backup = fields.String()
    pointInTime = _Instant()  # noqa: N815
    sequence = fields.Integer(strict=True, validate=validate.Range(0))

    @validates_schema
    def _one_target(self, payload: dict[str, Any], **_: Any) -> None:
        if len(payload) > 1:
            raise ValidationError("Name a backup, a point in time or a sequence, and only one of them.")


class ExportSchema(_Payload):
    """A filter of the events; by default all are exported."""

    type = fields.String()
    subject = fields.String()
    source = fields.String()
    recorded_from = _Instant(data_key="from")
    recorded_to = _Instant(data_key="to")
    as_of = _Instant(data_key="asOf")


class PruneSchema(_Payload):
    pass


@job("verify", schema=VerifySchema, scope=scopes.BACKUP, timeout=_LONGEST, max_attempts=3)
def verify(asked: Job) -> Any:
    """Check a backup from end to end. The job is dead if the backup is damaged."""
    store, name = _store(), asked.payload["backup"]
    if name == _NEWEST:
        name = _newest(store).name
    return _operate(store, asked, lambda: store.verify_backup(name, records=asked.payload["records"]))


@job("rehearse", schema=RehearseSchema, scope=scopes.ADMIN, timeout=_LONGEST, max_attempts=3)
def rehearse(asked: Job) -> Any:
    """Restore into a scratch folder, compare and measure. The job is dead if the rehearsal fails."""
    store, payload = _store(), asked.payload
    target: Moment | str | None = None
    if "backup" in payload:
        target = payload["backup"]
    elif payload:
        target = Moment(instant=payload.get("pointInTime"), sequence=payload.get("sequence"))
    answer = _operate(store, asked, lambda: store.rehearse(target))
    rehearsal = answer["rehearsal"]
    if not rehearsal["ok"]:
        raise Fail(f"the rehearsal failed: {rehearsal['problem']}")
    return answer


@job("export", schema=ExportSchema, scope=scopes.READ, timeout=_LONGEST)
def export(asked: Job) -> Any:
    """Write the matching events into a file of the service. For a day, it can be fetched at `file` of the result."""
    store, payload = _store(), dict(asked.payload)
    with _errors_as_outcomes():
        view = store.resolve_moment(Moment(instant=payload.pop("as_of", None)))
        query = ScanQuery(generation=view.generation, upto=view.sequence, limit=_PAGE, **payload)
        store.check_export(query)
    return _operate(store, asked, lambda: store.export_events(query))


@job("prune", schema=PruneSchema, scope=scopes.ADMIN, timeout=_LONGEST, max_attempts=3)
def prune(asked: Job) -> Any:
    """Remove the backups that no rule keeps, as `POST /api/backup/prune` does."""
    store = _store()
    return _operate(store, asked, store.prune_backups)


def _newest(store: Store) -> BackupEntry:
    with _errors_as_outcomes():
        backups = store.list_backups(limit=1)
    if not backups:
        raise Fail("there is no backup to verify")
    return backups[0]


def _operate(store: Store, asked: Job, call: Callable[[], Any]) -> Any:
    """Run a call of the store as an operation, and return its result in the form of the API."""
    with _errors_as_outcomes():
        operation_id = begin(call, f"job:{asked.id}"[:_LONGEST_NAME])
        try:
            entry = follow(store, operation_id, lambda progress: _show(asked, progress))
        except Stopped:
            store.cancel_operation(operation_id)
            raise
        return _result(entry)


def _result(entry: OperationEntry) -> Any:
    if entry.state == SUCCEEDED and entry.result is not None:
        return result_json(entry.method, entry.result)
    if entry.error is not None:
        raise from_wire(entry.error)
    raise Retry(f"the operation {entry.id} was {entry.state}", after=_AGAIN_SECONDS)


def _show(asked: Job, progress: Progress) -> None:
    remaining = "" if progress.remaining_seconds is None else f", {progress.remaining_seconds:.0f} s left"
    asked.progress(progress.fraction, f"{progress.step or 'begins'}{remaining}")


@contextmanager
def _errors_as_outcomes() -> Iterator[None]:
    """Raise Retry for an error after which a later attempt may succeed, and Fail if every attempt would fail."""
    try:
        yield
    except _TRANSIENT as error:
        raise Retry(error.message, after=_AGAIN_SECONDS) from error
    except EventVaultError as error:
        if error.code in _FINAL:
            raise Fail(error.message) from error
        raise


class _NeverStarts(Spawner):
    """Reaches the store of the service, but never starts one: only the service does."""

    def ensure_started(self, deadline: float) -> None:
        pass


@cache
def _store() -> Store:
    """Return the store, one client for each process."""
    return StoreClient.over(_NeverStarts(settings.load(), [], service="jobs"))
