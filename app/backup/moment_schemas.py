"""The schemas of restores, to an archive or to a moment, and of the timeline."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.backup.schemas import NAME, RestoredSchema, check_name
from app.events.schemas import InstantField, WholeNumberField, generation_field
from app.replies import ReplySchema, RequestSchema
from eventvault.past.moment_text import LARGEST
from eventvault.restore.moments.marks import MOST_BUCKETS
from eventvault.restore.values import Moment

_TARGETS = ("backupName", "pointInTime", "sequence")


def point_in_time_field(description: str) -> InstantField:
    return InstantField(
        metadata={"format": "date-time", "description": description, "example": "2024-12-27T12:34:56.789Z"}
    )


def sequence_field(description: str) -> WholeNumberField:
    return WholeNumberField(validate=validate.Range(0, LARGEST), metadata={"description": description})


def generation_of_moment_field() -> fields.String:
    return generation_field("With a moment: its generation. Default: the current lineage.")


class RestoreSchema(RequestSchema):
    backupName = fields.String(  # noqa: N815
        validate=check_name, metadata={"pattern": NAME, "example": "backup_2024-12-27_120000.tar.gz"}
    )
    pointInTime = point_in_time_field("Alternative: restore the events recorded up to this instant.")  # noqa: N815
    sequence = sequence_field("Alternative: restore the events up to this sequence number.")
    generation = generation_of_moment_field()
    apply = fields.String(
        load_default="now",
        validate=validate.OneOf(["now", "restart"]),
        metadata={"description": "`restart` stages the restore: the next start of the service applies it."},
    )
    cancelJobs = fields.Boolean(  # noqa: N815
        load_default=False,
        metadata={
            "description": "Cancel the unfinished jobs that were created after the moment; not with `apply`: `restart`."
        },
    )
    replay = fields.Boolean(
        load_default=False,
        metadata={
            "description": "With a moment: read Kafka's topics again from there on. A restore of a backup always does."
        },
    )
    dryRun = fields.Boolean(  # noqa: N815
        load_default=False, metadata={"description": "Change nothing, and answer with `plan`."}
    )

    @validates_schema(skip_on_field_errors=True)
    def _require_one_target(self, body: dict[str, Any], **_: Any) -> None:
        targets = [target for target in _TARGETS if target in body]
        if len(targets) != 1:
            wrong = targets or ["backupName"]
            raise ValidationError({target: [f"Give one of {', '.join(_TARGETS)}."] for target in wrong})
        if "generation" in body and targets == ["backupName"]:
            raise ValidationError({"generation": ["Only together with pointInTime or sequence."]})


_ONE_TARGET = {
    "oneOf": [{"required": [target]} for target in _TARGETS],
    "not": {"required": ["backupName", "generation"]},
}
RESTORE_BODY = {"allOf": [RestoreSchema, _ONE_TARGET]}
"""The body in the OpenAPI document, with what `_require_one_target` checks."""


def restore_target(body: dict[str, Any]) -> Moment | str:
    """Return the name of the archive to restore, or the moment."""
    if "backupName" in body:
        archive: str = body["backupName"]
        return archive
    return Moment(sequence=body.get("sequence"), instant=body.get("pointInTime"), generation=body.get("generation"))


class RestoreAnswerSchema(RestoredSchema):
    """The answer to a restore; with `dryRun` it has only `plan`."""

    dryRun = fields.Boolean()  # noqa: N815
    plan = fields.Dict(
        metadata={"description": "archive, segments, bytesToRead, predictedSeconds, unfinishedJobs, kafka, …"}
    )

    def on_bind_field(self, _name: str, field: fields.Field[Any]) -> None:
        field.required = False


class MomentSchema(ReplySchema):
    time = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    sequence = fields.Integer(required=True)


class WindowSchema(ReplySchema):
    oldest = fields.Nested(MomentSchema, required=True)
    newest = fields.Nested(MomentSchema, required=True)


class TimelineQuerySchema(Schema):
    buckets = fields.Integer(
        validate=validate.Range(1, MOST_BUCKETS), metadata={"description": "At most so many `marks`.", "example": 400}
    )


class LineSchema(ReplySchema):
    """A generation. `lastShared` is the last of its events that the present one has too."""

    id = fields.String(required=True)
    forkSequence = fields.Integer(required=True)  # noqa: N815
    forkTime = fields.String(  # noqa: N815
        allow_none=True, metadata={"format": "date-time", "description": "When the event at the fork was recorded."}
    )
    lastSequence = fields.Integer(required=True)  # noqa: N815
    lastShared = fields.Integer()  # noqa: N815
    present = fields.Boolean(required=True)
    undo_name = fields.String(
        data_key="kept",
        required=True,
        allow_none=True,
        metadata={"description": "The previous database that holds it, which POST /api/backup/undo brings back."},
    )
    undo_sequence = fields.Integer(
        data_key="keptSequence", allow_none=True, metadata={"description": "The last event in `kept`."}
    )
    window = fields.Nested(WindowSchema)


class MarkSchema(ReplySchema):
    """The archives that were made in a time."""

    to = fields.String(required=True, metadata={"format": "date-time"})
    count = fields.Integer(required=True)
    newest = fields.String(required=True, metadata={"description": "The name of the newest one."})
    pinned = fields.Integer(required=True, metadata={"description": "How many of them are pinned."})
    damaged = fields.Integer(required=True, metadata={"description": "How many of them have a known problem."})

    class Meta:
        include = {"from": fields.String(required=True, metadata={"format": "date-time"})}  # noqa: RUF012  # a keyword


class GapSchema(ReplySchema):
    generation = fields.String(required=True)
    first = fields.Integer(required=True)
    last = fields.Integer(required=True)
    fromTime = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"format": "date-time", "description": "Of the event before the gap."}
    )
    toTime = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"format": "date-time", "description": "Of the event after it."}
    )


class TimelineSchema(ReplySchema):
    success = fields.Boolean(required=True)
    window = fields.Nested(WindowSchema, required=True, allow_none=True)
    generation = fields.String(required=True, allow_none=True, metadata={"description": "The current generation."})
    generations = fields.List(fields.Nested(LineSchema), required=True, metadata={"description": "Oldest first."})
    archives = fields.List(fields.Dict(), metadata={"description": "Damaged ones too. Not with `buckets`."})
    segments = fields.List(fields.Dict(), metadata={"description": "Not with `buckets`."})
    gaps = fields.List(
        fields.Nested(GapSchema),
        required=True,
        metadata={"description": "Events that neither an archive nor the journal holds."},
    )
    marks = fields.List(fields.Nested(MarkSchema), metadata={"description": "Only with `buckets`. Oldest first."})
    bucketSeconds = fields.Integer(metadata={"description": "The width of each mark."})  # noqa: N815
    generationsOmitted = fields.Integer(metadata={"description": "Only with `buckets`."})  # noqa: N815
    gapsOmitted = fields.Integer(metadata={"description": "Only with `buckets`."})  # noqa: N815
