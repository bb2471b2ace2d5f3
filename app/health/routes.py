"""The routes of `/api/health`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.access import current_credential
from app.errors import core_error_response
from app.health.schemas import HealthSchema, StateSchema
from app.health.status import health_body, state_of
from app.replies import body_reply, reply
from app.store_status import current_status
from eventvault.errors import EventVaultError, StoreRestoring, StoreUnavailable
from eventvault.scopes import READ

blueprint = Blueprint("health", __name__, url_prefix="/api/health", description="The state of the service.")


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="Get the state of the service")
@blueprint.response(200, HealthSchema)
@blueprint.alt_response(304, description="The answer is as `If-None-Match` says.", success=True)
def health() -> Response:
    """Always answers 200. `status` is `ok`, `degraded` or `restoring`; `problems` lists the reasons for `degraded`.

    With `If-None-Match` it answers 304 if nothing has changed. Where tokens are needed, a request without a token that
    may `read` gets `status` only.
    """
    if not current_credential().may(READ):
        return reply({"success": True, "status": state_of(current_status())})
    return body_reply(current_status().once(health_body))


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
        status = current_status().get()
    except EventVaultError as error:
        return core_error_response(error)
    if status["status"] == "restoring":
        return core_error_response(StoreRestoring("a restore is under way", hint="wait for it to end"))
    if (status.get("store") or {}).get("state") in ("starting", "failed", "stopping", "unreachable"):
        return core_error_response(
            StoreUnavailable("the event database is not open", hint="see `problems` of /api/health")
        )
    return reply({"success": True, "status": "ready"})
