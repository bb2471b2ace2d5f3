"""The route of `/api/audit`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.audit.schemas import AuditQuerySchema, AuditSchema, line_json
from app.edge import current_store
from app.query import reject_repeated_parameters
from app.replies import reply

blueprint = Blueprint("audit", __name__, url_prefix="/api/audit", description="What was done, and who did it.")
blueprint.before_request(reject_repeated_parameters)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List what was done, oldest first")
@blueprint.arguments(AuditQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, AuditSchema)
def list_audit(parameters: dict[str, Any]) -> Response:
    """Two lines for each deed, one before it was done and one with its result, joined by `operation`.

    `previous` is the SHA-256 of the line before. `flask audit verify` checks the whole chain.
    """
    page = current_store().read_audit(after=parameters["after"], limit=parameters["limit"])
    newest = page.lines[-1].line if page.lines else parameters["after"]
    return reply(
        {
            "success": True,
            "lines": [line_json(line) for line in page.lines],
            "next": newest if page.lines and newest < page.last else None,
            "lastLine": page.last,
        }
    )
