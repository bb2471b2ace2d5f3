"""What the API answers when a backup, a restore or a copy is done, also as the `result` of its operation."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.backups.entry import BackupEntry, Created, Pin
from eventvault.past.values import CopyResult
from eventvault.rehearsals.results import Rehearsal
from eventvault.restore.values import PreviousEntry, ReplacedEvents, Restored, UndoTarget, moment_json
from eventvault.wording import counted

STAGED_MESSAGE = "Restore complete. Restart application to apply changes."
RESTART_COMMAND = "docker-compose restart app worker"


def rehearsed_json(result: Rehearsal) -> dict[str, Any]:
    return {"success": True, "rehearsal": result.describe()}


def created_json(created: Created) -> dict[str, Any]:
    backup = created.backup
    return {
        "success": True,
        "backupPath": backup.path,
        "size": backup.size,
        "name": backup.name,
        "label": backup.label,
        "events": backup.events,
        "sequence": backup.sequence,
        "digest": backup.digest,
        "sha256": backup.sha256,
        "addedBytes": backup.added_bytes,
        "sharedBytes": backup.shared_bytes,
        "uniqueBytes": backup.unique_bytes,
        "durationMs": created.duration,
    }


def pruned_json(pruned: dict[str, Any]) -> dict[str, Any]:
    return {"success": True, "dryRun": False, **pruned}


def one_backup_json(backup: BackupEntry) -> dict[str, Any]:
    return {"success": True, "backup": backup_json(backup)}


def restored_json(restored: Restored) -> dict[str, Any]:
    are = "is" if restored.events == 1 else "are"
    live = f"Restore complete. The {counted(restored.events, 'restored event')} {are} live; no restart is needed."
    return {
        "success": True,
        "message": STAGED_MESSAGE if restored.staged else live,
        "restartRequired": restored.staged,
        "restartCommand": RESTART_COMMAND if restored.staged else None,
        "backupName": restored.source,
        "events": restored.events,
        "notJson": restored.not_json,
        "generation": restored.generation,
        "checked": restored.checked,
        "proven": restored.proven,
        "durationMs": restored.duration,
        "notes": restored.notes,
        "undo": undo_json(restored.undo),
        "unfinishedJobs": restored.unfinished_jobs,
        "cancelledJobs": restored.cancelled_jobs,
        "replay": restored.replay,
    }


def undone_json(restored: Restored) -> dict[str, Any]:
    return {**restored_json(restored), "leftBehind": replaced_events_json(restored.replaced_events)}


def copied_json(copied: CopyResult) -> dict[str, Any]:
    return {
        "success": True,
        "message": f"{copied.appended} events of the past were appended; {copied.already_there} were there already.",
        "into": "present",
        "matched": copied.matched,
        "appended": copied.appended,
        "alreadyThere": copied.already_there,
        "renamed": copied.renamed,
        "lastSequence": copied.last_sequence,
    }


def backup_json(entry: BackupEntry) -> dict[str, Any]:
    """Return the members of BackupSchema. They are written by hand: marshmallow takes 2 s for a list of 10,000."""
    return {
        "name": entry.name,
        "path": entry.path,
        "size": entry.size,
        "sizeMB": megabytes(entry.size),
        "created": clock.format_milliseconds(entry.created),
        "label": entry.label,
        "events": entry.events,
        "sequence": entry.sequence,
        "generation": entry.generation,
        "verified": clock.optional_milliseconds(entry.verified),
        "checked": entry.checked,
        "pinned": entry.pinned,
        "rehearsal": entry.rehearsal,
        "pin": _pin_json(entry.pin),
        "keptBy": list(entry.retained_by),
        "encrypted": entry.encrypted,
        "offsite": entry.offsite,
        "digest": entry.digest,
        "sha256": entry.sha256,
        "origin": entry.origin,
        "trigger": entry.trigger,
        "durationMs": entry.duration,
        "proven": entry.origin_proven,
        "addedBytes": entry.added_bytes,
        "sharedBytes": entry.shared_bytes,
        "uniqueBytes": entry.unique_bytes,
        "kafkaReplayable": entry.kafka_replayable,
        "problem": entry.problem,
        "unreadable": entry.unreadable,
    }


def previous_database_json(entry: PreviousEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "generation": entry.generation,
        "events": entry.events,
        "left": clock.format_milliseconds(entry.replaced_at),
        "source": entry.source,
        "moment": moment_json(entry.moment),
        "size": entry.size,
    }


def undo_json(undo: UndoTarget | None) -> dict[str, Any] | None:
    return None if undo is None else {"name": undo.name, "generation": undo.generation, "events": undo.events}


def replaced_events_json(events: ReplacedEvents | None) -> dict[str, Any] | None:
    return None if events is None else {"count": events.count, "first": events.first, "last": events.last}


def megabytes(size: int) -> str:
    """Return a size in units of 2^20 bytes, with two decimals."""
    return f"{size / 2**20:.2f}"


def _pin_json(pin: Pin | None) -> dict[str, Any] | None:
    return None if pin is None else {"reason": pin.reason, "until": clock.optional_milliseconds(pin.until)}
