"""The names of all files and folders that EventVault makes below STORAGE_DIR, BACKUP_DIR and RESTORE_DIR.

`docs/format.md` describes the files. The names are part of the format: installations have them on disk, so they must
not change.
"""

from __future__ import annotations

# Below STORAGE_DIR.
DATABASE = "event_registry_db"
"""The live database; an archive has it in a folder of the same name."""
DATABASE_MARK = "EVENTVAULT"
"""An empty file in the database folder that marks a database of EventVault."""
FILLING = ".filling"
"""An empty file in the folder of the database, if that cannot be renamed, while its files are replaced."""
PREVIOUS_PREFIX = "previous-"
"""Folders of previous databases, which an undo can bring back."""
PREVIOUS_DATABASES = "kept.json"
CUT_OFF = "cut_off"
"""Folder of the torn ends of logs, which were cut off before the database was opened."""
DAMAGED_TABLES = "damaged_tables"
"""Folder of damaged tables in whose place a whole copy was put."""
TEMPORARY_FOLDER = "tmp"
"""Folder of temporary files, if the system has no other."""
SOCKET = "store.sock"
SPAWN_LOCK = "spawn.lock"
OWNER_LOCK = "owner.lock"
INITIALIZE_LOCK = "initialize.lock"
SERVICES = "services.json"
LAST_WORDS = "last_words.txt"
"""What Python wrote when a fatal signal ended the store; zeros if none did."""
STARTING = "starting"
"""Folder of announced starts of the service: `<process id of the master>`, with the id of the start."""
INTENT = "restore_intent.json"
STAGED_RESTORE = "restore_staged.json"
LAST_RESTORE = "last_restore.json"
CLOCK = "clock.json"
RESTORE_SPEEDS = "restore_speeds.json"
REHEARSALS = "rehearsals.json"
REHEARSAL_SCHEDULE = "schedule_rehearsal.json"
ARCHIVED_TABLES = "archived_tables.json"
PROBLEMS = "problems.json"
INTERVAL_SCHEDULE = "schedule_interval.json"
CRON_SCHEDULE = "schedule_cron.json"
NOTIFICATIONS = "notifications.json"
"""What is to be told to NOTIFY_URLS, and what was."""
OPERATIONS = "operations"
"""Folder of `<operation id>.json`: the answers of calls that change something, for requests that are sent again."""
KEY_SUFFIX = ".key"
"""Ends the name of a file in OPERATIONS that has the answer to a request with an `Idempotency-Key`."""
KEYS_LOCK = ".keys.lock"
EXPORTS = "exports"
"""Folder of `<operation id>.ndjson.gz`: the events that an export wrote, for a day."""
SESSIONS = "sessions.json"
SESSIONS_LOCK = ".sessions.lock"
TRUSTED = ".trusted.json"
"""The keys and archives of other installations that an operator trusts."""
RESTORING_PREFIX = ".restoring-"
"""Folders in which a restore builds the new database."""
CHECKPOINT_PREFIX = ".checkpoint-"
PAST_PREFIX = ".past-"
"""Folders of databases that serve readers of the past."""
REHEARSAL_PREFIX = ".rehearsal-"
"""Folders in which a rehearsal restores; a lock in each tells whether somebody uses it."""
CREATING_PREFIX = f".{DATABASE}."
"""Folders in which an empty database is created before it takes its name."""
STORAGE_TEMPORARY_PREFIXES = (RESTORING_PREFIX, CHECKPOINT_PREFIX, PAST_PREFIX, CREATING_PREFIX)

# Below BACKUP_DIR.
CATALOGUE = ".catalogue.json"
ANNOTATIONS = ".annotations.json"
SHARED_RUNS = ".shared_runs.json"
HEADS = ".heads.json"
JOURNAL = "journal"
JOURNAL_RECORD = "registry.json"
UPLOAD_PREFIX = ".upload."
HANDED_OVER_PREFIX = ".uploaded."
"""An upload whose client does not wait: no process of the service writes it any more, and the store removes it."""

# Below more than one of them.
INSTALLATION = ".installation"
"""The id of the installation as a plain text, for EventVault 0.1.0."""
CHECKED_INSTALLATION = ".installation.json"
INSTALLATION_KEY = ".installation.key"
INSTALLATION_FOLDER = ".installation.folder.json"
"""The id of the BACKUP_DIR that belongs to a STORAGE_DIR."""
INSTALLATION_STORAGE = ".installation.storage.json"
"""Where the STORAGE_DIR that belongs to a BACKUP_DIR is mounted."""
REPLACED_SUFFIX = ".replaced"
"""Ends the name of a key that the key in BACKUP_DIR has replaced."""
DAMAGED_SUFFIX = ".damaged"
"""Ends the name of a damaged file that was quarantined."""
RESTORE_MEMORY = "restore_memory.json"
TEMPORARY_SUFFIX = ".tmp"

# Below RESTORE_DIR.
RESTORED = "restored"


def is_temporary(name: str) -> bool:
    """Return whether a file or folder of this name lasts no longer than the work that made it."""
    is_folder = name.startswith((*STORAGE_TEMPORARY_PREFIXES, REHEARSAL_PREFIX))
    return is_folder or (name.startswith(".") and name.endswith(TEMPORARY_SUFFIX))
