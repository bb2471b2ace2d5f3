"""The errors that EventVault raises on purpose: what was being done, on what, why it failed, and a hint.

One table has the HTTP status and the exit status of each `code`: `ANSWERS` in `app/error_codes.py`. The same errors
cross the store's socket by their code (`to_wire`, `from_wire`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from eventvault.printable import encodable, printable


class EventVaultError(Exception):
    """The root of the tree.

    message: one sentence, in lower case unless it begins with a name: what failed and why.
    hint: what the reader can do about it.
    details: further members of the error's JSON form, such as `fields`.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        self.details = details
        super().__init__(self.message)

    def to_wire(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": encodable(self.details)}


class InvalidSettings(EventVaultError):
    """One or more settings have an invalid value; nothing was started."""

    code = "invalid_settings"


class MalformedInput(EventVaultError):
    code = "malformed"


class InvalidInput(EventVaultError):
    """The input is well-formed but invalid; `fields` (in details) says which member is wrong and why."""

    code = "invalid"


class TooLarge(EventVaultError):
    code = "too_large"


class UnsupportedMediaType(EventVaultError):
    """The body has a content type, encoding or charset that is not supported."""

    code = "unsupported_media_type"


class Forbidden(EventVaultError):
    """The request's Host, Origin, site or address is not allowed."""

    code = "forbidden"


class TokenMissing(EventVaultError):
    """The request needs a token and has none."""

    code = "token_missing"


class TokenWrong(EventVaultError):
    """The token of the request is malformed, unknown, expired or revoked."""

    code = "token_wrong"


class ScopeMissing(EventVaultError):
    """The token of the request is valid but may not do this; `scope` (in details) is what it needs."""

    code = "scope_missing"


class TokenNotFound(EventVaultError):
    code = "token_not_found"


class TokenExists(EventVaultError):
    """A valid token has this name."""

    code = "token_exists"


class TokensTooNew(EventVaultError):
    """A later version of EventVault wrote the file of the tokens; it was not changed."""

    code = "tokens_too_new"


class TooBusy(EventVaultError):
    """This process serves as many long requests as it can, or the machine has too little memory or descriptors."""

    code = "too_busy"


class TooManyWrongTokens(EventVaultError):
    """The token of the request is wrong, as were too many before it. retryAfter (in details): seconds to wait."""

    code = "too_many_wrong_tokens"


class SessionEnded(EventVaultError):
    """The request's cookie belongs to an unknown session, or to one that has ended."""

    code = "session_ended"


class SessionKeyMissing(EventVaultError):
    """The request has the cookie of a session without its key, which is needed for all but downloads and streams."""

    code = "session_key_missing"


class SessionNotFound(EventVaultError):
    """The request has no session, so there is none to end."""

    code = "session_not_found"


class TlsNeeded(EventVaultError):
    """A browser would not keep the cookie of a session, because the page came over plain HTTP."""

    code = "tls_needed"


class ExportNotFound(EventVaultError):
    """The operation has no file: it is not an export, has not succeeded, or a day has passed."""

    code = "export_not_found"


class EventNotFound(EventVaultError):
    code = "event_not_found"


class EventDiffers(EventVaultError):
    """An event with this source and id exists, with other content; it was not changed."""

    code = "event_differs"


class ImportRunning(EventVaultError):
    """Another process does the import of this name."""

    code = "import_running"


class OutputExists(EventVaultError):
    """The file that a command was to write is there already; it was not changed."""

    code = "output_exists"


class BackupNotFound(EventVaultError):
    code = "backup_not_found"


class BackupExists(EventVaultError):
    code = "backup_exists"


class BackupsUnavailable(EventVaultError):
    """The folder of the archives is missing or cannot be read."""

    code = "backups_unavailable"


class AuditBroken(EventVaultError):
    """A line of the audit was changed, removed, moved or cut off."""

    code = "audit_broken"


class BackupsChanged(EventVaultError):
    """The folder of the archives belongs to another installation; nothing was written there."""

    code = "backups_changed"


class BackupProtected(EventVaultError):
    """The archive is pinned, the last good one, or being read: it is removed only with `force`."""

    code = "backup_protected"


class RestoreRunning(EventVaultError):
    code = "restore_running"


class RehearsalRunning(EventVaultError):
    """One rehearsal is made at a time."""

    code = "rehearsal_running"


class PartitionNotStopped(EventVaultError):
    """The Kafka partition is not stopped, so it has no loss to accept."""

    code = "partition_not_stopped"


class TopicNotNamed(EventVaultError):
    """Events are consumed from several Kafka topics, and the request names none of them."""

    code = "topic_not_named"


class QuarantinedNotFound(EventVaultError):
    """The quarantine has no such message: it never had, or it was replayed or dropped."""

    code = "quarantine_not_found"


class QuarantineChanged(EventVaultError):
    """The quarantine has other messages than the request says, so nothing was dropped."""

    code = "quarantine_changed"


class ProblemNotFound(EventVaultError):
    """Health never has a problem with this code."""

    code = "problem_not_found"


class NothingToAccept(EventVaultError):
    """The problem does not wait for a decision, or it goes away only if its cause is removed."""

    code = "nothing_to_accept"


class NothingToUndo(EventVaultError):
    code = "nothing_to_undo"


class UndoNotFound(EventVaultError):
    code = "undo_not_found"


class GenerationSuperseded(EventVaultError):
    """A cursor points to an event that a restore has removed from the current generation."""

    code = "generation_left_behind"


class ArchiveError(EventVaultError):
    """The base of all errors of an archive."""

    code = "archive_damaged"


class ArchiveDamaged(ArchiveError):
    """The archive's bytes have changed: a checksum, a length or a record is wrong."""

    code = "archive_damaged"


class ArchiveIncomplete(ArchiveError):
    """The file ends too early, or is still being written."""

    code = "archive_incomplete"


class ArchiveUnsafe(ArchiveError):
    """The archive has entries that EventVault never writes: links, devices, paths that lead outside, a bomb."""

    code = "archive_unsafe"


class ArchiveAlien(ArchiveError):
    """The archive is sound but has no event database that can be restored."""

    code = "archive_alien"


class ArchiveUnreadable(ArchiveError):
    """The system could not open or read the file (permissions, a disk, too many open files): it may be good."""

    code = "archive_unreadable"


class ArchiveTooNew(ArchiveError):
    """A later version of EventVault wrote it in a format that this version does not know."""

    code = "archive_too_new"


class RehearsalDiffers(ArchiveError):
    """What was restored has other events than the live database; `sequence` (in details) is the first of them."""

    code = "rehearsal_differs"


class JournalDamaged(ArchiveError):
    """A journal segment is damaged, forged or missing; nothing was restored."""

    code = "journal_damaged"


class JournalUnreadable(JournalDamaged):
    """The system could not read a segment, which may be good; `segment` (in details) is its path."""

    code = "journal_unreadable"


class JournalFailed(EventVaultError):
    """The journal is behind: the latest events are in the database only."""

    code = "journal_failed"


class MomentUnavailable(EventVaultError):
    """The moment cannot be restored; `window` and `nearest` (in details) say which moments can."""

    code = "moment_unavailable"


class DatabaseError(EventVaultError):
    """The base of all errors of the event database."""

    code = "database_error"


class DatabaseDamaged(DatabaseError):
    """The database's bytes have changed; it was not opened."""

    code = "database_damaged"


class DatabaseTooNew(DatabaseError):
    """A later version of EventVault wrote it in a format that this version does not know."""

    code = "database_too_new"


class DatabaseLocked(DatabaseError):
    """Another process has the database open; the message names its process id."""

    code = "database_locked"


class DatabaseMissing(DatabaseError):
    """There is no database but there are archives of it: the operator must choose to recover or to start empty."""

    code = "database_missing"


class DatabasePresent(DatabaseError):
    """A database exists where one was to be recovered; it was not touched."""

    code = "database_present"


class NothingToRecover(DatabaseError):
    """This installation has neither an archive nor a journal to recover a database from."""

    code = "nothing_to_recover"


class WriteFailed(DatabaseError):
    """A write may be on disk or not. Sending the request again with the same ids decides it."""

    code = "write_failed"


class IdempotencyKeyInUse(EventVaultError):
    """The first request with this `Idempotency-Key` is running."""

    code = "idempotency_key_in_use"


class IdempotencyKeyReused(EventVaultError):
    """The first request with this `Idempotency-Key` had another content."""

    code = "idempotency_key_reused"


class OutcomeUnknown(EventVaultError):
    """The request was begun, and nobody can say whether it takes effect. `ids` (in details): those of the events."""

    code = "outcome_unknown"


class StoreUnavailable(EventVaultError):
    """No store process has answered for as long as a request can wait."""

    code = "store_unavailable"


class StoreStopping(StoreUnavailable):
    """The store is stopping and did not accept the request; the next store will."""

    code = "store_stopping"


class StoreRestoring(EventVaultError):
    """The store is restoring and will answer again when it is done."""

    code = "restoring"


class ServiceRunning(EventVaultError):
    """The command works only while no service runs on these folders."""

    code = "service_running"


class NoSpace(EventVaultError):
    """A disk is full; the unfinished work was removed."""

    code = "no_space"


class DiskFailed(EventVaultError):
    """The system could not read or write; the data may be whole, and nothing was changed. It is tried again."""

    code = "disk_failed"


class Cancelled(EventVaultError):
    """A long operation was cancelled; its unfinished work was removed."""

    code = "cancelled"


class NotifyNotConfigured(EventVaultError):
    """The request needs somebody to notify, but `NOTIFY_URLS` is not set."""

    code = "notify_not_configured"


class OperationCancelled(Cancelled):
    """A client cancelled the operation."""

    code = "operation_cancelled"


class OperationNotFound(EventVaultError):
    code = "operation_not_found"


class OperationEnded(EventVaultError):
    """The operation has ended, so it cannot be cancelled."""

    code = "operation_ended"


class OperationDecided(EventVaultError):
    """What the operation does is decided, so it cannot be cancelled any more."""

    code = "operation_decided"


class KafkaNotConfigured(EventVaultError):
    """The request needs Kafka, but `KAFKA_BOOTSTRAP_SERVERS` is not set."""

    code = "kafka_not_configured"


class KafkaUnreachable(EventVaultError):
    """No Kafka broker answers, or the broker refuses; the request is retried."""

    code = "kafka_unreachable"


class KafkaRefused(KafkaUnreachable):
    """The brokers refuse the login, the certificate or the protocol, or no client can be made with the settings."""

    code = "kafka_refused"


class JobNotFound(EventVaultError):
    """There is no job of this id: it was never submitted, or it ended longer ago than JOBS_KEEP."""

    code = "job_not_found"


class JobFailed(EventVaultError):
    """The job that a command waited for is dead."""

    code = "job_failed"


class JobTypeUnknown(EventVaultError):
    """No worker has said that it runs this type; `known` (in details) lists the types that workers run."""

    code = "job_type_unknown"


class JobScheduleNotFound(EventVaultError):
    code = "job_schedule_not_found"


class JobScheduleInCode(EventVaultError):
    """A worker's module declares the schedule, so it is changed there."""

    code = "job_schedule_in_code"


class JobsUnavailable(EventVaultError):
    """No dispatcher has answered for as long as a request can wait."""

    code = "jobs_unavailable"


class JobsDamaged(EventVaultError):
    """The bytes of `jobs_db` have changed. Its undamaged jobs can be read."""

    code = "jobs_damaged"


class JobsDisabled(EventVaultError):
    """The request needs the dispatcher, but `JOBS_ENABLED` is false."""

    code = "jobs_disabled"


class JobQueueFull(EventVaultError):
    """The queue has as many unfinished jobs as it may have."""

    code = "job_queue_full"


def _tree(root: type[EventVaultError]) -> list[type[EventVaultError]]:
    return [root, *(leaf for branch in root.__subclasses__() for leaf in _tree(branch))]


def from_wire(wire: Mapping[str, Any]) -> EventVaultError:
    """Return the error that `to_wire` wrote, of the same class if this version knows the code."""
    classes = (cls for cls in _tree(EventVaultError) if cls.__module__ == __name__)
    by_code = {cls.code: cls for cls in classes}  # of two classes with one code, the derived one
    cls = by_code.get(wire["code"], EventVaultError)
    return cls(wire["message"], hint=wire["hint"], **wire.get("details", {}))
