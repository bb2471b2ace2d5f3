"""What health says of small files that are damaged, or that belong to another installation."""

from __future__ import annotations

from pathlib import Path

from eventvault import data_folders, small_files
from eventvault.backups.installation_key import load_keys
from eventvault.backups.trust import TrustList
from eventvault.errors import BackupsUnavailable, EventVaultError
from eventvault.settings import Settings

Problem = dict[str, str]
"""`code`, `message` and `hint`."""


def file_problems(settings: Settings) -> list[Problem]:
    """Return the problems. Reads two files and lists two folders. Never raises."""
    catalogue = settings.backup_dir / data_folders.CATALOGUE
    problems = [_damaged_catalogue(path) for path in small_files.quarantined(catalogue)]
    shared_runs = settings.backup_dir / data_folders.SHARED_RUNS
    problems += [_damaged_shared_runs(path) for path in small_files.quarantined(shared_runs)]
    trusted = settings.storage_dir / data_folders.TRUSTED
    problems += [_damaged_trust(path) for path in small_files.quarantined(trusted)]
    problems += _unreadable_trust(settings)
    for folder in (settings.storage_dir, settings.backup_dir):
        for name in (data_folders.CHECKED_INSTALLATION, data_folders.INSTALLATION_KEY):
            problems += [_damaged_identity(path) for path in small_files.quarantined(folder / name)]
    try:
        load_keys(settings)
    except EventVaultError as error:
        problems.append({"code": error.code, "message": error.message, "hint": error.hint})
    return problems


def _damaged_catalogue(path: Path) -> Problem:
    return {
        "code": "catalogue_damaged",
        "message": f"the catalogue of the backups was damaged; it is {path} now, and a new one was made from the "
        "archives. Pins may be lost",
        "hint": "pin the archives again that rotation must not remove; the damaged file may still show them. Then "
        "remove it",
    }


def _damaged_shared_runs(path: Path) -> Problem:
    return {
        "code": "shared_runs_damaged",
        "message": f"the note of what archives share on the disk was damaged; it is {path} now. Archives count as if "
        "they shared nothing",
        "hint": "check that disk, then remove the damaged file",
    }


def _unreadable_trust(settings: Settings) -> list[Problem]:
    try:
        TrustList(settings).entries()
    except BackupsUnavailable as error:
        return [
            {
                "code": "trust_unreadable",
                "message": f"{error.message}; until then only this installation's own archives are trusted",
                "hint": "make it readable for the user of the service, and run `flask backup trust` as that user",
            }
        ]
    return []


def _damaged_trust(path: Path) -> Problem:
    return {
        "code": "trust_damaged",
        "message": f"the list of what is trusted was damaged; it is {path} now, and only this installation's own "
        "archives are trusted",
        "hint": "trust the other keys and archives again with `flask backup trust`, then remove the damaged file",
    }


def _damaged_identity(path: Path) -> Problem:
    return {
        "code": "installation_damaged",
        "message": f"a file with the identity of this installation was damaged; it is {path} now, and a copy took its "
        "place",
        "hint": "check that disk, then remove the damaged file",
    }
