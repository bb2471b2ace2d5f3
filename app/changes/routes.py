"""The routes of `/api/changes`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.access import current_credential
from app.edge import current_edge
from app.operations.answers import operation_json
from app.query import accepts_parameters, reject_repeated_parameters
from app.streams.answer import stream_reply
from app.streams.changes import RUNNING_OPERATIONS, ChangeSource
from app.streams.messages import CONTENT_TYPE as EVENT_STREAM
from app.streams.messages import MESSAGE
from app.streams.source import StreamSource
from eventvault.database.values import Head
from eventvault.scopes import READ

blueprint = Blueprint("changes", __name__, url_prefix="/api/changes", description="What changed, for pages.")
blueprint.before_request(reject_repeated_parameters)


@blueprint.route("/stream", methods=["GET"])
@blueprint.doc(summary="Follow what changes")
@blueprint.response(200, MESSAGE, content_type=EVENT_STREAM, description="Server-sent events.")
@accepts_parameters()
def stream_changes() -> Response:
    """Sends `events` (`generation`, `lastSequence`) after new events, and `operation` after a change of an operation.

    It begins with the current state: the end of the registry, and the running operations. Changes are combined into at
    most four messages of a kind a second. A token that may not `read` gets the operations that it began, and no
    `events`.
    """
    credential = current_credential()
    may_read = credential.may(READ)
    edge = current_edge()

    def begin() -> tuple[bytes, StreamSource]:
        position = edge.store.resume(None)
        running = edge.store.list_operations(RUNNING_OPERATIONS)
        source = ChangeSource(
            edge.change_feed, operation_json, None if may_read else credential.name, has_events=may_read
        )
        return source.beginning(Head(position.generation, position.sequence), running), source

    return stream_reply(begin)
