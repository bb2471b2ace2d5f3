"""What `/api/backup/undo` is asked and answers."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from app.backup.schemas import RestoredSchema, TimestampField
from app.replies import ReplySchema
from eventvault.restore.values import KeptEntry, LeftBehind, Undo


class UndoSchema(Schema):
    name = fields.String(
        allow_none=True,
        metadata={"example": "previous-0123456789abcdef", "description": "Which; the newest where none is given."},
    )


class ReplacedEventsSchema(ReplySchema):
    """Events that are there no more; the first and the last of them without their data."""

    count = fields.Integer(required=True)
    first = fields.Dict(required=True, allow_none=True)
    last = fields.Dict(required=True, allow_none=True)


class UndoneSchema(RestoredSchema):
    replaced_events = fields.Nested(
        ReplacedEventsSchema,
        data_key="leftBehind",
        required=True,
        allow_none=True,
        metadata={"description": "What was posted since the restore; null where that could not be read."},
    )


class PreviousDatabaseSchema(ReplySchema):
    """A database that a restore left behind."""

    name = fields.String(required=True, metadata={"example": "previous-0123456789abcdef"})
    generation = fields.String(required=True)
    events = fields.Integer(required=True, allow_none=True)
    replaced_at = TimestampField(
        attribute="left",
        data_key="left",
        required=True,
        metadata={"format": "date-time", "description": "When it was left."},
    )
    source = fields.String(required=True, allow_none=True, metadata={"description": "What took its place."})
    size = fields.Integer(required=True, metadata={"description": "Bytes; what is shared by hard link included."})


class UndoListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    undo = fields.List(fields.Nested(PreviousDatabaseSchema), required=True)


_PREVIOUS_DATABASE = PreviousDatabaseSchema()


def previous_database_json(entry: KeptEntry) -> dict[str, Any]:
    """The JSON form of a database that is kept."""
    dumped: dict[str, Any] = _PREVIOUS_DATABASE.dump(entry)
    return dumped


def undo_json(undo: Undo | None) -> dict[str, Any] | None:
    """The JSON form of what undoes a restore."""
    return None if undo is None else {"name": undo.name, "generation": undo.generation, "events": undo.events}


def replaced_events_json(events: LeftBehind | None) -> dict[str, Any] | None:
    """The JSON form of what an undo left behind."""
    return None if events is None else {"count": events.count, "first": events.first, "last": events.last}
