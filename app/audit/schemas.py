"""The schemas of `/api/audit`."""

from __future__ import annotations

from typing import Any

import msgspec
from marshmallow import Schema, fields, validate

from app.replies import ReplySchema
from eventvault.audit.lines import AuditLine
from eventvault.audit.reading import MAX_PAGE, PAGE


class AuditQuerySchema(Schema):
    after = fields.Integer(
        load_default=0,
        validate=validate.Range(0, 2**62),
        metadata={"description": "The number of a line: the lines after it are listed."},
    )
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))


class AuditLineSchema(ReplySchema):
    """A deed is two lines with the same `operation`: one before it was done, one with its result."""

    line = fields.Integer(required=True)
    at = fields.String(required=True, metadata={"format": "date-time"})
    operation = fields.String(required=True, metadata={"description": "The id of the operation, if it was one."})
    state = fields.String(required=True, validate=validate.OneOf(("begun", "ended", "noted")))
    action = fields.String(required=True, metadata={"example": "restore"})
    who = fields.String(
        required=True, metadata={"description": "The name of a token, or `open`, `shell`, `schedule`, `start`."}
    )
    target = fields.String(required=True, allow_none=True)
    result = fields.String(
        required=True, allow_none=True, metadata={"description": "`done`, `failed`, `cancelled`, `interrupted`."}
    )
    details = fields.Dict(required=True)
    previous = fields.String(required=True, metadata={"description": "The SHA-256 of the line before."})


class AuditSchema(ReplySchema):
    success = fields.Boolean(required=True)
    lines = fields.List(fields.Nested(AuditLineSchema), required=True)
    next = fields.Integer(
        required=True, allow_none=True, metadata={"description": "`after` of the next page; null at the end."}
    )
    lastLine = fields.Integer(required=True, metadata={"description": "The newest line; 0: none."})  # noqa: N815


def line_json(line: AuditLine) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(line, name)) for name in AuditLineSchema().fields}
