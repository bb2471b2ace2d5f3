"""The chain of lines in `BACKUP_DIR/audit`: one file for each month, and their count and last digest in STORAGE_DIR.

Order: the lines are appended and synced → count and digest are written to the note. After a kill in between, the files
are ahead of the note by lines that follow it. For any other difference, the chain gets a line about the audit itself,
so that it stays visible: a cut or changed chain, a lost note, a last line that a kill tore.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.audit.lines import AUDIT, NOTED, NOTHING, AuditEntry, decode_line, digest_of, encode_line, entry_now
from eventvault.errors import NoSpace, TooBusy
from eventvault.file_locks import holding
from eventvault.files import is_there, matching, sync_folder, write_at
from eventvault.regular_files import open_file, open_handle
from eventvault.system_errors import reporting_no_space

log = logging.getLogger("BackupManager")

PATTERN = "audit-[0-9][0-9][0-9][0-9]-[0-9][0-9].jsonl"
LOCK_SECONDS = 1.0
_STEP = 2**16

TORN, BROKEN, NOTE_LOST = "torn", "broken", "noteLost"
"""Members of `details` of a line about the audit."""


class ChainTail(msgspec.Struct, frozen=True):
    """The end of the chain: the number of lines; digest, file and end offset of the last one."""

    lines: int = 0
    digest: str = NOTHING
    file: str = ""
    end: int = 0


class AuditNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`STORAGE_DIR/audit.json`."""

    format: Literal[1]
    lines: int
    digest: str
    file: str
    end: int

    @property
    def tail(self) -> ChainTail:
        return ChainTail(self.lines, self.digest, self.file, self.end)


def files_of(folder: Path) -> list[Path]:
    """Return the files of the chain, oldest first. Raises OSError."""
    return matching(folder, PATTERN)


def read_note(path: Path) -> AuditNote | None:
    """Return the note; None if there is none, or a damaged one. Raises OSError."""
    with suppress(FileNotFoundError, small_files.SmallFileDamaged):
        return small_files.read(path, AuditNote)
    return None


class Chain:
    """Appends to the chain. One thread of a process uses it, and one process at a time writes.

    check: called before anything is written; raises if BACKUP_DIR is not that of this installation.
    """

    def __init__(self, storage_dir: Path, backup_dir: Path, check: Callable[[], None] = lambda: None) -> None:
        self._backup_dir = backup_dir
        self.folder = backup_dir / data_folders.AUDIT
        self._note = storage_dir / data_folders.AUDIT_NOTE
        self._check = check
        self._appended: ChainTail | None = None
        """The end of the chain after the last write of this process."""

    def append(self, entries: Sequence[AuditEntry], *, may_be_there: bool = False) -> None:
        """Append the entries durably, all or none. may_be_there: skip the entries that the files have already.

        Raises TooBusy if another process writes; OSError, NoSpace, or what `check` raises.
        """
        self._check()
        self._make_folder()
        with self._only_writer():
            if may_be_there:
                present = {line.key for line in _newest_lines(files_of(self.folder))}
                entries = [entry for entry in entries if entry.key not in present]
            tail, torn, about_audit = self._find_tail()
            if entries:
                with reporting_no_space(f"writing {self.folder}"):
                    tail = self._write(tail, torn, [*about_audit, *entries])
                self._note_tail(tail)

    def _make_folder(self) -> None:
        """Make the folder of the chain, but not BACKUP_DIR itself: its disk may not be mounted."""
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync_folder(self._backup_dir)

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        with holding(self.folder / data_folders.AUDIT_LOCK, LOCK_SECONDS) as is_held:
            if not is_held:
                raise TooBusy(f"another process writes to {self.folder}", hint="two services must not share BACKUP_DIR")
            yield

    def _find_tail(self) -> tuple[ChainTail, bytes, list[AuditEntry]]:
        """Return where the chain ends, a torn line after it, and the lines about the audit that are due."""
        paths, about_audit = files_of(self.folder), []
        expected = self._appended or self._read_note()
        begin = expected if expected is not None and _is_there(self.folder, expected) else None
        tail, torn = _follow(paths, begin or _before_newest(paths))
        if expected is None and tail.lines:
            about_audit.append(_about_audit(NOTE_LOST, {"line": tail.lines}))
        elif expected is not None and begin is None:
            found = {"lines": tail.lines, "digest": tail.digest}
            noted = {"lines": expected.lines, "digest": expected.digest}
            about_audit.append(_about_audit(BROKEN, {"expected": noted, "found": found}))
            tail = msgspec.structs.replace(tail, lines=max(tail.lines, expected.lines))
        if torn:
            about_audit.insert(0, _about_audit(TORN, {"line": tail.lines + 1, "bytes": len(torn)}))
        return tail, torn, about_audit

    def _read_note(self) -> ChainTail | None:
        note = small_files.read_or_quarantine(self._note, AuditNote)
        return None if note is None else note.tail

    def _write(self, tail: ChainTail, torn: bytes, entries: Sequence[AuditEntry]) -> ChainTail:
        """Write the lines and sync them, file by file. If that fails, cut off the part that was written."""
        if torn:
            tail = self._append_to(tail.file, tail, [b"\n"], torn)
        months: dict[str, list[AuditEntry]] = {}
        name = tail.file
        for entry in entries:
            name = max(name, f"audit-{entry.at[:7]}.jsonl")  # a clock that was set back begins no earlier file
            months.setdefault(name, []).append(entry)
        for name, of_month in months.items():
            raw, digest = [], tail.digest
            for number, entry in enumerate(of_month, tail.lines + 1):
                raw.append(encode_line(entry, number, digest))
                digest = digest_of(raw[-1])
            tail = self._append_to(name, tail, raw)
        return tail

    def _append_to(self, name: str, tail: ChainTail, raw: Sequence[bytes], torn: bytes = b"") -> ChainTail:
        """Append lines to a file. torn: the bytes of the file after `tail.end`, which `raw` completes to a line."""
        path = self.folder / name
        is_new = not is_there(path)
        offset = (tail.end if name == tail.file else 0) + len(torn)
        handle = open_handle(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                write_at(handle, b"".join(raw), offset)
                os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, offset)
                raise
        finally:
            os.close(handle)
        if is_new:
            sync_folder(self.folder)
        last = torn + raw[-1]
        self._appended = ChainTail(tail.lines + len(raw), digest_of(last), name, offset + sum(map(len, raw)))
        return self._appended

    def _note_tail(self, tail: ChainTail) -> None:
        """Write the note. If that fails, the next line writes the next note."""
        note = AuditNote(1, tail.lines, tail.digest, tail.file, tail.end)
        try:
            small_files.write(self._note, note, mode=0o600)
        except (OSError, NoSpace) as error:
            log.warning("could not record the end of the audit in %s: %s", self._note, error)


def _about_audit(what: str, about: dict[str, Any]) -> AuditEntry:
    return entry_now(operation=secrets.token_hex(8), state=NOTED, action=AUDIT, who=AUDIT, details={what: about})


def _is_there(folder: Path, tail: ChainTail) -> bool:
    """Return whether the file has, up to this offset, a last line with this digest. Raises OSError."""
    if not tail.lines:
        return True
    with suppress(FileNotFoundError), open_file(folder / tail.file) as file:
        begin = _begin_of_line(file, tail.end)
        file.seek(begin)
        return digest_of(file.read(tail.end - begin)) == tail.digest
    return False


def _begin_of_line(file: BinaryIO, end: int) -> int:
    """Return where the line begins that ends at this offset."""
    begin, content = end, b""
    while begin > 0:
        size = min(_STEP, begin)
        begin -= size
        file.seek(begin)
        content = file.read(size) + content
        line_feed = content[:-1].rfind(b"\n")
        if line_feed >= 0:
            return begin + line_feed + 1
    return 0


def _before_newest(paths: Sequence[Path]) -> ChainTail:
    """Return a tail from which the two newest files are read completely: the newest may have no line yet."""
    return ChainTail(file=paths[-2:][0].name) if paths else ChainTail()


def _follow(paths: Sequence[Path], tail: ChainTail) -> tuple[ChainTail, bytes]:
    """Return the tail of the files after `tail`, and the text after it without a line feed. Raises OSError."""
    newer = [path for path in paths if path.name >= tail.file]
    lines, digest, name, end = tail.lines, tail.digest, tail.file, tail.end
    for path in newer:
        with open_file(path) as file:
            name, end = path.name, tail.end if path.name == tail.file else 0
            file.seek(end)
            for raw in file:
                if not raw.endswith(b"\n") and path is newer[-1]:
                    return ChainTail(lines, digest, name, end), raw
                line = decode_line(raw)
                lines = lines + 1 if line is None else line.line
                digest, end = digest_of(raw), end + len(raw)
    return ChainTail(lines, digest, name, end), b""


def _newest_lines(paths: Sequence[Path]) -> Iterator[AuditEntry]:
    for path in paths[-2:]:
        with open_file(path) as file:
            for raw in file:
                line = decode_line(raw)
                if line is not None:
                    yield line
