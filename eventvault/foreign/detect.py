"""Detects whether EventVault or another program wrote the database in `storage/`, without opening it.

Ours has two meta keys from its creation on (`eventvault.database.registry.create_database`). They are searched in a
private copy without its logs, which opens fast at any size, and then in the logs, record by record.
"""

from __future__ import annotations

import secrets
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Literal

import plyvel

from eventvault import data_folders, record_size
from eventvault.damage import as_answer, is_damage
from eventvault.database import keys
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.existing import open_existing
from eventvault.database.opening import check_free
from eventvault.database.unreadable_tables import check_if_distrusted
from eventvault.errors import DatabaseDamaged
from eventvault.files import matching, remove_durably
from eventvault.foreign.source import check_bounds, correct_next_file_number
from eventvault.leveldb.dialect import OtherDialect
from eventvault.leveldb.examine import examine_database
from eventvault.leveldb.log import LogReader
from eventvault.leveldb.manifest import BYTEWISE
from eventvault.leveldb.write_batch import CUT_OFF, put_keys
from eventvault.regular_files import open_file


def find_origin(*, folder: str) -> dict[str, str]:
    """Return {origin}: `database_origin` of a database in STORAGE_DIR. A chore, as bad bytes may crash the process.

    Our database may hold events that were posted while MAX_BODY_BYTES was larger.
    """
    record_size.use(record_size.LARGEST_BODY_BYTES)
    return {"origin": database_origin(Path(folder))}


def is_foreign(folder: Path) -> bool:
    """Return True if `folder` holds an undamaged LevelDB of another program. Raises the errors of `database_origin`."""
    return database_origin(folder) == "foreign"


def database_origin(folder: Path) -> Literal["ours", "foreign", "unknown"]:
    """Return who wrote the database in `folder`; `unknown` if it does not exist or is damaged.

    Nothing in `folder` is opened or changed; a private copy lies beside it meanwhile. Raises DatabaseLocked if another
    process has a foreign database open, DatabaseDamaged if damage in a table hides the origin.
    """
    if not (folder / "CURRENT").is_file():
        return "unknown"
    staging = folder.parent / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    try:
        take_checkpoint(folder, staging, nullcontext)
        if _is_ours(staging, folder):
            return "ours"
    except OtherDialect:
        pass  # the import names the program
    except DatabaseDamaged:
        if examine_database(folder).damaged:
            return "unknown"
        raise
    finally:
        remove_durably(staging)
    check_free(folder, "the database, which another program wrote, is then archived and imported automatically")
    return "foreign"


def _is_ours(copy: Path, folder: Path) -> bool:
    if check_bounds(copy).comparator != BYTEWISE:
        return False  # LevelDB would refuse to open it
    logs = matching(copy, "*.log")
    logs_folder = copy / "logs"
    logs_folder.mkdir()
    logs = [log.rename(logs_folder / log.name) for log in logs]
    return _is_in_tables(copy, folder) or any(_is_in_log(log) for log in logs)


def _is_in_tables(copy: Path, folder: Path) -> bool:
    check_if_distrusted(copy)
    correct_next_file_number(copy)  # the tables are hard links: LevelDB must not overwrite them
    try:
        with closing(open_existing(copy, paranoid_checks=True)) as db:
            return all(db.get(key, verify_checksums=True) is not None for key in (keys.META_SCHEMA, keys.META_STORE))
    except plyvel.Error as error:
        if not is_damage(error):
            raise as_answer(f"looking into {folder}", error) from error
        raise DatabaseDamaged(
            f"{folder} is damaged, and was not opened: {error}",
            hint="restore the newest good backup with POST /api/backup/restore; the damaged database stays as it is",
        ) from error


def _is_in_log(log: Path) -> bool:
    our_keys = {keys.META_SCHEMA, keys.META_STORE}
    with open_file(log) as file:
        try:
            return any(our_keys <= set(filter(our_keys.__contains__, put_keys(record))) for record in LogReader(file))
        except IndexError as error:
            raise DatabaseDamaged(
                f"{log.name} is damaged: {CUT_OFF}",
                hint="repair the database with the program that wrote it, or restore a good archive of it",
            ) from error
