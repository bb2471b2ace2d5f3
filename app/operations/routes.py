"""The routes of `/api/operations`."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.access import current_credential
from app.edge import current_edge, current_store
from app.operations.answers import operation_json
from app.operations.file import file_reply
from app.operations.schemas import OneOperationSchema, OperationListSchema, OperationQuerySchema
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import reply, takes_no_body
from app.streaming import NDJSON
from app.streams.answer import stream_reply
from app.streams.messages import CONTENT_TYPE as EVENT_STREAM
from app.streams.messages import MESSAGE
from app.streams.operations import OperationSource
from eventvault.operations.entry import OperationEntry, OperationQuery, unknown_operation
from eventvault.scopes import READ

blueprint = Blueprint(
    "operations", __name__, url_prefix="/api/operations", description="Long work: backups, restores, checks."
)
blueprint.before_request(reject_repeated_parameters)


def _visible_starter() -> str | None:
    """Return the one `started_by` whose operations the request may see; None if it may see all."""
    credential = current_credential()
    return None if credential.may(READ) else credential.name


def _find_visible(operation_id: str) -> OperationEntry:
    """Return an operation. Raises OperationNotFound, also for an operation that the request may not see."""
    entry, starter = current_store().get_operation(operation_id), _visible_starter()
    if starter not in (None, entry.started_by):
        raise unknown_operation(operation_id)
    current_edge().answers.note_operations([entry])
    return entry


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List the operations of the last 30 days, newest first")
@blueprint.arguments(OperationQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, OperationListSchema)
def list_operations(parameters: dict[str, Any]) -> Response:
    """Lists them whoever began them: a client, the schedule, a start or the command line. Answers during a start too.

    A token that may not `read` sees the operations that it began.
    """
    query = OperationQuery(
        states=parameters["state"],
        kinds=parameters["kind"],
        limit=parameters["limit"],
        before=parameters.get("before"),
        started_by=_visible_starter(),
    )
    operations = current_store().list_operations(query)
    current_edge().answers.note_operations(operations)
    return reply({"success": True, "operations": [operation_json(operation) for operation in operations]})


@blueprint.route("/<string:operation_id>", methods=["GET"])
@blueprint.doc(summary="Get an operation")
@blueprint.response(200, OneOperationSchema)
@accepts_parameters()
def get_operation(operation_id: str) -> Response:
    """404 for an operation that is unknown, or that ended more than 30 days or 10,000 operations ago."""
    return reply({"success": True, "operation": operation_json(_find_visible(operation_id))})


@blueprint.route("/<string:operation_id>/file", methods=["GET"])
@blueprint.doc(summary="Get the file that an export wrote")
@blueprint.response(200, {"type": "string"}, content_type=NDJSON, description="One event per line.")
@blueprint.alt_response(
    206, schema={"type": "string"}, content_type=NDJSON, description="The requested range.", success=True
)
@blueprint.alt_response(304, description="The file is as `If-None-Match` says.", success=True)
@accepts_parameters()
def get_file(operation_id: str) -> Response:
    """Supports `Range`, `If-Range` and `If-None-Match`. A client that takes gzip gets the compressed file as it is.

    404 unless the operation is an export that succeeded less than a day ago.
    """
    return file_reply(current_edge(), _find_visible(operation_id))


@blueprint.route("/<string:operation_id>/stream", methods=["GET"])
@blueprint.doc(summary="Follow an operation")
@blueprint.response(200, MESSAGE, content_type=EVENT_STREAM, description="Server-sent events.")
@blueprint.alt_response(204, description="It has ended, and the client was sent its end before.", success=True)
@accepts_parameters()
def stream_operation(operation_id: str) -> Response:
    """Sends the operation as it is, and again with each change, as `operation`. The stream ends with the operation."""
    edge = current_edge()
    entry = _find_visible(operation_id)
    if entry.ended_at is not None and request.headers.get("Last-Event-ID") == entry.state:
        return Response(status=204)  # a browser does not come back then
    return stream_reply(lambda: (b"", OperationSource(edge.operation_feed, entry, operation_json)))


@blueprint.route("/<string:operation_id>", methods=["DELETE"])
@blueprint.doc(summary="Cancel an operation")
@blueprint.response(202, OneOperationSchema)
@accepts_parameters()
@takes_no_body
def cancel_operation(operation_id: str) -> Response:
    """The operation ends as soon as it can, with nothing half done; `state` becomes `cancelled`. May be repeated.

    409 once it has ended, or once it is decided: a restore swaps the database, or an archive has got its name.
    """
    operation = current_store().cancel_operation(operation_id)
    return reply({"success": True, "operation": operation_json(operation)}, 202)
