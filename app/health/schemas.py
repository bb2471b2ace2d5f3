"""The schemas of the answers of `/api/health`."""

from __future__ import annotations

from marshmallow import fields

from app.backup.schemas import BackupSchema
from app.replies import ReplySchema


class AboutSchema(ReplySchema):
    kind = fields.String(
        required=True,
        metadata={"example": "partition"},
    )
    name = fields.String(required=True, metadata={"example": "events/2"})


class ProblemSchema(ReplySchema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    hint = fields.String(required=True)
    about = fields.Nested(
        AboutSchema, allow_none=True, metadata={"description": "Tells problems with the same code apart."}
    )
    since = fields.String(allow_none=True, metadata={"format": "date-time"})
    acceptable = fields.Boolean(
        metadata={"description": "Whether it stays until its cause is gone or somebody accepts it."}
    )


class BackupHealthSchema(ReplySchema):
    available = fields.Boolean(required=True)
    count = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "null until the archives were listed for the first time."},
    )
    latest = fields.Nested(BackupSchema, required=True, allow_none=True)
    damaged = fields.List(
        fields.String(), required=True, metadata={"description": "The newest archives that are known to be damaged."}
    )
    damagedCount = fields.Integer(required=True)  # noqa: N815
    notProven = fields.Integer(  # noqa: N815
        required=True,
        metadata={
            "description": "Archives whose manifest names this installation, and which are not proven to be made by "
            "it. Rotation leaves them."
        },
    )
    oldestVerified = fields.String(  # noqa: N815
        required=True,
        allow_none=True,
        metadata={
            "format": "date-time",
            "description": "When the least recently verified archive was verified; null if one never was.",
        },
    )
    totalSizeMB = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"example": "0.01", "description": "null if `count` is."}
    )

    class Meta(ReplySchema.Meta):
        include = {  # noqa: RUF012
            "keptBy": fields.Dict(required=True, metadata={"description": "Rule → how many archives it keeps."})
        }


class HealthSchema(ReplySchema):
    success = fields.Boolean(required=True)
    status = fields.String(required=True, metadata={"enum": ["ok", "degraded", "restoring"]})
    problems = fields.List(
        fields.Nested(ProblemSchema),
        metadata={"description": "This and all members below: only with a token that may `read`, if one is needed."},
    )
    backup = fields.Nested(BackupHealthSchema)
    store = fields.Dict(allow_none=True)
    kafka = fields.Dict(allow_none=True)
    journal = fields.Dict(allow_none=True)
    jobs = fields.Dict(allow_none=True)
    jobQueue = fields.Dict(  # noqa: N815
        allow_none=True, metadata={"description": "Workers, slots, and jobs by state; null if no dispatcher answers."}
    )
    window = fields.Dict(allow_none=True)
    disk = fields.Dict(allow_none=True)
    lastRestore = fields.Dict(allow_none=True)  # noqa: N815
    rehearsal = fields.Dict(
        allow_none=True, metadata={"description": "The newest rehearsal, and when the `next` one is due."}
    )


class StateSchema(ReplySchema):
    success = fields.Boolean(required=True)
    status = fields.String(required=True)
