"""The swap of the database, as an intent on disk: after a kill at any instant the next start finishes it.

Order: the new database is beside the old one, checked and synced → the old one is closed → the intent is written → the
old folder is renamed → the new one gets its name → what was restored is noted → the archive leaves `restore/` → the
restore that was staged before is discarded → the intent is removed. Each step may be repeated. Before the intent is
written nothing has changed.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.errors import DatabaseDamaged, NoSpace
from eventvault.files import remove_durably, rename_durably
from eventvault.restore.drop_folder import DroppedFile
from eventvault.restore.swap import in_place
from eventvault.restore.swap.previous import PreviousDatabase, note_previous
from eventvault.restore.values import Restored
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("BackupManager")


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """new_database, previous_name: paths below STORAGE_DIR, of the new database and of the old one after the swap.

    operation: names the request, so that a repeated request gets the same answer. drop_file: the archive's path in
    `restore/`, None if it is not from there. arrived: the identity of that file. previous: what to note of the old
    database. undone: the name of the previous database that the new one is a copy of, None without an undo. discards:
    the `new_database` of the restore that was staged when this one was prepared; one that is staged later is not
    discarded. Until it is written, the swap completes `restored`, `previous` and `previous_name`.
    """

    new_database: str = msgspec.field(name="staged")
    previous_name: str = msgspec.field(name="kept")
    operation: str
    restored: Restored
    drop_file: str | None = msgspec.field(name="inbox", default=None)
    arrived: DroppedFile | None = None
    previous: PreviousDatabase | None = msgspec.field(name="left", default=None)
    undone: str | None = None
    discards: str | None = msgspec.field(name="drops", default=None)
    format: Literal[1] = 1


class LastRestore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the newest restore did, and which request asked for it."""

    operation: str
    restored: Restored
    format: Literal[1] = 1


def write_intent(storage_dir: Path, intent: Intent, name: str = data_folders.INTENT) -> None:
    """Write the intent durably: the restore is decided (STAGED_RESTORE: for the next start of the service)."""
    small_files.write(storage_dir / name, intent)


def read_intent(storage_dir: Path, name: str = data_folders.INTENT) -> Intent | None:
    """Return the intent, None if there is none. Raises DatabaseDamaged if its file is damaged, or OSError."""
    path = storage_dir / name
    try:
        return small_files.read(path, Intent, earlier=Intent)
    except FileNotFoundError:
        return None
    except SmallFileDamaged as error:
        raise DatabaseDamaged(
            f"a restore is pending here, but its file is damaged: {error}",
            hint=f"it is always written completely, so the disk may be failing; move {path} away to start without it",
        ) from error


def read_last(storage_dir: Path) -> LastRestore | None:
    """The newest restore; None also if it cannot be read, as it is only shown."""
    with contextlib.suppress(OSError):
        return small_files.read_or_quarantine(storage_dir / data_folders.LAST_RESTORE, LastRestore, earlier=LastRestore)
    return None


def swap_folders(storage_dir: Path, database: Path, intent: Intent) -> None:
    """Do the two renames, as far as they are not done yet. The database must be closed.

    If the folder of the database cannot be renamed, its files are replaced.
    """
    new, previous = storage_dir / intent.new_database, storage_dir / intent.previous_name
    if not new.is_dir():
        return
    in_place.check_link(database)
    if database.exists() and not in_place.is_begun(new):
        if previous.exists():
            raise DatabaseDamaged(
                f"a restore cannot be finished: {database} and {previous} both exist beside {new}",
                hint="delete none of them, and move the one that shall not be the database out of STORAGE_DIR",
            )
        if not in_place.rename_away(database, previous):
            in_place.begin(new, database)
    if in_place.is_begun(new):
        in_place.finish(new, database, previous)
    else:
        rename_durably(new, database)
    try:
        remove_durably(new.parent)
    except OSError as error:
        log.warning("%s cannot be removed before the next start: %s", new.parent, error)


def free_name(storage_dir: Path, name: str) -> str:
    """Return `name`, with a random ending if that folder exists: somebody may have copied it back."""
    return f"{name}-{secrets.token_hex(4)}" if (storage_dir / name).exists() else name


def withdraw_intent(storage_dir: Path, intent: Intent) -> None:
    """After a failure: remove the intent if nothing was renamed yet, so that no later start acts on it.

    If the old database was renamed already, or the intent cannot be removed, the restore is decided: the next try
    finishes it.
    """
    new, previous = storage_dir / intent.new_database, storage_dir / intent.previous_name
    with contextlib.suppress(OSError, NoSpace):
        if new.is_dir() and not previous.exists():
            remove_intent(storage_dir)
            remove_durably(new.parent)


def is_decided(storage_dir: Path, intent: Intent) -> bool:
    """Return False if the next start will certainly not act on `intent`; True also if the file cannot be read now."""
    try:
        decided = read_intent(storage_dir)
    except (DatabaseDamaged, OSError):
        return True
    return decided is not None and decided.operation == intent.operation


def note_done(storage_dir: Path, intent: Intent) -> None:
    """Note what was restored, for `/api/health` and for repeated requests, and the previous database for an undo."""
    if intent.previous is not None or intent.undone is not None:
        note_previous(storage_dir, intent.previous, intent.undone)
    done = LastRestore(intent.operation, intent.restored)
    small_files.write(storage_dir / data_folders.LAST_RESTORE, done)


def remove_intent(storage_dir: Path, name: str = data_folders.INTENT) -> None:
    remove_durably(storage_dir / name)


def intent_exists(storage_dir: Path) -> bool:
    """True if there is an intent, readable or not."""
    return (storage_dir / data_folders.INTENT).exists()


def stage(storage_dir: Path, intent: Intent) -> None:
    """Decide that the next start of the service swaps, in place of the restore that was staged before.

    The new file replaces the earlier one at once, so that one of the two is staged at any instant. The folder that the
    earlier one built goes afterwards, at the latest at the next start.
    """
    earlier = read_intent(storage_dir, data_folders.STAGED_RESTORE)
    write_intent(storage_dir, intent, data_folders.STAGED_RESTORE)
    if earlier is not None and earlier.new_database != intent.new_database:
        with contextlib.suppress(OSError):
            remove_durably(storage_dir / Path(earlier.new_database).parts[0])


def discard_staged(storage_dir: Path, newer: Intent) -> None:
    """Discard the staged restore that `newer` replaces."""
    staged = read_intent(storage_dir, data_folders.STAGED_RESTORE) if newer.discards is not None else None
    if staged is not None and staged.new_database == newer.discards:
        remove_intent(storage_dir, data_folders.STAGED_RESTORE)
        remove_durably(storage_dir / Path(staged.new_database).parts[0])


def notes_of_discarded(staged: Intent | None) -> list[str]:
    """Return the notes of a restore that discards `staged`; none if nothing is staged."""
    if staged is None:
        return []
    return [f"a restore of {staged.restored.source} that was staged for the next start was dropped for this one"]
