"""`BACKUP_DIR/jobs/unfinished.jsonl.gz`: a copy of the unfinished jobs, in case STORAGE_DIR is lost; see `takeover`.

One JSON object per line, in gzip: a head with the version, then jobs with their payloads, schedules and positions, and
an end with the SHA-256 of all lines before it. The last member of each line, except the end, is the CRC-32 of the line
without that member, so that the undamaged lines of a damaged file can be used. Lines of earlier versions have no CRC.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from isal import isal_zlib

from eventvault import clock
from eventvault.damage import SYSTEM_ERRORS, advice
from eventvault.errors import BackupsChanged, EventVaultError
from eventvault.files import durable_file, is_there, make_folder
from eventvault.gzip_format import WBITS
from eventvault.jobs import keys
from eventvault.jobs.database import ANEW, JobsDatabase, Snapshot
from eventvault.jobs.job import Job
from eventvault.jobs.schedule import StoredSchedule
from eventvault.jobs.transport import Position
from eventvault.line_checksums import CRC32
from eventvault.problems import Problem
from eventvault.progress import running
from eventvault.regular_files import NotRegular, open_file
from eventvault.small_files import SmallFileDamaged, quarantine, quarantine_or_log
from eventvault.unforeseen import Unforeseen

log = logging.getLogger("jobs")

INTERVAL_SECONDS = 60.0
REST = 20
"""After a write that took long, the pause is at least so many times its duration."""
_STOP_SECONDS = 20.0
_LEVEL = 1
_PIECE_BYTES = 256 * 1024
_DECODE_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, msgspec.MsgspecError, UnicodeDecodeError)
_encoder = msgspec.json.Encoder()


class HeadLine(msgspec.Struct, frozen=True, tag_field="kind", tag="head"):
    """The first line. written: an instant. dispatcher: the id of the dispatcher that wrote the file."""

    format: Literal[1]
    written: int
    dispatcher: str


class JobLine(msgspec.Struct, frozen=True, tag_field="kind", tag="job"):
    job: Job
    payload: msgspec.Raw


class ScheduleLine(msgspec.Struct, frozen=True, tag_field="kind", tag="schedule"):
    stored: StoredSchedule


class PositionLine(msgspec.Struct, frozen=True, tag_field="kind", tag="position"):
    position: Position


class End(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The last line. sha256: of all lines before it. jobs: how many jobs they have."""

    sha256: str
    jobs: int


_JOB = b'{"kind":"job",'
"""The beginning of each JobLine, and of no other line."""
_END = b'{"kind":"end",'
Line = HeadLine | JobLine | ScheduleLine | PositionLine | End
_line = msgspec.json.Decoder(Line)


class WritingStopped(Exception):
    """The writing was stopped; the file did not change."""


def write(path: Path, snapshot: Snapshot, now: int, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Write the unfinished jobs of a snapshot, durably. Returns the number of jobs.

    is_stopped: asked now and then. Raises WritingStopped, NoSpace or OSError.
    """
    make_folder(path.parent)
    if is_there(path) and not path.is_file():
        quarantine(path)
    digest, packer = hashlib.sha256(), isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, WBITS)
    jobs = 0
    piece = bytearray()
    with durable_file(path) as file:
        for text in itertools.chain(_heads(snapshot, now), _jobs(snapshot)):
            jobs += text.startswith(_JOB)
            piece += CRC32.line_of(text)
            if len(piece) >= _PIECE_BYTES:
                if is_stopped():
                    raise WritingStopped
                digest.update(piece)
                file.write(packer.compress(piece))
                piece.clear()
        digest.update(piece)
        file.write(packer.compress(piece + _encoder.encode(End(digest.hexdigest(), jobs)) + b"\n"))
        file.write(packer.flush())
    return jobs


def read(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that `write` wrote, except the end; of a damaged file, only the undamaged lines.

    Raises SmallFileDamaged at the end, or where nothing more can be read; FileNotFoundError, or another OSError.
    """
    digest = hashlib.sha256()
    jobs = 0
    has_checksums = False
    try:
        with open_file(path) as file, gzip.GzipFile(fileobj=file) as packed:
            for number, text in enumerate(packed):
                content = CRC32.check(text)
                has_checksums |= content is not None
                is_wrong = has_checksums and not content and not text.startswith(_END)
                if is_wrong and number == 0:
                    raise SmallFileDamaged(f"{path} is damaged: the checksum of its head is wrong")
                line = None if is_wrong else _line.decode(content or text)
                if isinstance(line, End):
                    if (line.sha256, line.jobs) != (digest.hexdigest(), jobs):
                        raise SmallFileDamaged(f"{path} is damaged: its checksum is wrong")
                    return
                digest.update(text)
                jobs += isinstance(line, JobLine)
                if line is not None:
                    yield line
    except (IsADirectoryError, NotRegular, *_DECODE_ERRORS) as error:
        raise SmallFileDamaged(f"{path} is damaged: {error}") from error
    raise SmallFileDamaged(f"{path} is damaged: its end is missing")


def _heads(snapshot: Snapshot, now: int) -> Iterator[bytes]:
    yield _encoder.encode(HeadLine(1, now, (snapshot.get(keys.META_DISPATCHER) or b"").decode()))
    for _, value in snapshot.scan(keys.SCHEDULE, keys.end_of(keys.SCHEDULE)):
        yield _encoder.encode(ScheduleLine(msgspec.json.decode(value, type=StoredSchedule)))
    for _, value in snapshot.scan(keys.POSITION, keys.end_of(keys.POSITION)):
        yield _encoder.encode(PositionLine(msgspec.json.decode(value, type=Position)))


def _jobs(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield a JobLine for each unfinished job. It is joined from stored texts, because there may be a million jobs."""
    for group in (keys.UNFINISHED, keys.IS_HELD):
        prefix = keys.STATE + group
        for _, value in snapshot.scan(prefix, keys.end_of(prefix)):
            _, job_id = keys.read_state_value(value)
            record, payload = snapshot.get(keys.record_key(job_id)), snapshot.get(keys.payload_key(job_id))
            if record is not None:
                yield b'%b"job":%b,"payload":%b}' % (_JOB, record, payload or b"null")


def read_or_quarantine(path: Path) -> Iterator[Line]:
    """Yield the undamaged lines; none if there is no file. After them, quarantine a damaged file."""
    try:
        yield from read(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except SmallFileDamaged as error:
        quarantine_or_log(path, error)


def _check_own(path: Path, snapshot: Snapshot) -> None:
    """Raise BackupsChanged if the file has jobs of another `jobs_db` that this one did not take over.

    The disk of the file may have been away when this database was created. A damaged file is quarantined.
    """
    own = {snapshot.get(key) for key in (keys.META_DISPATCHER, keys.META_ADOPTED)}
    for head in itertools.islice(read_or_quarantine(path), 1):
        if isinstance(head, HeadLine) and head.dispatcher.encode() not in own:
            raise BackupsChanged(
                f"it has the jobs of another jobs_db, {head.dispatcher}, which were not taken over",
                hint=f"to take them over: {ANEW}. To go on without them, move that file away",
            )


class UnfinishedFile:
    """Writes the file every INTERVAL_SECONDS, if something changed. problem: set if the last write failed."""

    def __init__(
        self,
        path: Path,
        database: JobsDatabase,
        version: Callable[[], int],
        now: clock.Clock = clock.now,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """version: returns a number that changes with each change. check: raises if nothing may be written there."""
        self.problem: Problem | None = None
        self._path = path
        self._database = database
        self._version = version
        self._now = now
        self._check = check
        self._written: int | None = None
        self._is_own = False
        """Whether the present file may be replaced."""
        self._unforeseen = Unforeseen("the writing of the unfinished jobs", log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unfinished jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. A write that is under way is given up, and the file does not change."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def write_if_changed(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Write the file if jobs have changed. Raises nothing: errors go to `problem`, and it is retried."""
        with self._unforeseen.survived():
            try:
                self._write_if_changed(is_stopped)
            except WritingStopped:
                log.info("the writing of the unfinished jobs was stopped; %s did not change", self._path)
            except (EventVaultError, *SYSTEM_ERRORS) as error:
                if self.problem is None:
                    log.warning("the unfinished jobs cannot be written to %s: %s", self._path, error)
                self._note(error)
        if self._unforeseen.newest:
            self._note(EventVaultError(self._unforeseen.newest, hint="the log of the dispatcher says why"))

    def _write_if_changed(self, is_stopped: Callable[[], bool]) -> None:
        version = self._version()
        if version == self._written and self._path.exists():
            return
        self._check()
        with self._database.snapshot() as snapshot:
            if not self._is_own:
                _check_own(self._path, snapshot)
                self._is_own = True
            write(self._path, snapshot, self._now(), is_stopped)
        self._written, self.problem = version, None

    def _note(self, error: BaseException) -> None:
        hint = error.hint if isinstance(error, EventVaultError) else advice(error)
        message = f"the copy of the unfinished jobs cannot be written to {self._path}: {error}"
        self.problem = Problem("unfinished_jobs_unwritten", message, hint)

    def _run(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._stopping.wait(pause):
            with running("unfinished jobs", "writes the unfinished jobs"):
                began = time.monotonic()
                self.write_if_changed(self._stopping.is_set)
                pause = max(INTERVAL_SECONDS, REST * (time.monotonic() - began))
