"""Runs each operation id once: a repeated request gets the answer of the first one, also from the next store.

A client sends a request again if its store is lost before the answer. `STORAGE_DIR/operations/<id>.json` holds the
answer of an operation that is done. For an operation whose store was killed it holds the owner's notes, from which the
next store finds out whether the operation took effect. `append` needs no record: the database has its id as a nonce.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.errors import Cancelled, NoSpace, StoreStopping
from eventvault.progress import Activity, current, result_of
from eventvault.store.ports.methods import Method

log = logging.getLogger("BackupManager")

KEEP_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long the answer of an operation is kept for a request that is sent again."""
MAX_RECORDS = 1000
"""Beyond this number, the records of the oldest operations are removed."""
_PRUNE_EVERY = 100


class Operation:
    """One call that changes something, for its owner. id: 16 hex digits.

    notes: those of an earlier attempt, whose store ended before it answered; empty at the first attempt.
    """

    def __init__(
        self,
        operation_id: str = "",
        notes: Mapping[str, Any] | None = None,
        save: Callable[[dict[str, Any]], None] = lambda _notes: None,
    ) -> None:
        self.id = operation_id or secrets.token_hex(8)
        self.notes = dict(notes or {})
        self._save = save

    def note(self, name: str, value: Any) -> None:
        """Note durably what the next store needs to find out whether the operation took effect."""
        self.notes = {**self.notes, name: value}
        self._save(self.notes)


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """at: of the last change, in microseconds. answer: JSON, once the operation is done.

    format: 0 in a file without a checksum, which an earlier version wrote.
    """

    method: str
    at: int
    notes: dict[str, Any] = {}
    done: bool = False
    answer: msgspec.Raw = msgspec.Raw(b"null")
    format: Literal[0, 1] = 0


class _Attempt(NamedTuple):
    """activity: of the thread that works on the answer."""

    answer: Future[Any]
    activity: Activity | None


class OperationIds:
    """Safe for many threads."""

    def __init__(self, storage_dir: Path, now: clock.Clock = clock.now) -> None:
        self._folder = storage_dir / data_folders.OPERATIONS
        self._now = now
        self._lock = threading.Lock()
        self._running: dict[str, _Attempt] = {}
        self._written = 0

    def run(self, method: Method, operation_id: str, work: Callable[[Operation], Any]) -> Any:
        """Return the answer of `work`, or the recorded answer; a second request waits for the answer of the first.

        An error of `work` is raised and not recorded: the operation changed nothing and may be tried again.
        """
        with self._lock:
            first = self._running.get(operation_id)
            if first is None:
                mine = self._running[operation_id] = _Attempt(Future(), current())
        if first is not None:
            return result_of(first.answer, "the answer to the first request", lambda: first.activity)
        try:
            mine.answer.set_result(self._once(method, operation_id, work))
        except BaseException as error:  # noqa: BLE001 - every caller that waits gets the error, whatever it is
            mine.answer.set_exception(error)
        finally:
            with self._lock:
                del self._running[operation_id]
        return mine.answer.result(0)

    def _once(self, method: Method, operation_id: str, work: Callable[[Operation], Any]) -> Any:
        record = self._read(operation_id, method)
        if record.done:
            with suppress(msgspec.MsgspecError):  # of another version: the notes tell whether it took effect
                return msgspec.json.decode(record.answer, type=method.result_type)

        def save(notes: dict[str, Any]) -> None:
            self._write(operation_id, _Record(method.name, self._now(), notes))

        operation = Operation(operation_id, record.notes, save)
        try:
            answer = work(operation)
        except (Cancelled, StoreStopping):
            raise  # the next store continues it
        except BaseException:
            with suppress(OSError):  # on a disk that is read-only, say: the caller gets the operation's own error
                self._path(operation_id).unlink(missing_ok=True)
            raise
        self._write(operation_id, self._done(method, operation, answer))
        return answer

    def _done(self, method: Method, operation: Operation, answer: Any) -> _Record:
        encoded = msgspec.Raw(msgspec.json.encode(answer))
        return _Record(method.name, self._now(), operation.notes, done=True, answer=encoded)

    def _path(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.json"

    def _read(self, operation_id: str, method: Method) -> _Record:
        """The record of the operation; an empty one if there is none, or none that this version can use."""
        with suppress(OSError):
            record = small_files.read_or_quarantine(self._path(operation_id), _Record, earlier=_Record)
            if record is not None and record.method == method.name:
                return record
        return _Record(method.name, 0)

    def _write(self, operation_id: str, record: _Record) -> None:
        """Write a record. A full disk fails no operation, as a delete must free it; only the record is missing then."""
        try:
            with suppress(FileExistsError):
                self._folder.mkdir()
            small_files.write(self._path(operation_id), msgspec.structs.replace(record, format=1))
            self._prune()
        except (OSError, NoSpace) as error:
            log.warning("operation %s cannot be recorded: %s", operation_id, error)

    def _prune(self) -> None:
        """Remove records that are old or too many, with the first record and every 100th."""
        with self._lock:
            due = self._written % _PRUNE_EVERY == 0
            self._written += 1
        if due:
            written = {path: modified for path in self._folder.iterdir() if (modified := _modified(path)) is not None}
            newest_first = sorted(written, key=lambda path: written[path], reverse=True)
            old = [path for path in newest_first if written[path] < self._now() - KEEP_MICROSECONDS]
            for path in {*old, *newest_first[MAX_RECORDS:]}:
                path.unlink(missing_ok=True)


def _modified(path: Path) -> int | None:
    """In microseconds; None for a file that has just gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns // 1000
    return None
