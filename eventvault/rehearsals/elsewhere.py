"""Rehearses from a copy of BACKUP_DIR, on any machine. Nothing is written to the copy: it may be read-only.

The key in the copy proves its archives, as in a recovery after `storage/` was lost.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

from eventvault import data_folders, small_files
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.installation_id import peek_id, read_from_journal
from eventvault.backups.installation_key import read_key
from eventvault.backups.trust import TrustList
from eventvault.damage import as_answer
from eventvault.errors import BackupNotFound, BackupsChanged, BackupsUnavailable, InvalidInput
from eventvault.files import make_folder
from eventvault.journal.folder import JournalFolder
from eventvault.rehearsals.rehearse import Rehearser
from eventvault.rehearsals.results import Rehearsal
from eventvault.rehearsals.sources import BackupSources
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.small_files import SmallFileDamaged


def rehearse_copy(settings: Settings, folder: Path, wanted: Moment | str | None) -> Rehearsal:
    """Rehearse a restore from a copy of BACKUP_DIR in `folder`, in a scratch folder of this machine's STORAGE_DIR.

    Raises as `Rehearser.rehearse` does, and InvalidInput if there is no such folder.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder", hint="name a copy of backups/")
    small_files.leave_untouched(folder)
    settings = dataclasses.replace(settings, backup_dir=folder)
    try:
        make_folder(settings.storage_dir)
        return _rehearser(settings).rehearse(wanted)
    except BackupNotFound as error:
        raise BackupNotFound(str(error), hint=f"name a folder, and an archive, as `ls {folder}` shows it") from error
    except OSError as error:
        raise as_answer(f"rehearsing from {folder}", error, BackupsUnavailable) from error


def _rehearser(settings: Settings) -> Rehearser:
    folder = settings.backup_dir
    catalogue = Catalogue(
        folder,
        peek_id(folder) or read_from_journal(folder) or "",
        key=lambda: _key_in(folder),
        trust=TrustList(settings).trust,
        check_folder=lambda: _refuse_writes(folder),
    )
    return Rehearser(settings, BackupSources(settings, catalogue, JournalFolder(folder)))


def _key_in(folder: Path) -> bytes | None:
    with suppress(OSError, SmallFileDamaged):
        return read_key(folder / data_folders.INSTALLATION_KEY)
    return None


def _refuse_writes(folder: Path) -> None:
    raise BackupsChanged(f"nothing is written to {folder}", hint="it is a copy that is only read")
