"""The identity of this installation: its id and its key, in files beside the archives and beside the database.

The id tells a lost database from a new installation, and our archives from those that were copied in. Each folder has
it in a file with a checksum and, for EventVault 0.1.0, as a plain text.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import suppress
from pathlib import Path

from eventvault.backups import installation_key
from eventvault.backups.installation_folder import check_folder, is_changed
from eventvault.backups.installation_id import (
    has_no_database,
    read_checked,
    read_from_journal,
    read_plain,
    write_id,
)
from eventvault.damage import as_answer
from eventvault.errors import BackupsUnavailable, EventVaultError, TooBusy
from eventvault.progress import Turn
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

_ensuring = Turn("check of the files of this installation")
"""Held while files are examined and written: a backup and the journal may do so at the same time."""


def installation_of(settings: Settings) -> str:
    """Return the id, made at the first call. Raises BackupsUnavailable if an id may exist but cannot be read.

    The id in BACKUP_DIR counts, and the one in STORAGE_DIR is a copy. If BACKUP_DIR has another installation's key, the
    id in STORAGE_DIR counts, unless its database is lost. If both are missing, the id comes from the journal's record:
    BACKUP_DIR was copied without its hidden files. If a folder cannot be written to, the service starts anyway; a later
    backup writes the id there.
    """
    if has_no_database(settings):
        try:
            installation_key.yield_to_backups(settings)
        except OSError as error:
            raise _unavailable("choosing", error) from error
    identity = _present_id(settings) or secrets.token_hex(8)
    try:
        ensure_installation(settings, identity)
    except EventVaultError as error:
        log.warning("%s", error)
    return identity


def ensure_installation(settings: Settings, identity: str) -> None:
    """Make sure that both folders exist and hold the id and the key, also after one of them was deleted.

    Without the id, archives are not recognised as ours if the database is lost. Raises BackupsUnavailable, NoSpace, or
    BackupsChanged if BACKUP_DIR belongs to another installation; then nothing is written.
    """
    with suppress(BackupsUnavailable, TooBusy):  # `ensure_key` raises it again below
        installation_key.load_keys(settings)
    _write_id(settings.storage_dir, identity)
    check_folder(settings)
    _write_id(settings.backup_dir, identity)
    installation_key.ensure_key(settings)


def _write_id(folder: Path, identity: str) -> None:
    try:
        with _ensuring.held():
            write_id(folder, identity)
    except OSError as error:
        raise _unavailable("writing", error) from error


def _present_id(settings: Settings) -> str | None:
    """Return the id that counts; None if there is none. Raises if a file cannot be read and no other one has an id."""
    folders = [settings.backup_dir, settings.storage_dir]
    if installation_key.has_foreign_backups(settings) or is_changed(settings):
        folders.reverse()
    files = [(read, folder) for folder in folders for read in (read_checked, read_plain)]
    failures = []
    for read, folder in [*files, (read_from_journal, settings.backup_dir)]:
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
        raise _unavailable("reading", failures[0]) from failures[0]
    return None


def _unavailable(doing: str, error: OSError) -> EventVaultError:
    return as_answer(f"{doing} the id of this installation", error, BackupsUnavailable)
