"""Reads a table (CSV, RFC 4180) row by row, and makes an event of each row by a mapping of its columns.

If a row has another number of cells than the header, or a quote that is not closed, only this row is rejected: the
lines after its first one are read again.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from eventvault.errors import EventVaultError, InvalidInput, MalformedInput
from eventvault.imports import mapping as mappings
from eventvault.imports.lines import InputLine, cut_off, too_long
from eventvault.imports.mapping import Field, Mapping, value_of
from eventvault.imports.record import SHOWN_BYTES, ImportRecord

DELIMITERS = ",;\t|"
_ENDS = (b"\n", b"\r")
_LONE = "surrogateescape"


class _Cells(NamedTuple):
    """A field of the mapping with the number of its column; None for a fixed value."""

    field: Field
    column: int | None


class _TooLong(Exception):
    """A row has more bytes than are held."""


def records_of_table(
    lines: Iterable[InputLine],
    longest: int,
    broken: Callable[[], str | None],
    mapping: Mapping | None = None,
    delimiter: str | None = None,
) -> Iterator[ImportRecord]:
    """Yield a record for each row. mapping: None: the columns have the names of attributes. delimiter: None: guessed.

    Raises InvalidInput if the header does not fit the mapping, before any record is yielded.
    """
    feed = _Feed(lines, longest)
    first = feed.peek()
    if first is None:
        return
    csv.field_size_limit(longest)
    reader = csv.reader(feed, delimiter=delimiter or _delimiter_of(first), strict=True)
    header = _header(reader)
    cells = _cells_of(header, mapping)
    rows = ((row, problem) for row, problem in _rows(reader, feed) if row or problem)
    for number, (row, problem) in enumerate(rows, start=1):
        line, text, digest = feed.row()
        if not text.endswith(_ENDS) and (why := broken()) is not None:
            yield ImportRecord(number, line, text, b"", cut_off("row", why), incomplete=True)
            continue
        if problem is None:
            json, problem = _event(row, len(header), cells)
            yield ImportRecord(number, line, text, json, problem)
        else:
            yield ImportRecord(number, line, text[:SHOWN_BYTES] if digest else text, b"", problem, digest=digest)


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        return [name.strip() for name in next(reader)]
    except (csv.Error, _TooLong) as error:
        raise InvalidInput(
            f"the header of the table cannot be read: {error}", hint="write it as RFC 4180 says"
        ) from None


def _rows(reader: Iterator[list[str]], feed: _Feed) -> Iterator[tuple[list[str], EventVaultError | None]]:
    """Yield each row, or what is wrong with it; an empty row without a problem is a blank line."""
    while True:
        feed.begin()
        try:
            yield next(reader), None
        except StopIteration:
            return
        except _TooLong:
            problem = too_long("row", feed.size, feed.longest)
            feed.give_back()
            yield [], problem
        except csv.Error as error:
            feed.give_back()
            hint = "put quotes around a cell, and double those inside it"
            yield [], MalformedInput(f"the row is not CSV: {error}", hint=hint)


def _event(row: Sequence[str], columns: int, cells: Sequence[_Cells]) -> tuple[bytes, EventVaultError | None]:
    """Return the event of a row as JSON, or what is wrong with it."""
    if len(row) != columns:
        error = InvalidInput(f"the row has {len(row)} cells, the header has {columns}", hint="give each row as many")
        return b"", error
    try:
        return _json(row, cells), None
    except (InvalidInput, MalformedInput) as error:
        return b"", error


def _delimiter_of(first: InputLine) -> str:
    header = first.text.decode(errors=_LONE)
    return max(DELIMITERS, key=header.count)


def _cells_of(header: Sequence[str], mapping: Mapping | None) -> list[_Cells]:
    repeated = {name for name in header if name and header.count(name) > 1}
    if repeated:
        raise InvalidInput(f"two columns are called {min(repeated)[:80]!r}", hint="give each column a name of its own")
    mapping = mapping or mappings.by_names(header)
    missing = [field.column for field in mapping.fields if field.column is not None and field.column not in header]
    if missing:
        raise InvalidInput(
            f"no column is called {missing[0][:80]!r}, and nothing was imported",
            hint=f"the columns are {', '.join(header)[:300]}",
        )
    return [_Cells(field, None if field.column is None else header.index(field.column)) for field in mapping.fields]


def _json(row: Sequence[str], cells: Sequence[_Cells]) -> bytes:
    """Return the event of a row, without attributes for empty cells. Raises InvalidInput or MalformedInput."""
    event: dict[str, Any] = {}
    for field, column in cells:
        value = field.value
        if column is not None:
            if not row[column]:
                continue
            try:
                value = value_of(row[column], field.kind)
            except ValueError as error:
                raise InvalidInput(f"{field.column}: {row[column][:80]!r} {error}", hint="correct the cell") from None
        members = event
        for part in field.target[:-1]:
            members = members.setdefault(part, {})
        members[field.target[-1]] = value
    try:
        return orjson.dumps(event)
    except TypeError:  # a lone surrogate stands for a byte that is not UTF-8
        raise MalformedInput("the row is not UTF-8", hint="save the table as UTF-8") from None


class _Feed:
    """The lines for `csv.reader`, which may be read again. size: bytes of the current row."""

    def __init__(self, lines: Iterable[InputLine], longest: int) -> None:
        self._lines = iter(lines)
        self._again: deque[InputLine] = deque()
        self._row: list[InputLine] = []
        self.longest = longest
        self.size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            raise StopIteration
        self._row.append(line)
        self.size += line.size
        if self.size > self.longest:
            raise _TooLong
        return line.text.decode(errors=_LONE)

    def peek(self) -> InputLine | None:
        """Return the first line that is not blank, and skip the blank ones; it is still the next line."""
        for line in self._lines:
            if line.text.strip():
                self._again.append(line)
                return line
        return None

    def begin(self) -> None:
        """Begin another row."""
        self._row, self.size = [], 0

    def give_back(self) -> None:
        """Let all lines of the current row except its first be read again."""
        self._again.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def row(self) -> tuple[int, bytes, str]:
        """Return the number of the row's first line, its text, and a digest if it is not held."""
        first = self._row[0]
        return first.number, b"".join(line.text for line in self._row), first.digest
