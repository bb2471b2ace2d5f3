"""Declares every `code` once: its HTTP status, its exit status, and what `docs/errors.md` says about it.

`app.errors` and `app.cli.exits` answer by `ANSWERS`, `app.errors_docs` makes the page. A test fails if a code is used
that is not declared here, or the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventvault.exit_statuses import (
    CONFLICT,
    FAILED,
    INVALID,
    INVALID_SETTINGS,
    NO_SPACE,
    NOT_FOUND,
    TRY_AGAIN,
    USAGE,
)


@dataclass(frozen=True)
class ErrorCode:
    """One code.

    example: an `error` or a problem's `message`. status: of HTTP; None if no request is answered with this code.
    exit_status: of a command; None if no command fails with this code. retry_after: seconds for `Retry-After`, if the
    error may go away without any action.
    """

    cause: str
    example: str
    cure: str
    status: int | None = None
    exit_status: int | None = None
    retry_after: int | None = None


ANSWERS: dict[str, ErrorCode] = {
    # The request.
    "malformed": ErrorCode(
        "The body is not JSON, ends too early or has a wrong form, or the request is not valid HTTP.",
        "the body is not JSON: JSON is malformed: invalid character (byte 19)",
        "Correct the request; `error` says where it is wrong.",
        400, INVALID,
    ),
    "forbidden": ErrorCode(
        "The `Host`, `Origin` or address of the request is not allowed.",
        "the host 'vault.example' is not a name of this service",
        "Use a name of the service, or set `ALLOWED_HOSTS` or `ALLOW_UNAUTHENTICATED` as the hint says.",
        403, CONFLICT,
    ),
    "token_missing": ErrorCode(
        "The service is closed, and the request has no token.",
        "GET /api/events needs a token",
        "Send a [token](access.md): `Authorization: Bearer ev_…`. `flask tokens create` makes one.",
        401, CONFLICT,
    ),
    "token_wrong": ErrorCode(
        "The token of the request is malformed, unknown, expired or revoked; `error` says which.",
        "the token 4fQ2mZ8k was revoked",
        "Send a valid [token](access.md). `flask tokens list` shows the tokens of the service.",
        401, CONFLICT,
    ),
    "scope_missing": ErrorCode(
        "The token is valid, but none of its scopes allows this.",
        "the token cron (backup) may not POST /api/backup/restore, which needs admin",
        "Use a token with the [scope](access.md) that `scope` names.",
        403, CONFLICT,
    ),
    "token_not_found": ErrorCode(
        "There is no token of this id or name.",
        "there is no token 4fQ2mZ8k; nothing was changed",
        "`flask tokens list` shows the tokens.",
        404, NOT_FOUND,
    ),
    "token_exists": ErrorCode(
        "A valid token has this name.",
        "there is a token cron; no other one was made",
        "Choose another name, or replace it: `flask tokens rotate cron`.",
        409, CONFLICT,
    ),
    "tokens_too_new": ErrorCode(
        "A later version of EventVault wrote the file of the tokens. It was not changed, and its tokens are not valid.",
        "the tokens were not changed: /data/storage/tokens.json was written by a later version of EventVault",
        "Use that version again.",
        409, CONFLICT,
    ),
    "too_large": ErrorCode(
        "The body, the number of events or the address is too large.",
        "the body is larger than 33554432 bytes",
        "Send less in one request, or raise `MAX_BODY_BYTES`.",
        413, INVALID,
    ),
    "unsupported_media_type": ErrorCode(
        "The body has a content type, an encoding or a charset that is not understood.",
        "events in the format application/cloudevents+avro are not understood here",
        "Send JSON in UTF-8.",
        415, INVALID,
    ),
    "invalid": ErrorCode(
        "The request is well-formed, but a member or a parameter of it is not valid.",
        "the body is not valid: backupName",
        "`fields` says what is wrong. Nothing was changed.",
        422, INVALID,
    ),
    # Sessions of browsers.
    "too_many_wrong_tokens": ErrorCode(
        "Ten wrong tokens came from this address within a minute, and this one is wrong too.",
        "the token 4fQ2mZ8k is not known here; too many wrong ones came from this address",
        "Wait as long as `Retry-After` says. A right token passes at once ([wrong tokens](sessions.md#wrong-tokens)).",
        429, TRY_AGAIN, 60,
    ),
    "session_ended": ErrorCode(
        "The cookie belongs to no session, or to one that has ended.",
        "the session is over: it was not used for 12 hours, was ended, or its token is not valid any more",
        "[Sign in](sessions.md) again.",
        401, CONFLICT,
    ),
    "session_key_missing": ErrorCode(
        "The request has the cookie of a session, but not its key.",
        "GET /api/backup/list needs the key of the session too",
        "Send the key that `POST /api/session` answered, as `X-EventVault-Session`, or [sign in](sessions.md) again.",
        401, CONFLICT,
    ),
    "session_not_found": ErrorCode(
        "The request does not belong to a session.",
        "no session was ended: the request has none",
        "Send the session's cookie and its key. A token needs no session; `flask tokens revoke` ends it.",
        404, NOT_FOUND,
    ),
    "tls_needed": ErrorCode(
        "A browser signs in over plain HTTP, and not under a name of its own machine such as `localhost`.",
        "signing in at vault.example needs TLS: a browser would send the session's cookie over TLS only",
        "Open the page by https, or as localhost (behind a [proxy](proxies.md): it must be in "
        "`TRUSTED_PROXIES` and set `X-Forwarded-Proto`).",
        422, INVALID,
    ),
    # Events.
    "event_not_found": ErrorCode(
        "No event has this id.",
        "no event has the id 'order-4711'",
        "`GET /api/events` lists the events; `candidates` are the first ids that begin with this text, if there are "
        "any. With `asOf` the event may have been recorded later.",
        404, NOT_FOUND,
    ),
    "event_differs": ErrorCode(
        "An event with this source and id is stored already, with other content. An import rejects such a line.",
        "an event of this source and id is there, with other content",
        "Compare both. If this is another event, give it an id of its own.",
        409, CONFLICT,
    ),
    "import_running": ErrorCode(
        "Another process is doing the import of this name.",
        "another process does the import 1f0c2a9b1d3e5f67, and nothing was imported",
        "Wait until it has ended, or give the import another `--name`.",
        409, CONFLICT,
    ),
    "output_exists": ErrorCode(
        "The file that a command was to write already exists.",
        "paid.ndjson.gz exists, and nothing was written",
        "Name another file, or remove that one.",
        409, CONFLICT,
    ),
    "export_not_found": ErrorCode(
        "The operation has no file: only an export has one, once it has succeeded, for a day.",
        "the operation 4f0c2a9b1d3e5f67 has no file",
        "Look at its `state`, or begin a new one: `POST /api/events/export`.",
        404, NOT_FOUND,
    ),
    "generation_left_behind": ErrorCode(
        "The cursor belongs to a generation that a restore ended, and points beyond the fork.",
        "the cursor is of generation 86ad05ce70457cf8, which shares no event after 40 with 9b1c0a7d2e3f4a5b",
        "Begin again without `after`, or continue at `forkSequence`, as the hint says.",
        409, CONFLICT,
    ),
    "write_failed": ErrorCode(
        "The disk refused a write, twice. The events may be stored or not.",
        "the event database could not be written: IO error: /data/storage/event_registry_db/000012.log: Input/output "
        "error",
        "Send the same request with the same ids again: no event is stored twice. Then check the disk.",
        503, TRY_AGAIN, 1,
    ),
    # Backups.
    "backup_not_found": ErrorCode(
        "There is no backup of this name.",
        "there is no backup backup_2026-01-31_120000.tar.gz",
        "`GET /api/backup/list` lists the backups.",
        404, NOT_FOUND,
    ),
    "backup_exists": ErrorCode(
        "An upload has the name of an existing backup.",
        "a backup named backup_2026-01-31_120000.tar.gz already exists",
        "Choose another `?name=`, or delete that backup.",
        409, CONFLICT,
    ),
    "backup_protected": ErrorCode(
        "The backup is pinned, the last good one, or being read.",
        "backup_2026-01-31_120000.tar.gz was not deleted: it is pinned",
        "Unpin it or make another backup, or delete it with `?force=true`. If it is being read, try again later.",
        409, CONFLICT,
    ),
    "backups_changed": ErrorCode(
        "`BACKUP_DIR` is not the folder that this installation wrote to: its disk may not be mounted.",
        "/data/backups has nothing of this installation, which has an event database in /data/storage",
        "Mount the disk or correct `BACKUP_DIR`; it is used again automatically. If you mean this folder, "
        "[accept it](problems.md).",
        409, CONFLICT,
    ),
    "backups_unavailable": ErrorCode(
        "`BACKUP_DIR` is missing, or cannot be read or written.",
        "listing the backups in /data/backups failed: Permission denied: /data/backups",
        "Do what the hint says to that folder. It is used again automatically.",
        503, TRY_AGAIN, 5,
    ),
    "audit_broken": ErrorCode(
        "A line of the [audit](audit.md) was changed, removed, moved or cut off.",
        "the audit is not as it was written: line 12, audit-2026-01.jsonl:12, was changed: its digest is not the "
        "`previous` of line 13",
        "Compare it with a copy of `BACKUP_DIR` from another place, and find out who can write there.",
        409, FAILED,
    ),
    "archive_damaged": ErrorCode(
        "The bytes of the archive have changed: a checksum, a length or a record is wrong.",
        "reading /data/backups/a.tar.gz failed at byte 81920: the checksum of a member is wrong",
        "Restore another archive, or copy this one again. Make a new backup.",
        422, INVALID,
    ),
    "archive_incomplete": ErrorCode(
        "The file ends too early, or is still being copied.",
        "reading /data/backups/a.tar.gz failed: the end is missing",
        "Wait until the copy is complete, or copy it again.",
        422, INVALID,
    ),
    "archive_unsafe": ErrorCode(
        "The archive has entries that no archive of EventVault has: links, devices, paths that lead outside, a bomb.",
        "reading /data/backups/a.tar.gz failed: the entry '../etc/passwd' leads outside",
        "Do not use it. Make the archive again with plain files only.",
        422, INVALID,
    ),
    "archive_alien": ErrorCode(
        "The file is not a `tar.gz`, or there is no event database in it that can be restored.",
        "reading /data/backups/photos.tar.gz failed: it has no database",
        "Use an archive of EventVault, or a `tar.gz` of a LevelDB folder named `event_registry_db`.",
        422, INVALID,
    ),
    "archive_too_new": ErrorCode(
        "A later version of EventVault wrote the archive.",
        "reading /data/backups/a.tar.gz failed: it has version 3 of the format",
        "Install that version, or a later one.",
        422, INVALID,
    ),
    "archive_unreadable": ErrorCode(
        "The system could not open or read the archive. It may be good, so it is not marked damaged.",
        "reading /data/backups/a.tar.gz failed at byte 0: Input/output error",
        "Do what the hint says to the file or its disk, then send the request again.",
        503, TRY_AGAIN, 5,
    ),
    # Restores.
    "restore_running": ErrorCode(
        "Another restore or undo is under way, or one replaced the database meanwhile.",
        "a restore of backup_2026-01-31_120000.tar.gz is running",
        "Wait until it has ended; `jobs.restore` in health shows it. Look at the events before you send yours again.",
        409, CONFLICT,
    ),
    "rehearsal_running": ErrorCode(
        "A rehearsal is under way; one is made at a time.",
        "a rehearsal of the newest state is under way",
        "Wait until it has ended, or cancel it.",
        409, CONFLICT,
    ),
    "rehearsal_differs": ErrorCode(
        "A rehearsal restored events that differ from those of the live database. It is the `problem` of a "
        "[rehearsal](rehearsals.md).",
        "1 of 42 events that were restored from backup_2026-01-31_120000.tar.gz are not those of the live database",
        "Keep both, and compare that event with `asOf`, until you know which is right. Make a new backup.",
        422, INVALID,
    ),
    "restoring": ErrorCode(
        "The store is starting, recovers, or finishes a restore that is decided.",
        "the store is starting or restoring",
        "Try again in a few seconds. Do not send a restore again: the service finishes it.",
        503, TRY_AGAIN, 2,
    ),
    "nothing_to_undo": ErrorCode(
        "There is no previous database that an undo could bring back.",
        "there is no restore to undo",
        "`GET /api/backup/undo` lists what can be undone. Restore a backup or a moment instead.",
        409, NOT_FOUND,
    ),
    "undo_not_found": ErrorCode(
        "No previous database has this name.",
        "there is no previous database 'previous-86ad05ce70457cf8'",
        "`GET /api/backup/undo` lists them.",
        404, NOT_FOUND,
    ),
    "moment_unavailable": ErrorCode(
        "Archives and journal do not reach this moment.",
        "event 4711 cannot be restored",
        "Choose one of `nearest`, or a moment of the `window`. `GET /api/backup/timeline` shows them all.",
        422, NOT_FOUND,
    ),
    "journal_damaged": ErrorCode(
        "A segment of the journal is damaged, forged or missing, or the events of an archive differ from those of the "
        "journal or the open database; and no other file leads to this moment.",
        "/data/backups/journal/86ad05ce70457cf8/00000001-00000040.jsonl.gz is damaged: its checksum is wrong",
        "Restore the moment in `nearest`, or replace the file that the answer names by a good copy.",
        422, INVALID,
    ),
    "journal_unreadable": ErrorCode(
        "The disk cannot read a segment that is needed for this moment. It may be good.",
        "reading /data/backups/journal/86ad05ce70457cf8/00000001-00000040.jsonl.gz failed: Input/output error",
        "Do what the hint says, then send the request again; or restore the moment in `nearest`.",
        503, TRY_AGAIN, 5,
    ),
    "journal_failed": ErrorCode(
        "The journal is behind: the newest events are in the database only.",
        "the journal could not be written: No space left on device: /data/backups/journal",
        "Do what the hint says. The journal then continues automatically, and writes the events that it missed.",
        503, TRY_AGAIN, 5,
    ),
    # The database.
    "database_damaged": ErrorCode(
        "The bytes of the database have changed, or a file of it is missing.",
        "/data/storage/event_registry_db is damaged: block checksum mismatch in 000012.ldb",
        "Restore the newest good backup, or the moment that the hint names. The damaged database is kept.",
        503, INVALID, 30,
    ),
    "database_error": ErrorCode(
        "LevelDB cannot keep a database there, or a copy of it could not be taken.",
        "the file system of /data/storage cannot sync folders, so LevelDB cannot keep a database there",
        "Set `STORAGE_DIR` to a folder on a local file system, such as ext4 or XFS.",
        503, FAILED, 30,
    ),
    "database_too_new": ErrorCode(
        "A later version of EventVault wrote the database.",
        "/data/storage/event_registry_db has format 3; this version of EventVault knows up to 2",
        "Install that version, or a later one.",
        503, INVALID, 30,
    ),
    "database_locked": ErrorCode(
        "Another program has the database open.",
        "/data/storage/event_registry_db is held by the process 4711; its LOCK file is in use and was not touched",
        "End that process. Do not delete `LOCK`. The service continues automatically.",
        503, TRY_AGAIN, 5,
    ),
    "database_missing": ErrorCode(
        "There is no database, but there are archives or a journal of it.",
        "/data/storage/event_registry_db is gone, and /data/backups holds 3 archives and a journal of it",
        "Recover it with `flask backup recover` or `AUTO_RECOVER=true`, or begin with an empty registry: "
        "`AUTO_RECOVER=empty`.",
        503, NOT_FOUND, 30,
    ),
    "database_present": ErrorCode(
        "A recovery was asked for, but there is a database.",
        "the database /data/storage/event_registry_db exists; nothing was changed",
        "Start the service. To go back to an earlier moment, restore it.",
        409, CONFLICT,
    ),
    "nothing_to_recover": ErrorCode(
        "`BACKUP_DIR` has neither an archive nor a journal of this installation.",
        "/data/backups holds neither an archive nor a journal of this installation",
        "Set `BACKUP_DIR` to the folder that has them, or put an archive into `RESTORE_DIR`.",
        409, NOT_FOUND,
    ),
    # Repeated requests.
    "idempotency_key_in_use": ErrorCode(
        "The first request with this `Idempotency-Key` is still running.",
        "the first request with this Idempotency-Key is still running",
        "Send it again, with the same key, when it has ended: it gets the first answer.",
        409, CONFLICT, 1,
    ),
    "idempotency_key_reused": ErrorCode(
        "Another request with this `Idempotency-Key` had another content.",
        "another request with this Idempotency-Key had another content",
        "Send a new key with each new request. [Repeating a request](idempotency.md) says what counts as its content.",
        422, INVALID,
    ),
    # The store and its machine.
    "outcome_unknown": ErrorCode(
        "The request was begun, and it is unknown whether it takes effect: the disk is slow, or the store or "
        "the proxy lost it.",
        "the store ended before it answered, and no other one answers: the request may have taken effect or not",
        "See whether it did before you send it again. Events are stored once if they are sent with the same `ids`, "
        "which the answer has.",
        503, TRY_AGAIN, 5,
    ),
    "store_unavailable": ErrorCode(
        "No store process answered for as long as a request can wait. `error` says why, if the store could say it.",
        "no store process answers: another process owns the database: it holds /data/storage/owner.lock",
        "It is started again automatically. If not, do what `error` and the log of the service say.",
        503, TRY_AGAIN, 1,
    ),
    "store_stopping": ErrorCode(
        "The store is stopping and did not take the request.",
        "the store is stopping",
        "Send the request again.",
        503, TRY_AGAIN, 1,
    ),
    "cancelled": ErrorCode(
        "The work was cancelled because the store is stopping. Unfinished files were removed.",
        "write archive was cancelled because the store is stopping",
        "Send the request again.",
        503, TRY_AGAIN, 5,
    ),
    "operation_not_found": ErrorCode(
        "There is no operation of this id, or it is older than 30 days, or 10,000 newer ones followed it.",
        "there is no operation '4f0c2a9b1d3e5f67'",
        "`GET /api/operations` lists the operations.",
        404, NOT_FOUND,
    ),
    "operation_cancelled": ErrorCode(
        "A client cancelled the operation that this request waited for. Unfinished files were removed.",
        "the operation 4f0c2a9b1d3e5f67 was cancelled",
        "Nothing was changed. Start it again if you want it.",
        409, CONFLICT,
    ),
    "operation_ended": ErrorCode(
        "The operation has already ended, so it cannot be cancelled.",
        "the operation 4f0c2a9b1d3e5f67 has ended: succeeded",
        "`GET /api/operations/<id>` has its result.",
        409, CONFLICT,
    ),
    "operation_decided": ErrorCode(
        "It is too late to cancel the operation: a restore is swapping the database, or an archive has its final name.",
        "the operation 4f0c2a9b1d3e5f67 is decided and will be carried out",
        "Wait for its end: `GET /api/operations/<id>`.",
        409, CONFLICT,
    ),
    "too_busy": ErrorCode(
        "The process serves as many long requests as it can, or the machine lacks memory or descriptors.",
        "create backup failed: Too many open files",
        "Try again after `Retry-After`. If it persists, raise the limits of the machine or send fewer long requests.",
        503, TRY_AGAIN, 5,
    ),
    "disk_failed": ErrorCode(
        "The disk could not be read or written: input/output error, read-only, permission, stale handle and the like. "
        "No file is marked as damaged.",
        "opening /data/storage/event_registry_db failed: Read-only file system",
        "Do what the hint says to that disk. It is tried again each second; meanwhile [reads go on](failing-disks.md).",
        503, TRY_AGAIN, 5,
    ),
    "no_space": ErrorCode(
        "A disk has no space or no inode left, or a quota or a file size is exceeded.",
        "the event database could not be written: IO error: /data/storage/event_registry_db/000012.log: No space left "
        "on device",
        "Free some space on the disk that `error` names. It works again automatically; meanwhile "
        "[reads go on](failing-disks.md).",
        507, NO_SPACE,
    ),
    "internal_error": ErrorCode(
        "A defect of EventVault.",
        "an internal error",
        "Search the log for `reference`, and report it.",
        500, FAILED,
    ),
    # Settings, decisions, the command line.
    "invalid_settings": ErrorCode(
        "A setting has an invalid value, or a folder cannot be used. Nothing was started.",
        "MAX_BACKUPS is 'ten'; allowed: a whole number from 1",
        "Correct the [settings](settings.md) that the message names.",
        500, INVALID_SETTINGS,
    ),
    "service_running": ErrorCode(
        "The command works only while no service runs on these folders.",
        "a service is running on these folders; nothing was changed",
        "Stop the service first.",
        409, CONFLICT,
    ),
    "problem_not_found": ErrorCode(
        "Health never has a problem of this code that could be accepted.",
        "there is no problem rolled_bak; nothing was changed",
        "[Problems](problems.md) lists those that can be accepted.",
        404, NOT_FOUND,
    ),
    "nothing_to_accept": ErrorCode(
        "No such problem waits for a decision, or it goes away only with its cause.",
        "no problem rolled_back waits for a decision; nothing was changed",
        "Look at `problems` in health.",
        409, NOT_FOUND,
    ),
    # Notifications.
    "notify_not_configured": ErrorCode(
        "The request needs somebody to notify, but `NOTIFY_URLS` is not set.",
        "NOTIFY_URLS is not set",
        "Set `NOTIFY_URLS` as [notifications](notifications.md) says, and restart the service.",
        409, INVALID_SETTINGS,
    ),
    # Jobs.
    "job_not_found": ErrorCode(
        "There is no job of this id: it was never submitted, or it ended longer ago than `JOBS_KEEP`.",
        "there is no job 'report-4711'",
        "`GET /api/jobs` lists the jobs.",
        404, NOT_FOUND,
    ),
    "job_failed": ErrorCode(
        "The job that a command waited for failed on its last try.",
        "the job report-4711 is dead: ValueError: no such table",
        "`flask jobs show` prints each attempt. `flask jobs retry` runs it again.",
        409, FAILED,
    ),
    "job_type_unknown": ErrorCode(
        "No worker has ever said that it runs this type. `known` has the types that workers run.",
        "there is no job type 'exprt'",
        "Correct the type, or start a worker with the module that declares it: [jobs](jobs.md).",
        422, INVALID,
    ),
    "job_schedule_not_found": ErrorCode(
        "There is no schedule of this name.",
        "there is no schedule 'nightly'",
        "`GET /api/jobs/schedules` lists the schedules.",
        404, NOT_FOUND,
    ),
    "job_schedule_in_code": ErrorCode(
        "A module of a worker declares the schedule, so it cannot be changed here.",
        "the schedule nightly is declared in the code of a worker; nothing was changed",
        "Change it there and start the worker again, or choose another name.",
        409, CONFLICT,
    ),
    "job_queue_full": ErrorCode(
        "The queue is full: a million jobs are unfinished.",
        "1,000,000 jobs are unfinished; none of these was accepted",
        "Start more workers, or cancel jobs that are not needed, and send the request again.",
        503, TRY_AGAIN, 60,
    ),
    "jobs_unavailable": ErrorCode(
        "The dispatcher, which owns the jobs, did not answer for as long as a request can wait.",
        "no dispatcher answers at /data/storage/jobs.sock",
        "It is started again automatically. If not, the log of the service says why. Commands need a running service.",
        503, TRY_AGAIN, 1,
    ),
    "jobs_damaged": ErrorCode(
        "The bytes of `jobs_db` have changed, or a file of it is missing. The undamaged part can be read.",
        "the database of jobs is damaged: Corruption: block checksum mismatch",
        "Stop the service, move `STORAGE_DIR/jobs_db` away and start it: the unfinished jobs in `BACKUP_DIR/jobs` come "
        "back, [held](jobs.md#damage).",
        503, INVALID, 30,
    ),
    "jobs_disabled": ErrorCode(
        "The request needs the dispatcher, but `JOBS_ENABLED` is false.",
        "jobs are switched off",
        "Set `JOBS_ENABLED=true`, and restart the service.",
        409, INVALID_SETTINGS,
    ),
    # Kafka.
    "kafka_not_configured": ErrorCode(
        "The request needs Kafka, but `KAFKA_BOOTSTRAP_SERVERS` is not set.",
        "Kafka is not configured",
        "Set `KAFKA_BOOTSTRAP_SERVERS`, and restart the service.",
        503, INVALID_SETTINGS, 30,
    ),
    "kafka_unreachable": ErrorCode(
        "No broker answers, or the broker refuses.",
        "no Kafka broker answers at localhost:9092",
        "Start the broker or correct the address. It is tried again automatically.",
        503, TRY_AGAIN, 5,
    ),
    "kafka_refused": ErrorCode(
        "The brokers refuse the login, the certificate or the protocol; or a file that the settings name has changed.",
        "the Kafka brokers refuse EventVault: the login fails: sasl_ssl://kafka:9093/bootstrap: SASL authentication "
        "error: Authentication failed",
        "The hint says which setting to correct. It is tried again automatically, and the files are read again.",
        503, TRY_AGAIN, 5,
    ),
    "partition_not_stopped": ErrorCode(
        "The partition is not stopped, so it has no loss to accept.",
        "partition 2 is not stopped",
        "`kafka.stoppedPartitions` in health lists the stopped ones.",
        409, CONFLICT,
    ),
    "topic_not_named": ErrorCode(
        "Events are consumed from several topics, so a partition's number is not enough.",
        "events are consumed from 3 topics, and each may have a partition 2",
        "Name the topic: `POST /api/kafka/partitions/<topic>/<partition>/accept-loss`.",
        409, CONFLICT,
    ),
    "quarantine_not_found": ErrorCode(
        "The [quarantine](kafka.md#quarantine) has no such message, or Kafka lost one that is too large for it.",
        "the quarantine has no message events/0@9912; nothing was changed",
        "`flask kafka quarantine list` shows its messages.",
        404, NOT_FOUND,
    ),
    "quarantine_changed": ErrorCode(
        "Since you listed the [quarantine](kafka.md#quarantine), some of the messages left, or the registry was "
        "restored. Nothing was dropped.",
        "11 messages match, not 12; nothing was dropped",
        "List them again; send the `id` of the first one as `newest`, and their number as `count`.",
        409, CONFLICT,
    ),
}  # fmt: skip
"""The errors of the core."""

FRAMEWORK: dict[str, ErrorCode] = {
    "not_found": ErrorCode("There is nothing at this address.", "nothing was found at /api/backups",
                           "`GET /openapi.json` lists all addresses.", 404),
    "method_not_allowed": ErrorCode("The address has no such method.", "DELETE is not allowed at /api/health",
                                    "The `Allow` header names the allowed ones.", 405),
    "not_acceptable": ErrorCode("The answer has no form that the client accepts.", "Not Acceptable",
                                "Accept `application/json`.", 406),
    "timeout": ErrorCode("The request did not arrive in time.", "the request did not arrive in time",
                         "Send it again, with at least 1,024 bytes a second: [slow clients](slow-clients.md).", 408),
    "range_not_satisfiable": ErrorCode("The range is beyond the end of the file.",
                                       "The server cannot provide the requested range",
                                       "The `Content-Range` header gives the length of the file.", 416),
    "expectation_failed": ErrorCode("The `Expect` header asks for something unknown.",
                                    "the request cannot be read: Unable to comply with expectation: 'nonsense'",
                                    "Remove it, or send `100-continue`.", 417),
    "too_many_requests": ErrorCode("Too many requests came.", "Too Many Requests", "Wait before the next one.", 429),
    "headers_too_large": ErrorCode("A header is too long, or there are too many.",
                                   "the request cannot be read: Error parsing headers: "
                                   "'limit request headers fields size'",
                                   "Send fewer or shorter headers, each below 8 KiB.", 431),
    "not_implemented": ErrorCode("The transfer encoding of the body is not known.",
                                 "the request cannot be read: Unsupported transfer coding: 'foo, chunked'",
                                 "Send the body with Content-Length or chunked.", 501),
    "http_error": ErrorCode("Any other error of the HTTP server.", "Length Required", "Do what `error` says.", 400),
}  # fmt: skip
"""The errors of Flask and gunicorn, which have no class in the core."""

PROXY: dict[str, ErrorCode] = {
    "request_timeout": ErrorCode("nginx: the request did not arrive in time.", "the request did not arrive in time",
                                 "Send it again.", 408),
    "uri_too_long": ErrorCode("nginx: the address is too long.", "the address of the request is too long",
                              "Send an address below 128 KiB.", 414),
    "service_unavailable": ErrorCode("nginx: EventVault is starting or down.", "EventVault does not answer",
                                     "Try again in a moment; see `docker-compose logs app`.", 503),
}  # fmt: skip
"""The errors of `deploy/nginx.conf`."""

REMOTE: dict[str, ErrorCode] = {
    "service_unreachable": ErrorCode(
        "No EventVault answers at the address, the connection broke off, or a proxy before it cannot reach it.",
        "no EventVault answers at https://vault.example: Connection refused",
        "See whether the service runs, and whether `--url` or `EVENTVAULT_URL` is its address.",
        exit_status=TRY_AGAIN,
    ),
    "certificate_refused": ErrorCode(
        "The certificate of the service is not trusted, or is for another name. Nothing was sent.",
        "the certificate of https://vault.example is not trusted: unable to get local issuer certificate",
        "Name the file of its authority with `--ca-file` or `SSL_CERT_FILE`, or correct the address.",
        exit_status=INVALID,
    ),
    "redirected": ErrorCode(
        "The address leads to another one. A token follows no redirect.",
        "http://vault.example redirects to https://vault.example/, and no redirect is followed",
        "If that is the service, give it as `--url` or `EVENTVAULT_URL`.",
        exit_status=INVALID,
    ),
    "answer_unreadable": ErrorCode(
        "The answer does not come from EventVault, or lacks a member that this version of the command needs.",
        "the answer to GET /api/backup/list is not what this command expects: Object missing required field `name`",
        "See whether EventVault runs at this address, and whether both have the same version.",
        exit_status=FAILED,
    ),
    "not_over_url": ErrorCode(
        "The command works on the folders of the service.",
        "a new key of the installation works only on the machine of the service",
        "Run it there, without `--url`.",
        exit_status=USAGE,
    ),
}
"""The errors of a command with `--url`, besides those that the service answers."""

_DAMAGED_FILE = "Check the disk, then remove the file that ends in `.damaged`."
_KAFKA_LOSS = "Find out what is lost. [Accept it](problems.md) to continue at the first message that there is now."
_OF_JOBS = " For the topic of [jobs](worker.md#with-kafka): `flask jobs resume`."

ATTEMPTS: dict[str, ErrorCode] = {
    "worker_lost": ErrorCode(
        "The dispatcher did not hear of the worker for a lease (15 s): it was killed, stopped, or cut off from the "
        "network. It counts as a try; another worker runs the job again.",
        "the worker on host-7 did not report any more",
        "See what happened to that machine and its worker. A handler must tolerate being run twice: the lost attempt "
        "may have done its work.",
    ),
    "returned": ErrorCode(
        "The worker handed the job back: it is ending, or another one was idle. It does not count as a try.",
        "the worker handed the job back",
        "You need not do anything: another worker runs the job.",
    ),
    "job_crashed": ErrorCode(
        "The handler ended its process, or crashed it, or the process that starts handlers ended or was stopped.",
        "the handler's process was ended by SIGSEGV",
        "`output` has what it printed before.",
    ),
    "job_memory": ErrorCode(
        "The handler allocated more than `WORKER_JOB_MEMORY`.",
        "the handler needs more memory than WORKER_JOB_MEMORY: MemoryError",
        "Let it work in smaller parts, or raise the setting.",
    ),
    "job_killed": ErrorCode(
        "The handler's process was killed, for example by the kernel when the machine has no memory left.",
        "killed, probably out of memory: see WORKER_JOB_MEMORY and the machine's log",
        "Give the machine more memory, or the worker a smaller `WORKER_CONCURRENCY`.",
    ),
    "job_timeout": ErrorCode(
        "The handler ran longer than its `timeout`.",
        "the handler ran longer than its 60 s",
        "Submit it with a longer `timeout`, or see in `output` where it hangs.",
    ),
    "job_cancelled": ErrorCode(
        "Somebody cancelled the job while it ran.",
        "the job was cancelled",
        "`flask jobs retry` runs it again.",
    ),
    "job_left_processes": ErrorCode(
        "The handler returned while processes that it had started still ran. They were killed.",
        "the handler returned while processes that it had started still ran; they were ended: sleep (4711)",
        "Let the handler wait for what it starts.",
    ),
    "result_not_json": ErrorCode(
        "The handler returned NaN, a value without a JSON form, or more than 500 levels.",
        "the result has no JSON form: Object of type set is not JSON serializable",
        "Return a JSON value.",
    ),
    "result_too_large": ErrorCode(
        "The handler returned more than 256 KiB, or more than the topic takes. The job is dead.",
        "the result has 300000 bytes, at most 262144 are possible",
        "Write the result to a file or an event, and return its place.",
    ),
    "job_differs": ErrorCode(
        "The code of a dead letter: another job has the id of this message. Nothing was added.",
        "there is a job with the id 'report-4711' already, and it differs; nothing was added",
        "Send it with an id of its own.",
    ),
}
"""The `error.code` of attempts, jobs and dead letters, besides those that are answers too."""

PROBLEMS: dict[str, ErrorCode] = {
    "jobs_not_sent": ErrorCode(
        "The dispatcher met an unforeseen error. [Jobs](jobs.md) and reports are accepted, but none is sent.",
        "jobs are accepted, but none is sent to a worker: the request failed: LookupError: …",
        "The log of the dispatcher has the error. It is tried again automatically, at least every ten seconds.",
    ),
    "local_worker_failed": ErrorCode(
        "The service's own worker of [jobs](jobs.md) ends again and again. It is started again, after ever longer "
        "pauses of up to 30 s.",
        "the service's own worker of jobs keeps ending: the local worker ended with status 78",
        "The log says why it ends, for example because a module of `WORKER_JOBS` cannot be imported.",
    ),
    "unfinished_jobs_unwritten": ErrorCode(
        "The copy of the unfinished [jobs](jobs.md) cannot be written to `BACKUP_DIR`. Jobs go on, but would be lost "
        "with `STORAGE_DIR`.",
        "the copy of the unfinished jobs cannot be written to /backups/jobs/unfinished.jsonl.gz: Permission denied",
        "`hint` says what to do. It is written again within a minute.",
    ),
    "jobs_wait_for_worker": ErrorCode(
        "[Jobs](jobs.md) wait, and for a minute no living worker has named their type.",
        "jobs wait for a worker that runs their type: invoice.render",
        "Start a worker whose `WORKER_JOBS` has handlers for these types.",
    ),
    "jobs_late": ErrorCode(
        "A due [job](jobs.md) has waited for a worker for longer than `JOBS_LATE_AFTER`.",
        "1204 jobs wait, the oldest of them for 12 min",
        "Start more workers, or raise `WORKER_CONCURRENCY` or `JOBS_LOCAL_CONCURRENCY`.",
    ),
    "backup_late": ErrorCode(
        "A scheduled backup was due for half the time to the next one, at least 10 minutes, and was not made.",
        "the backup that BACKUP_CRON made due at 2026-01-31T03:00:00.000Z is late: for 43260 s it was due and not made",
        "`jobs.autoBackup` in health shows the newest run. See whether the disks are slow or full, and what the log "
        "says. [Schedules](schedules.md) says what counts as late.",
    ),
    "backup_damaged": ErrorCode(
        "A check found damage in an archive that was made here. It no longer counts as good.",
        "backup_2026-01-31_120000.tar.gz: reading it failed at byte 81920: the checksum of a member is wrong",
        "Make a new backup, then delete this one.",
    ),
    "backup_unreadable": ErrorCode(
        "An archive cannot be read now. It may be good.",
        "backup_2026-01-31_120000.tar.gz: opening it failed: Permission denied",
        "Check the disk of `BACKUP_DIR` and the permissions of the file.",
    ),
    "rehearsal_failed": ErrorCode(
        "The newest [rehearsal](rehearsals.md) of a backup failed: the backup cannot be restored as it should.",
        "the rehearsal of a restore from backup_2026-01-31_120000.tar.gz failed: reading it failed at byte 81920: the "
        "checksum of a member is wrong",
        "Make a new backup and rehearse again. `details.code` says what is wrong.",
    ),
    "rehearsal_no_room": ErrorCode(
        "`STORAGE_DIR` has no room for the rehearsal that was due. The service is not `degraded` by this.",
        "a rehearsal of the newest state needs 734003200 bytes in /data/storage, 524288000 are free",
        "Free some space there, or set `REHEARSAL_CRON=off`.",
    ),
    "seal_changed": ErrorCode(
        "The seal of an archive has changed; everything else is right.",
        "backup_2026-01-31_120000.tar.gz: its seal is not the one that it had, all else is as it was made",
        "Check the disk. Make a new backup, then delete this one.",
    ),
    "backup_name_invalid": ErrorCode(
        "Files in `BACKUP_DIR` have names that no backup can have, so they are not listed.",
        "files in BACKUP_DIR are no backups because of their names: 'back\\xffup.tar.gz' is not UTF-8",
        "Rename them, or move them away.",
    ),
    "audit_waits": ErrorCode(
        "Lines of the [audit](audit.md) wait in `STORAGE_DIR`, as `BACKUP_DIR` cannot be written.",
        "lines of the audit wait in STORAGE_DIR: No space left on device: /data/backups/audit",
        "Do what the hint says to that folder. The lines are then written automatically; other work goes on.",
    ),
    "jobs_held": ErrorCode(
        "[Jobs](jobs.md) come from a copy, because `jobs_db` was lost, and may have run since. Nothing is sent.",
        "12 jobs are held: jobs_db was lost, and a copy in BACKUP_DIR brought them back",
        "Cancel the jobs that have run, then `flask jobs resume`, or `POST /api/jobs/resume`.",
    ),
    "two_dispatchers": ErrorCode(
        "Another service takes [jobs](worker.md#with-kafka) from the same topic, and both act.",
        "another dispatcher takes jobs from jobs too: 86ad05ce70457cf8",
        "Stop one of the services, or give it a `KAFKA_JOBS_TOPIC` of its own.",
    ),
    "old_workers": ErrorCode(
        "Workers of an earlier release take the [jobs](worker.md#with-kafka) of the topic; the dispatcher takes none.",
        "2 workers of an earlier release take the jobs of the topic jobs",
        "Stop them, or start them from this release. The dispatcher begins where they stopped.",
    ),
    "jobs_topic_missing": ErrorCode(
        "A topic that [jobs](worker.md#topics) need is missing and is not created. Nothing is lost meanwhile.",
        "the topic jobs.work, which jobs need, does not exist: KAFKA_CREATE_TOPICS is false",
        "Create it, or set `KAFKA_CREATE_TOPICS=true`.",
    ),
    "jobs_rewound": ErrorCode(
        "`jobs_db` lacks its newest changes: the topics of [jobs](jobs.md) say so, as an old copy was put back, or the "
        "end of its log was damaged. Nothing is sent.",
        "jobs_db is an old copy: the topics of jobs have later reports",
        "Put the newest `jobs_db` back, or accept this one: `flask jobs resume`, or `POST /api/jobs/resume`.",
    ),
    "notify_failing": ErrorCode(
        "An address of `NOTIFY_URLS`, or `PING_URL`, takes no message. Nobody is notified of this.",
        "ntfy://… does not take notifications: no answer within 30 s",
        "`flask notify test` shows what each address answers. Messages are kept for three days and tried again.",
    ),
    "rolled_back": ErrorCode(
        "Archives or the journal hold events that the database has lost.",
        "the database has generation 86ad05ce70457cf8 up to event 40, but more events were recorded before",
        "Do the restore that the hint names, or [accept it](problems.md).",
    ),
    "recovery_incomplete": ErrorCode(
        "The database is lost, and not all recorded events can be recovered.",
        "archives and journal hold events beyond 40 that cannot be recovered",
        "Put the missing files back, or [accept it](problems.md).",
    ),
    "clock_ahead": ErrorCode(
        "The system clock leapt ahead and is not believed.",
        "the system clock says 2036-01-31T12:00:00.000Z and leapt ahead by 3652 days; it is not believed",
        "Set the clock right; if it is right, [accept it](clock.md).",
    ),
    "clock_behind": ErrorCode(
        "The system clock is behind the newest event.",
        "the system clock says 2026-01-31T12:00:00.000Z, but the newest event was recorded at "
        "2026-02-01T12:00:00.000Z",
        "Set the clock right; [the clock](clock.md) says how the times of these events are mended.",
    ),
    "backups_too_large": ErrorCode(
        "The archives made here take more than `MAX_BACKUP_BYTES`. The remaining ones cannot be removed: they are "
        "pinned, the newest one, or the last one that was verified.",
        "the archives made here take 1048576 bytes more than MAX_BACKUP_BYTES allows (10485760)",
        "Unpin or delete archives, or raise `MAX_BACKUP_BYTES`. [Retention](retention.md) says what it counts.",
    ),
    "catalogue_damaged": ErrorCode(
        "The catalogue was damaged and rebuilt from the archives.",
        "/data/backups/.catalogue.json was damaged",
        _DAMAGED_FILE,
    ),
    "shared_runs_damaged": ErrorCode(
        "The note of what archives share on the disk was damaged.", "/data/backups/.shared_runs.json was damaged",
        _DAMAGED_FILE,
    ),
    "store_starting": ErrorCode(
        "The store opens the database, for longer than a second.", "the store is starting: it opens the database",
        "Wait: requests are answered once it is open.",
    ),
    "stuck": ErrorCode(
        "A part of the store has made no progress for ten seconds, or a disk does not answer.",
        "the journal made no step for 12 s: it waits for /data/backups",
        "Check the disk that the message names. If a store cannot write for a minute, another one replaces it.",
    ),
    "tokens_damaged": ErrorCode(
        "A copy of the file of the [tokens](access.md) was damaged.",
        "/data/storage/tokens.json was damaged",
        "See with `flask tokens list` which tokens there are, then remove the file that ends in `.damaged`.",
    ),
    "tokens_foreign": ErrorCode(
        "The file of the tokens belongs to another installation, so its tokens are not valid here.",
        "/data/backups/tokens.json does not belong to /data/storage/tokens.json: it has the tokens of another "
        "installation",
        "Correct `BACKUP_DIR`, make a token, or take those with `flask backup recover --with-tokens`: "
        "[access](access.md).",
    ),
    "tokens_gone": ErrorCode(
        "Both copies of the file of the tokens are gone. The service stays closed.",
        "/data/storage/tokens.json is gone, and so is its copy: no token that was made here is valid",
        "Bring a copy back, or make a token: `flask tokens create admin --scope admin`.",
    ),
    "tokens_unreadable": ErrorCode(
        "A copy of the file of the tokens cannot be read now.",
        "/data/backups/tokens.json cannot be read: Permission denied",
        "Give it to the user of the service.",
    ),
    "tokens_file_invalid": ErrorCode(
        "`API_TOKENS_FILE` has an entry that is not valid, or cannot be read. Each worker goes on with what it read "
        "before.",
        "entry 2 of API_TOKENS_FILE /run/secrets/tokens is not valid",
        "Correct that file; [access](access.md) shows one.",
    ),
    "trust_damaged": ErrorCode(
        "The list of [what you trust](trust.md) was damaged.", "/data/storage/.trusted.json was damaged",
        "Trust the keys and archives again, then remove the file that ends in `.damaged`.",
    ),
    "trust_unreadable": ErrorCode(
        "The list of what you trust cannot be read now, so it is treated as empty.",
        "reading /data/storage/.trusted.json failed: Permission denied",
        "Give it to the user of the service, and run `flask backup trust` as that user.",
    ),
    "file_damaged": ErrorCode(
        "Another [small file](format.md) was damaged. The message says what is lost with it.",
        "/data/storage/kept.json was damaged", _DAMAGED_FILE,
    ),
    "installation_damaged": ErrorCode(
        "A copy of the id or the key of the installation was damaged and replaced.",
        "/data/backups/.installation.json was damaged", _DAMAGED_FILE,
    ),
    "staged_restore_damaged": ErrorCode(
        "The file of a staged restore is damaged: the next start is refused.",
        "a restore is pending here, but its file is damaged",
        "Move the file away, and stage the restore again.",
    ),
    "restore_memory_damaged": ErrorCode(
        "It is not known which files in `RESTORE_DIR` were restored before; none is restored.",
        "nothing in /data/restore is restored",
        "Move its files out, then remove the file that the hint names and restart.",
    ),
    "restore_folder": ErrorCode(
        "`RESTORE_DIR` cannot be read, so nothing in it was restored.",
        "/data/restore cannot be read: Permission denied",
        "Make it readable for the service, then restart it.",
    ),
    "restore_refused": ErrorCode(
        "An archive in `RESTORE_DIR` was not restored and stays where it is.",
        "/data/restore/a.tar.gz was not restored and stays where it is: reading it failed: the end is missing",
        "Replace it by a good one and restart the service, or remove it.",
    ),
    "restore_left": ErrorCode(
        "An archive in `RESTORE_DIR` was skipped, because a newer one was restored.",
        "/data/restore/a.tar.gz was skipped, because the newer b.tar.gz was restored",
        "Remove it, or upload and restore it.",
    ),
    "restore_not_moved": ErrorCode(
        "An archive in `RESTORE_DIR` was restored, but could not be moved to `restored/`. It is not restored again.",
        "/data/restore/a.tar.gz was restored, but could not be moved to restored/",
        "Move it away by hand.",
    ),
    "kafka_topic_missing": ErrorCode(
        "The topic is gone, or was never there.", "the topic events is gone",
        "Create it, or restore it, or correct `KAFKA_EVENTS_TOPIC`.",
    ),
    "kafka_topic_refused": ErrorCode(
        "The brokers do not let the service read the topic; the others are read.",
        "the topic events cannot be read: Broker: Topic authorization failed",
        "Allow the client to Read and to Describe the topic. It is tried again automatically.",
    ),
    "kafka_no_topic": ErrorCode(
        "No topic matches the pattern of `KAFKA_EVENTS_TOPIC`.",
        "KAFKA_EVENTS_TOPIC is ^shop-, and the brokers show no topic with such a name",
        "Create one, correct the pattern, or allow the client to Describe the topics.",
    ),
    "kafka_dead_letters_missing": ErrorCode(
        "A message is not an event, and its topic for dead letters does not exist. The quarantine alone has it.",
        "the dead-letter topic events.dead-letter is missing",
        "Create the topic that the message names, or set `KAFKA_CREATE_TOPICS=true`.",
    ),
    "kafka_quarantine": ErrorCode(
        "Messages from Kafka are not events, and wait for your decision. Health is not `degraded` by this alone.",
        "3 messages from Kafka are not events and wait in the quarantine, the oldest since 2026-01-31T12:34:56.789Z",
        "`flask kafka quarantine list` shows why. [Replay or drop them](kafka.md#quarantine).",
    ),
    "kafka_waits": ErrorCode(
        "Events from Kafka wait, because they cannot be stored now.", "events from Kafka wait: the store is restoring",
        "Correct what the message names. The events are then consumed automatically.",
    ),
    "kafka_publish_topic_missing": ErrorCode(
        "The topic that events are published to does not exist.",
        "the topic published does not exist, and KAFKA_CREATE_TOPICS is false",
        "Create it, or set `KAFKA_CREATE_TOPICS=true`. The events wait in the database until then.",
    ),
    "kafka_publish_late": ErrorCode(
        "Events have waited for a minute to be published, or for 15 seconds while publishing fails, or the brokers "
        "refuse EventVault.",
        "events have been waiting for 75 s to be published to published",
        "Check whether the brokers answer. The events are published automatically once they do; none is lost.",
    ),
    "kafka_event_too_large": ErrorCode(
        "An event is larger than `max.message.bytes` of the topic, so it was published without its data.",
        "2 events are too large for the topic published and published without data: 'a', 'b'",
        "Raise `max.message.bytes` of the topic. The header `ce_dataref` of the message has the address of the event.",
    ),
    "kafka_topic_recreated": ErrorCode(
        "The topic was created again, so the stored offset belongs to the old one.",
        "the topic events was recreated: the stored offset of partition 2 belongs to the old topic", _KAFKA_LOSS,
    ),
    "kafka_cluster_changed": ErrorCode(
        "The broker belongs to another cluster.",
        "partition 2 of the topic events is in cluster B, its stored offset 40 in A", _KAFKA_LOSS,
    ),
    "kafka_topic_truncated": ErrorCode(
        "The partition ends before the offset up to which it was consumed.",
        "partition 2 of the topic events ends at offset 30, but was consumed up to 40", _KAFKA_LOSS,
    ),
    "kafka_topic_diverged": ErrorCode(
        "The partition has another message where the consumed one was.",
        "partition 2 of the topic events has another message at offset 39 than the consumed one",
        _KAFKA_LOSS + _OF_JOBS,
    ),
    "kafka_messages_gone": ErrorCode(
        "Messages were removed before they were consumed.",
        "partition 2 of the topic events begins at offset 50 now: 10 messages from 40 on were removed",
        _KAFKA_LOSS + _OF_JOBS,
    ),
    "kafka_offset_out_of_range": ErrorCode(
        "The broker says that the next offset no longer exists.",
        "partition 2 of the topic events no longer has the next offset", _KAFKA_LOSS,
    ),
}  # fmt: skip
"""The problems of health that no answer has as its code."""


def error_body(code: str, error: str, hint: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an error as the API and `--json` have it."""
    return {"success": False, "code": code, "error": error, "hint": hint, **(details or {})}
