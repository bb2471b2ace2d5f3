"""The routes of `/api/events`."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.edge import current_store, store_for_long_call
from app.events.appending import append_events
from app.events.reading import EXPORT_PAGE, export_reply, page_reply, page_request_of
from app.events.schemas import (
    AppendedSchema,
    EventQuerySchema,
    EventsSchema,
    FilterQuerySchema,
    ListQuerySchema,
    OneEventSchema,
)
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON
from app.streaming import NDJSON
from eventvault.restore.values import Moment

blueprint = Blueprint("events", __name__, url_prefix="/api/events", description="The events, in the order they came.")
blueprint.before_request(reject_repeated_parameters)

_EVENT = {"$ref": "#/components/schemas/Event"}
_MANY = {"type": "array", "items": _EVENT}
_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"oneOf": [_EVENT, _MANY]}},
        "application/cloudevents+json": {"schema": _EVENT},
        "application/cloudevents-batch+json": {"schema": _MANY},
        NDJSON: {"schema": {"type": "string"}},
    },
}


@blueprint.route("", methods=["POST"])
@blueprint.doc(summary="Append one event or several", requestBody=_BODY)
@blueprint.response(201, AppendedSchema)
@blueprint.alt_response(200, schema=AppendedSchema, description="All were there already.", success=True)
@accepts_parameters()
def post_events() -> Response:
    """One event, an array of them or NDJSON; CloudEvents in structured, batch or binary mode.

    All or nothing. The answer means: on disk.
    """
    return append_events(request)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List events, oldest first")
@blueprint.arguments(ListQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, EventsSchema)
def get_events(asked: dict[str, Any]) -> Response:
    """A page of events; `next` is the `after` of the next page. With `id`: that one event, as `event`.

    With `asOf`: the registry as it was at that instant.
    """
    if "id" in asked:
        return _one(asked["id"], asked.get("source"), asked.get("as_of"))
    return page_reply(page_request_of(asked, asked["limit"]))


@blueprint.route("/export", methods=["GET"])
@blueprint.doc(summary="Export all events")
@blueprint.arguments(FilterQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, {"type": "string"}, content_type=NDJSON, description="One event a line.")
def export_events(asked: dict[str, Any]) -> Response:
    """Everything there is when the request arrives, or was there `asOf`, streamed as NDJSON, of any size."""
    return export_reply(page_request_of(asked, EXPORT_PAGE).query)


@blueprint.route("/<event_id:event_id>", methods=["GET"])
@blueprint.doc(summary="Get one event")
@blueprint.arguments(EventQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, OneEventSchema)
def get_event(asked: dict[str, Any], event_id: str) -> Response:
    """The id is percent-encoded and may hold `/`; an id such as `export` is reached by `GET /api/events?id=`."""
    return _one(event_id, asked.get("source"))


def _one(event_id: str, source: str | None, as_of: int | None = None) -> Response:
    if as_of is not None:
        with store_for_long_call() as store:
            store.resolve_moment(Moment(instant=as_of))  # raises where there is no such moment
    value = current_store().get(event_id, source, as_of)
    return Response(b'{"success":true,"event":%s}' % value, content_type=JSON)
