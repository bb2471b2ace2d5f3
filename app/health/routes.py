"""The routes of `/api/health`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from app.backup.schemas import backup_json, megabytes
from app.edge import current_store
from app.errors import core_error_response
from app.health.schemas import HealthSchema, StateSchema
from app.replies import reply
from eventvault import clock
from eventvault.errors import EventVaultError, StoreRestoring, StoreUnavailable
from eventvault.problems import Problem

blueprint = Blueprint("health", __name__, url_prefix="/api/health", description="The state of the service.")

_PARTS = ("store", "kafka", "journal", "jobs", "window", "disk", "lastRestore")


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="Get the state of the service")
@blueprint.response(200, HealthSchema)
def health() -> Response:
    """Always answers 200. `status` is `ok`, `degraded` or `restoring`; `problems` lists the reasons for `degraded`."""
    try:
        status = current_store().status()
    except EventVaultError as error:
        status = _status_without_store(error)
    return reply(_health(status))


@blueprint.route("/live", methods=["GET"])
@blueprint.doc(summary="Check that this process serves")
@blueprint.response(200, StateSchema)
def live() -> Response:
    return reply({"success": True, "status": "live"})


@blueprint.route("/ready", methods=["GET"])
@blueprint.doc(summary="Check that the store answers")
@blueprint.response(200, StateSchema)
def ready() -> Response:
    """Answers 503 with Retry-After while the store does not answer or restores."""
    try:
        status = current_store().status()
    except EventVaultError as error:
        return core_error_response(error)
    if status["status"] == "restoring":
        return core_error_response(StoreRestoring("a restore is under way", hint="wait for it to end"))
    if (status.get("store") or {}).get("state") in ("starting", "failed", "stopping", "unreachable"):
        return core_error_response(
            StoreUnavailable("the event database is not open", hint="see `problems` of /api/health")
        )
    return reply({"success": True, "status": "ready"})


def _status_without_store(error: EventVaultError) -> dict[str, Any]:
    restoring = isinstance(error, StoreRestoring)
    return {
        "status": "restoring" if restoring else "degraded",
        "problems": [] if restoring else [Problem(error.code, error.message, error.hint).describe()],
        "store": {"state": "restoring" if restoring else "unreachable"},
        "backup": {"available": False},
    }


def _health(status: dict[str, Any]) -> dict[str, Any]:
    backup = status.get("backup") or {}
    latest, oldest = backup.get("latest"), backup.get("oldestVerified")
    return {
        "success": True,
        "status": status["status"],
        "problems": status.get("problems", []),
        "backup": {
            "available": bool(backup.get("available")),
            "count": backup.get("count", 0),
            "latest": None if latest is None else backup_json(latest),
            "totalSizeMB": None if backup.get("count", 0) is None else megabytes(backup.get("totalSize", 0)),
            "damaged": backup.get("damaged", []),
            "damagedCount": backup.get("damagedCount", 0),
            "notProven": backup.get("notProven", 0),
            "oldestVerified": None if oldest is None else clock.format_milliseconds(oldest),
        },
        **{part: status.get(part) for part in _PARTS},
    }
