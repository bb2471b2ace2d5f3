"""What the API answers when a backup, a restore or a copy is done, also as the `result` of its operation."""

from __future__ import annotations

from typing import Any

from app.backup.schemas import backup_json
from app.backup.undo_schemas import replaced_events_json, undo_json
from eventvault.backups.entry import BackupEntry, Created
from eventvault.past.values import CopyResult
from eventvault.rehearsals.results import Rehearsal
from eventvault.restore.values import Restored

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
    live = f"Restore complete. The {restored.events} restored events are live; no restart is needed."
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
