"""The store's part of `/api/health` and of `/metrics`: numbers that are in memory, nothing that waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.disk_space import describe_disks
from eventvault.backups.entry import BackupEntry
from eventvault.backups.file_problems import FileProblems
from eventvault.backups.schedule import AutoBackup
from eventvault.backups.scrub import ArchiveScrub
from eventvault.backups.verify import Verifier
from eventvault.database.bus import EventBus
from eventvault.database.clock_watch import ClockWatch
from eventvault.errors import BackupsChanged, DatabaseDamaged, EventVaultError
from eventvault.journal.journal import Journal
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.problems import OpenProblems, Problem
from eventvault.restore.restorer import Restorer
from eventvault.restore.swap.intent import read_intent, read_last
from eventvault.restore.values import describe_last, describe_staged
from eventvault.settings import Settings
from eventvault.store.ports.health import Health

STARTING_SECONDS = 1.0
"""How long health waits for a store that opens the database; most starts are quicker."""

_STARTING = Problem(
    "store_starting",
    "the store is starting: it opens the database",
    "wait: requests are answered once it is open; `store.state` in health shows it",
)

_MAX_SHOWN = 5
"""So many names one problem shows."""


@dataclass(frozen=True, kw_only=True)
class HealthOwner(Health):
    """Describes the parts of a store. state: as `StoreService.state`."""

    settings: Settings
    state: Callable[[], str]
    bus: EventBus
    catalogue: Catalogue
    backups: BackupMaker
    schedule: AutoBackup
    verifier: Verifier
    scrub: ArchiveScrub
    journal: Journal
    restorer: Restorer
    kafka: KafkaMonitor
    open_problems: OpenProblems
    clock_watch: ClockWatch
    file_problems: FileProblems
    await_start: Callable[[float], object]

    def status(self) -> dict[str, Any]:
        self.await_start(STARTING_SECONDS)
        return _describe(self)


def _describe(parts: HealthOwner) -> dict[str, Any]:
    state, last = parts.state(), read_last(parts.settings.storage_dir)
    problems = [_STARTING] if state == "starting" else []
    problems += parts.restorer.finisher.drop_folder.problems
    backups, catalogue_problem = _backups(parts)
    journal_problem = parts.journal.problem_since(parts.backups.last_made)
    journal_problems = (journal_problem, parts.journal.damage)
    for error in (
        parts.bus.problem,
        parts.backups.problem,
        catalogue_problem,
        parts.schedule.problem,
        *journal_problems,
    ):
        if error is not None and not isinstance(error, BackupsChanged):  # whether it still is, is examined below
            problems.append(Problem(error.code, error.message, error.hint))
    codes = {problem.code for problem in problems}
    problems += [problem for problem in parts.file_problems.problems() if problem.code not in codes]
    problems += _refused_names(parts.catalogue)
    problems += _unreadable_staged(parts.settings.storage_dir)
    problems += [_bad_archive(entry) for entry in backups if entry.problem and entry.origin == "created"]
    problems += [_changed_seal(entry) for entry in backups if entry.seal_changed and not entry.problem]
    problems += [*parts.kafka.problems(), *parts.clock_watch.problems()]
    waiting = [problem.describe(acceptable=True) for problem in parts.open_problems.all()]
    return {
        "status": "restoring" if state == "restoring" else "degraded" if problems or waiting else "ok",
        "problems": [*(problem.describe() for problem in problems), *waiting],
        "store": _store(parts),
        "backup": {
            "available": catalogue_problem is None,
            "count": len(backups),
            "latest": msgspec.to_builtins(backups[0]) if backups else None,
            "totalSize": sum(entry.size for entry in backups),
            "addedBytes": sum(entry.added_bytes or 0 for entry in backups),
            "sharedBytes": sum(entry.shared_bytes or 0 for entry in backups),
            "uniqueBytes": sum(entry.unique_bytes or 0 for entry in backups),
            "damaged": [entry.name for entry in backups if entry.problem and not entry.unreadable],
            "notProven": _not_proven(parts.catalogue.installation, backups),
            "oldestVerified": _oldest_verified(backups),
        },
        "disk": _disk(parts, backups),
        "kafka": parts.kafka.snapshot(),
        "journal": parts.journal.status(),
        "window": _window(parts),
        "jobs": {
            "autoBackup": parts.schedule.describe(),
            "scrub": parts.scrub.describe(),
            "restore": _running_restore(parts),
        },
        "lastRestore": describe_last(last.restored if last else None),
        "metrics": _metrics(parts),
    }


def _backups(parts: HealthOwner) -> tuple[list[BackupEntry], EventVaultError | None]:
    try:
        return parts.catalogue.entries(), None
    except EventVaultError as error:
        return [], error
    except OSError as error:
        return [], EventVaultError(f"the backup folder cannot be read: {error}", hint="make it readable")


def _disk(parts: HealthOwner, backups: list[BackupEntry]) -> dict[str, Any]:
    """The archives count as what they take on the disk, so blocks that several of them share count once."""
    shared_runs = parts.catalogue.shared_runs
    archives = sum(entry.size for entry in backups) - shared_runs.shared_again
    return describe_disks(parts.settings, archives, shared_runs.growth_per_day())


def _oldest_verified(backups: list[BackupEntry]) -> int | None:
    """The oldest time of verification among the good archives (microseconds); None if there is none without one."""
    times = [entry.verified for entry in backups if entry.problem is None]
    verified = [time for time in times if time is not None]
    return min(verified) if verified and len(verified) == len(times) else None


def _not_proven(installation: str, backups: list[BackupEntry]) -> int:
    """How many archives claim to be made here and are not proven: rotation leaves them."""
    claims = (entry for entry in backups if entry.installation == installation and entry.problem is None)
    return sum(not entry.origin_proven for entry in claims)


def _bad_archive(entry: BackupEntry) -> Problem:
    message = f"{entry.name}: {entry.problem}"
    if entry.unreadable:
        hint = "check the disk of BACKUP_DIR and the permissions of the file; the archive may be good"
        return Problem("backup_unreadable", message, hint, entry.name)
    hint = "make a new backup with POST /api/backup/create, then delete this one"
    return Problem("backup_damaged", message, hint, entry.name)


def _refused_names(catalogue: Catalogue) -> list[Problem]:
    """One problem for all files that are not listed because of their names, however many there are."""
    refused = catalogue.refused_names
    if not refused:
        return []
    shown = ", ".join(f"{name} {names.file_problem(name)}" for name in refused[:_MAX_SHOWN])
    more = f", and {len(refused) - _MAX_SHOWN} more" if len(refused) > _MAX_SHOWN else ""
    message = f"files in BACKUP_DIR are no backups because of their names: {shown}{more}"
    return [Problem("backup_name_invalid", message, "rename them, or move them away", refused[0])]


def _changed_seal(entry: BackupEntry) -> Problem:
    proof = "the catalogue still proves it" if entry.origin_proven else "nothing proves any more that it was made here"
    return Problem(
        "seal_changed",
        f"{entry.name}: its seal is not the one that it had, all else is as it was made; {proof}",
        "check the disk of BACKUP_DIR; make a new backup with POST /api/backup/create, then delete this one",
        entry.name,
    )


def _store(parts: HealthOwner) -> dict[str, Any]:
    registry = parts.bus.registry
    return {
        "state": parts.state(),
        "events": registry.last_sequence if registry else None,
        "lastSequence": registry.last_sequence if registry else None,
        "storeId": registry.identity.store_id if registry else None,
        "generation": registry.identity.generation if registry else None,
        "pid": os.getpid(),
    }


def _window(parts: HealthOwner) -> dict[str, Any] | None:
    """The window of the present generation: every moment of it is a prefix of the open database."""
    registry = parts.bus.registry
    if registry is None:
        return None
    identity = registry.identity
    born = identity.origin_time(identity.generation)
    newest = registry.last_recorded or born
    return {
        "oldest": {"time": clock.format_microseconds(min(born, newest)), "sequence": 0},
        "newest": {"time": clock.format_microseconds(newest), "sequence": registry.last_sequence},
    }


def _running_restore(parts: HealthOwner) -> dict[str, Any]:
    """A restore on request; a restore at the start shows as `status`."""
    source, since = parts.restorer.running or (None, None)
    return {
        "running": source is not None,
        "source": source,
        "since": None if since is None else clock.format_milliseconds(since),
        "staged": _staged_restore(parts.settings.storage_dir),
    }


def _staged_restore(storage_dir: Path) -> dict[str, Any] | None:
    """The staged restore; None also if it cannot be read, which is a problem of its own."""
    try:
        staged = read_intent(storage_dir, data_folders.STAGED_RESTORE)
    except (DatabaseDamaged, OSError):
        return None
    return describe_staged(staged.restored if staged else None)


def _unreadable_staged(storage_dir: Path) -> list[Problem]:
    try:
        read_intent(storage_dir, data_folders.STAGED_RESTORE)
    except DatabaseDamaged as error:
        return [Problem("staged_restore_damaged", error.message, error.hint)]
    except OSError:
        pass
    return []


def _metrics(parts: HealthOwner) -> dict[str, float]:
    stats = parts.bus.committer.stats
    return {
        "append_groups": stats.groups,
        "append_requests": stats.batches,
        "appended_events": stats.events,
        "duplicate_events": stats.duplicates,
        "append_seconds": stats.seconds,
        "failed_groups": stats.failures,
        **{f"backups_{name}": count for name, count in parts.backups.counts.items()},
        **{f"journal_{name}": count for name, count in parts.journal.counts.items()},
        **{f"archives_{name}": count for name, count in parts.verifier.counts.items()},
        **{f"restores_{name}": count for name, count in parts.restorer.counts.items()},
    }
