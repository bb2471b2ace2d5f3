"""Every error that EventVault raises on purpose: what was being done, on what, why it failed, and a hint.

The HTTP layer maps `code` to a status in one table (`app/errors.py`), the command line to an exit code. The
same errors travel over the store's socket by their code (`to_wire`, `from_wire`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class EventVaultError(Exception):
    """The root of the tree.

    message: one sentence, lowercase at the start unless a name begins it, that names what failed and why.
    hint: what the reader can do about it.
    details: further members of the error's JSON form, such as `fields`.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def to_wire(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class InvalidSettings(EventVaultError):
    """One or several settings have a value that is not allowed; nothing was started."""

    code = "invalid_settings"


class MalformedInput(EventVaultError):
    """The input cannot be parsed."""

    code = "malformed"


class InvalidInput(EventVaultError):
    """Well-formed, but not valid; `fields` (in details) says which member and why."""

    code = "invalid"


class TooLarge(EventVaultError):
    """The input is larger than a limit allows."""

    code = "too_large"


class UnsupportedMediaType(EventVaultError):
    """The body's content type, encoding or charset is none that is understood here."""

    code = "unsupported_media_type"


class Forbidden(EventVaultError):
    """The request comes from where none is allowed: a foreign Host, Origin, site or address."""

    code = "forbidden"


class TooBusy(EventVaultError):
    """As many long-lived requests as this process has room for are under way."""

    code = "too_busy"


class EventNotFound(EventVaultError):
    code = "event_not_found"


class BackupNotFound(EventVaultError):
    code = "backup_not_found"


class BackupExists(EventVaultError):
    """An archive of that name is there already."""

    code = "backup_exists"


class BackupsUnavailable(EventVaultError):
    """The folder of the archives is gone or cannot be read."""

    code = "backups_unavailable"


class BackupProtected(EventVaultError):
    """The archive is pinned, the last good one, or being read: it is not removed without `force`."""

    code = "backup_protected"


class RestoreRunning(EventVaultError):
    """Another restore is under way."""

    code = "restore_running"


class PartitionNotStopped(EventVaultError):
    """Kafka's partition is not one that was stopped: there is no loss in it to accept."""

    code = "partition_not_stopped"


class NothingToUndo(EventVaultError):
    """No restore left anything behind that is still kept."""

    code = "nothing_to_undo"


class UndoNotFound(EventVaultError):
    """What a restore left behind under that name is not kept."""

    code = "undo_not_found"


class GenerationSuperseded(EventVaultError):
    """A cursor points into a future that a restore has left behind."""

    code = "generation_left_behind"


class ArchiveError(EventVaultError):
    """The root of what can be wrong with an archive."""

    code = "archive_damaged"


class ArchiveDamaged(ArchiveError):
    """The bytes are not those that were written: a checksum, a length or a record is wrong."""

    code = "archive_damaged"


class ArchiveIncomplete(ArchiveError):
    """The file ends before the archive does, or is still being written."""

    code = "archive_incomplete"


class ArchiveUnsafe(ArchiveError):
    """The archive holds what none of ours ever holds: links, devices, paths that lead outside, a bomb."""

    code = "archive_unsafe"


class ArchiveAlien(ArchiveError):
    """A whole archive, but with no event database in it that could be restored."""

    code = "archive_alien"


class ArchiveUnreadable(ArchiveError):
    """The file could not be opened: its permissions, a disk, too many open files. Of its bytes that says nothing."""

    code = "archive_unreadable"


class ArchiveTooNew(ArchiveError):
    """Written by a later version of EventVault in a format that this one does not know."""

    code = "archive_too_new"


class JournalDamaged(ArchiveError):
    """A segment of the journal is damaged, forged or missing; nothing was restored."""

    code = "journal_damaged"


class JournalFailed(EventVaultError):
    """The journal is behind: what was committed since lies in the database alone."""

    code = "journal_failed"


class MomentUnavailable(EventVaultError):
    """A moment that cannot be restored; `window` and `nearest` (in details) say which can."""

    code = "moment_unavailable"


class DatabaseError(EventVaultError):
    """The root of what can be wrong with the event database."""

    code = "database_error"


class DatabaseDamaged(DatabaseError):
    """The database has bytes that are not those that were written; it was not opened."""

    code = "database_damaged"


class DatabaseTooNew(DatabaseError):
    """Written by a later version of EventVault in a format that this one does not know."""

    code = "database_too_new"


class DatabaseLocked(DatabaseError):
    """Another process holds the database; the message names its process id."""

    code = "database_locked"


class DatabaseMissing(DatabaseError):
    """There is no database, and `backups/` holds archives of ours: which is meant must be said."""

    code = "database_missing"


class DatabasePresent(DatabaseError):
    """There is a database already where one was to be recovered; it was left alone."""

    code = "database_present"


class NothingToRecover(DatabaseError):
    """Neither an archive nor a journal of this installation is there to recover a database from."""

    code = "nothing_to_recover"


class WriteFailed(DatabaseError):
    """A write did not reach the disk for certain: it may be there or not. Sending it again settles it."""

    code = "write_failed"


class StoreUnavailable(EventVaultError):
    """No store process answers, for longer than a request can wait."""

    code = "store_unavailable"


class StoreStopping(StoreUnavailable):
    """The store is ending and did not take the request; the next one will."""

    code = "store_stopping"


class StoreRestoring(EventVaultError):
    """The store is restoring and will answer again by itself."""

    code = "restoring"


class ServiceRunning(EventVaultError):
    """What was asked for is done only while no service runs on these folders."""

    code = "service_running"


class NoSpace(EventVaultError):
    """A disk is full; nothing was kept of what was begun."""

    code = "no_space"


class Cancelled(EventVaultError):
    """A long operation was ended before it was done; nothing of it was kept."""

    code = "cancelled"


class KafkaNotConfigured(EventVaultError):
    """`KAFKA_BOOTSTRAP_SERVERS` is not set, and what was asked for needs it."""

    code = "kafka_not_configured"


class KafkaUnreachable(EventVaultError):
    """No Kafka broker answers, or the one that does refuses; what was asked for is tried again."""

    code = "kafka_unreachable"


def _tree(root: type[EventVaultError]) -> list[type[EventVaultError]]:
    return [root, *(leaf for branch in root.__subclasses__() for leaf in _tree(branch))]


def from_wire(wire: Mapping[str, Any]) -> EventVaultError:
    """The error that `to_wire` wrote down, of the same class where this version knows the code."""
    by_code = {cls.code: cls for cls in reversed(_tree(EventVaultError))}
    cls = by_code.get(wire["code"], EventVaultError)
    return cls(wire["message"], hint=wire["hint"], **wire.get("details", {}))
