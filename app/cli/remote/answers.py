"""Converts answers of the API to the values that the ports return.

Unknown members are ignored, so that a later version may answer; a member that is missing or of another type is an
error that names it. A value that the API does not send has its default.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from eventvault import clock
from eventvault.audit.lines import AuditLine
from eventvault.audit.reading import AuditPage
from eventvault.backups import names
from eventvault.backups.entry import BackupEntry, Check, Created, Pin, Trigger
from eventvault.database.values import AppendResult, EventHistogram, EventTypes, Page, TypeCount
from eventvault.events import cursor
from eventvault.events.event import Appended
from eventvault.kafka.values import (
    MessageContent,
    MessageFacts,
    QuarantineContents,
    Quarantined,
    QuarantinedMessage,
    QuarantinePage,
    Reference,
    Replayed,
    Totals,
)
from eventvault.notifications.values import Delivery
from eventvault.operations.entry import OperationEntry
from eventvault.operations.operation import Progress
from eventvault.past.values import CopyResult, Exported
from eventvault.problems import Problem
from eventvault.rehearsals.results import Failure, Kind, ReachedMoment, Rehearsal
from eventvault.restore.values import PreviousEntry, ReplacedEvents, Restored, RestoredMoment, UndoTarget

Answered = TypeVar("Answered")
Value = TypeVar("Value")

Reader = Callable[[bytes], Any]
"""Returns what a method of a port returns. Raises msgspec.MsgspecError or ValueError for another answer."""


class _Answer(msgspec.Struct, rename="camel"):
    pass


def reads(answered: type[Answered], value: Callable[[Answered], Value]) -> Callable[[bytes], Value]:
    """Return the reader of an answer of this form."""
    decode = msgspec.json.Decoder(answered).decode
    return lambda body: value(decode(body))


def member(name: str) -> Reader:
    """Return the reader of an object in an answer that is passed on as it is."""
    answered = msgspec.defstruct(name, [(name, dict[str, Any])])
    return reads(answered, lambda answer: getattr(answer, name))


def whole(body: bytes) -> dict[str, Any]:
    """Read an answer that is passed on as it is."""
    members = msgspec.json.decode(body, type=dict[str, Any])
    members.pop("success", None)
    return members


def nothing(_: bytes) -> None:
    """Read an answer that only says that the request was carried out."""


def instant_of(text: str | None) -> int | None:
    return None if text is None else clock.parse_lenient(text)


# Backups


class _Pin(_Answer):
    reason: str | None = None
    until: str | None = None


class _Backup(_Answer):
    name: str
    path: str
    size: int
    created: str
    label: str | None = None
    events: int | None = None
    sequence: int | None = None
    generation: str | None = None
    verified: str | None = None
    checked: Check | None = None
    pinned: bool = False
    pin: _Pin | None = None
    retained_by: tuple[str, ...] = msgspec.field(name="keptBy", default=())
    rehearsal: dict[str, Any] | None = None
    encrypted: bool = False
    offsite: bool = False
    digest: str | None = None
    sha256: str | None = None
    origin: str = "found"
    trigger: Trigger | None = None
    duration_ms: int | None = None
    proven: bool = False
    added_bytes: int | None = None
    shared_bytes: int | None = None
    unique_bytes: int | None = None
    kafka_replayable: bool | None = None
    problem: str | None = None
    unreadable: bool = False


def _entry(backup: _Backup) -> BackupEntry:
    return BackupEntry(
        name=backup.name,
        path=backup.path,
        size=backup.size,
        created=clock.parse_lenient(backup.created),
        label=backup.label,
        events=backup.events,
        sequence=backup.sequence,
        generation=backup.generation,
        verified=instant_of(backup.verified),
        checked=backup.checked,
        pinned=backup.pinned,
        pin=None if backup.pin is None else Pin(backup.pin.reason, instant_of(backup.pin.until)),
        retained_by=backup.retained_by,
        rehearsal=backup.rehearsal,
        encrypted=backup.encrypted,
        offsite=backup.offsite,
        digest=backup.digest,
        sha256=backup.sha256,
        origin=backup.origin,
        trigger=backup.trigger,
        duration=backup.duration_ms,
        origin_proven=backup.proven,
        added_bytes=backup.added_bytes,
        shared_bytes=backup.shared_bytes,
        unique_bytes=backup.unique_bytes,
        kafka_replayable=backup.kafka_replayable,
        problem=backup.problem,
        unreadable=backup.unreadable,
    )


class _OneBackup(_Answer):
    backup: _Backup


class _Backups(_Answer):
    backups: list[_Backup]


class _Created(_Answer):
    backup_path: str
    name: str
    size: int
    duration_ms: int
    label: str | None = None
    events: int | None = None
    sequence: int | None = None
    digest: str | None = None
    sha256: str | None = None
    added_bytes: int | None = None
    shared_bytes: int | None = None
    unique_bytes: int | None = None


def _created(made: _Created) -> Created:
    entry = BackupEntry(
        name=made.name,
        path=made.backup_path,
        size=made.size,
        created=names.instant_of(made.name) or 0,
        label=made.label,
        events=made.events,
        sequence=made.sequence,
        digest=made.digest,
        sha256=made.sha256,
        origin="created",
        origin_proven=True,
        added_bytes=made.added_bytes,
        shared_bytes=made.shared_bytes,
        unique_bytes=made.unique_bytes,
    )
    return Created(entry, made.duration_ms)


one_backup = reads(_OneBackup, lambda answer: _entry(answer.backup))
backups = reads(_Backups, lambda answer: [_entry(backup) for backup in answer.backups])
created = reads(_Created, _created)


def pruned(body: bytes) -> dict[str, Any]:
    done = whole(body)
    done.pop("dryRun", None)
    return done


# Restores


class _Undo(_Answer):
    name: str
    generation: str
    events: int | None = None


class _ReplacedEvents(_Answer):
    count: int
    first: dict[str, Any] | None = None
    last: dict[str, Any] | None = None


class _Restored(_Answer):
    backup_name: str
    events: int
    duration_ms: int
    restart_required: bool = False
    not_json: int = 0
    generation: str | None = None
    notes: list[str] = []
    checked: Check | None = None
    proven: bool | None = None
    undo: _Undo | None = None
    replaced_events: _ReplacedEvents | None = msgspec.field(name="leftBehind", default=None)
    unfinished_jobs: int | None = None
    cancelled_jobs: int | None = None
    replay: bool = False


def _restored(done: _Restored) -> Restored:
    undo, replaced = done.undo, done.replaced_events
    return Restored(
        source=done.backup_name,
        at=clock.now(),
        events=done.events,
        not_json=done.not_json,
        duration=done.duration_ms,
        staged=done.restart_required,
        generation=done.generation,
        notes=done.notes,
        checked=done.checked,
        proven=done.proven,
        undo=None if undo is None else UndoTarget(undo.name, undo.generation, undo.events),
        replaced_events=None if replaced is None else ReplacedEvents(replaced.count, replaced.first, replaced.last),
        unfinished_jobs=done.unfinished_jobs,
        cancelled_jobs=done.cancelled_jobs,
        replay=done.replay,
    )


class _RestoredMoment(_Answer):
    sequence: int
    time: str | None = None


class _Previous(_Answer):
    name: str
    replaced_at: str = msgspec.field(name="left")
    size: int
    generation: str | None = None
    events: int | None = None
    source: str | None = None
    moment: _RestoredMoment | None = None


class _PreviousList(_Answer):
    undo: list[_Previous]


def _previous(entry: _Previous) -> PreviousEntry:
    return PreviousEntry(
        name=entry.name,
        generation=entry.generation,
        events=entry.events,
        replaced_at=clock.parse_lenient(entry.replaced_at),
        source=entry.source,
        size=entry.size,
        moment=None if entry.moment is None else RestoredMoment(entry.moment.sequence, instant_of(entry.moment.time)),
    )


restored = reads(_Restored, _restored)
previous = reads(_PreviousList, lambda answer: [_previous(entry) for entry in answer.undo])


# Rehearsals


class _ReachedMoment(_Answer):
    sequence: int
    generation: str
    time: str | None = None


class _Rehearsal(_Answer):
    ok: bool
    at: str
    kind: Kind
    backup: str | None = None
    segments: int = 0
    moment: _ReachedMoment | None = None
    events: int | None = None
    rto: dict[str, float] | None = None
    rpo_seconds: float | None = None
    rpo_events: int | None = None
    compared: int = 0
    differing: int = 0
    proven: bool | None = None
    problem: Failure | None = None
    bytes_read: int | None = None
    duration_ms: int = 0


class _OneRehearsal(_Answer):
    rehearsal: _Rehearsal


class _Rehearsals(_Answer):
    rehearsals: list[_Rehearsal]


def _rehearsal(result: _Rehearsal) -> Rehearsal:
    reached = result.moment
    return Rehearsal(
        ok=result.ok,
        at=clock.parse_lenient(result.at),
        kind=result.kind,
        backup=result.backup,
        segments=result.segments,
        moment=None
        if reached is None
        else ReachedMoment(reached.sequence, reached.generation, instant_of(reached.time)),
        events=result.events,
        rto=result.rto,
        rpo_seconds=result.rpo_seconds,
        rpo_events=result.rpo_events,
        compared=result.compared,
        differing=result.differing,
        proven=result.proven,
        problem=result.problem,
        bytes_read=result.bytes_read,
        duration=result.duration_ms,
    )


rehearsed = reads(_OneRehearsal, lambda answer: _rehearsal(answer.rehearsal))
rehearsals = reads(_Rehearsals, lambda answer: [_rehearsal(result) for result in answer.rehearsals])


# Events


class _OneEvent(_Answer):
    event: msgspec.Raw


class _Page(_Answer):
    events: list[msgspec.Raw]
    last_sequence: int
    generation: str
    next: str | None = None


def _page(page: _Page) -> Page:
    next_sequence = None if page.next is None else cursor.decode(page.next).sequence
    return Page([bytes(event) for event in page.events], next_sequence, page.last_sequence, page.generation)


class _Appended(_Answer):
    sequence: int
    recordedtime: str
    duplicate: bool = False
    differs: bool = False


class _AppendedAll(_Answer):
    results: list[_Appended]
    last_sequence: int


def _appended(answer: _AppendedAll) -> AppendResult:
    results = [
        Appended(result.sequence, clock.parse_lenient(result.recordedtime), result.duplicate, result.differs)
        for result in answer.results
    ]
    return AppendResult(results, answer.last_sequence)


class _Histogram(_Answer):
    from_: str = msgspec.field(name="from")
    to: str
    counts: list[int]
    before: int = 0
    exact: bool = True
    generation: str | None = None


def _histogram(answer: _Histogram) -> EventHistogram:
    begin, end = clock.parse_lenient(answer.from_), clock.parse_lenient(answer.to)
    return EventHistogram(begin, end, answer.counts, answer.before, answer.exact, answer.generation or "")


class _LastOfType(_Answer):
    sequence: int
    recordedtime: str


class _TypeCount(_Answer):
    type: str
    events: int
    last: _LastOfType


class _Types(_Answer):
    types: list[_TypeCount]
    counted: int
    complete: bool
    generation: str


def _types(answer: _Types) -> EventTypes:
    types = [
        TypeCount(count.type, count.events, count.last.sequence, clock.parse_lenient(count.last.recordedtime))
        for count in answer.types
    ]
    return EventTypes(types, answer.counted, answer.complete, answer.generation)


one_event = reads(_OneEvent, lambda answer: bytes(answer.event))
page = reads(_Page, _page)
appended = reads(_AppendedAll, _appended)
histogram = reads(_Histogram, _histogram)
event_types = reads(_Types, _types)


# The past


class _Copied(_Answer):
    matched: int
    appended: int
    already_there: int
    renamed: int
    last_sequence: int


class _Exported(_Answer):
    operation: str
    events: int
    last_sequence: int
    bytes: int
    size: int
    sha256: str
    until: str
    generation: str | None = None


copied = reads(
    _Copied,
    lambda done: CopyResult(done.matched, done.appended, done.already_there, done.renamed, done.last_sequence),
)
exported = reads(
    _Exported,
    lambda done: Exported(
        done.operation,
        done.events,
        done.last_sequence,
        done.generation,
        done.bytes,
        done.size,
        done.sha256,
        clock.parse_lenient(done.until),
    ),
)


# Operations


class _Operation(_Answer):
    id: str
    kind: str
    state: str
    started_at: str
    started_by: str = ""
    ended_at: str | None = None
    progress: float = 0.0
    step: str | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float | None = None
    remaining_seconds: float | None = None
    cancellable: bool = False
    cancel_requested: bool = False
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class _OneOperation(_Answer):
    operation: _Operation


class _Operations(_Answer):
    operations: list[_Operation]


_METHODS: dict[str, tuple[str, Reader]] = {
    "create": ("create_backup", created),
    "verify": ("verify_backup", one_backup),
    "prune": ("prune_backups", pruned),
    "upload": ("adopt_upload", one_backup),
    "restore": ("restore", restored),
    "undo": ("undo", restored),
    "rehearse": ("rehearse", rehearsed),
    "copy": ("copy_events_to_present", copied),
    "export": ("export_events", exported),
}
"""Kind of an operation → the method that does it, and the reader of its result."""


def _operation(answer: _Operation) -> OperationEntry:
    method, read = _METHODS.get(answer.kind, ("", None))
    result = bytes(answer.result)
    return OperationEntry(
        id=answer.id,
        kind=answer.kind,
        method=method,
        state=answer.state,
        started_by=answer.started_by,
        started_at=clock.parse_lenient(answer.started_at),
        ended_at=instant_of(answer.ended_at),
        progress=Progress(
            answer.progress,
            answer.step,
            answer.bytes_done,
            answer.bytes_total,
            answer.bytes_per_second,
            answer.remaining_seconds,
        ),
        result=None if read is None or result == b"null" else msgspec.json.encode(read(result)),
        error=None if answer.error is None else _wire(answer.error),
        version=_version(answer),
        cancellable=answer.cancellable,
        cancel_requested=answer.cancel_requested,
    )


def _version(answer: _Operation) -> int:
    """Return a number, never 0, that changes whenever the operation has made progress."""
    parts = (answer.state, answer.progress, answer.step, answer.bytes_done, answer.cancel_requested)
    return hash(parts) or 1


def _wire(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error as `EventVaultError.to_wire` writes it."""
    details = {name: value for name, value in error.items() if name not in ("code", "error", "hint")}
    return {
        "code": str(error.get("code") or "internal_error"),
        "message": str(error.get("error") or "it failed"),
        "hint": str(error.get("hint") or ""),
        "details": details,
    }


one_operation = reads(_OneOperation, lambda answer: _operation(answer.operation))
operations = reads(_Operations, lambda answer: [_operation(operation) for operation in answer.operations])


# Decisions, notifications and the audit


class _Accepted(_Answer):
    code: str
    message: str
    about: str | None = None


class _Deliveries(_Answer):
    deliveries: list[Delivery]


class _Audit(_Answer):
    lines: list[AuditLine]
    last_line: int


accepted = reads(_Accepted, lambda done: Problem(done.code, done.message, "", about=done.about))
deliveries = reads(_Deliveries, lambda answer: answer.deliveries)
audit = reads(_Audit, lambda answer: AuditPage(answer.lines, answer.last_line))


# The quarantine


class _Reference(_Answer):
    topic: str
    partition: int
    offset: int


class _Entry(_Answer):
    id: str
    topic: str
    partition: int
    offset: int
    at: str
    reason: str
    size: int = 0
    timestamp: str | None = None
    reference: _Reference | None = None


class _Bytes(_Answer):
    base64: str


class _Header(_Answer):
    name: str
    value: _Bytes | None = None


class _Message(_Entry):
    key: _Bytes | None = None
    value: _Bytes | None = None
    headers: list[_Header] = []


class _OneMessage(_Answer):
    message: _Message


class _Quarantine(_Answer):
    quarantine: list[_Entry]
    count: int
    bytes: int = 0
    oldest: str | None = None
    dropped: int = 0
    next: str | None = None


class _Replayed(_Answer):
    results: list[_ReplayedMessage]


class _ReplayedMessage(_Answer):
    id: str
    outcome: str
    event_id: str | None = None
    source: str | None = None
    sequence: int | None = None
    reason: str | None = None


class _Dropped(_Answer):
    dropped: int


def _quarantined(answer: _Entry) -> Quarantined:
    sent = instant_of(answer.timestamp)
    reference = answer.reference
    facts = MessageFacts(
        reason=answer.reason,
        size=answer.size,
        crc=0,
        timestamp=None if sent is None else sent // 1000,
        reference=None if reference is None else Reference(reference.topic, reference.partition, reference.offset),
    )
    at = clock.parse_lenient(answer.at)
    return Quarantined(answer.id, answer.topic, answer.partition, answer.offset, at, facts)


def _message(answer: _Message) -> QuarantinedMessage:
    entry = _quarantined(answer)
    headers = tuple((header.name, _bytes(header.value)) for header in answer.headers)
    content = MessageContent(at=entry.at, key=_bytes(answer.key), value=_bytes(answer.value), headers=headers)
    return QuarantinedMessage(entry, content)


def _bytes(answer: _Bytes | None) -> bytes | None:
    return None if answer is None else b64decode(answer.base64, validate=True)


def _quarantine(answer: _Quarantine) -> QuarantinePage:
    totals = Totals(dropped=answer.dropped)
    held = QuarantineContents(answer.count, answer.bytes, instant_of(answer.oldest), totals)
    return QuarantinePage([_quarantined(entry) for entry in answer.quarantine], answer.next, held)


quarantine = reads(_Quarantine, _quarantine)
quarantined_message = reads(_OneMessage, lambda answer: _message(answer.message))
replayed = reads(_Replayed, lambda answer: [Replayed(**msgspec.structs.asdict(result)) for result in answer.results])
dropped = reads(_Dropped, lambda answer: answer.dropped)


# Health


def health(body: bytes) -> dict[str, Any]:
    """Return the status as the store returns it. A token that may not see a part of it gets the default of the part."""
    members = whole(body)
    return {"window": None, "problems": [], "store": {"state": "unknown"}, "jobs": {}, **members}
