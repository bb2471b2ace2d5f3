"""Exports: writes the events of a moment to a compressed file, which can be downloaded for a day."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import msgspec
from isal import isal_zlib

from eventvault import clock, data_folders
from eventvault.database.values import Page, ScanQuery
from eventvault.errors import ExportNotFound, NoSpace
from eventvault.files import durable_file, free_bytes, make_folder, matching
from eventvault.gzip_format import WBITS
from eventvault.operations.operation import Operation
from eventvault.operations.records import QUEUED, RUNNING, SUCCEEDED
from eventvault.past.values import Exported

KEEP_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long a file can be downloaded."""
RESERVE_BYTES = 64 * 2**20
"""An export leaves this much of the disk free, because events must be stored meanwhile."""
SUFFIX = ".ndjson.gz"

_PAGE = 1000
_SAMPLES = 8
_SAMPLE_EVENTS = 32
_LEVEL = 1
_CLEANUP_SECONDS = 60.0


class Events(Protocol):
    """Reads pages of events, and keeps a generation readable."""

    def scan(self, query: ScanQuery) -> Page: ...
    def lease_generation(self, generation: str) -> AbstractContextManager[object]: ...


class _Estimate(NamedTuple):
    """The bytes of all events of a query before filtering: as lines, and compressed."""

    lines: int
    compressed: int


class Exports:
    """The files in `STORAGE_DIR/exports`, each with the id of its operation as its name.

    state_of: returns the state of an operation, empty if there is none.
    """

    def __init__(
        self, storage_dir: Path, events: Events, state_of: Callable[[str], str], now: clock.Clock = clock.now
    ) -> None:
        self._now = now
        self._folder = storage_dir / data_folders.EXPORTS
        self._events = events
        self._state_of = state_of
        self._cleaned_up_at = -_CLEANUP_SECONDS

    def check_room(self, query: ScanQuery) -> None:
        """Raise NoSpace if the disk has no room for the events of `query`, with the bytes that are `needed` and `free`.

        With a filter the size is not known before the events are read: then only the reserve must be free.
        """
        needed = RESERVE_BYTES + (0 if _is_filtered(query) else self._estimate(query).compressed)
        self._check_free_bytes(needed)

    def write(self, query: ScanQuery, generation: str | None, operation: Operation) -> Exported:
        """Write the events of `query`, which has a generation and an `upto`, to a file. generation: for the answer.

        Raises NoSpace, TooBusy or GenerationSuperseded; then no file remains.
        """
        self.check_room(query)
        make_folder(self._folder)
        for unfinished in matching(self._folder, f".{operation.id}.*"):
            unfinished.unlink(missing_ok=True)  # left by a store that was killed
        lines = self._estimate(query).lines
        operation.step("write", lines)
        with (
            self._events.lease_generation(query.generation or ""),
            durable_file(self._folder / f"{operation.id}{SUFFIX}", mode=0o600) as file,
        ):
            packed = _PackedLines(file)
            for page, share in self._pages(query):
                self._check_free_bytes(RESERVE_BYTES)
                packed.put(page.events)
                operation.advance(round(lines * share))
                operation.check_cancelled()
            packed.finish()
            operation.decided()
        return Exported(
            operation.id,
            events=packed.events,
            sequence=query.upto or 0,
            generation=generation,
            lines=packed.lines,
            size=packed.size,
            sha256=packed.digest.hexdigest(),
            until=self._now() + KEEP_MICROSECONDS,
        )

    def _pages(self, query: ScanQuery) -> Iterator[tuple[Page, float]]:
        """Yield each page, with the share of the sequences that it covers."""
        upto = query.upto or 0
        after: int | None = query.after
        count = max(1, upto - query.after)
        while after is not None and after < upto:
            page = self._events.scan(msgspec.structs.replace(query, after=after, limit=_PAGE))
            yield page, ((upto if page.next is None else page.next) - after) / count
            after = page.next

    def _estimate(self, query: ScanQuery) -> _Estimate:
        """Estimate the size of all events from a few samples."""
        upto = query.upto or 0
        count = max(0, upto - query.after)
        plain = ScanQuery(generation=query.generation, upto=upto, limit=_SAMPLE_EVENTS)
        text, read = b"", 0
        for number in range(min(_SAMPLES, count)):
            page = self._events.scan(msgspec.structs.replace(plain, after=query.after + count * number // _SAMPLES))
            text += b"".join(value + b"\n" for value in page.events)
            read += len(page.events)
        if not read:
            return _Estimate(0, 0)
        return _Estimate(len(text) * count // read, len(isal_zlib.compress(text, _LEVEL)) * count // read)

    def _check_free_bytes(self, needed: int) -> None:
        free = free_bytes(self._folder.parent)
        if needed > free:
            raise NoSpace(
                f"an export needs {needed} bytes in {self._folder.parent}, {free} are free",
                hint="free some space there, or export fewer events with a filter",
                needed=needed,
                free=free,
            )

    def path(self, operation_id: str) -> Path:
        """Return the file of an operation. Raises ExportNotFound."""
        path = self._folder / f"{operation_id}{SUFFIX}"
        if not path.is_file():
            raise ExportNotFound(
                f"the operation {operation_id[:80]} has no file",
                hint="only an export has one, once it has succeeded, for a day; POST /api/events/export begins one",
            )
        return path

    def remove_unwanted(self) -> None:
        """Remove the files that are older than a day, and those that killed stores left; once a minute at most."""
        if time.monotonic() - self._cleaned_up_at < _CLEANUP_SECONDS:
            return
        self._cleaned_up_at = time.monotonic()
        for path in matching(self._folder):
            if self._is_unwanted(path):
                path.unlink(missing_ok=True)

    def _is_unwanted(self, path: Path) -> bool:
        state = self._state_of(path.name.lstrip(".").partition(".")[0])
        if state in (QUEUED, RUNNING):
            return False
        if state != SUCCEEDED or path.name.startswith("."):
            return True
        return self._now() - path.stat().st_mtime_ns // 1000 >= KEEP_MICROSECONDS


class _PackedLines:
    """Writes events as lines into a gzip file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, WBITS)
        self.digest = hashlib.sha256()
        self.events = self.lines = self.size = 0

    def put(self, events: Sequence[bytes]) -> None:
        text = b"".join(value + b"\n" for value in events)
        self.events += len(events)
        self.lines += len(text)
        self._write(self._packed.compress(text))

    def finish(self) -> None:
        self._write(self._packed.flush())

    def _write(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += self._file.write(piece)


def _is_filtered(query: ScanQuery) -> bool:
    return any((query.type, query.subject, query.source, query.recorded_from, query.recorded_to))
