"""What a restore is asked, to an archive or to a moment, and how the timeline looks."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.backup.schemas import RestoredSchema, check_name
from app.events.schemas import GENERATION_ID, InstantField
from app.replies import ReplySchema
from eventvault.restore.values import Moment

_LARGEST = 2**63 - 1
_TARGETS = ("backupName", "pointInTime", "sequence")


class RestoreSchema(Schema):
    backupName = fields.String(  # noqa: N815
        validate=check_name, metadata={"example": "backup_2024-12-27_120000.tar.gz"}
    )
    pointInTime = InstantField(  # noqa: N815
        metadata={
            "format": "date-time",
            "description": "Instead: the events recorded up to it.",
            "example": "2024-12-27T12:34:56.789Z",
        }
    )
    sequence = fields.Integer(
        strict=True,
        validate=validate.Range(0, _LARGEST),
        metadata={"description": "Instead: the events up to this one."},
    )
    generation = fields.String(
        validate=GENERATION_ID,
        metadata={"description": "With a moment: the generation it is of. Default: the present lineage."},
    )
    apply = fields.String(
        load_default="now",
        validate=validate.OneOf(["now", "restart"]),
        metadata={"description": "`restart` stages it: the next start of the service applies it."},
    )
    dryRun = fields.Boolean(  # noqa: N815
        load_default=False, metadata={"description": "Do nothing, and answer with `plan`."}
    )

    @validates_schema(skip_on_field_errors=True)
    def _require_one_target(self, body: dict[str, Any], **_: Any) -> None:
        targets = [target for target in _TARGETS if target in body]
        if len(targets) != 1:
            wrong = targets or ["backupName"]
            raise ValidationError({target: [f"Give one of {', '.join(_TARGETS)}."] for target in wrong})
        if "generation" in body and targets == ["backupName"]:
            raise ValidationError({"generation": ["It goes with pointInTime or sequence only."]})


def restore_target(body: dict[str, Any]) -> Moment | str:
    """The archive's name, or the moment."""
    if "backupName" in body:
        archive: str = body["backupName"]
        return archive
    return Moment(sequence=body.get("sequence"), instant=body.get("pointInTime"), generation=body.get("generation"))


class RestoreAnswerSchema(RestoredSchema):
    """As for a restore; with `dryRun` there is `plan` instead."""

    dryRun = fields.Boolean()  # noqa: N815
    plan = fields.Dict(metadata={"description": "archive, segments, bytesToRead, diskNeeded, predictedSeconds, …"})

    def on_bind_field(self, _name: str, field: fields.Field[Any]) -> None:
        field.required = False


class MomentSchema(ReplySchema):
    time = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    sequence = fields.Integer(required=True)


class WindowSchema(ReplySchema):
    oldest = fields.Nested(MomentSchema, required=True)
    newest = fields.Nested(MomentSchema, required=True)


class TimelineSchema(ReplySchema):
    success = fields.Boolean(required=True)
    window = fields.Nested(WindowSchema, required=True, allow_none=True)
    generation = fields.String(required=True, allow_none=True, metadata={"description": "The present one."})
    generations = fields.List(fields.Dict(), required=True, metadata={"description": "Oldest first."})
    archives = fields.List(fields.Dict(), required=True)
    segments = fields.List(fields.Dict(), required=True)
    gaps = fields.List(fields.Dict(), required=True, metadata={"description": "Events that nothing holds any more."})
