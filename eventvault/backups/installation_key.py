"""The secret key of this installation, which proves the origin of its archives. BACKUP_DIR and STORAGE_DIR have it.

The key in STORAGE_DIR counts. The one in BACKUP_DIR counts if STORAGE_DIR has none, or if its database is lost; but if
STORAGE_DIR has a database and the id of another installation, BACKUP_DIR is not ours. A key is never overwritten
unless an operator asks for a new one. Otherwise a new key is made only if both files are surely missing.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.backups.installation_id import has_no_database, peek_id
from eventvault.damage import as_answer
from eventvault.errors import BackupsChanged, BackupsUnavailable, EventVaultError
from eventvault.files import is_there, make_folder, remove_durably
from eventvault.progress import Turn
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("BackupManager")

KEY_BYTES = 32
_ensuring = Turn("check of the key of this installation")
"""Held while files are examined and written: a backup and the journal may do so at the same time."""


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    key: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * KEY_BYTES}}}$")]


def ensure_key(settings: Settings) -> bytes:
    """Return the key. Makes one if there is none, and copies it to the folder that has none.

    Raises BackupsChanged if the folders have different keys; BackupsUnavailable if one cannot be read; NoSpace.
    """
    with _ensuring.held():
        stored, beside_archives = load_keys(settings)
        key = stored or beside_archives or secrets.token_bytes(KEY_BYTES)
        try:
            for path, present in zip(_paths(settings), (stored, beside_archives), strict=True):
                if present is None:
                    _add(path, key, settings)
        except OSError as error:
            raise _unavailable("writing the key of this installation", error) from error
        return key


def renew_key(settings: Settings) -> None:
    """Make a new key in place of the old one, which goes to a file beside it. Raises as `ensure_key` does.

    At no instant do the folders have different keys: BACKUP_DIR has none until STORAGE_DIR has the new one.
    """
    old = ensure_key(settings)
    in_storage, in_backups = _paths(settings)
    with _ensuring.held():
        load_keys(settings)
        try:
            replaced = small_files.free_path(in_storage, data_folders.REPLACED_SUFFIX)
            small_files.write(replaced, _KeyFile(1, old.hex()), replace=False, mode=0o600)
            remove_durably(in_backups)
            small_files.write(in_storage, _KeyFile(1, secrets.token_bytes(KEY_BYTES).hex()), mode=0o600)
        except OSError as error:
            raise _unavailable("writing a new key", error) from error
    ensure_key(settings)


def load_keys(settings: Settings) -> tuple[bytes | None, bytes | None]:
    """Return the keys in STORAGE_DIR and BACKUP_DIR; None if there is none.

    None also for a damaged copy in BACKUP_DIR, if STORAGE_DIR has the key. Raises as `ensure_key` does, except NoSpace.
    """
    in_storage, in_backups = _paths(settings)
    try:
        stored = read_key(in_storage)
        try:
            beside_archives = read_key(in_backups)
        except SmallFileDamaged:
            if stored is None:
                raise
            beside_archives = None
        strange = stored is None and beside_archives is not None and _names_another_installation(settings)
    except SmallFileDamaged as error:
        raise BackupsUnavailable(
            f"the key of this installation is damaged: {error}",
            hint="move that file out of its folder: the copy in the other folder, or else a new key, takes its place",
        ) from error
    except OSError as error:
        raise _unavailable("reading the key of this installation", error) from error
    if strange or (stored and beside_archives and not hmac.compare_digest(stored, beside_archives)):
        raise _changed(settings)
    return stored, beside_archives


def present_key(settings: Settings) -> bytes | None:
    """Return the key that counts; None if there is none, or if it cannot be read."""
    with suppress(EventVaultError):
        return next(filter(None, load_keys(settings)), None)
    with suppress(OSError, SmallFileDamaged):
        return read_key(_paths(settings)[0])
    return None


def read_key(path: Path) -> bytes | None:
    """Return the key in a file; None if there is no file. Raises SmallFileDamaged, OSError."""
    try:
        return bytes.fromhex(small_files.read(path, _KeyFile).key)
    except FileNotFoundError:
        return None


def check_readable(settings: Settings) -> None:
    """Raise BackupsUnavailable if a key is there that cannot be read now: a later try may prove more."""
    for path in _paths(settings):
        try:
            with suppress(SmallFileDamaged):
                read_key(path)
        except OSError as error:
            raise _unavailable("reading the key of this installation", error) from error


def has_foreign_backups(settings: Settings) -> bool:
    """Return True if BACKUP_DIR has another key than STORAGE_DIR."""
    try:
        load_keys(settings)
    except BackupsChanged:
        return True
    except EventVaultError:
        pass
    return False


def yield_to_backups(settings: Settings) -> None:
    """Rename the key in STORAGE_DIR if BACKUP_DIR has another one, which then counts. Raises OSError."""
    if has_foreign_backups(settings):
        replaced = small_files.rename_to_free(_paths(settings)[0], data_folders.REPLACED_SUFFIX)
        log.warning("the database is lost, so the key in BACKUP_DIR is used; the other one is now %s", replaced)


def _names_another_installation(settings: Settings) -> bool:
    """Return True if BACKUP_DIR has the id of another installation than the database in STORAGE_DIR. Raises OSError."""
    ids = [peek_id(folder) for folder in (settings.storage_dir, settings.backup_dir)]
    return None not in ids and ids[0] != ids[1] and not has_no_database(settings)


def _paths(settings: Settings) -> tuple[Path, Path]:
    """Return the key's files, in the order in which they are written."""
    name = data_folders.INSTALLATION_KEY
    return settings.storage_dir / name, settings.backup_dir / name


def _add(path: Path, key: bytes, settings: Settings) -> None:
    """Write the key to a file that does not exist; a damaged copy is quarantined first."""
    make_folder(path.parent)
    if is_there(path):  # a link that leads nowhere too
        log.warning("%s is damaged; it is now %s", path, small_files.quarantine(path))
    for_group = settings.file_group_read and path.parent == settings.backup_dir
    small_files.write(path, _KeyFile(1, key.hex()), replace=False, mode=0o640 if for_group else 0o600)


def _changed(settings: Settings) -> BackupsChanged:
    in_storage, in_backups = _paths(settings)
    return BackupsChanged(
        f"{in_backups.parent} belongs to another installation: the key {in_backups} is not that of {in_storage.parent}",
        hint="nothing is written there until they agree. Stop the service; correct BACKUP_DIR, or move "
        f"{in_backups} and the other files that begin with .installation out of it if they were copied in from "
        "elsewhere. If this service was set up anew for these backups, move the same files out of "
        f"{in_storage.parent} instead. "
        "Then start the service",
    )


def _unavailable(doing: str, error: OSError) -> EventVaultError:
    return as_answer(doing, error, BackupsUnavailable)
