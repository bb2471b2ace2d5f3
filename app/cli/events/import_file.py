"""The file that `flask events import` reads: a regular file, a pipe, or standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from eventvault.errors import InvalidInput
from eventvault.imports.importer import digest_of
from eventvault.imports.reading import Form, read_records
from eventvault.imports.record import ImportRecord
from eventvault.imports.source import ImportSource


class ImportFile:
    """The file of an import, as `eventvault.imports.importer.Input` describes it."""

    def __init__(self, file: BinaryIO, form: Form, name: str | None, longest: int) -> None:
        self._file = file
        self._form = form
        self._longest = longest
        self._source: ImportSource | None = ImportSource(file)
        self._read: ImportSource = self._source
        self.size = _size(file)
        self.rewindable = self.size is not None
        self.name = name or self._source.digest[:16]
        self.form = digest_of(form)

    @property
    def read_bytes(self) -> int:
        return self._read.read_bytes

    def records(self) -> Iterator[ImportRecord]:
        if self._source is None:
            self._file.seek(0)
            self._source = ImportSource(self._file)
        self._read, self._source = self._source, None
        return read_records(self._read, self._form, self._longest)

    def broken(self) -> str | None:
        return self._read.broken


def _size(file: BinaryIO) -> int | None:
    """Return the size of a regular file; None for a pipe and the like, which is read once."""
    with suppress(OSError):
        status = os.fstat(file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    return None


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """Open the file without a buffer, so that a pipe is read as it comes. Raises InvalidInput."""
    if file == "-":
        yield getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        return
    try:
        opened = Path(file).open("rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read: {error.strerror}", hint="name a file, or - for standard input"
        ) from None
    with opened:
        yield opened
