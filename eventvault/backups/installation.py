"""The identity of this installation: its id and its key, in files beside the archives and beside the database.

The id tells a lost database from a new installation, and our archives from those that were copied in. Each folder has
it in a file with a checksum and, for EventVault 0.1.0, as a plain text.
"""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.backups import installation_key
from eventvault.errors import BackupsChanged, BackupsUnavailable, NoSpace
from eventvault.files import make_folder, write_durably
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged

log = logging.getLogger("BackupManager")

_ensuring = threading.Lock()
"""Held while files are examined and written: a backup and the journal may do so at the same time."""


class _IdFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    installation: str


def installation_of(settings: Settings) -> str:
    """Return the id, made at the first call. Raises BackupsUnavailable if an id may exist but cannot be read.

    The id in BACKUP_DIR counts, and the one in STORAGE_DIR is a copy. If BACKUP_DIR has another installation's key, the
    id in STORAGE_DIR counts, unless its database is lost. If both are missing, the id comes from the journal's record:
    BACKUP_DIR was copied without its hidden files. If a folder cannot be written to, the service starts anyway; a later
    backup writes the id there.
    """
    if _has_no_database(settings):
        try:
            installation_key.yield_to_backups(settings)
        except OSError as error:
            raise _unavailable("could not be chosen", error) from error
    identity = _present_id(settings) or secrets.token_hex(8)
    try:
        ensure_installation(settings, identity)
    except (BackupsChanged, BackupsUnavailable, NoSpace) as error:
        log.warning("%s", error)
    return identity


def ensure_installation(settings: Settings, identity: str) -> None:
    """Make sure that both folders exist and hold the id and the key, also after one of them was deleted.

    Without the id, archives are not recognised as ours if the database is lost. Raises BackupsUnavailable, NoSpace, or
    BackupsChanged if BACKUP_DIR belongs to another installation; then nothing is written.
    """
    with suppress(BackupsUnavailable):  # `ensure_key` raises it again below
        installation_key.load_keys(settings)
    try:
        with _ensuring:
            for folder in (settings.storage_dir, settings.backup_dir):
                _write_id(folder, identity)
    except OSError as error:
        raise _unavailable("could not be written", error) from error
    installation_key.ensure_key(settings)


def installation_beside(key: Path) -> str | None:
    """Return the id of the installation whose key's file this is, if its folder has one. Changes nothing there."""
    with suppress(OSError, SmallFileDamaged):
        return small_files.read(key.with_name(data_folders.CHECKED_INSTALLATION), _IdFile).installation
    return None


def _present_id(settings: Settings) -> str | None:
    """Return the id that counts, None if there is none. A file that cannot be read is passed over."""
    folders = [settings.backup_dir, settings.storage_dir]
    if installation_key.has_foreign_backups(settings):
        folders.reverse()
    files = [(read, folder) for folder in folders for read in (_read_checked, _read_plain)]
    failures = []
    for read, folder in [*files, (_read_from_journal, settings.backup_dir)]:
        try:
            identity = read(folder)
        except NotADirectoryError:
            continue
        except OSError as error:
            failures.append(error)
            continue
        if identity is not None:
            return identity
    if failures:
        raise _unavailable("cannot be read", failures[0]) from failures[0]
    return None


def _has_no_database(settings: Settings) -> bool:
    """Return True if STORAGE_DIR is new or its database is lost; a swap that was interrupted has one elsewhere."""
    intent = settings.storage_dir / data_folders.INTENT
    return not (settings.database / "CURRENT").exists() and not intent.exists()


def _write_id(folder: Path, identity: str) -> None:
    make_folder(folder)
    if _read_plain(folder) != identity:
        write_durably(folder / data_folders.INSTALLATION, identity.encode())
    if _read_checked(folder) != identity:
        small_files.write(folder / data_folders.CHECKED_INSTALLATION, _IdFile(1, identity))


def _read_checked(folder: Path) -> str | None:
    document = small_files.read_or_quarantine(folder / data_folders.CHECKED_INSTALLATION, _IdFile)
    return document.installation if document else None


def _read_plain(folder: Path) -> str | None:
    try:
        return (folder / data_folders.INSTALLATION).read_text().strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


class _JournalRecord(msgspec.Struct):
    installation: str


def _read_from_journal(backup_dir: Path) -> str | None:
    record = backup_dir / data_folders.JOURNAL / data_folders.JOURNAL_RECORD
    try:
        return msgspec.json.decode(record.read_bytes(), type=_JournalRecord).installation
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _unavailable(what: str, error: OSError) -> BackupsUnavailable:
    return BackupsUnavailable(
        f"the id of this installation {what}: {error}",
        hint="make sure that the service may create, read and write BACKUP_DIR and STORAGE_DIR",
    )
