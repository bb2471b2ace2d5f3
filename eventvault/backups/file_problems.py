"""What health says of small files that are damaged, or that belong to another installation."""

from __future__ import annotations

from eventvault import data_folders
from eventvault.backups.installation_key import load_keys
from eventvault.backups.trust import TrustList
from eventvault.errors import EventVaultError
from eventvault.problems import CHECK_DISK, Problem, damaged_file
from eventvault.settings import Settings
from eventvault.small_files import QuarantinedFiles, name_before

_COPY = "a copy took its place"
_NEW_FILE = "a new file took its place"
_SCHEDULE = "what the schedule missed before this start is not made up for"
LOSSES = {
    data_folders.CATALOGUE: "a new catalogue was made from the archives; .annotations.json has the pins",
    data_folders.ANNOTATIONS: "the archives stay pinned, without a reason and an end, and the results of rehearsals "
    "are lost",
    data_folders.INSTALLATION: _COPY,
    data_folders.CHECKED_INSTALLATION: _COPY,
    data_folders.INSTALLATION_KEY: _COPY,
    data_folders.INSTALLATION_FOLDER: _COPY,
    data_folders.INSTALLATION_STORAGE: "the next start notes again where STORAGE_DIR is mounted",
    data_folders.PROBLEMS: "problems that were reported or accepted before may be forgotten",
    data_folders.NOTIFICATIONS: "notifications that were not delivered are lost; open problems are told again",
    data_folders.SERVICES: "what lies in restore/, and a staged restore, wait for the next start of the service",
    data_folders.PREVIOUS_DATABASES: "the list for undo lacks when the databases were replaced, and by what",
    data_folders.RESTORE_MEMORY: _COPY,
    data_folders.LAST_RESTORE: "what the last restore did is not shown any more",
    data_folders.RESTORE_SPEEDS: "restores are predicted less well",
    data_folders.REHEARSALS: "the results of earlier rehearsals are not shown any more",
    data_folders.ARCHIVED_TABLES: "the next backup reads every table",
    data_folders.JOURNAL_RECORD: "a new one was made from the database",
    data_folders.SHARED_RUNS: "archives count as if they shared nothing on the disk",
    data_folders.SESSIONS: "everybody who was signed in signs in again",
    data_folders.TOKENS: "the other copy took its place; if there was none, no token that was made before is valid",
    data_folders.TRUSTED: "only this installation's own archives are trusted",
    data_folders.INITIALIZE_LOCK: _NEW_FILE,
    data_folders.SPAWN_LOCK: _NEW_FILE,
    data_folders.OWNER_LOCK: _NEW_FILE,
    data_folders.SOCKET: _NEW_FILE,
    data_folders.INTERVAL_SCHEDULE: _SCHEDULE,
    data_folders.CRON_SCHEDULE: _SCHEDULE,
    data_folders.REHEARSAL_SCHEDULE: _SCHEDULE,
    data_folders.AUDIT_NOTE: "the audit names the line up to which it was not noted",
    data_folders.KAFKA_ACCEPTED: "partitions whose loss was accepted, and that are stopped still, stay stopped",
    data_folders.CLOCK: "the clock is believed as at a first start",
}
"""Name of a small file → what its loss means. The record of an operation is not named: it lasts for a day only."""

_CODES = {
    data_folders.CATALOGUE: "catalogue_damaged",
    data_folders.SHARED_RUNS: "shared_runs_damaged",
    data_folders.TOKENS: "tokens_damaged",
    data_folders.TRUSTED: "trust_damaged",
} | dict.fromkeys(
    [data_folders.INSTALLATION, data_folders.CHECKED_INSTALLATION, data_folders.INSTALLATION_KEY],
    "installation_damaged",
)
_HINTS = {
    data_folders.ANNOTATIONS: "pin the archives again whose pin shall have a reason or an end; the damaged file may "
    "still show them. Then remove it",
    data_folders.TOKENS: "see which tokens there are with `flask tokens list`, then remove the damaged file",
    data_folders.TRUSTED: "trust the other keys and archives again with `flask backup trust`, then remove the damaged "
    "file",
}


class FileProblems:
    """The problems of the small files in the data folders. `problems` reads two files and never raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        storage, backups = settings.storage_dir, settings.backup_dir
        journal = backups / data_folders.JOURNAL
        self._quarantined = QuarantinedFiles([storage, backups, journal, journal / data_folders.DEAD_LETTERS])

    def problems(self) -> list[Problem]:
        damaged = [(path, name_before(path)) for path in self._quarantined.present()]
        problems = [
            damaged_file(path, loss, _HINTS.get(name, CHECK_DISK), _CODES.get(name, "file_damaged"))
            for path, name in damaged
            if (loss := _loss_of(name))
        ]
        problems += _unreadable_trust(self._settings)
        try:
            load_keys(self._settings)
        except EventVaultError as error:
            problems.append(Problem(error.code, error.message, error.hint))
        return problems


def _loss_of(name: str) -> str | None:
    if name.startswith(data_folders.LETTERS_PREFIX):
        return "quarantined messages that only it has are lost here; the topics of dead letters have them"
    return LOSSES.get(name)


def _unreadable_trust(settings: Settings) -> list[Problem]:
    try:
        TrustList(settings).entries()
    except EventVaultError as error:
        message = f"{error.message}; until then only this installation's own archives are trusted"
        hint = "make it readable for the user of the service, and run `flask backup trust` as that user"
        return [Problem("trust_unreadable", message, hint)]
    return []
