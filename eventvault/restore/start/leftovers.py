"""Unfinished files of killed processes: found before this store serves, removed once the start knows which it needs.

A store answers while it starts, and has temporary files and folders of its own then. So only those that exist before
its first answer are leftovers.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from eventvault import data_folders
from eventvault.backups.uploads import is_abandoned
from eventvault.errors import DatabaseDamaged
from eventvault.files import matching, remove_durably
from eventvault.restore.swap.intent import read_intent

log = logging.getLogger("BackupManager")

_FILES = f".*{data_folders.TEMPORARY_SUFFIX}"
_OF_OTHERS = (
    data_folders.UPLOAD_PREFIX,
    f".{data_folders.TOKENS}.",
    f".{data_folders.SESSIONS}.",
    f".{data_folders.JOBS_WORKER}.",
)
"""Begin the names of files that other processes write, perhaps at this moment: they are removed once abandoned."""


class Leftovers:
    """Create it before the store serves. Only the owner of the database may remove them."""

    def __init__(self, storage_dir: Path, backup_dir: Path) -> None:
        self._storage_dir = storage_dir
        folders = [f"{prefix}*" for prefix in data_folders.STORAGE_TEMPORARY_PREFIXES]
        self._in_storage = _found(storage_dir, _FILES, *folders)
        self._in_backups = [path for path in _found(backup_dir, _FILES) if not path.is_dir()]

    def remove_from_storage(self) -> None:
        """Remove the files, and the folders that no intent names.

        While the staged restore cannot be read, as a take-over may find, no folder that it may name is removed.
        """
        needed: tuple[str, ...] = ()
        intents = [read_intent(self._storage_dir)]
        try:
            intents.append(read_intent(self._storage_dir, data_folders.STAGED_RESTORE))
        except DatabaseDamaged as error:
            log.warning("%s", error)
            needed = (data_folders.RESTORING_PREFIX,)
        needed += tuple(Path(intent.new_database).parts[0] for intent in intents if intent is not None)
        _remove([path for path in self._in_storage if not path.name.startswith(needed)])

    def remove_from_backups(self) -> None:
        _remove(self._in_backups)


def _found(folder: Path, *patterns: str) -> list[Path]:
    with contextlib.suppress(OSError):  # the start says so; the next one finds them
        return [path for pattern in patterns for path in matching(folder, pattern)]
    return []


def _remove(leftovers: list[Path]) -> None:
    for path in leftovers:
        try:
            if not path.name.startswith(_OF_OTHERS) or is_abandoned(path):
                remove_durably(path)
        except FileNotFoundError:
            continue
        except OSError as error:  # for example on a read-only disk: the database can be read nevertheless
            log.warning("%s cannot be removed before the next start: %s", path, error)
