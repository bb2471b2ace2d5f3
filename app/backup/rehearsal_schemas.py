"""The schemas of rehearsals."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validates_schema

from app.backup.moment_schemas import generation_of_moment_field, point_in_time_field, sequence_field
from app.replies import ReplySchema, RequestSchema
from eventvault.restore.values import Moment


class RehearseSchema(RequestSchema):
    pointInTime = point_in_time_field("Rehearse a restore of the events recorded up to this instant.")  # noqa: N815
    sequence = sequence_field("Alternative: of the events up to this sequence number.")
    generation = generation_of_moment_field()

    @validates_schema(skip_on_field_errors=True)
    def _require_one_moment(self, body: dict[str, Any], **_: Any) -> None:
        moments = body.keys() & {"pointInTime", "sequence"}
        if len(moments) > 1:
            raise ValidationError({name: ["Give pointInTime or sequence."] for name in sorted(moments)})
        if "generation" in body and not moments:
            raise ValidationError({"generation": ["Only together with pointInTime or sequence."]})


_MOST_ONE_MOMENT = {
    "anyOf": [{"not": {"required": ["generation"]}}, {"required": ["pointInTime"]}, {"required": ["sequence"]}],
    "not": {"required": ["pointInTime", "sequence"]},
}
REHEARSE_BODY = {"allOf": [RehearseSchema, _MOST_ONE_MOMENT]}
"""The body in the OpenAPI document, with what `_require_one_moment` checks."""


def moment_of(body: dict[str, Any]) -> Moment | None:
    """Return the moment to rehearse; None for the newest state."""
    if not body:
        return None
    return Moment(sequence=body.get("sequence"), instant=body.get("pointInTime"), generation=body.get("generation"))


def _seconds(description: str) -> fields.Float:
    return fields.Float(required=True, allow_none=True, metadata={"description": f"Seconds. {description}"})


class PartsSchema(ReplySchema):
    fetch = fields.Float(required=True, metadata={"description": "Find and open what is restored."})
    unpack = fields.Float(required=True, metadata={"description": "Write the database, replayed events included."})
    verify = fields.Float(required=True, metadata={"description": "Check it as a restore does."})
    open = fields.Float(required=True, metadata={"description": "Open it as the store will."})


class ReachedMomentSchema(ReplySchema):
    time = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    sequence = fields.Integer(required=True)
    generation = fields.String(required=True)


class RehearsalProblemSchema(ReplySchema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    hint = fields.String(required=True)


class RehearsalSchema(ReplySchema):
    """What came of a restore that was tried. Unknown values are null."""

    ok = fields.Boolean(required=True)
    at = fields.String(required=True, metadata={"format": "date-time", "description": "When it began."})
    kind = fields.String(required=True, metadata={"enum": ["newest", "backup", "moment"]})
    backup = fields.String(
        required=True, allow_none=True, metadata={"description": "Null if the journal alone sufficed."}
    )
    segments = fields.Integer(required=True, metadata={"description": "How many segments of the journal were used."})
    moment = fields.Nested(ReachedMomentSchema, required=True, allow_none=True)
    events = fields.Integer(required=True, allow_none=True)
    rtoSeconds = _seconds("What a restore takes: the sum of `rto`.")  # noqa: N815
    rto = fields.Nested(PartsSchema, required=True, allow_none=True)
    rpoSeconds = _seconds("The age of the oldest event that a loss of `storage/` would have cost.")  # noqa: N815
    rpoEvents = fields.Integer(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "How many events that would have cost."}
    )
    compared = fields.Integer(required=True, metadata={"description": "Events that were compared with the live ones."})
    differing = fields.Integer(required=True)
    proven = fields.Boolean(required=True, allow_none=True)
    problem = fields.Nested(RehearsalProblemSchema, required=True, allow_none=True)
    bytesRead = fields.Integer(required=True, allow_none=True)  # noqa: N815
    durationMs = fields.Integer(required=True)  # noqa: N815


class RehearsedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    rehearsal = fields.Nested(RehearsalSchema, required=True)


class RehearsalListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    rehearsals = fields.List(fields.Nested(RehearsalSchema), required=True)
