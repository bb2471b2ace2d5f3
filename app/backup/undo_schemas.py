"""The schemas of `/api/backup/undo`."""

from __future__ import annotations

from marshmallow import fields

from app.backup.schemas import RestoredSchema
from app.replies import ReplySchema, RequestSchema


class UndoSchema(RequestSchema):
    name = fields.String(
        allow_none=True,
        metadata={
            "example": "previous-0123456789abcdef",
            "description": "The previous database to bring back. Default: the newest.",
        },
    )


class ReplacedEventsSchema(ReplySchema):
    """The events that the undo removed. The first and the last one have no data."""

    count = fields.Integer(required=True)
    first = fields.Dict(required=True, allow_none=True)
    last = fields.Dict(required=True, allow_none=True)


class UndoneSchema(RestoredSchema):
    replaced_events = fields.Nested(
        ReplacedEventsSchema,
        data_key="leftBehind",
        required=True,
        allow_none=True,
        metadata={"description": "The events posted since the restore; null if they could not be read."},
    )


class RestoredMomentSchema(ReplySchema):
    sequence = fields.Integer(required=True)
    time = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class PreviousDatabaseSchema(ReplySchema):
    name = fields.String(required=True, metadata={"example": "previous-0123456789abcdef"})
    generation = fields.String(required=True)
    events = fields.Integer(required=True, allow_none=True)
    replaced_at = fields.String(
        data_key="left",
        required=True,
        metadata={"format": "date-time", "description": "When the restore replaced it."},
    )
    source = fields.String(required=True, allow_none=True, metadata={"description": "What was restored in its place."})
    moment = fields.Nested(
        RestoredMomentSchema,
        required=True,
        allow_none=True,
        metadata={"description": "The moment that was restored; null after a restore of a backup and after an undo."},
    )
    size = fields.Integer(required=True, metadata={"description": "Bytes, including files shared by hard links."})


class UndoListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    undo = fields.List(fields.Nested(PreviousDatabaseSchema), required=True)
