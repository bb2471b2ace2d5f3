"""Reads the lines of the audit: a page after a line, and the deeds that were begun and have no end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventvault.audit.chain import files_of
from eventvault.audit.lines import BEGUN, ENDED, AuditEntry, AuditLine, decode_line
from eventvault.regular_files import open_file

PAGE = 100
MAX_PAGE = 1000
_NEAR_BYTES = 2**16
"""A range of this length is read line by line; a longer one is halved."""


class AuditPage(msgspec.Struct, frozen=True):
    """Lines, oldest first. last: the number of the newest line; 0 if there is none."""

    lines: list[AuditLine]
    last: int


def read_page(folder: Path, after: int, limit: int) -> AuditPage:
    """Return the lines after line `after`. Damaged ones are left out; a verification names them. Raises OSError."""
    lines: list[AuditLine] = []
    paths = files_of(folder)
    for path in paths[_first_file(paths, after) :]:
        for line in _lines_after(path, after):
            if len(lines) == limit:
                break
            lines.append(line)
    return AuditPage(lines, _last_number(paths))


def unfinished(folder: Path) -> list[AuditEntry]:
    """Return the entries of deeds that were begun and have no end, in the two newest files. Raises OSError."""
    begun: dict[str, AuditEntry] = {}
    for path in files_of(folder)[-2:]:
        for line in _lines_after(path, 0):
            if line.state == BEGUN:
                begun[line.operation] = line
            elif line.state == ENDED:
                begun.pop(line.operation, None)
    return list(begun.values())


def _first_file(paths: Sequence[Path], after: int) -> int:
    """Return the index of the file that has the line after line `after`."""
    index = 0
    for candidate, path in enumerate(paths):
        with open_file(path) as file:
            first = _next_line(file)
        if first is not None and first.line > after + 1:
            break
        index = candidate
    return index


def _last_number(paths: Sequence[Path]) -> int:
    for path in reversed(paths):
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            step = _NEAR_BYTES
            while True:
                _seek_line(file, max(0, size - step))
                numbers = [line.line for line in _rest(file)]
                if numbers:
                    return numbers[-1]
                if step >= size:
                    break
                step *= 8
    return 0


def _lines_after(path: Path, after: int) -> Iterator[AuditLine]:
    with open_file(path) as file:
        low, high = 0, os.fstat(file.fileno()).st_size
        while high - low > _NEAR_BYTES:
            middle = (low + high) // 2
            _seek_line(file, middle)
            begin = file.tell()
            line = _next_line(file)
            if line is None or line.line > after or begin >= high:
                high = middle
            else:
                low = begin
        file.seek(low)
        yield from (line for line in _rest(file) if line.line > after)


def _seek_line(file: BinaryIO, offset: int) -> None:
    """Go to the first line that begins at this offset or after it."""
    file.seek(max(0, offset - 1))
    if offset:
        file.readline()


def _next_line(file: BinaryIO) -> AuditLine | None:
    return next(_rest(file), None)


def _rest(file: BinaryIO) -> Iterator[AuditLine]:
    for raw in iter(file.readline, b""):
        line = decode_line(raw)
        if line is not None:
            yield line
