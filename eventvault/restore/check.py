"""The full check of an archive: it is restored to a private place, every record is read, and nothing of it is kept.

A chore (`eventvault.chores`): plain data in, plain data out.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from eventvault.backups.archive import reader
from eventvault.backups.chores import verify_archive
from eventvault.errors import ArchiveIncomplete
from eventvault.files import remove_durably
from eventvault.restore import prepare
from eventvault.restore.intent import STAGING_PREFIX
from eventvault.store.opening import open_checked
from eventvault.store.registry import EventRegistry, open_leveldb


def check_archive(*, archive: str, scratch: str, records: bool, rate: int = 0) -> dict[str, Any]:
    """Read an archive of any origin from end to end. Returns {sha256, records}; raises an ArchiveError, or NoSpace.

    records: unpack it too and read every block with LevelDB's checksum, every record, the sequence without holes, as
    many as the manifest says. What it returns as `records` is whether that was done: a foreign archive has no such
    records. scratch: the folder in which it is unpacked. rate: at most so many bytes a second (0: no limit).
    """
    path = Path(archive)
    before = path.stat()
    own = reader.kind(path) == "own"
    progress = Pace(rate).wait if rate else None
    if not own:
        sha256 = verify_archive(path=archive, scratch=scratch)["sha256"]
    elif records:
        sha256 = _check_records(path, Path(scratch) / f"{STAGING_PREFIX}{secrets.token_hex(4)}", progress)
    else:
        sha256 = reader.verify(path, progress=progress).sha256
    after = path.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise ArchiveIncomplete(f"{path.name} is still being written", hint="wait until its copy is complete")
    return {"sha256": sha256, "records": own and records}


class Pace:
    """Makes work that tells its progress in bytes wait, so that it takes no more than `rate` of them a second."""

    def __init__(
        self, rate: int, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ):
        self._rate = rate
        self._now = now
        self._sleep = sleep
        self._began = now()

    def wait(self, done: int, _total: int) -> None:
        ahead = self._began + done / self._rate - self._now()
        if ahead > 0:
            self._sleep(ahead)


def _check_records(path: Path, folder: Path, progress: Callable[[int, int], None] | None) -> str:
    database = folder / prepare.DATABASE_NAME
    try:
        unpacked = reader.unpack(path, folder, progress=progress)
        with prepare.said_of(path):
            # The first opening takes the log in, which may end torn; from then on nothing but sound blocks will do.
            open_checked(database).close()
            with closing(open_leveldb(database, paranoid=True)) as db:
                with db.iterator(verify_checksums=True, fill_cache=False) as rows:
                    deque(rows, maxlen=0)
                prepare.check_records(EventRegistry(db, database), path.name, unpacked.manifest.events)
        return unpacked.sha256
    finally:
        remove_durably(folder)
