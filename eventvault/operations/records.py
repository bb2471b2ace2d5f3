"""The records in `STORAGE_DIR/operations`: one small file for each operation id.

The record of an operation is its entry in the list, for 30 days. The record of any other call holds the answer for a
request that is sent again, for a day.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.damage import as_answer
from eventvault.errors import EventVaultError, NoSpace
from eventvault.files import matching

log = logging.getLogger("BackupManager")

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED, INTERRUPTED = STATES = (
    "queued", "running", "succeeded", "failed", "cancelled", "interrupted",
)  # fmt: skip
MAX_UNSAVED = 1000
"""How many records memory holds while the disk is full."""


class OperationRecord(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """at: of the last change, in microseconds. answer: JSON, once the operation is done.

    kind: empty for a call that is not an operation; only operations have the members after it. service: the start of
    the service in which it began. asynchronous: its caller does not wait, so the next store carries it on with the
    `arguments`, in JSON. error: as `EventVaultError.to_wire`.

    format: 0 in a file without a checksum, which EventVault 0.1.0 wrote; 1 for a call that is not an operation.
    """

    method: str
    at: int
    notes: dict[str, Any] = {}
    done: bool = False
    answer: msgspec.Raw = msgspec.Raw(b"null")
    kind: str = ""
    state: str = RUNNING
    started_by: str = ""
    started_at: int = 0
    ended_at: int | None = None
    service: str = ""
    asynchronous: bool = False
    arguments: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None
    step: str | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    fraction: float = 0.0
    format: Literal[0, 1, 2] = 0


class OperationRecords:
    """Reads and writes the records. storage_dir: None to hold them in memory only. Safe for many threads."""

    def __init__(self, storage_dir: Path | None) -> None:
        self.folder = storage_dir / data_folders.OPERATIONS if storage_dir else None
        self._unsaved: dict[str, OperationRecord] = {}
        """Records that could not be written. A full disk fails no operation, because a delete must free it."""
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        """Return the ids of all records. Raises OSError."""
        with self._lock:
            unsaved = set(self._unsaved)
        saved = [] if self.folder is None else [path.stem for path in matching(self.folder, "*.json")]
        return [*{*saved, *unsaved}]

    def read(self, operation_id: str) -> OperationRecord | None:
        """Return the record; None if there is none, or if it cannot be read now or by this version."""
        with suppress(EventVaultError):
            return self.read_surely(operation_id)
        return None

    def read_surely(self, operation_id: str) -> OperationRecord | None:
        """Do what `read` does, for work that must not be done twice. Raises DiskFailed or similar on an error."""
        with self._lock:
            if operation_id in self._unsaved:
                return self._unsaved[operation_id]
        path = self._path(operation_id)
        try:
            if path is None:
                return None
            return small_files.read_or_quarantine(path, OperationRecord, earlier=OperationRecord)
        except NotADirectoryError:  # then nothing was ever written there
            return None
        except OSError as error:
            raise as_answer("reading whether the operation was done before", error) from error

    def write(self, operation_id: str, record: OperationRecord) -> None:
        """Write a record, or hold it in memory if it cannot be written."""
        record = msgspec.structs.replace(record, format=2 if record.kind else 1)
        path = self._path(operation_id)
        try:
            if path is None:
                raise NoSpace("")
            with suppress(FileExistsError):
                path.parent.mkdir()
            small_files.write(path, record)
        except (OSError, NoSpace) as error:
            if path is not None:
                log.warning("operation %s cannot be recorded: %s", operation_id, error)
            self._hold(operation_id, record)
            return
        with self._lock:
            self._unsaved.pop(operation_id, None)

    def remove(self, operation_id: str) -> None:
        with self._lock:
            self._unsaved.pop(operation_id, None)
        path = self._path(operation_id)
        if path is not None:
            with suppress(OSError):  # for example on a read-only disk: the caller gets the operation's own error
                path.unlink(missing_ok=True)

    def _hold(self, operation_id: str, record: OperationRecord) -> None:
        with self._lock:
            self._unsaved[operation_id] = record
            while len(self._unsaved) > MAX_UNSAVED:
                del self._unsaved[next(iter(self._unsaved))]

    def _path(self, operation_id: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{operation_id}.json"
