"""Builds the database of a restore beside the live data: unpack, check every checksum and record, begin a generation.

These are chores (`eventvault.chores`): plain data in, plain data out. Nothing here touches the live database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import any_tar, reader
from eventvault.backups.table_check import check_all_tables
from eventvault.database import keys
from eventvault.database.clone import check_holds, copy_database
from eventvault.database.generation import StoreIdentity, first_identity
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry, open_leveldb, write_identity
from eventvault.errors import ArchiveIncomplete, BackupNotFound
from eventvault.files import FileIdentity, remove_durably, removing_on_failure, sync_tree
from eventvault.foreign.detect import is_foreign
from eventvault.restore.records import as_archive_error, check_count, check_records, check_together
from eventvault.system_errors import reporting_no_space


def prepare_restore(
    *, archive: str, staging: str, replaces: dict[str, Any] | None, verified_checksum: str | None = None
) -> dict[str, Any]:
    """Build a database that is ready to be swapped in from an archive, at `staging/event_registry_db`.

    archive: path of the file. replaces: the identity of the database to be replaced, None if it is unreadable.
    verified_checksum: of the archive, if every record of it was read before; those of the same bytes are not read
    again. Returns {events, notJson, notes, generation}. Raises an ArchiveError that says what is wrong with the
    archive, BackupNotFound or NoSpace; then `staging` is gone.
    """
    path, folder = Path(archive), Path(staging)
    live = msgspec.convert(replaces, StoreIdentity) if replaces else None
    before = _identity(path)
    with removing_on_failure(folder):
        if reader.kind(path) == "own":
            answer = _prepare_own(path, folder, live, verified_checksum)
        else:
            answer = _prepare_foreign(path, folder, live)
        if _identity(path) != before:
            raise ArchiveIncomplete(f"{path.name} is still being written", hint="wait until its copy is complete")
        sync_tree(folder)
    return answer


def _identity(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path.stat(), with_inode=False)
    except FileNotFoundError as error:
        raise BackupNotFound(
            f"there is no archive {path}: {error.strerror}", hint="GET /api/backup/list lists the archives"
        ) from error


def prepare_in_place(*, copy: str, staging: str) -> dict[str, Any]:
    """As `prepare_restore`, from the private copy of a foreign database that was in STORAGE_DIR."""
    with removing_on_failure(Path(staging)):
        return _import(Path(copy), Path(staging), None, [])


def prepare_undo(
    *, previous: str, staging: str, replaces: dict[str, Any] | None, min_events: int = 0
) -> dict[str, Any]:
    """As `prepare_restore`, from a previous database: its tables by hard link; it is never written to.

    Reads every block. Raises ArchiveDamaged if the database cannot be opened, has a damaged block, or holds fewer
    events than `min_events`.
    """
    path, folder = Path(previous), Path(staging)
    live = msgspec.convert(replaces, StoreIdentity) if replaces else None
    with removing_on_failure(folder):
        folder.mkdir()
        with reporting_no_space(f"copying {path}"):
            copy_database(path, folder / data_folders.DATABASE)
        with _database(path, folder / data_folders.DATABASE) as (db, registry):
            _read_blocks(db)
            check_holds(path, registry.last_sequence, min_events)
            answer = _begin_generation(db, registry, "undone", live)
        (folder / data_folders.DATABASE / data_folders.DATABASE_MARK).touch()
        sync_tree(folder)
    return answer


def _begin_generation(
    db: Any, registry: EventRegistry, reason: str, live: StoreIdentity | None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    last = registry.last_sequence
    identity = registry.identity.forked(at_sequence=last, reason=reason, instant=clock.now(), previous=live)
    write_identity(db, identity)
    return {"events": last, "notJson": 0, "notes": list(notes), "generation": identity.generation}


def _prepare_own(path: Path, folder: Path, live: StoreIdentity | None, verified_checksum: str | None) -> dict[str, Any]:
    unpacked = reader.unpack(path, folder)
    events = unpacked.manifest.events
    return _stamp_own(
        path, folder / data_folders.DATABASE, events, live, [], read=unpacked.checksum != verified_checksum
    )


def _stamp_own(
    path: Path, database: Path, expected: int | None, live: StoreIdentity | None, notes: list[str], *, read: bool = True
) -> dict[str, Any]:
    """Read every record of a database of ours (read=False: only count them), and begin its new generation."""
    if read:
        check_together(path, database, expected)
    with _database(path, database) as (db, registry):
        check_count(path.name, registry.last_sequence, expected)
        (database / data_folders.DATABASE_MARK).touch()
        return _begin_generation(db, registry, "restored", live, notes)


@contextmanager
def _database(path: Path, database: Path) -> Iterator[tuple[Any, EventRegistry]]:
    """Open the unpacked database; its errors are those of the archive `path`."""
    with as_archive_error(path), closing(open_checked(database)) as db:
        yield db, EventRegistry(db, database)


def check_database(path: Path, database: Path, expected: int | None, *, gently: bool = False) -> None:
    """Read a database of ours that was unpacked from `path`: every block with LevelDB's checksum, and every record.

    expected: how many events there must be, None if that is not known. gently: with one core. Raises ArchiveDamaged or
    ArchiveTooNew.
    """
    with as_archive_error(path):
        # The records do not show damage in a table's filter, which would hide events from a lookup by their id.
        check_all_tables(database)
        # The first opening replays the log, which may end torn; after that every block must be sound.
        open_checked(database).close()
        with closing(open_leveldb(database, paranoid=True)) as db:
            registry = EventRegistry(db, database)
            if gently:
                check_records(registry, path.name, expected)
            _read_blocks(db, stop=keys.event_key(1))
            _read_blocks(db, start=keys.event_key(registry.last_sequence + 1))
    if not gently:
        check_together(path, database, expected)


def _read_blocks(db: Any, *, start: bytes | None = None, stop: bytes | None = None) -> None:
    """Read every block with its checksum. Only archives of ours have other checksums, too."""
    with db.iterator(start=start, stop=stop, verify_checksums=True, fill_cache=False, include_value=False) as rows:
        deque(rows, maxlen=0)


def _prepare_foreign(path: Path, folder: Path, live: StoreIdentity | None) -> dict[str, Any]:
    folder.mkdir()
    unpacked = any_tar.unpack_foreign(path, folder / "foreign")
    notes = [f"ignored {name}" for name in unpacked.ignored]
    with as_archive_error(path):
        foreign = is_foreign(folder / "foreign")
    if foreign:
        return _import(folder / "foreign", folder, live, notes)
    (folder / "foreign").rename(folder / data_folders.DATABASE)
    expected = unpacked.manifest.events if unpacked.manifest else None
    check_database(path, folder / data_folders.DATABASE, expected)
    return _stamp_own(path, folder / data_folders.DATABASE, expected, live, notes, read=False)


def _import(copy: Path, folder: Path, live: StoreIdentity | None, notes: list[str]) -> dict[str, Any]:
    # Imported here: it loads marshmallow, and most restores are of archives of ours.
    from eventvault.foreign.importer import import_foreign

    database = folder / data_folders.DATABASE
    folder.mkdir(exist_ok=True)
    fresh = first_identity(clock.now(), "imported")
    identity = StoreIdentity(
        live.store_id if live else fresh.store_id,
        fresh.generation,
        (*(live.generations if live else ()), *fresh.generations),
    )
    report = import_foreign(copy, database, identity=identity)
    remove_durably(copy)
    return {
        "events": report.events,
        "notJson": report.not_json,
        "notes": [*notes, *report.notes],
        "generation": identity.generation,
    }
