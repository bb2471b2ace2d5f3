"""The id of this installation, in a file beside the archives and another one beside the database.

It tells a lost database from a new installation, and our archives from those that were copied in.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.errors import BackupsUnavailable, NoSpace
from eventvault.files import make_folder, write_durably
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


def installation_of(settings: Settings) -> str:
    """Return the id, made at the first call. The file in BACKUP_DIR counts, the one in STORAGE_DIR is a copy.

    If both are missing, the id comes from the journal's record: BACKUP_DIR was copied without its hidden files.
    If a folder cannot be written to, the service starts anyway; a later backup writes the id there.
    """
    ids = []
    for path in _id_files(settings):
        with contextlib.suppress(OSError):
            ids.append(_read(path))
    identity = next(filter(None, ids), None) or _id_from_journal(settings.backup_dir) or secrets.token_hex(8)
    try:
        ensure_installation(settings, identity)
    except (BackupsUnavailable, NoSpace) as error:
        log.warning("%s", error)
    return identity


def ensure_installation(settings: Settings, identity: str) -> None:
    """Make sure that both folders exist and hold the id, also after one of them was deleted.

    Without the id, archives are not recognised as ours if the database is lost. Raises BackupsUnavailable or NoSpace.
    """
    try:
        for path in reversed(_id_files(settings)):
            if _read(path) != identity:
                make_folder(path.parent)
                write_durably(path, identity.encode())
    except OSError as error:
        raise BackupsUnavailable(
            f"the id of this installation could not be written: {error}",
            hint="make sure that the service may create, read and write BACKUP_DIR and STORAGE_DIR",
        ) from error


class _JournalRecord(msgspec.Struct):
    installation: str


def _id_from_journal(backup_dir: Path) -> str | None:
    try:
        return msgspec.json.decode(
            (backup_dir / "journal" / "registry.json").read_bytes(), type=_JournalRecord
        ).installation
    except (OSError, msgspec.MsgspecError):
        return None


def _id_files(settings: Settings) -> list[Path]:
    """Return the files by precedence. They are written in reverse, as STORAGE_DIR is the more reliable one."""
    return [settings.backup_dir / data_folders.INSTALLATION, settings.storage_dir / data_folders.INSTALLATION]


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
