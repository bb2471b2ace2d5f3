"""The full check of an archive: unpacks it to a private folder, reads every record, and removes it again.

A chore (`eventvault.chores`): plain data in, plain data out.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventvault import data_folders
from eventvault.archive import any_tar, reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.progress import Progress
from eventvault.archive.proof import Proof
from eventvault.archive.stored import SkippedRuns
from eventvault.archive.verified import VerifiedArchive
from eventvault.backups.table_check import check_all_tables
from eventvault.errors import ArchiveIncomplete
from eventvault.files import FileIdentity, remove_durably
from eventvault.foreign.detect import is_foreign
from eventvault.foreign.source import check_bounds
from eventvault.restore.records import as_archive_error
from eventvault.restore.unpacked import ArchiveFacts, check_database
from eventvault.restore.unproven import UnprovenDatabase

Depth = Literal["digests", "members", "records"]
"""How an archive of ours is read. `digests`: its bytes are compared with its digests. `members`: every gzip member is
inflated too. `records`: it is unpacked too, and every block of its tables and every record is read."""


def check_archive(
    *,
    archive: str,
    scratch: str,
    depth: Depth,
    rate: int = 0,
    skipped: Sequence[tuple[int, int, int]] = (),
    proof: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Read an archive of any origin from end to end. Raises ArchiveError, NoSpace.

    Returns {digest, sha256, sealed, checked, records}: the digests of the archive's bytes, its seal, `checked` as in
    the catalogue, and whether every record of an archive of ours was read. A foreign archive has only LevelDB's
    checksums, so its records are always read. scratch: the folder to unpack in. rate: the limit in bytes of the archive
    a second (0: none). skipped: runs whose shared blocks a check of digests need not read: offset, and the two numbers
    of `SkippedRuns`. proof: a `Proof`; an archive that is not proven is read as strictly as by a restore.
    """
    path = Path(archive)
    before = FileIdentity.of(path.stat())
    own = reader.kind(path) == "own"
    progress = Pace(rate).wait if rate else None
    folder = Path(scratch) / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    runs = {offset: (size, tail) for offset, size, tail in skipped}
    facts = ArchiveFacts(proof=msgspec.convert(proof, Proof) if proof else None)
    result = _check_own(path, depth, folder, progress, facts, runs) if own else _check_foreign(path, folder, progress)
    if FileIdentity.of(path.stat()) != before:
        raise ArchiveIncomplete(f"{path.name} is still being written", hint="wait until its copy is complete")
    checked = "records" if depth == "records" or not own else "digests"
    return {**result, "checked": checked, "records": own and depth == "records"}


def _check_own(
    path: Path, depth: Depth, folder: Path, progress: Progress | None, facts: ArchiveFacts, skipped: SkippedRuns
) -> dict[str, Any]:
    """Check an archive of ours. The SHA-256 of the whole file is computed too where that costs less than 10 %."""
    with_sha256 = depth == "records" or progress is not None
    if depth == "records":
        archive = _check_records(path, folder, progress, facts)
    elif depth == "members":
        archive = reader.verify(path, progress=progress, with_sha256=with_sha256)
    else:
        archive = reader.verify_digests(path, progress=progress, with_sha256=with_sha256, skipped=skipped)
    return {"digest": archive.digest, "sha256": archive.sha256, "sealed": msgspec.to_builtins(archive.sealed)}


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


def _check_records(path: Path, folder: Path, progress: Progress | None, facts: ArchiveFacts) -> VerifiedArchive:
    try:
        unpacked = reader.unpack(path, folder, progress=progress, durable=False, with_sha256=True)
        database, events = folder / data_folders.DATABASE, unpacked.manifest.events
        if facts.proves(unpacked):
            check_database(path, database, events, gently=progress is not None)
        else:
            _check_unproven(path, database, unpacked.manifest, progress)
        return unpacked
    finally:
        remove_durably(folder)


def _check_unproven(path: Path, database: Path, about: Manifest | None, progress: Progress | None) -> None:
    """Read all that a restore reads, and the filters of the tables, which it does not use."""
    with as_archive_error(path):
        check_bounds(database)
        check_all_tables(database, 1 if progress is not None else None)
    UnprovenDatabase(database, path, about).check()


def _check_foreign(path: Path, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Read all that an import reads, or that a restore reads if it is a repacked database of ours."""
    try:
        unpacked = any_tar.unpack_foreign(path, folder, progress=progress)
        with as_archive_error(path):
            foreign = is_foreign(folder)
        if foreign:
            # Imported here: it loads marshmallow, and most archives are ours.
            from eventvault.foreign.importer import read_foreign

            read_foreign(folder, path.name)
        else:
            _check_unproven(path, folder, unpacked.manifest, progress)
        return {"digest": None, "sha256": unpacked.sha256, "sealed": None}
    finally:
        remove_durably(folder)
