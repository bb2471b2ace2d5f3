"""The store's status, asked for once for all who want it within half a second, and what `/api/health` says of it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import orjson

from app.backup.schemas import backup_json, megabytes, timestamp
from app.edge import current_edge
from app.replies import Body
from app.shared_answers import Question
from eventvault.backups.entry import BackupEntry
from eventvault.errors import EventVaultError, StoreRestoring
from eventvault.problems import Problem, ProblemTimes

_PARTS = ("store", "kafka", "journal", "jobs", "window", "disk", "lastRestore")


class Status:
    """What the store said, or the error in its place. away: since when it does not answer."""

    def __init__(self, status: dict[str, Any], error: EventVaultError | None, away: ProblemTimes) -> None:
        self._status = status
        self._error = error
        self._away = away

    def get(self) -> dict[str, Any]:
        """Return `Store.status()`, or raise what it raised."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._status

    @cached_property
    def health(self) -> Body:
        """The answer of `/api/health`."""
        status = self._status if self._error is None else _without_store(self._error, self._away)
        return Body(orjson.dumps(_describe(status)))

    def encode(self) -> bytes | None:
        return None if self._error is not None else orjson.dumps(self._status)


def current_status() -> Status:
    edge = current_edge()

    def ask() -> Status:
        try:
            status = edge.store.status()
        except EventVaultError as error:
            return Status({}, error, edge.away)
        edge.away.dated([])
        return Status(status, None, edge.away)

    def decode(encoded: bytes) -> Status:
        return Status(orjson.loads(encoded), None, edge.away)

    return edge.answers.get(Question("status", ask, Status.encode, decode))


def _without_store(error: EventVaultError, away: ProblemTimes) -> dict[str, Any]:
    restoring = isinstance(error, StoreRestoring)
    problems = away.dated([Problem(error.code, error.message, error.hint)])
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
            "oldestVerified": timestamp(oldest),
        },
        **{part: status.get(part) for part in _PARTS},
    }
