"""Imports a file: reads its records in batches, appends them in order, and notes what is on disk.

While one batch is appended, the next one is read and checked. The note counts only records that are on disk or in the
file of rejects. So an import that was killed continues with the same command: events that were appended but not noted
are recognised as stored already.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.errors import EventDiffers, EventVaultError, InvalidInput, RestoreRunning
from eventvault.events.event import EventDraft
from eventvault.imports.appender import AppendedBatch, Appender
from eventvault.imports.drafts import drafts_of
from eventvault.imports.notes import ImportNote, Notes
from eventvault.imports.reading import Form
from eventvault.imports.record import ImportRecord
from eventvault.imports.rejects import Rejected, RejectKind, RejectsFile, Tally

BATCH_RECORDS = 5000
BATCH_BYTES = 4 * 2**20
NOTE_SECONDS = 1.0
"""The note is written at most once in this time."""
_DIFFERS = "an event of this source and id is there, with other content"


class ImportTarget(Protocol):
    """The part of the store that an import needs."""

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult: ...
    def scan(self, query: ScanQuery) -> Page: ...


class Input(Protocol):
    """The file to import. name: of the import. rewindable: it can be read again. form: digest of how it is read."""

    name: str
    rewindable: bool
    form: str

    def records(self) -> Iterator[ImportRecord]:
        """Return the records of the file. A second call needs a `rewindable` file."""

    def broken(self) -> str | None:
        """Return why the file ended too early, once its records have ended; None if it did not."""


class Imported(msgspec.Struct, frozen=True):
    """The result of an import, earlier runs included.

    new, already: events that were appended, and that were stored before. rejected: records; kinds: of those in this
    run. resumed: the number of the last record of an earlier run. broken: why the file ended too early.
    """

    name: str
    new: int
    already: int
    rejected: int
    kinds: list[RejectKind]
    resumed: int
    broken: str | None


def digest_of(form: Form) -> str:
    return hashlib.sha256(msgspec.json.encode(form)).hexdigest()[:16]


class Importer:
    """One run of an import.

    rejects: the file to write rejects to. report: called after each batch with the number of events of this run.
    """

    def __init__(
        self, target: ImportTarget, notes: Notes, source: Input, rejects: Path | None, report: Callable[[int], None]
    ) -> None:
        self._target = target
        self._notes = notes
        self._source = source
        self._rejects_path = rejects
        self._report = report
        self._rejects: RejectsFile | None = None
        self._tally = Tally()
        self._digest = hashlib.sha256()
        self._position = self._resumed = self._new = self._already = self._rejected = self._cut_off = 0
        self._before = 0
        self._generation, self._sequence = "", 0
        self._noted = time.monotonic()
        self._is_settled = True
        """False while a batch is counted: an interrupt must not note half of it."""

    @property
    def events(self) -> int:
        """How many events of the file are stored, those of earlier runs included."""
        return self._new + self._already

    def run(self) -> Imported:
        """Import the file from where an earlier run ended. An interrupted run notes everything that is done.

        Raises ImportRunning, OutputExists, InvalidInput, RestoreRunning, or what an append raises.
        """
        with self._notes.running(self._source.name):
            head = self._target.scan(ScanQuery(limit=1))
            self._generation, self._sequence = head.generation, head.last_sequence
            earlier = self._notes.read(self._source.name)
            records = self._resume(earlier)
            self._open_rejects(earlier)
            try:
                self._note(ended=False)  # from now on the note says that the file of rejects is of this import
                self._import(records)
                self._note(ended=self._source.broken() is None and not self._cut_off)
            finally:
                if self._rejects is not None:
                    self._rejects.close()
        return Imported(
            self._source.name,
            new=self._new,
            already=self._already,
            rejected=self._rejected + self._cut_off,
            kinds=self._tally.kinds,
            resumed=self._resumed,
            broken=self._source.broken(),
        )

    def _resume(self, note: ImportNote | None) -> Iterator[ImportRecord]:
        """Return the records to import: those after the note's position, if the note is still valid."""
        records = self._source.records()
        if note is None or not self._is_valid(note):
            return records
        if self._skip(records, note):
            self._position = self._resumed = note.position
            self._rejected = note.rejected
            self._new = 0 if note.ended else note.new
            self._already = note.new + note.already - self._new
            self._before = self.events
            return records
        self._digest = hashlib.sha256()
        if not self._source.rewindable:
            self._notes.write(msgspec.structs.replace(note, position=0))
            raise InvalidInput(
                "the input is not the one that an earlier import of this name began with, and nothing was imported",
                hint="run the same command again: it begins with the first line; or give this import another --name",
            )
        return self._source.records()

    def _is_valid(self, note: ImportNote) -> bool:
        """Return whether the events of the note are still stored, and the rejects are in their file."""
        if note.generation != self._generation or note.sequence > self._sequence:
            return False
        if not note.position or note.form != self._source.form:
            return False
        if self._rejects_path is None or not note.rejected:
            return True
        size = self._rejects_path.stat().st_size if self._rejects_path.is_file() else -1
        return note.rejects == str(self._rejects_path) and size >= note.rejects_size

    def _skip(self, records: Iterator[ImportRecord], note: ImportNote) -> bool:
        """Read up to the position of the note. Returns False if the text is not the one that was imported."""
        for record in records:
            _update(self._digest, record)
            if record.number >= note.position:
                return record.number == note.position and self._digest.hexdigest() == note.digest
        return False

    def _open_rejects(self, earlier: ImportNote | None) -> None:
        path = self._rejects_path
        if path is None:
            return
        if earlier is not None and earlier.rejects == str(path):
            self._rejects = RejectsFile.resume(
                path, earlier.rejects_size, earlier.rejects_digest, is_whole=earlier.ended
            )
            if self._rejects is not None and not self._resumed:
                self._rejects.restart()
        if self._rejects is None:
            self._rejects = RejectsFile.create(path)

    def _import(self, records: Iterator[ImportRecord]) -> None:
        appender = Appender(self._target.append)
        try:
            with appender:
                for batch in _batches(records):
                    appender.put(batch, drafts_of(batch, self._source.name))
                    self._settle(appender.done())
                self._settle(appender.finish())
        except BaseException:
            with suppress(EventVaultError, OSError):
                self._settle(appender.done())
                self._note(ended=False)
            raise

    def _settle(self, appended: Iterator[AppendedBatch]) -> None:
        """Count the batches that are on disk, and write their rejects."""
        for batch in appended:
            self._is_settled = False
            self._count(batch)
            self._is_settled = True
            self._report(self.events - self._before)
            if time.monotonic() - self._noted >= NOTE_SECONDS:
                self._note(ended=False)

    def _count(self, batch: AppendedBatch) -> None:
        refused = list(batch.drafts.rejected)
        for record, result in zip(batch.drafts.records, batch.result.results if batch.result else (), strict=True):
            if result.differs:
                refused.append(Rejected(record, EventDiffers.code, _DIFFERS))
            elif result.duplicate:
                self._already += 1
            else:
                self._new += 1
        self._reject(sorted(refused, key=lambda reject: reject.record.number))
        for record in batch.records:
            if not record.incomplete:
                _update(self._digest, record)
                self._position = record.number
        if batch.result is not None:
            self._sequence = batch.result.last_sequence

    def _reject(self, refused: list[Rejected]) -> None:
        """Write rejects. The note does not count an incomplete record, which a later import may find complete."""
        complete = [reject for reject in refused if not reject.record.incomplete]
        self._tally.add(refused)
        self._rejected += len(complete)
        self._cut_off += len(refused) - len(complete)
        if self._rejects is not None:
            self._rejects.write(complete)
            for reject in refused:
                if reject.record.incomplete:
                    self._rejects.write_uncounted(reject)

    def _note(self, *, ended: bool) -> None:
        """Note how far the import came. Raises RestoreRunning if a restore has replaced what was imported."""
        if not self._is_settled:
            return
        if self._target.scan(ScanQuery(limit=1)).generation != self._generation:
            raise RestoreRunning(
                "a restore came in between, and some of the imported events may be gone",
                hint="run the same command again: it begins with the first line, and stores nothing twice",
            )
        if self._rejects is not None:
            self._rejects.sync()
        self._notes.write(
            ImportNote(
                format=1,
                name=self._source.name,
                generation=self._generation,
                sequence=self._sequence,
                position=self._position,
                digest=self._digest.hexdigest(),
                form=self._source.form,
                new=self._new,
                already=self._already,
                rejected=self._rejected,
                rejects=None if self._rejects is None else str(self._rejects.path),
                rejects_size=0 if self._rejects is None else self._rejects.size,
                rejects_digest="" if self._rejects is None else self._rejects.digest,
                ended=ended,
            )
        )
        self._noted = time.monotonic()


def _batches(records: Iterator[ImportRecord]) -> Iterator[list[ImportRecord]]:
    batch, size = list[ImportRecord](), 0
    for record in records:
        batch.append(record)
        size += len(record.text)
        if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _update(digest: Any, record: ImportRecord) -> None:
    digest.update(record.digest.encode() or record.text)
