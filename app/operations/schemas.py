"""The schemas of `/api/operations`."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.operations.answers import KINDS
from app.replies import ReplySchema
from eventvault.operations.entry import MAX_PAGE, PAGE
from eventvault.operations.records import STATES


class WordListField(fields.String):
    """Takes a list of allowed words, separated by commas."""

    def __init__(self, allowed: tuple[str, ...], **options: Any) -> None:
        description = f"One or more of {', '.join(allowed)}, separated by commas."
        word = f"({'|'.join(allowed)})"
        metadata = {"description": description, "pattern": f"^{word}(,{word})*$"}
        super().__init__(load_default=(), metadata=metadata, **options)
        self._allowed = allowed

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        words = [word.strip() for word in str(value).split(",")]
        if any(word not in self._allowed for word in words):
            raise ValidationError(f"Must be one of: {', '.join(self._allowed)}.")
        return words


class OperationQuerySchema(Schema):
    state = WordListField(STATES)
    kind = WordListField(KINDS)
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))
    before = fields.String(metadata={"description": "The id of the last operation of the page before."})


class OperationSchema(ReplySchema):
    """Long work. The bytes are those of the current step; unknown values are null."""

    id = fields.String(required=True, metadata={"example": "4f0c2a9b1d3e5f67"})
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    startedBy = fields.String(  # noqa: N815
        required=True, metadata={"description": "`open`, `schedule`, `start`, `shell`, or the name of a token."}
    )
    startedAt = fields.String(required=True, metadata={"format": "date-time"})  # noqa: N815
    endedAt = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})  # noqa: N815
    progress = fields.Float(required=True, metadata={"description": "0 to 1, of the whole."})
    step = fields.String(required=True, allow_none=True, metadata={"example": "write"})
    bytesDone = fields.Integer(required=True)  # noqa: N815
    bytesTotal = fields.Integer(required=True, allow_none=True)  # noqa: N815
    bytesPerSecond = fields.Float(required=True, allow_none=True)  # noqa: N815
    remainingSeconds = fields.Float(required=True, allow_none=True)  # noqa: N815
    cancellable = fields.Boolean(required=True, metadata={"description": "Whether DELETE would be accepted now."})
    cancelRequested = fields.Boolean(required=True)  # noqa: N815
    result = fields.Dict(
        required=True, allow_none=True, metadata={"description": "The answer that the request would have got."}
    )
    error = fields.Dict(
        required=True, allow_none=True, metadata={"description": "`code`, `error` and `hint`, as in an error's answer."}
    )


class OneOperationSchema(ReplySchema):
    success = fields.Boolean(required=True)
    operation = fields.Nested(OperationSchema, required=True)


class OperationListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    operations = fields.List(fields.Nested(OperationSchema), required=True)
