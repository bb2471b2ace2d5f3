"""The schemas of `/api/backup/diff`, and of `/api/backup/restore` with `into`."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.backup.schemas import NAME, check_name
from app.events.schemas import InstantField, WholeNumberField, generation_field
from app.replies import ReplySchema, RequestSchema
from eventvault.past.moment_text import LARGEST

_INSTANT = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]+)?([Zz]|[+ -][0-2][0-9]:[0-5][0-9])"
)
_MOMENT = {
    "description": (
        "An instant with an offset, a sequence number, the name of an archive, or `now`. Prefix an instant or a "
        "sequence number with `<generation>@`; the prefix alone means the end of that generation."
    ),
    "pattern": rf"^(now|([0-9a-f]{{16}}@)?([0-9]{{1,18}}|{_INSTANT})|[0-9a-f]{{16}}@|[^/]+\.tar\.gz(\.age)?)$",
}
_SEQUENCE = validate.Range(0, LARGEST)


class DiffQuerySchema(Schema):
    one = fields.String(data_key="from", required=True, metadata={**_MOMENT, "example": "42"})
    other = fields.String(data_key="to", load_default="now", metadata=_MOMENT)


class EventFilterSchema(RequestSchema):
    """Selects events. An event must meet all conditions."""

    type = fields.String()
    subject = fields.String()
    source = fields.String()
    recorded_from = InstantField(
        up=True, data_key="from", metadata={"format": "date-time", "description": "Inclusive."}
    )
    recorded_to = InstantField(data_key="to", metadata={"format": "date-time", "description": "Inclusive."})
    fromSequence = WholeNumberField(validate=validate.Range(1, LARGEST))  # noqa: N815
    toSequence = WholeNumberField(validate=_SEQUENCE)  # noqa: N815


class SelectiveRestoreSchema(RequestSchema):
    """Selects events of a past moment: of an archive, an instant, a sequence number, or the end of a generation."""

    into = fields.String(required=True, validate=validate.OneOf(["present", "export"]))
    backupName = fields.String(  # noqa: N815
        validate=check_name, metadata={"pattern": NAME, "example": "backup_2024-12-27_120000.tar.gz"}
    )
    point_in_time = InstantField(data_key="pointInTime", metadata={"format": "date-time"})
    sequence = WholeNumberField(validate=_SEQUENCE)
    generation = generation_field("The generation to read. Default: the current lineage.")
    filter = fields.Nested(EventFilterSchema, allow_none=True)

    @validates_schema
    def _check_moment(self, data: dict[str, Any], **_: Any) -> None:
        moments = [name for name in ("backupName", "point_in_time", "sequence") if name in data]
        if len(moments) > 1 or ("backupName" in data and "generation" in data):
            raise ValidationError("Only one of backupName, pointInTime and sequence.", "into")
        if not moments and "generation" not in data:
            raise ValidationError("Needs one of backupName, pointInTime, sequence and generation.", "into")


_MOMENTS = ("backupName", "pointInTime", "sequence")
_ONE_MOMENT = {
    "oneOf": [
        *({"required": [moment]} for moment in _MOMENTS),
        {"required": ["generation"], "not": {"anyOf": [{"required": [moment]} for moment in _MOMENTS]}},
    ],
    "not": {"required": ["backupName", "generation"]},
}
SELECTIVE_RESTORE_BODY = {"allOf": [SelectiveRestoreSchema, _ONE_MOMENT]}
"""The body in the OpenAPI document, with what `_check_moment` checks."""


class CopyResultSchema(ReplySchema):
    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    into = fields.String(required=True)
    matched = fields.Integer(required=True)
    appended = fields.Integer(required=True)
    alreadyThere = fields.Integer(required=True)  # noqa: N815
    renamed = fields.Integer(required=True, metadata={"description": "Number of appended events that got a new id."})
    lastSequence = fields.Integer(required=True)  # noqa: N815
