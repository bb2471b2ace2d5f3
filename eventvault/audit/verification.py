"""Verifies the audit: that no line was changed, removed, moved or cut off. It needs no service and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault import data_folders
from eventvault.audit.chain import BROKEN, TORN, AuditNote, files_of, read_note
from eventvault.audit.lines import AUDIT, NOTHING, AuditLine, decode_line, digest_of
from eventvault.audit.waiting import WaitingEntries
from eventvault.regular_files import open_file


class Verified(msgspec.Struct, frozen=True):
    """bad: says which line is the first that is not as it was written; None if there is none.

    lines, files: how many there are. noted: how many lines STORAGE_DIR counts; None without its note, when a missing
    end would not be noticed. waiting: entries that BACKUP_DIR does not have yet. torn: the last line is incomplete; the
    next start completes it.
    """

    lines: int
    files: int
    noted: int | None
    waiting: int
    bad: str | None = None
    torn: bool = False


class _RawLine(NamedTuple):
    """A line as it is in its file. row: counted from 1."""

    path: Path
    row: int
    raw: bytes

    def __str__(self) -> str:
        return f"{self.path.name}:{self.row}"


class _LineWrong(Exception):
    """The message names the line and says what is wrong."""


def verify(storage_dir: Path, backup_dir: Path) -> Verified:
    """Verify the audit. Raises OSError if it cannot be read."""
    note = read_note(storage_dir / data_folders.AUDIT_NOTE)  # first: a service may append meanwhile
    paths = files_of(backup_dir / data_folders.AUDIT)
    waiting = WaitingEntries(storage_dir / data_folders.AUDIT_WAITING).count()
    walk = _Walk(note)
    bad = None
    try:
        for raw_line in _raw_lines(paths):
            walk.add(raw_line)
        walk.end()
    except _LineWrong as error:
        bad = str(error)
    return Verified(walk.lines, len(paths), None if note is None else note.lines, waiting, bad, walk.torn is not None)


def _raw_lines(paths: list[Path]) -> Iterator[_RawLine]:
    for path in paths:
        with open_file(path) as file:
            for row, raw in enumerate(file, 1):
                yield _RawLine(path, row, raw)


class _Walk:
    """Goes through the lines in their order. note: of the end of the chain, None if there is none."""

    def __init__(self, note: AuditNote | None) -> None:
        self.lines = 0
        self.torn: _RawLine | None = None
        """The last line, if it has no end."""
        self._note = note
        self._digest = NOTHING
        self._before: _RawLine | None = None
        self._garbled: _RawLine | None = None
        """The previous line, if it is unreadable: a kill tore it, and the next line says so, or somebody changed it."""

    def add(self, place: _RawLine) -> None:
        if self.torn is not None:
            raise _LineWrong(f"{self.torn} is not a line of the audit")
        if not place.raw.endswith(b"\n"):
            self.torn = place
            return
        line = decode_line(place.raw)
        if line is None:
            self._pass_over(place)
        else:
            self._check(line, place)
            self.lines = line.line
        self._digest, self._before = digest_of(place.raw), place
        self._compare_with_note(place)

    def end(self) -> None:
        if self._garbled is not None:
            raise _LineWrong(f"{self._garbled} is not a line of the audit: it was changed")
        if self._note is not None and self.lines < self._note.lines:
            missing = _numbers(self.lines + 1, self._note.lines)
            where = f"after {self._before}" if self._before is not None else "all of them"
            raise _LineWrong(f"{missing} cut off, {where}: STORAGE_DIR counts {self._note.lines} lines")

    def _pass_over(self, place: _RawLine) -> None:
        if self._garbled is not None:
            raise _LineWrong(f"{self._garbled} is not a line of the audit: it was changed")
        self._garbled = place
        self.lines += 1

    def _check(self, line: AuditLine, place: _RawLine) -> None:
        garbled, self._garbled = self._garbled, None
        if garbled is not None and (
            line.previous != self._digest or line.line != self.lines + 1 or not _names(line, TORN)
        ):
            raise _LineWrong(f"{garbled} is not a line of the audit: it was changed")
        if _names(line, BROKEN):
            raise _LineWrong(f"{_describe_broken(line)} ({place} says so)")
        if line.line > self.lines + 1:
            raise _LineWrong(f"{_numbers(self.lines + 1, line.line - 1)} missing before {place}")
        if line.line <= self.lines:
            raise _LineWrong(f"line {line.line}, {place}, is not in its place: it follows line {self.lines}")
        if line.previous != self._digest:
            before = f"line {self.lines}, {self._before}, was changed" if self._before else f"{place} was changed"
            raise _LineWrong(f"{before}: its digest is not the `previous` of line {line.line}")

    def _compare_with_note(self, place: _RawLine) -> None:
        if self._note is not None and self.lines == self._note.lines and self._digest != self._note.digest:
            raise _LineWrong(f"line {self.lines}, {place}, was changed: STORAGE_DIR has another digest of it")


def _names(line: AuditLine, what: str) -> bool:
    return line.action == AUDIT and what in line.details


def _describe_broken(line: AuditLine) -> str:
    about = line.details[BROKEN]
    expected, found = about["expected"]["lines"], about["found"]["lines"]
    if found < expected:
        return f"{_numbers(found + 1, expected)} missing"
    return f"a line up to line {expected} was changed"


def _numbers(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"
