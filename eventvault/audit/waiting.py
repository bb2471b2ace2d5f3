"""`STORAGE_DIR/audit_waiting.jsonl`: entries that wait to be moved to BACKUP_DIR. Any process may append to it.

The last member of a line is the SHA-256 of the line without that member. Lines of earlier versions do not have it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eventvault.audit.lines import AUDIT, NOTED, AuditEntry, entry_now
from eventvault.errors import TooBusy
from eventvault.file_locks import lock_range
from eventvault.files import names_open_file, read_at, take_name, write_at
from eventvault.line_checksums import SHA256
from eventvault.regular_files import open_file, open_handle, read_file

LOCK_SECONDS = 1.0
DAMAGED = "damaged"
"""Member of `details` of a line about the audit, in place of an entry that cannot be read."""
_ATTEMPTS = 10
_MAX_TEXT = 2000


class WaitingEntries:
    """Safe for many processes: each locks the file while it changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: dict[bytes, AuditEntry] = {}
        """Damaged line → its entry until it is dropped, so that a second reading gives the same entry."""

    def append(self, entry: AuditEntry) -> None:
        """Append an entry durably. Raises TooBusy or OSError."""
        with self._locked(os.O_RDWR | os.O_CREAT) as handle:
            size = os.fstat(handle).st_size
            is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            write_at(handle, (b"\n" if is_torn else b"") + SHA256.line_of(msgspec.json.encode(entry)), size)
            os.fsync(handle)

    def size(self) -> int:
        """Return how many bytes wait; 0 if that cannot be found out now."""
        try:
            return self._path.lstat().st_size
        except OSError:
            return 0

    def count(self) -> int:
        """Return how many entries wait, without a lock. Raises OSError."""
        try:
            return len([raw for raw in read_file(self._path).splitlines() if _decode(raw) is not None])
        except FileNotFoundError:
            return 0

    def read(self, max_bytes: int = 2**22) -> tuple[list[AuditEntry], int]:
        """Return the oldest entries, and the offset after them, for `drop`. Raises TooBusy or OSError.

        In place of a damaged or incomplete entry, it returns an entry that says so.
        """
        try:
            with self._locked(os.O_RDWR) as handle:
                content = read_at(handle, 0, max_bytes)
                is_complete = len(content) < max_bytes
        except FileNotFoundError:
            return [], 0
        end = len(content) if is_complete else content.rfind(b"\n") + 1 or len(content)
        return [self._entry_of(raw) for raw in content[:end].splitlines() if raw], end

    def _entry_of(self, raw: bytes) -> AuditEntry:
        return _decode(raw) or self._named.setdefault(raw, _about_damaged(raw))

    def drop(self, end: int) -> None:
        """Remove the entries up to this offset, which are in BACKUP_DIR now. Raises TooBusy or OSError."""
        with self._locked(os.O_RDWR) as handle:
            rest = read_at(handle, end, max(0, os.fstat(handle).st_size - end))
            if rest:
                self._replace_by(rest)
            else:
                os.ftruncate(handle, 0)
        self._named.clear()

    def _replace_by(self, content: bytes) -> None:
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with open_file(temporary, "wb", permissions=0o600) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        take_name(temporary, self._path)

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        """Yield the open file under its lock. If it was replaced meanwhile, the new file is opened."""
        for _ in range(_ATTEMPTS):
            handle = open_handle(self._path, flags, 0o600)
            try:
                if not lock_range(handle, LOCK_SECONDS):
                    break
                if names_open_file(self._path, handle):
                    yield handle
                    return
            finally:
                os.close(handle)
        raise TooBusy(f"another process holds {self._path}", hint="try again in a moment")


def _decode(raw: bytes) -> AuditEntry | None:
    checked = SHA256.check(raw)
    try:
        return msgspec.json.decode(raw if checked is None else checked, type=AuditEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def _about_damaged(raw: bytes) -> AuditEntry:
    about = {"bytes": len(raw), "text": raw[:_MAX_TEXT].decode(errors="replace")}
    return entry_now(operation=secrets.token_hex(8), state=NOTED, action=AUDIT, who=AUDIT, details={DAMAGED: about})
