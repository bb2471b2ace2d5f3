"""The schemas of `/api/operations`."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.errors import error_body
from app.operations.results import result_json
from app.replies import ReplySchema
from eventvault import clock
from eventvault.operations.entry import MAX_PAGE, PAGE, OperationEntry
from eventvault.operations.records import STATES

KINDS = (
    "create", "restore", "undo", "verify", "rehearse", "prune", "upload", "copy", "export", "import", "recover",
    "startup",
)  # fmt: skip


class OneOfEachField(fields.String):
    """Words separated by commas, each one of those that are allowed."""

    def __init__(self, allowed: tuple[str, ...], **options: Any) -> None:
        described = f"One or more of {', '.join(allowed)}, separated by commas."
        one = f"({'|'.join(allowed)})"
        metadata = {"description": described, "pattern": f"^{one}(,{one})*$"}
        super().__init__(load_default=(), metadata=metadata, **options)
        self._allowed = allowed

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        words = [word.strip() for word in str(value).split(",")]
        if any(word not in self._allowed for word in words):
            raise ValidationError(f"Must be one of: {', '.join(self._allowed)}.")
        return words


class OperationQuerySchema(Schema):
    state = OneOfEachField(STATES)
    kind = OneOfEachField(KINDS)
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))
    before = fields.String(metadata={"description": "The id of the last operation of the page before."})


class OperationSchema(ReplySchema):
    """Long work. The bytes are those of the present step; unknown values are null."""

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
        required=True, allow_none=True, metadata={"description": "What the request would have been answered."}
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


def operation_json(entry: OperationEntry) -> dict[str, Any]:
    progress = entry.progress
    return {
        "id": entry.id,
        "kind": entry.kind,
        "state": entry.state,
        "startedBy": entry.started_by,
        "startedAt": clock.format_milliseconds(entry.started_at),
        "endedAt": None if entry.ended_at is None else clock.format_milliseconds(entry.ended_at),
        "progress": round(progress.fraction, 4),
        "step": progress.step,
        "bytesDone": progress.bytes_done,
        "bytesTotal": progress.bytes_total,
        "bytesPerSecond": progress.bytes_per_second,
        "remainingSeconds": progress.remaining_seconds,
        "cancellable": entry.cancellable,
        "cancelRequested": entry.cancel_requested,
        "result": None if entry.result is None else result_json(entry.method, entry.result),
        "error": None if entry.error is None else _error(entry.error),
    }


def _error(wire: dict[str, Any]) -> dict[str, Any]:
    body = error_body(wire["code"], wire["message"], wire["hint"], wire.get("details"))
    del body["success"]
    return body
