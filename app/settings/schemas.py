"""The schemas of `/api/settings`."""

from __future__ import annotations

from marshmallow import fields

from app.replies import ReplySchema


class SettingSchema(ReplySchema):
    name = fields.String(required=True, metadata={"example": "JOURNAL_INTERVAL"})
    value = fields.Raw(
        required=True,
        allow_none=True,
        metadata={
            "type": ["string", "integer", "boolean", "null"],
            "description": "null: unset. Of a secret that is set: `set`.",
        },
    )
    default = fields.Raw(required=True, allow_none=True, metadata={"type": ["string", "integer", "boolean", "null"]})
    source = fields.String(required=True, metadata={"enum": ["environment", "default"]})
    allowed = fields.String(required=True)
    unit = fields.String(required=True, allow_none=True, metadata={"description": "`ms`, `bytes` or null."})
    meaning = fields.String(required=True)


class SettingsSchema(ReplySchema):
    success = fields.Boolean(required=True)
    settings = fields.List(fields.Nested(SettingSchema), required=True)
