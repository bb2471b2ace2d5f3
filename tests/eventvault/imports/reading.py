"""Files to import, for tests: read bit by bit as a pipe gives them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

from eventvault.imports.reading import Form, read_records
from eventvault.imports.record import ImportRecord
from eventvault.imports.source import ImportSource


class Trickle(io.BytesIO):
    """A pipe that gives at most so many bytes at a time."""

    def __init__(self, content: bytes, step: int = 7) -> None:
        super().__init__(content)
        self._step = step

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._step if size is None or size < 0 else min(size, self._step))


def records(content: bytes, *, longest: int = 1000, step: int = 2**20, **form: Any) -> list[ImportRecord]:
    return list(read_records(ImportSource(Trickle(content, step)), Form(**form), longest))


def jsons(content: bytes, **options: Any) -> list[bytes]:
    return [record.json for record in records(content, **options)]


def problems(content: bytes, **options: Any) -> dict[int, str]:
    """Line → why it is rejected."""
    return {record.line: record.problem.message for record in records(content, **options) if record.problem is not None}


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
