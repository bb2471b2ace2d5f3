"""The full check of an archive: unpacks it to a private folder, reads every record, and removes it again.

A chore (`eventvault.chores`): plain data in, plain data out.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault import data_folders
from eventvault.archive import any_tar, reader
from eventvault.archive.progress import Progress
from eventvault.archive.verified import VerifiedArchive
from eventvault.errors import ArchiveIncomplete
from eventvault.files import FileIdentity, remove_durably
from eventvault.foreign.detect import is_foreign
from eventvault.restore import prepare
from eventvault.restore.records import as_archive_error


def check_archive(*, archive: str, scratch: str, records: bool, rate: int = 0) -> dict[str, Any]:
    """Read an archive of any origin from end to end. Returns {digest, sha256, records}; raises ArchiveError, NoSpace.

    records: unpack it too, and read every block with LevelDB's checksum and every record; the sequence has no holes and
    as many events as the manifest says. A foreign archive has only LevelDB's checksums, so its records are always read.
    The `records` returned is True if those of an archive of ours were read. scratch: the folder to unpack in. rate:
    the limit in bytes of the archive a second (0: none).
    """
    path = Path(archive)
    before = FileIdentity.of(path.stat())
    own = reader.kind(path) == "own"
    progress = Pace(rate).wait if rate else None
    folder = Path(scratch) / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    if not own:
        checked = {"digest": None, "sha256": _check_foreign(path, folder, progress)}
    elif records:
        checked = _checksums(_check_records(path, folder, progress))
    else:
        checked = _checksums(reader.verify(path, progress=progress))
    if FileIdentity.of(path.stat()) != before:
        raise ArchiveIncomplete(f"{path.name} is still being written", hint="wait until its copy is complete")
    return {**checked, "records": own and records}


def _checksums(archive: VerifiedArchive) -> dict[str, str | None]:
    return {"digest": archive.digest, "sha256": archive.sha256}


class Pace:
    """Slows down work that reports its progress in bytes to `rate` bytes a second."""

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


def _check_records(path: Path, folder: Path, progress: Progress | None) -> VerifiedArchive:
    try:
        unpacked = reader.unpack(path, folder, progress=progress)
        database, events = folder / data_folders.DATABASE, unpacked.manifest.events
        prepare.check_database(path, database, events, gently=progress is not None)
        return unpacked
    finally:
        remove_durably(folder)


def _check_foreign(path: Path, folder: Path, progress: Progress | None) -> str:
    """Read what an import would read, or what a restore would if it is a repacked database of ours."""
    try:
        unpacked = any_tar.unpack_foreign(path, folder, progress=progress)
        with as_archive_error(path):
            foreign = is_foreign(folder)
        if foreign:
            # Imported here: it loads marshmallow, and most archives are ours.
            from eventvault.foreign.importer import read_foreign

            read_foreign(folder)
        else:
            events = unpacked.manifest.events if unpacked.manifest else None
            prepare.check_database(path, folder, events, gently=progress is not None)
        return unpacked.sha256
    finally:
        remove_durably(folder)
