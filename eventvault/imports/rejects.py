"""Rejected records: counts them by kind, and writes them as JSON lines so that somebody can correct them.

{"line": 48112, "code": "malformed", "error": "…", "text": "…"}
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from eventvault.errors import EventVaultError, OutputExists
from eventvault.imports.record import ImportRecord
from eventvault.regular_files import open_file
from eventvault.system_errors import reporting_no_space

MAX_KINDS = 20
"""How many kinds of rejects are counted separately."""
_PIECE = 2**18
_VARIES = re.compile(r"\d[\d,]*|'[^']*'")


class Rejected(msgspec.Struct, frozen=True):
    """A rejected record. code, error: why."""

    record: ImportRecord
    code: str
    error: str


class RejectKind(msgspec.Struct):
    """Rejects with the same reason. line: of the first one. count: how many."""

    line: int
    code: str
    error: str
    count: int = 0


class Tally:
    """Counts rejects by their kinds, of which the first MAX_KINDS are remembered."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[tuple[str, str], RejectKind] = {}

    def add(self, rejected: Sequence[Rejected]) -> None:
        for reject in rejected:
            self.count += 1
            key = (reject.code, _VARIES.sub("", reject.error))
            if key not in self._kinds and len(self._kinds) == MAX_KINDS:
                continue
            kind = self._kinds.setdefault(key, RejectKind(reject.record.line, reject.code, reject.error))
            kind.count += 1

    @property
    def kinds(self) -> list[RejectKind]:
        return list(self._kinds.values())


def rejected(record: ImportRecord, error: EventVaultError) -> Rejected:
    return Rejected(record, error.code, error.message)


class RejectsFile:
    """The file of rejects.

    size: bytes that count; a run that was killed may have written more. digest: the SHA-256 of these bytes.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.size = 0
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    @classmethod
    def create(cls, path: Path) -> RejectsFile:
        """Open a new or empty file. Raises OutputExists or OSError."""
        file = open_file(path, "a+b")
        if os.fstat(file.fileno()).st_size:
            file.close()
            raise _exists(path, "is not of this import")
        return cls(path, file)

    @classmethod
    def resume(cls, path: Path, size: int, digest: str, *, is_whole: bool) -> RejectsFile | None:
        """Open the file of an earlier run. Returns None if there is no such file.

        size, digest: of the bytes that count. is_whole: no bytes follow them. Raises OutputExists if somebody has
        changed the file, or OSError.
        """
        try:
            file = open_file(path, "r+b")
        except FileNotFoundError:
            return None
        resumed = cls(path, file)
        while resumed.size < size and (piece := file.read(min(_PIECE, size - resumed.size))):
            resumed._count(piece)
        if resumed.size < size or resumed.digest != digest or (is_whole and file.read(1)):
            file.close()
            raise _exists(path, "was changed since this import wrote it")
        file.truncate(size)
        file.seek(size)
        return resumed

    def restart(self) -> None:
        """Empty the file."""
        self._file.truncate(0)
        self._file.seek(0)
        self.size, self._digest = 0, hashlib.sha256()

    def write(self, rejected: Sequence[Rejected]) -> None:
        """Write rejects that count. Raises NoSpace or OSError."""
        for reject in rejected:
            self._count(self.write_uncounted(reject))

    def write_uncounted(self, reject: Rejected) -> bytes:
        """Write a reject that does not count, and return the bytes. Raises NoSpace or OSError."""
        line = _line(reject)
        with reporting_no_space(f"writing {self.path}"):
            self._file.write(line)
        return line

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        self._digest.update(piece)

    def sync(self) -> None:
        """Write everything to the disk. Raises NoSpace or OSError."""
        with reporting_no_space(f"writing {self.path}"):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with suppress(OSError):  # what counts was synced before
            self._file.close()


def _exists(path: Path, why: str) -> OutputExists:
    return OutputExists(
        f"{path} exists and {why}; nothing was imported",
        hint="name another file with --rejects, or remove that one",
    )


def _line(reject: Rejected) -> bytes:
    place = {"line": reject.record.line}
    if reject.record.line != reject.record.number:
        place["number"] = reject.record.number
    return orjson.dumps({**place, "code": reject.code, "error": reject.error, **_text(reject.record)}) + b"\n"


def _text(record: ImportRecord) -> dict[str, Any]:
    text = record.text.rstrip(b"\r\n")
    cut = {"cut": True} if record.digest else {}
    try:
        return {"text": text.decode(), **cut}
    except UnicodeDecodeError as error:
        if record.digest and error.start > len(text) - 4:  # the text was cut within a character
            return {"text": text[: error.start].decode(), **cut}
        return {"base64": base64.b64encode(text).decode(), **cut}
