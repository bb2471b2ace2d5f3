"""`jobs_db`: a LevelDB of its own, which the dispatcher alone opens. Threads read it while the dispatcher writes.

Every batch carries the number of its turn, so that a reopening after a failed write shows whether it is on disk.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventvault import data_folders
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database import opening
from eventvault.database.registry import open_leveldb
from eventvault.errors import DatabaseTooNew, JobsUnavailable
from eventvault.files import make_folder, remove_durably, rename_durably, sync_tree
from eventvault.jobs import keys

SCHEMA_VERSION = 1
WRITE_BUFFER_BYTES = 8 * 2**20
USERS_SECONDS = 20.0
"""How long a reopening waits for readers: what they read is short."""
REOPEN_SECONDS = 10.0
"""How long a reader waits for a reopening."""


class Ticks(msgspec.Struct, frozen=True, omit_defaults=True):
    """The clocks of leases, ticks that were read. number: those of Kafka. local: of a transport without positions.

    turn: the number of the batch that wrote this.
    """

    number: int = 0
    local: int = 0
    turn: int = 0


class Snapshot:
    """One state of the database, for a reader."""

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._snapshot.get(key)
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        with self._snapshot.iterator(start=start, stop=stop, reverse=reverse, fill_cache=False) as entries:
            yield from entries


class JobsDatabase:
    """The open database. One thread writes; any thread may read through `snapshot`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._db: Any = None
        self._is_reopening = False
        self._users = 0
        self._users_changed = threading.Condition()

    def open(self) -> None:
        """Open it; an installation without one gets an empty one. Raises what `open_checked` raises, DatabaseTooNew."""
        if not self.folder.exists():
            create(self.folder)
        db = opening.open_checked(
            self.folder, retain_in=self.folder.parent / data_folders.CUT_OFF, write_buffer=WRITE_BUFFER_BYTES
        )
        version = int(db.get(keys.META_SCHEMA) or b"0")
        if version > SCHEMA_VERSION:
            db.close()
            raise DatabaseTooNew(
                f"{self.folder} has the version {version}, which a later EventVault wrote",
                hint="start that version of EventVault",
            )
        with self._users_changed:
            self._db = db

    def close(self) -> None:
        """Raises JobsUnavailable if a reader does not end."""
        with self._users_changed:
            db, self._db = self._db, None
            if not self._users_changed.wait_for(lambda: self._users == 0, USERS_SECONDS):
                self._db = db
                raise JobsUnavailable("the database of jobs is being read and cannot be closed", hint="try again")
        if db is not None:
            db.close()

    def reopen(self) -> int:
        """Close and open it after a failed write. Returns the turn of the last batch that is on disk."""
        if self._db is not None:
            opening.check_room(self.folder)
        self._is_reopening = True
        try:
            self.close()
            self.open()
        finally:
            with self._users_changed:
                self._is_reopening = False
                self._users_changed.notify_all()
        return self.ticks().turn

    @property
    def is_open(self) -> bool:
        return self._db is not None

    @property
    def dispatcher(self) -> str:
        """The id of the dispatcher of this database."""
        return (self.get(keys.META_DISPATCHER) or b"").decode()

    def ticks(self) -> Ticks:
        value = self.get(keys.TICKS)
        return Ticks() if value is None else msgspec.json.decode(value, type=Ticks)

    def get(self, key: bytes) -> bytes | None:
        """Return a value. For the thread that writes."""
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values. For the thread that writes."""
        with self._db.iterator(start=start, stop=stop, reverse=reverse) as entries:
            yield from entries

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write one batch, synced. Raises the system's or LevelDB's error; then call `reopen`."""
        with self._db.write_batch(sync=True) as batch:
            for key, value in changes.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Yield the present state to a thread that reads; waits for a reopening. Raises JobsUnavailable if closed."""
        with self._users_changed:
            self._users_changed.wait_for(lambda: self._db is not None or not self._is_reopening, REOPEN_SECONDS)
            if self._db is None:
                raise JobsUnavailable("the database of jobs is being opened", hint="try again in a moment")
            self._users += 1
            db = self._db
        try:
            with db.snapshot() as snapshot:
                yield Snapshot(snapshot)
        finally:
            with self._users_changed:
                self._users -= 1
                self._users_changed.notify_all()


def create(folder: Path) -> None:
    """Create an empty database under another name, and rename it: it is complete or missing."""
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
"""What `write` and `reopen` raise if the disk, the system or LevelDB refuses."""
