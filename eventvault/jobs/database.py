"""`jobs_db`: a LevelDB of its own, which only the dispatcher opens. Other threads read it while the dispatcher writes.

Every batch has the number of its turn, so that a reopening after a failed write shows whether the batch is on disk.

Neither archives nor the journal contain it. So damage is reported, and undamaged jobs can be read, but nothing is
restored, except for the unfinished jobs of a lost `jobs_db`, from their copy (`eventvault.jobs.unfinished`).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import data_folders
from eventvault.damage import SYSTEM_ERRORS, as_answer, is_damage
from eventvault.database import cut_off, opening
from eventvault.database.registry import open_leveldb
from eventvault.database.view import DatabaseView
from eventvault.errors import (
    DatabaseDamaged,
    DatabaseTooNew,
    DiskFailed,
    EventVaultError,
    JobsDamaged,
    JobsUnavailable,
)
from eventvault.files import make_folder, remove_durably, rename_durably, sync_tree
from eventvault.jobs import keys
from eventvault.system_errors import reason_of

log = logging.getLogger("jobs")

SCHEMA_VERSION = 1
WRITE_BUFFER_BYTES = 8 * 2**20
USERS_SECONDS = 20.0
"""How long a reopening waits for readers, which are quick."""
REOPEN_SECONDS = 10.0
"""How long a reader waits for a reopening."""
ANEW = (
    "stop the service, move STORAGE_DIR/jobs_db away and start it: the unfinished jobs in BACKUP_DIR/jobs come back, "
    "held"
)
_DAMAGED = f"undamaged jobs can be read. To go on without the others: {ANEW}"
_BAD_SECTOR = f"the disk of STORAGE_DIR has a bad sector, or is away; it is retried. If it does not come back: {ANEW}"


class StoredTicks(msgspec.Struct, frozen=True, omit_defaults=True):
    """The clocks of leases: how many ticks were read. number: from Kafka. local: from a transport without positions.

    turn: the number of the batch that wrote this.
    """

    number: int = 0
    local: int = 0
    turn: int = 0


class Snapshot:
    """One state of the database, for readers."""

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._snapshot.get(key, verify_checksums=True)
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        with self._snapshot.iterator(
            start=start, stop=stop, reverse=reverse, fill_cache=False, verify_checksums=True
        ) as entries:
            yield from entries


class JobsDatabase:
    """The open database. One thread writes, and alone uses `get` and `scan`; any thread may read through `snapshot`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damage: JobsDamaged | None = None
        """The damage that this process met last; it stays, because nothing repairs it."""
        self.lacks_changes = False
        """Whether the newest changes were lost by damage at the end of a log, and nobody has accepted that."""
        self.unsettled: EventVaultError | None = None
        """Why the acceptance of this loss could not be written; the next opening asks for it again."""
        self._cut_off = folder.parent / data_folders.JOBS_CUT_OFF
        self._problem: EventVaultError | None = None
        """Why the last opening failed."""
        self._written = StoredTicks()
        """The ticks in the last batch that was acknowledged."""
        self._view = DatabaseView(folder)
        """Serves readers while the disk refuses to open the database."""
        self._is_view = False
        self._db: Any = None
        self._is_reopening = False
        self._users = 0
        self._users_changed = threading.Condition()

    def open(self) -> None:
        """Open the database; create an empty one if there is none.

        Raises JobsDamaged, DatabaseTooNew, and other errors of `open_checked`. If the disk refuses to open it, a view
        serves the readers.
        """
        try:
            db = self._open_checked()
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            self._problem = _reason_of_opening(error)
            if not isinstance(self._problem, JobsDamaged | DatabaseTooNew):
                self._open_view()
            if isinstance(error, DatabaseDamaged | DiskFailed) or is_damage(error):
                raise self._problem from error
            raise
        self._put_in_place(db, is_view=False)
        self._problem = None
        self.lacks_changes |= cut_off.has_changed(self._cut_off)

    def _open_view(self) -> None:
        if self._db is not None:
            return
        try:
            db = self._view.open()
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("the jobs cannot be read either: %s", reason_of(error))
            return
        log.warning("jobs can be read, but none can be accepted")
        self._put_in_place(db, is_view=True)

    def _put_in_place(self, db: Any, *, is_view: bool) -> None:
        """Serve readers from `db`, and close what served them before. Raises JobsUnavailable if one does not end."""
        try:
            self.close()
        except JobsUnavailable:
            db.close()
            raise
        with self._users_changed:
            self._db, self._is_view = db, is_view

    def _open_checked(self) -> Any:
        if not self.folder.exists():
            create(self.folder)
        db = opening.open_checked(self.folder, retain_in=self._cut_off, write_buffer=WRITE_BUFFER_BYTES)
        try:
            version = int(db.get(keys.META_SCHEMA, verify_checksums=True) or b"0")
            if version > SCHEMA_VERSION:
                raise DatabaseTooNew(
                    f"{self.folder} has the version {version}, which a later EventVault wrote",
                    hint="start that version of EventVault",
                )
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the database. Raises JobsUnavailable if a reader does not end."""
        with self._users_changed:
            db, self._db = self._db, None
            if not self._users_changed.wait_for(lambda: self._users == 0, USERS_SECONDS):
                self._db = db
                raise JobsUnavailable("the database of jobs is being read and cannot be closed", hint="try again")
        if db is not None:
            db.close()
        if self._is_view:
            self._view.remove()
            self._is_view = False

    def reopen(self) -> int:
        """Close the database and open it again after a failed write. Returns the turn of the last batch on disk.

        A failed batch may be in the log in part. Changes are lost only if an acknowledged batch is missing.
        """
        has_lacked = self.lacks_changes
        self.folder.stat()  # raises if the disk is away, so that no empty database is created under its mount point
        if self.is_open:
            opening.check_room(self.folder)
        self._is_reopening = True
        try:
            if not self._is_view:
                self.close()
            self.open()
        finally:
            with self._users_changed:
                self._is_reopening = False
                self._users_changed.notify_all()
        turn = self.ticks().turn
        self.lacks_changes = has_lacked or turn < self._written.turn
        if not self.lacks_changes:
            self.accept_lack()
        return turn

    def accept_lack(self) -> None:
        """Note that the changes lost at the end of a log are accepted. If that cannot be written, set `unsettled`."""
        self.lacks_changes = False
        try:
            cut_off.settle_changed(self._cut_off)
        except OSError as error:
            answer = as_answer("noting that the lost changes of jobs_db are accepted", error)
            if self.unsettled is None:
                log.warning("%s; it is retried", answer)
            self.unsettled = answer
        else:
            self.unsettled = None

    @property
    def is_open(self) -> bool:
        return self._db is not None and not self._is_view

    @property
    def is_readable(self) -> bool:
        return self._db is not None

    @property
    def dispatcher(self) -> str:
        return (self.get(keys.META_DISPATCHER) or b"").decode()

    def ticks(self) -> StoredTicks:
        value = self.get(keys.TICKS)
        return StoredTicks() if value is None else msgspec.json.decode(value, type=StoredTicks)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        with self._db.iterator(start=start, stop=stop, reverse=reverse, verify_checksums=True) as entries:
            yield from entries

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write one batch, synced. Raises the system's or LevelDB's error; then call `reopen`."""
        with self._db.write_batch(sync=True) as batch:
            for key, value in changes.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
        if (ticks := changes.get(keys.TICKS)) is not None:
            self._written = msgspec.json.decode(ticks, type=StoredTicks)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Yield the present state to a reading thread; wait for a reopening.

        Raises why the database is closed; JobsDamaged, DiskFailed or another error if it cannot be read.
        """
        with self._users_changed:
            self._users_changed.wait_for(lambda: self._db is not None or not self._is_reopening, REOPEN_SECONDS)
            if self._db is None:
                raise self._problem or JobsUnavailable(
                    "the database of jobs is being opened", hint="try again in a moment"
                )
            self._users += 1
            db = self._db
        try:
            with db.snapshot() as snapshot:
                yield Snapshot(snapshot)
        except plyvel.Error as error:
            if self._is_view and self._view.has_holes and self._problem is not None:
                raise self._problem.with_traceback(None) from error  # the view has zeros in place of these parts
            answer = answer_to("reading the database of jobs", error)
            if isinstance(answer, JobsDamaged):
                self.damage = answer
            raise answer from error
        finally:
            with self._users_changed:
                self._users -= 1
                self._users_changed.notify_all()


def create(folder: Path) -> None:
    """Create an empty database under another name, and rename it, so that it is complete or missing."""
    make_folder(folder.parent)
    staging = folder.with_name(f".{folder.name}.creating")
    remove_durably(staging)
    db = open_leveldb(staging, create=True)
    try:
        with db.write_batch(sync=True) as batch:
            batch.put(keys.META_SCHEMA, str(SCHEMA_VERSION).encode())
            batch.put(keys.META_NEW, b"")
            batch.put(keys.META_DISPATCHER, secrets.token_hex(8).encode())
    finally:
        db.close()
    sync_tree(staging)
    rename_durably(staging, folder)


FAILED_WRITES = SYSTEM_ERRORS
"""Errors that `write` and `reopen` raise if the disk, the system or LevelDB refuses."""


def _reason_of_opening(error: BaseException) -> EventVaultError:
    """Return why the database cannot be opened, with a hint for `jobs_db`: a restore of the registry does not help."""
    if isinstance(error, DatabaseDamaged):
        return JobsDamaged(error.message, hint=_DAMAGED)
    if isinstance(error, DiskFailed):  # the disk cannot read a table
        return DiskFailed(error.message, hint=_BAD_SECTOR)
    return answer_to("opening the database of jobs", error)


def answer_to(doing: str, error: BaseException, other: type[EventVaultError] = DiskFailed) -> EventVaultError:
    """Return the error for callers: JobsDamaged for damage, otherwise as `as_answer`. doing: what failed, in words."""
    if isinstance(error, EventVaultError):
        return error
    if is_damage(error):
        return JobsDamaged(f"the database of jobs is damaged: {reason_of(error)}", hint=_DAMAGED)
    return as_answer(doing, error, other)
