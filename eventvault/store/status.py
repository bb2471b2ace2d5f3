"""The store's part of `/api/health` and of `/metrics`: numbers that are at hand, nothing that waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventvault import clock
from eventvault.errors import DatabaseDamaged, EventVaultError
from eventvault.restore.intent import STAGED_NAME, read_intent, read_last
from eventvault.store.generation import lineage
from eventvault.store.values import BackupEntry, Restored

if TYPE_CHECKING:
    from eventvault.store.service import StoreService


def describe(service: StoreService) -> dict[str, Any]:
    """As `eventvault.store.interface.Store.status` says."""
    problems = list(service.restorer.inbox.problems)
    backups, catalogue_problem = _backups(service)
    journal_problem = service.journal.problem_since(service.backups.last_made)
    journal_problems = (journal_problem, service.journal.damage)
    for error in (service.bus.problem, catalogue_problem, service.schedule.problem, *journal_problems):
        if error is not None:
            problems.append({"code": error.code, "message": error.message, "hint": error.hint})
    problems += [_bad_archive(entry) for entry in backups if entry.problem and entry.origin == "created"]
    problems += service.kafka.problems()
    restoring = service.state in ("starting", "restoring")
    return {
        "status": "restoring" if restoring else "degraded" if problems else "ok",
        "problems": problems,
        "store": _store(service),
        "backup": {
            "available": catalogue_problem is None,
            "count": len(backups),
            "latest": msgspec.to_builtins(backups[0]) if backups else None,
            "totalSize": sum(entry.size for entry in backups),
            "damaged": [entry.name for entry in backups if entry.problem],
            "oldestVerified": _oldest_verified(backups),
        },
        "kafka": service.kafka.snapshot(),
        "journal": service.journal.status(),
        "window": _window(service),
        "jobs": {
            "autoBackup": service.schedule.describe(),
            "scrub": service.scrub.describe(),
            "restore": _running_restore(service),
        },
        "lastRestore": _last_restore(service),
        "metrics": _metrics(service),
    }


def restored_json(restored: Restored) -> dict[str, Any]:
    """A `Restored` with the members that `/api/health` promises."""
    return {
        "source": restored.source,
        "at": clock.format_milliseconds(restored.at),
        "events": restored.events,
        "notJson": restored.not_json,
        "durationMs": restored.duration,
        "generation": restored.generation,
        "notes": restored.notes,
        "reason": restored.reason,
    }


def _backups(service: StoreService) -> tuple[list[BackupEntry], EventVaultError | None]:
    try:
        return service.catalogue.entries(), None
    except EventVaultError as error:
        return [], error
    except OSError as error:
        return [], EventVaultError(f"the backup folder cannot be read: {error}", hint="make it readable")


def _oldest_verified(backups: list[BackupEntry]) -> int | None:
    """When the archive that was verified longest ago was verified, in microseconds; None: one never was, or none is."""
    good = [entry.verified for entry in backups if entry.problem is None]
    known = [verified for verified in good if verified is not None]
    return min(known) if known and len(known) == len(good) else None


def _bad_archive(entry: BackupEntry) -> dict[str, str]:
    return {
        "code": "backup_damaged",
        "message": f"{entry.name}: {entry.problem}",
        "hint": "make a new backup with POST /api/backup/create, then delete this one",
    }


def _store(service: StoreService) -> dict[str, Any]:
    registry = service.bus.registry
    return {
        "state": service.state,
        "events": registry.last_sequence if registry else None,
        "lastSequence": registry.last_sequence if registry else None,
        "storeId": registry.identity.store_id if registry else None,
        "generation": registry.identity.generation if registry else None,
        "pid": os.getpid(),
    }


def _window(service: StoreService) -> dict[str, Any] | None:
    """Each moment of the open database can be had: a past one is a prefix of what is there."""
    registry = service.bus.registry
    if registry is None:
        return None
    identity = registry.identity
    born = identity.by_id()[lineage(identity.by_id(), identity.generation)[-1][0]].at
    newest = registry.last_recorded or born
    return {
        "oldest": {"time": clock.format_microseconds(min(born, newest)), "sequence": 0},
        "newest": {"time": clock.format_microseconds(newest), "sequence": registry.last_sequence},
    }


def _running_restore(service: StoreService) -> dict[str, Any]:
    """One that was asked for while the service runs; of a start's own restore `status` speaks."""
    source, since = service.restorer.running or (None, None)
    return {
        "running": source is not None,
        "source": source,
        "since": None if since is None else clock.format_milliseconds(since),
        "staged": _staged_restore(service.settings.storage_dir),
    }


def _staged_restore(storage_dir: Path) -> dict[str, Any] | None:
    """One that waits for the next start. What cannot be read is told by the start or the restore that comes upon it."""
    try:
        staged = read_intent(storage_dir, STAGED_NAME)
    except (DatabaseDamaged, OSError):
        return None
    if staged is None:
        return None
    restored = staged.restored
    return {
        "source": restored.source,
        "since": clock.format_milliseconds(restored.at),
        "events": restored.events,
    }


def _last_restore(service: StoreService) -> dict[str, Any] | None:
    last = read_last(service.settings.storage_dir)
    return restored_json(last.restored) if last else None


def _metrics(service: StoreService) -> dict[str, float]:
    sizes = service.bus.committer.sizes
    return {
        "append_groups": sizes.groups,
        "append_requests": sizes.batches,
        "appended_events": sizes.events,
        "duplicate_events": sizes.duplicates,
        "append_seconds": sizes.seconds,
        "failed_groups": sizes.failures,
        **{f"backups_{name}": count for name, count in service.backups.counts.items()},
        **{f"journal_{name}": count for name, count in service.journal.counts.items()},
        **{f"archives_{name}": count for name, count in service.verifier.counts.items()},
        **{f"restores_{name}": count for name, count in service.restorer.counts.items()},
    }
