"""What to do about each problem of health, as a command or a sentence: one table for `doctor` and `problems`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from eventvault.data_folders import DAMAGED_SUFFIX, INTENT

State = Literal["ok", "warn", "wrong"]
Problem = Mapping[str, Any]
"""As health shows it: `code`, `message`, `hint`, `about`, `acceptable`, `details`."""


class Mend(NamedTuple):
    """What to do about a problem. check: the check whose line shows the problem. text: `{about}` stands for `about`.

    state: `warn` for a problem that does not make health `degraded`, or that passes without any action.
    """

    check: str
    text: str | Callable[[Problem], str]
    state: State = "wrong"
    says_how_to_accept: bool = False


def _restore_of_lost_events(problem: Problem) -> str:
    """Return for `rolled_back` the restore that brings back what the database lost."""
    details = problem.get("details") or {}
    generation, sequence = details.get("generation"), details.get("sequence")
    if generation is None or sequence is None or sequence <= details.get("forkSequence", 0):
        return "put back what has these events (archives, segments of the journal)"
    return f'flask backup restore --at "#{sequence}" --generation {generation}'


def _mend_small_file(problem: Problem) -> str:
    """Return what to do about a damaged small file. The first process that reads the file renames it."""
    name = about_of(problem) or "the damaged file"
    if DAMAGED_SUFFIX in name:
        return f"check that disk, then remove {name}"
    if name.endswith(INTENT):
        return f"a start is refused until you move {name} away, which gives that restore up; keep both databases"
    return f"check that disk; the next start renames {name} and works without it"


def _mend_archive(problem: Problem) -> str:
    name = about_of(problem)
    return "flask backup list --damaged" if name in (None, "others") else f"flask backup delete {name}"


def _mend_backup_folder(problem: Problem) -> str:
    """Return what to do. A folder with the key of another installation cannot be accepted: the hint names the files."""
    return "mount the disk of BACKUP_DIR, or correct BACKUP_DIR" if problem.get("acceptable") else str(problem["hint"])


def _hint_of(problem: Problem) -> str:
    return str(problem["hint"])


def _mend_stopped_partition(problem: Problem) -> str:
    """Return what to do about a stopped partition. One that cannot be accepted belongs to the topic of jobs."""
    if not problem.get("acceptable"):
        return "bring the topic back as it was, or send what is missing again; then: flask jobs resume"
    name = about_of(problem)
    accept = f"flask kafka accept {name}" if name is not None and "/" in name else accept_command(problem)
    return f"bring the topic back as it was, or go on without: {accept}"


def _mend_tokens(problem: Problem) -> str:
    """Return what to do about a damaged file of tokens. A renamed one is there until somebody removes it."""
    name = about_of(problem)
    if name is not None and DAMAGED_SUFFIX in name:
        return f"flask tokens list shows which there are; then remove {name}"
    return f"check that disk; a good copy takes its place, and without one: {_MAKE_TOKEN}"


_DISK = "check that disk, its mount and its permissions; then it works again automatically"
_WAIT = "wait: it is tried again automatically; if it stays, the log of the service says more"
_DAMAGED = "flask backup timeline shows what can be restored; then: flask backup restore"
_JOURNAL = "put a good copy of that segment in its place, or make a new backup: flask backup create"
_MAKE_TOKEN = "flask tokens create admin --scope admin"
_NEW_BACKUP = "flask backup create"

MENDS: dict[str, Mend] = {
    # The database and its store.
    "rolled_back": Mend("database", _restore_of_lost_events),
    "recovery_incomplete": Mend("database", "put back the archives or segments that have these events"),
    "database_damaged": Mend("database", _DAMAGED),
    "database_error": Mend("database", "set STORAGE_DIR to a folder on a local file system, such as ext4 or XFS"),
    "database_too_new": Mend("database", "install the version of EventVault that wrote it, or a later one"),
    "database_locked": Mend("database", "end the process that has it open, and do not delete LOCK"),
    "database_missing": Mend("database", "flask backup recover"),
    "write_failed": Mend("database", "send the same events again with the same ids, then check the disk"),
    "disk_failed": Mend("storage", _DISK),
    "no_space": Mend("disk", "free some space on the disk that is named; then it works again automatically"),
    "too_busy": Mend("store", "raise the limits of the machine (memory, open files), or send fewer long requests"),
    "stuck": Mend("store", "check the disk that is named; a store that writes nothing for a minute is replaced"),
    "store_starting": Mend("store", "wait, then look again: flask doctor", "warn"),
    "store_unavailable": Mend("store", _WAIT),
    "store_stopping": Mend("store", _WAIT, "warn"),
    "restoring": Mend("store", "wait for its end: flask operations list", "warn"),
    "internal_error": Mend("store", "report it, with what `flask doctor --json` prints and the log of the service"),
    # Backups.
    "backup_late": Mend("backups", f"{_NEW_BACKUP}; then see whether the disks are slow or full"),
    "backup_damaged": Mend("backups", _mend_archive),
    "backup_unreadable": Mend("backups", "check the disk of BACKUP_DIR and who may read it: flask backup verify --all"),
    "seal_changed": Mend("backups", lambda problem: f"{_NEW_BACKUP}, then {_mend_archive(problem)}"),
    "backup_name_invalid": Mend("backups", "rename these files, or move them out of BACKUP_DIR"),
    "backups_too_large": Mend("backups", "unpin or delete some (flask backup list), or raise MAX_BACKUP_BYTES"),
    "backups_changed": Mend("backups", _mend_backup_folder),
    "audit_waits": Mend("backups", "let the service write BACKUP_DIR/audit: mount its disk, free some space"),
    "backups_unavailable": Mend("backups", "let the user of the service read and write BACKUP_DIR; mount its disk"),
    "archive_damaged": Mend("backups", _NEW_BACKUP),
    "archive_incomplete": Mend("backups", _NEW_BACKUP),
    "archive_unreadable": Mend("backups", "check the disk of BACKUP_DIR and who may read it"),
    "journal_failed": Mend("journal", "check the disk of BACKUP_DIR; the journal then writes what it missed"),
    "journal_damaged": Mend("journal", _JOURNAL),
    "journal_unreadable": Mend("journal", "check the disk of BACKUP_DIR and who may read it"),
    "rehearsal_failed": Mend("rehearsal", f"{_NEW_BACKUP}, then flask backup rehearse"),
    "rehearsal_no_room": Mend("rehearsal", "free some space in STORAGE_DIR, or set REHEARSAL_CRON=off", "warn"),
    # Files that decide or remember.
    "catalogue_damaged": Mend("files", _mend_small_file),
    "shared_runs_damaged": Mend("files", _mend_small_file),
    "file_damaged": Mend("files", _mend_small_file),
    "installation_damaged": Mend("files", _mend_small_file),
    "trust_damaged": Mend("files", "flask backup trust KEY, for each one again; then remove {about}"),
    "trust_unreadable": Mend("files", "let the user of the service read it, then: flask backup trust --list"),
    # Restores at the start.
    "staged_restore_damaged": Mend("start", "move restore_staged.json out of STORAGE_DIR, and stage the restore again: "
                                   "flask backup restore --apply restart"),
    "restore_memory_damaged": Mend("start", "move what was restored before out of RESTORE_DIR, remove the damaged file "
                                   "and restart the service"),
    "restore_folder": Mend("start", "let the user of the service read RESTORE_DIR, then restart the service"),
    "restore_refused": Mend("start", "replace {about} by a good copy and restart the service, or take it out of "
                            "RESTORE_DIR"),
    "restore_left": Mend("start", "take {about} out of RESTORE_DIR"),
    "restore_not_moved": Mend("start", "take {about} out of RESTORE_DIR by hand"),
    # The rest.
    "clock_ahead": Mend("clock", "set the clock right"),
    "clock_behind": Mend("clock", "set the clock right: events get the newest event's time until it has passed that"),
    "notify_failing": Mend("notify", "flask notify test"),
    "jobs_unavailable": Mend("jobs", "wait, or see why in the log: the store starts the dispatcher again"),
    "jobs_damaged": Mend("jobs", "stop the service, move STORAGE_DIR/jobs_db away, start it, then: flask jobs resume"),
    "jobs_late": Mend("jobs", "start more workers, or raise WORKER_CONCURRENCY"),
    "jobs_wait_for_worker": Mend("jobs", "start a worker whose WORKER_JOBS has handlers for these types"),
    "jobs_not_sent": Mend("jobs", "see the error in the log of the dispatcher; it is tried again automatically"),
    "local_worker_failed": Mend("jobs", "see in the log why it ends: a module of WORKER_JOBS may not be importable"),
    "unfinished_jobs_unwritten": Mend("jobs", "let the service write below BACKUP_DIR/jobs, which the message names"),
    "jobs_held": Mend("jobs", "cancel what has run, then: flask jobs resume"),
    "two_dispatchers": Mend("jobs", "stop one of the services, or give it a KAFKA_JOBS_TOPIC of its own"),
    "old_workers": Mend("jobs", "stop these workers, or start them from this release"),
    "jobs_topic_missing": Mend("jobs", "create the topic that is named, or set KAFKA_CREATE_TOPICS=true"),
    "jobs_rewound": Mend("jobs", "put the newest jobs_db back, or: flask jobs resume"),
    "tokens_damaged": Mend("access", _mend_tokens),
    "tokens_foreign": Mend("access", f"correct BACKUP_DIR if it is the wrong one; otherwise: {_MAKE_TOKEN}"),
    "tokens_gone": Mend("access", f"bring a copy of tokens.json back; otherwise: {_MAKE_TOKEN}"),
    "tokens_too_new": Mend("access", "use the version of EventVault that wrote it"),
    "tokens_unreadable": Mend("access", "let the user of the service read it"),
    "tokens_file_invalid": Mend("access", "correct the file that API_TOKENS_FILE names"),
    "kafka_unreachable": Mend("kafka", "start the broker, or correct KAFKA_BOOTSTRAP_SERVERS"),
    "kafka_refused": Mend("kafka", _hint_of),
    "kafka_topic_missing": Mend("kafka", "create the topic {about}, or correct KAFKA_EVENTS_TOPIC", "warn"),
    "kafka_topic_refused": Mend("kafka", _hint_of),
    "kafka_no_topic": Mend("kafka", "create a topic with such a name, or correct KAFKA_EVENTS_TOPIC", "warn"),
    "kafka_dead_letters_missing": Mend("kafka", "create the topic {about}, or set KAFKA_CREATE_TOPICS=true", "warn"),
    "kafka_quarantine": Mend("kafka", "flask kafka quarantine list; then replay or drop them", "warn"),
    "kafka_waits": Mend("kafka", "correct what is named; the events are then consumed automatically"),
    "kafka_publish_topic_missing": Mend("kafka", "create the topic {about}, or set KAFKA_CREATE_TOPICS=true"),
    "kafka_publish_late": Mend("kafka", "start the brokers; the events are then published automatically"),
    "kafka_event_too_large": Mend("kafka", "raise max.message.bytes of the topic {about}"),
    "kafka_topic_recreated": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
    "kafka_cluster_changed": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
    "kafka_topic_truncated": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
    "kafka_topic_diverged": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
    "kafka_messages_gone": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
    "kafka_offset_out_of_range": Mend("kafka", _mend_stopped_partition, says_how_to_accept=True),
}  # fmt: skip
"""Code of a problem → what to do. For a code that is not here, the problem's own hint says it."""


def check_of(problem: Problem) -> str:
    """Return the name of the check that a problem belongs to."""
    mend = MENDS.get(problem["code"])
    return "store" if mend is None else mend.check


def state_of(problem: Problem) -> State:
    mend = MENDS.get(problem["code"])
    return "wrong" if mend is None else mend.state


def mend_of(problem: Problem) -> str:
    """Return what to do about a problem: never empty, and with the way to accept it if that can be done."""
    mend = MENDS.get(problem["code"])
    if mend is None:
        mend = Mend("store", str(problem["hint"]))
    sentence = mend.text(problem) if callable(mend.text) else mend.text
    sentence = sentence.replace("{about}", about_of(problem) or "it")
    if not problem.get("acceptable") or mend.says_how_to_accept:
        return sentence
    return f"{sentence}, or: {accept_command(problem)}"


def accept_command(problem: Problem) -> str:
    """Return the command that accepts a problem."""
    name = about_of(problem)
    return f"flask problems accept {problem['code']}" + (f" --about {name}" if name is not None else "")


def about_of(problem: Problem) -> str | None:
    return problem["about"]["name"] if problem.get("about") else None
