"""BACKUP_DIR/.installation.storage.json: where the file system of STORAGE_DIR is mounted.

If that disk is not mounted at a start, the folder beneath it looks like a lost database. Recovering there would begin a
second history while the first one is only out of sight, so such a start is refused.
"""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.backups.installation_folder import check_folder
from eventvault.backups.installation_id import has_no_database
from eventvault.errors import DatabaseMissing, EventVaultError
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("BackupManager")


class _StorageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """mount: the absolute path of the mount point that STORAGE_DIR is on, or below."""

    format: Literal[1]
    mount: str


def note_mount(settings: Settings) -> None:
    """Note where STORAGE_DIR is mounted, now that its database is open. If that fails, a later start does it."""
    try:
        present = str(_mount_point(settings))
        noted = small_files.read_or_quarantine(_path(settings), _StorageFile)
        if noted != _StorageFile(1, present):
            check_folder(settings)
            small_files.write(_path(settings), _StorageFile(1, present))
    except (EventVaultError, OSError) as error:
        log.warning("could not record in %s where STORAGE_DIR is mounted: %s", settings.backup_dir, error)


def check_mounted(settings: Settings) -> None:
    """Raise DatabaseMissing if there is no database and nothing is mounted any more where STORAGE_DIR was."""
    noted = _read_mount(settings) if has_no_database(settings) else None
    if noted is None or _is_mount(Path(noted)) or not _storage(settings).is_relative_to(noted):
        return
    raise DatabaseMissing(
        f"{settings.database} is missing, and so is the disk that was mounted at {noted}: nothing is recovered or "
        "begun anew beneath it",
        hint="mount that disk and restart the service. If it is gone for good, recover here with flask backup "
        f"recover, or remove {_path(settings)} to start as AUTO_RECOVER says",
    )


def _read_mount(settings: Settings) -> str | None:
    """Return what was noted. Changes nothing in BACKUP_DIR, which may be another installation's. Raises OSError."""
    try:
        return small_files.read(_path(settings), _StorageFile).mount
    except (FileNotFoundError, NotADirectoryError, SmallFileDamaged):
        return None


def _path(settings: Settings) -> Path:
    return settings.backup_dir / data_folders.INSTALLATION_STORAGE


def _storage(settings: Settings) -> Path:
    return settings.storage_dir.resolve()


def _mount_point(settings: Settings) -> Path:
    storage = _storage(settings)
    return next(folder for folder in (storage, *storage.parents) if _is_mount(folder))


def _is_mount(folder: Path) -> bool:
    """Return True for a mount point. Raises OSError, where `os.path.ismount` returns False."""
    try:
        status, above = folder.lstat(), (folder / "..").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISLNK(status.st_mode) and (status.st_dev != above.st_dev or status.st_ino == above.st_ino)
