"""Reads the records of a file. Its format is given, or guessed from the first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec

from eventvault.imports.arrays import records_of_array
from eventvault.imports.lines import records_of_lines, split
from eventvault.imports.mapping import Mapping
from eventvault.imports.record import ImportRecord
from eventvault.imports.source import ImportSource
from eventvault.imports.tables import records_of_table

FORMATS = ("ndjson", "cloudevents", "csv")
_BLANK = b" \t\r\n"


class Form(msgspec.Struct, frozen=True):
    """How to read the file. kind: of FORMATS; None: guessed. mapping, delimiter: of a table."""

    kind: str | None = None
    mapping: Mapping | None = None
    delimiter: str | None = None


def read_records(source: ImportSource, form: Form, longest: int) -> Iterator[ImportRecord]:
    """Yield the records in their order. longest: longer records are not held in memory.

    Raises InvalidInput if the file cannot be read at all, before any record is yielded.
    """
    chunks = source.chunks()
    first = next(chunks, b"")
    while not first.strip(_BLANK) and len(first) < longest and (more := next(chunks, b"")):
        first += more
    kind = form.kind or _guess(first, form)
    text = chain((first,), chunks)

    def broken() -> str | None:
        return source.broken

    if kind == "csv":
        return records_of_table(split(text, longest), longest, broken, form.mapping, form.delimiter)
    if kind == "cloudevents" and first.lstrip(_BLANK).startswith(b"["):
        return records_of_array(text, longest, broken)
    return records_of_lines(split(text, longest), longest, broken)


def _guess(beginning: bytes, form: Form) -> str:
    beginning = beginning.lstrip(_BLANK)
    if form.mapping is not None or form.delimiter is not None or not beginning.startswith((b"{", b"[")):
        return "csv"
    return "cloudevents" if beginning.startswith(b"[") else "ndjson"
