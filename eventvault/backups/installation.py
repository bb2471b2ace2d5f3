"""Which installation this is: told apart from another's by an id that lies beside the archives and the database.

It is how a lost database is known from a new installation, and our archives from those that were copied in.
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
    """The id, made at the first call. The one in BACKUP_DIR counts, STORAGE_DIR holds a second copy.

    Where both are gone the journal's record tells it: BACKUP_DIR was copied without its hidden files.

    A folder that cannot be written to keeps nobody from serving: the id is written there by a later backup.
    """
    known = []
    for place in _places(settings):
        with contextlib.suppress(OSError):
            known.append(_read(place))
    identity = next(filter(None, known), None) or _id_from_journal(settings.backup_dir) or secrets.token_hex(8)
    try:
        ensure_installation(settings, identity)
    except (BackupsUnavailable, NoSpace) as error:
        log.warning("%s", error)
    return identity


def ensure_installation(settings: Settings, identity: str) -> None:
    """See to it that both folders are there and hold the id; one that was removed and made anew gets it again.

    Archives without it would not be known as ours when the database is lost. Raises BackupsUnavailable or NoSpace.
    """
    try:
        for place in reversed(_places(settings)):
            if _read(place) != identity:
                make_folder(place.parent)
                write_durably(place, identity.encode())
    except OSError as error:
        raise BackupsUnavailable(
            f"the id of this installation could not be written: {error}",
            hint="see to it that BACKUP_DIR and STORAGE_DIR can be made, read and written by the service",
        ) from error


class _JournalRecord(msgspec.Struct):
    """Of the journal's record (`eventvault.journal.folder.JournalRecord`) what is needed here."""

    installation: str


def _id_from_journal(backup_dir: Path) -> str | None:
    try:
        return msgspec.json.decode(
            (backup_dir / "journal" / "registry.json").read_bytes(), type=_JournalRecord
        ).installation
    except (OSError, msgspec.MsgspecError):
        return None


def _places(settings: Settings) -> list[Path]:
    """In the order in which they count; written in reverse, as STORAGE_DIR is the surer one."""
    return [settings.backup_dir / data_folders.INSTALLATION, settings.storage_dir / data_folders.INSTALLATION]


def _read(place: Path) -> str | None:
    try:
        return place.read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
