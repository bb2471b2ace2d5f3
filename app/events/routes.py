"""The routes of `/api/events`."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.edge import current_store, store_for_long_call
from app.events.appending import append_events
from app.events.durability import PARAMETER
from app.events.exporting import EXPORT_BODY, ExportedSchema, ExportSchema, write_export
from app.events.following import stream_events_reply
from app.events.overview import histogram_reply, types_reply
from app.events.reading import EXPORT_PAGE, export_reply, page_reply, page_request_of
from app.events.schemas import (
    AppendedSchema,
    EventQuerySchema,
    EventsSchema,
    EventTypesSchema,
    FilterQuerySchema,
    HistogramQuerySchema,
    HistogramSchema,
    ListQuerySchema,
    OneEventSchema,
    StreamQuerySchema,
    TypesQuerySchema,
)
from app.operations.asynchronous import ASYNC, begins_operation
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, validated_body
from app.streaming import NDJSON
from app.streams.messages import CONTENT_TYPE as EVENT_STREAM
from app.streams.messages import MESSAGE
from eventvault.restore.values import Moment

blueprint = Blueprint(
    "events", __name__, url_prefix="/api/events", description="The events, in the order of their sequence numbers."
)
blueprint.before_request(reject_repeated_parameters)

_export = ExportSchema()
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
_DURABILITY = {
    "in": "query",
    "name": PARAMETER,
    "schema": {"type": "string", "enum": ["kafka"]},
    "description": "Answer once Kafka has the events; 422 if KAFKA_PUBLISH_TOPIC is not set.",
}


@blueprint.route("", methods=["POST"])
@blueprint.doc(summary="Append one event or several", requestBody=_BODY, parameters=[_DURABILITY])
@blueprint.response(201, AppendedSchema)
@blueprint.alt_response(200, schema=AppendedSchema, description="All events were stored before.", success=True)
@blueprint.alt_response(
    202, schema=AppendedSchema, description="The events are on disk, and not in Kafka yet.", success=True
)
@accepts_parameters(PARAMETER)
def post_events() -> Response:
    """Accepts one event, an array or NDJSON, and CloudEvents in structured, batch or binary mode.

    All events are stored, or none. When the answer arrives, they are on disk. With `durability=kafka` it comes once
    Kafka has them too, or after 10 seconds with `"kafka": "pending"`. `"kafka": "refused"` means that Kafka never takes
    one of them, because it is too large.
    """
    return append_events(request)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List events")
@blueprint.arguments(ListQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, {"anyOf": [EventsSchema, OneEventSchema]})
def get_events(parameters: dict[str, Any]) -> Response:
    """Answers with a page of events; send its `next` as `after` to get the next page. With `id`: one event, as `event`.

    With `order=newest` the newest come first; send `next` as `before`. With `asOf`: the registry as it was at that
    instant.
    """
    if "id" in parameters:
        return _one(parameters["id"], parameters.get("source"), parameters.get("as_of"))
    return page_reply(page_request_of(parameters, parameters["limit"]))


@blueprint.route("/export", methods=["GET"])
@blueprint.doc(summary="Export all events")
@blueprint.arguments(FilterQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, {"type": "string"}, content_type=NDJSON, description="One event per line.")
def export_events(parameters: dict[str, Any]) -> Response:
    """Streams all events as NDJSON: those stored when the request arrives, or those of `asOf`."""
    return export_reply(page_request_of(parameters, EXPORT_PAGE).query)


@blueprint.route("/stream", methods=["GET"])
@blueprint.doc(
    summary="Follow the events",
    parameters=[
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "string", "pattern": "^([0-9a-f]{16}:[0-9]{1,18})?$"},
            "description": "The `id` of the last message: a client that comes back continues after it.",
        }
    ],
)
@blueprint.arguments(StreamQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, MESSAGE, content_type=EVENT_STREAM, description="Server-sent events.")
def stream_events(parameters: dict[str, Any]) -> Response:
    """Sends each event once it is on disk, as `event`, and a restore as `restore`.

    It begins with the next event, or after the position in `after` or `Last-Event-ID`. It ends after 15 minutes: then
    connect again.
    """
    return stream_events_reply(parameters)


@blueprint.route("/histogram", methods=["GET"])
@blueprint.doc(summary="Count events by time")
@blueprint.arguments(HistogramQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, HistogramSchema)
@blueprint.alt_response(304, description="The answer is as `If-None-Match` says.", success=True)
def get_histogram(parameters: dict[str, Any]) -> Response:
    """Answers how many events were recorded in each part of a time; by default, from the first event until now.

    Without `type` the numbers are exact, and the cost does not depend on the number of events.
    """
    return histogram_reply(parameters)


@blueprint.route("/types", methods=["GET"])
@blueprint.doc(summary="Count events by type")
@blueprint.arguments(TypesQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, EventTypesSchema)
def get_types(parameters: dict[str, Any]) -> Response:
    """Answers with the most frequent types of the events between two sequences, of which it counts the last 200,000."""
    return types_reply(parameters)


@blueprint.route("/export", methods=["POST"])
@blueprint.doc(
    summary="Export events into a file",
    requestBody={"required": False, "content": {JSON: {"schema": EXPORT_BODY}}},
)
@blueprint.response(200, ExportedSchema)
@accepts_parameters(ASYNC, body=True)
@begins_operation
def begin_export() -> Response:
    """Writes a file on the service, which can be fetched at `file` of the answer for a day, also in parts."""
    return write_export(validated_body(_export))


@blueprint.route("/<event_id:event_id>", methods=["GET"])
@blueprint.doc(summary="Get one event")
@blueprint.arguments(EventQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, OneEventSchema)
def get_event(parameters: dict[str, Any], event_id: str) -> Response:
    """The id is percent-encoded and may contain `/`. Get an id such as `export` by `GET /api/events?id=`."""
    return _one(event_id, parameters.get("source"))


def _one(event_id: str, source: str | None, as_of: int | None = None) -> Response:
    if as_of is not None:
        with store_for_long_call() as store:
            store.resolve_moment(Moment(instant=as_of))  # raises if there is no such moment
    value = current_store().get(event_id, source, as_of)
    return Response(b'{"success":true,"event":%s}' % value, content_type=JSON)
