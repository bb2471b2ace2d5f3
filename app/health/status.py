"""Makes the answer of `/api/health` from the store's status."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from app.backup.answers import backup_json, megabytes
from app.edge import current_edge
from app.replies import Body
from app.store_status import Status
from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.errors import EventVaultError, StoreRestoring
from eventvault.problems import Problem, ProblemTimes

_PARTS = ("store", "kafka", "journal", "jobs", "jobQueue", "window", "disk", "lastRestore", "rehearsal")


def health_body(status: Status) -> Body:
    """Return the answer of `/api/health`."""
    try:
        body = _describe(status.get())
    except EventVaultError as error:
        body = _describe(_status_without_store(error, current_edge().away))
    return Body(orjson.dumps(body))


def state_of(status: Status) -> str:
    """Return what `/api/health` answers without a token: `ok`, `degraded` or `restoring`."""
    try:
        state: str = status.get()["status"]
    except StoreRestoring:
        return "restoring"
    except EventVaultError:
        return "degraded"
    return state


def _status_without_store(error: EventVaultError, away: ProblemTimes) -> dict[str, Any]:
    restoring = isinstance(error, StoreRestoring)
    problems = away.with_since([Problem(error.code, error.message, error.hint)])
    return {
        "status": "restoring" if restoring else "degraded",
        "problems": [] if restoring else [problem.describe() for problem in problems],
        "store": {"state": "restoring" if restoring else "unreachable"},
        "backup": {"available": False},
    }


def _describe(status: dict[str, Any]) -> dict[str, Any]:
    backup = status.get("backup") or {}
    latest, oldest = backup.get("latest"), backup.get("oldestVerified")
    return {
        "success": True,
        "status": status["status"],
        "problems": status.get("problems", []),
        "backup": {
            "available": bool(backup.get("available")),
            "count": backup.get("count", 0),
            "latest": None if latest is None else backup_json(msgspec.convert(latest, BackupEntry)),
            "totalSizeMB": None if backup.get("count", 0) is None else megabytes(backup.get("totalSize", 0)),
            "damaged": backup.get("damaged", []),
            "damagedCount": backup.get("damagedCount", 0),
            "notProven": backup.get("notProven", 0),
            "keptBy": backup.get("keptBy", {}),
            "oldestVerified": clock.optional_milliseconds(oldest),
        },
        **{part: status.get(part) for part in _PARTS},
    }
