"""Builds the database of a restore beside the live data: unpack, check every checksum and record, begin a generation.

These are chores (`eventvault.chores`): plain data in, plain data out. Nothing here touches the live database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import any_tar, reader
from eventvault.archive.manifest import Manifest
from eventvault.database.clone import check_holds, copy_database
from eventvault.database.generation import UNDONE, StoreIdentity, identity_without_parent
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry, write_identity
from eventvault.database.unreadable_tables import check_readable
from eventvault.errors import ArchiveIncomplete, BackupNotFound
from eventvault.files import FileIdentity, remove_durably, removing_on_failure, sync_tree
from eventvault.foreign.detect import is_foreign
from eventvault.operations.operation import current
from eventvault.restore.laps import Laps
from eventvault.restore.records import as_archive_error, check_count, damaged
from eventvault.restore.unpacked import ArchiveFacts, check_as_needed
from eventvault.restore.unproven import ReplacedDatabase, unproven_database
from eventvault.system_errors import reporting_no_space


def prepare_restore(
    *,
    archive: str,
    staging: str,
    replaces: dict[str, Any] | None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a database that is ready to be swapped in from an archive, at `staging/event_registry_db`.

    A proven archive is used as it is. Of any other archive with a database of ours the events are replayed.

    archive: path of the file. replaces: a `ReplacedDatabase`, None if it is unreadable. facts: `ArchiveFacts`. Returns
    {events, notJson, notes, generation, checked, proven, seconds}; seconds: of the parts `unpack` and `verify`. Raises
    an ArchiveError that says what is wrong with the archive, BackupNotFound or NoSpace; then `staging` is gone.
    """
    path, folder = Path(archive), Path(staging)
    replaced = msgspec.convert(replaces, ReplacedDatabase) if replaces else None
    before, laps = _identity(path), Laps()
    with removing_on_failure(folder):
        if reader.kind(path) == "own":
            answer = _prepare_own(path, folder, replaced, msgspec.convert(facts or {}, ArchiveFacts), laps)
        else:
            answer = _prepare_foreign(path, folder, replaced, laps)
        if _identity(path) != before:
            raise ArchiveIncomplete(f"{path.name} is still being written", hint="wait until its copy is complete")
        laps.end("verify")
        sync_tree(folder)
        laps.end("unpack")
    return {**answer, "seconds": laps.seconds}


def _identity(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path.stat(), with_inode=False)
    except FileNotFoundError as error:
        raise BackupNotFound(
            f"there is no archive {path}: {error.strerror}", hint="GET /api/backup/list lists the archives"
        ) from error


def prepare_in_place(*, copy: str, staging: str) -> dict[str, Any]:
    """Do the same as `prepare_restore`, from the private copy of a foreign database that was in STORAGE_DIR."""
    with removing_on_failure(Path(staging)):
        return _import(Path(copy), Path(staging), data_folders.DATABASE, None, [])


def prepare_undo(
    *, previous: str, staging: str, replaces: dict[str, Any] | None, min_events: int = 0
) -> dict[str, Any]:
    """Do the same as `prepare_restore`, from a previous database, which is never written to: tables are hard links.

    Reads every block. Raises ArchiveDamaged if the database cannot be opened, has a damaged block, or holds fewer
    events than `min_events`.
    """
    path, folder = Path(previous), Path(staging)
    live = msgspec.convert(replaces, StoreIdentity) if replaces else None
    with removing_on_failure(folder):
        folder.mkdir()
        current().step("copy")
        with reporting_no_space(f"copying {path}"):
            copy_database(path, folder / data_folders.DATABASE)
        check_readable(folder / data_folders.DATABASE)
        with _database(path, folder / data_folders.DATABASE) as (db, registry):
            current().step("check")
            _read_blocks(db)
            check_holds(path, registry.last_sequence, min_events)
            answer = {**_begin_generation(db, registry, UNDONE, live), "proven": True}
        (folder / data_folders.DATABASE / data_folders.DATABASE_MARK).touch()
        sync_tree(folder)
    return answer


def _begin_generation(db: Any, registry: EventRegistry, reason: str, live: StoreIdentity | None) -> dict[str, Any]:
    last = registry.last_sequence
    identity = registry.identity.forked(at_sequence=last, reason=reason, instant=clock.now(), previous=live)
    write_identity(db, identity)
    return {"events": last, "notJson": 0, "notes": [], "generation": identity.generation}


def _prepare_own(
    path: Path, folder: Path, replaced: ReplacedDatabase | None, facts: ArchiveFacts, laps: Laps
) -> dict[str, Any]:
    unpacked = reader.unpack(path, folder)
    laps.end("unpack")
    database, events = folder / data_folders.DATABASE, unpacked.manifest.events
    if not facts.proves(unpacked):
        return _replay(path, folder, unpacked.manifest, replaced, [])
    checked = check_as_needed(path, database, unpacked, facts, expected=events)
    with _database(path, database) as (db, registry):
        check_count(path.name, registry.last_sequence, events)
        (database / data_folders.DATABASE_MARK).touch()
        answer = _begin_generation(db, registry, "restored", replaced.identity if replaced else None)
    return {**answer, "checked": checked, "proven": True}


def _replay(
    path: Path, folder: Path, about: Manifest | None, replaced: ReplacedDatabase | None, notes: list[str]
) -> dict[str, Any]:
    """Replace the database that was unpacked to `folder` by a fresh one with its events."""
    with unproven_database(folder, path, about) as unproven:
        identity = identity_without_parent(replaced.identity if replaced else None, clock.now(), "restored")
        events = unproven.replay(identity, replaced.kafka if replaced else {})
    answer = {"events": events, "notJson": 0, "notes": notes, "generation": identity.generation}
    return {**answer, "checked": "records", "proven": False}


@contextmanager
def _database(path: Path, database: Path) -> Iterator[tuple[Any, EventRegistry]]:
    """Open the unpacked database; its errors become errors of the archive `path`."""
    with as_archive_error(path), closing(open_checked(database)) as db:
        yield db, EventRegistry(db, database)


def _read_blocks(db: Any) -> None:
    """Read every block with its checksum."""
    with db.iterator(verify_checksums=True, fill_cache=False, include_value=False) as rows:
        deque(rows, maxlen=0)


def _prepare_foreign(path: Path, folder: Path, replaced: ReplacedDatabase | None, laps: Laps) -> dict[str, Any]:
    folder.mkdir()
    unpacked = any_tar.unpack_foreign(path, folder / "foreign")
    laps.end("unpack")
    notes = [f"ignored {name}" for name in unpacked.ignored]
    with as_archive_error(path):
        foreign = is_foreign(folder / "foreign")
    if foreign:
        return _import(folder / "foreign", folder, path.name, replaced.identity if replaced else None, notes)
    (folder / "foreign").rename(folder / data_folders.DATABASE)
    return _replay(path, folder, unpacked.manifest, replaced, notes)


def _import(copy: Path, folder: Path, name: str, live: StoreIdentity | None, notes: list[str]) -> dict[str, Any]:
    # Imported here: it loads marshmallow, and most restores are of archives of ours.
    from eventvault.foreign.importer import import_foreign

    database = folder / data_folders.DATABASE
    folder.mkdir(exist_ok=True)
    identity = identity_without_parent(live, clock.now(), "imported")
    report = import_foreign(copy, database, name=name, identity=identity)
    remove_durably(copy)
    return {
        "events": report.events,
        "notJson": report.not_json,
        "notes": [*notes, *report.notes],
        "generation": identity.generation,
        "checked": "records",
        "proven": False,
    }


def check_opening(*, database: str, source: str, events: int, generation: str) -> dict[str, Any]:
    """Open a database that was built, as the store will open it, and sync it again. It may kill this process.

    source: what it was built from, for errors. Raises ArchiveDamaged if it cannot be opened, or is not what was built.
    """
    folder = Path(database)
    with _database(Path(source), folder) as (_, registry):
        check_count(source, registry.last_sequence, events)
        if registry.identity.generation != generation:
            raise damaged(source, "the database that was built of it has another generation")
    sync_tree(folder.parent)
    return {}
