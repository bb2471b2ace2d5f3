"""Exports events into a file of the service, which the client fetches when it is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from marshmallow import fields, validates_schema

from app.backup.past_schemas import EventFilterSchema
from app.edge import store_for_long_call
from app.events.answers import exported_json
from app.events.reading import query_at
from app.events.schemas import as_of_field, generation_field, require_as_of
from app.replies import ReplySchema, RequestSchema, reply
from eventvault.restore.values import Moment


class ExportSchema(RequestSchema):
    """Selects the events to export: by default all that are there."""

    filter = fields.Nested(EventFilterSchema, allow_none=True)
    as_of = as_of_field("Export the registry of this instant.")
    generation = generation_field()

    @validates_schema
    def _check_generation(self, data: dict[str, Any], **_: Any) -> None:
        require_as_of(data)


EXPORT_BODY = {
    "allOf": [ExportSchema, {"anyOf": [{"not": {"required": ["generation"]}}, {"required": ["asOf"]}]}],
}
"""The body in the OpenAPI document, with what `_check_generation` checks."""


class ExportedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    operation = fields.String(required=True, metadata={"description": "The id of the operation."})
    file = fields.String(required=True, metadata={"example": "/api/operations/4f0c2a9b1d3e5f67/file"})
    events = fields.Integer(required=True)
    lastSequence = fields.Integer(required=True, metadata={"description": "That of the moment."})  # noqa: N815
    generation = fields.String(required=True, allow_none=True)
    bytes = fields.Integer(required=True, metadata={"description": "Length of all lines."})
    size = fields.Integer(required=True, metadata={"description": "Length of the compressed file."})
    sha256 = fields.String(required=True, metadata={"description": "Of the compressed file."})
    until = fields.String(required=True, metadata={"format": "date-time", "description": "When it is removed."})


def write_export(body: Mapping[str, Any]) -> Response:
    """Write the file and answer where it is. Raises NoSpace before it begins, or MomentUnavailable."""
    moment = Moment(instant=body.get("as_of"), generation=body.get("generation"))
    query = query_at(moment, body.get("filter") or {})
    with store_for_long_call() as store:
        store.check_export(query)
        return reply(exported_json(store.export_events(query)))
