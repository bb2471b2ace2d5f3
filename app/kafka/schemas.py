"""The schemas of `/api/kafka`."""

from __future__ import annotations

from typing import get_args

from marshmallow import Schema, fields, validate

from app.replies import ReplySchema, RequestSchema
from eventvault.kafka.values import Mode

MAX_PAGE = 1_000
PAGE = 100
MAX_IDS = 1_000
"""Most messages that one request replays."""

_ID = validate.Length(min=1, max=300)
_CURSOR = validate.Length(min=1, max=400)
"""Base64 of a place in the list, which has the topic's name."""
_INSTANT = {"format": "date-time"}


class AcceptedLossSchema(ReplySchema):
    success = fields.Boolean(required=True)
    topic = fields.String()
    partition = fields.Integer(required=True)
    message = fields.String(required=True)


class _FilterSchema(Schema):
    topic = fields.String(validate=validate.Length(min=1, max=249))
    partition = fields.Integer(validate=validate.Range(0, 2**31 - 1))
    reason = fields.String(
        validate=validate.Length(min=1, max=200),
        metadata={"description": "Only those whose reason contains this text."},
    )


class QuarantineQuerySchema(_FilterSchema):
    id = fields.String(validate=_ID, metadata={"description": "Answer with this message, as `message`."})
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))
    before = fields.String(validate=_CURSOR, metadata={"description": "The `next` of the page before."})


class DropQuerySchema(_FilterSchema):
    id = fields.String(validate=_ID, metadata={"description": "Drop only this message."})
    all = fields.Boolean(metadata={"description": "Drop all messages."})
    count = fields.Integer(
        validate=validate.Range(1), metadata={"description": "How many messages you saw. Required without `id`."}
    )
    newest = fields.String(
        validate=_ID,
        metadata={
            "description": "`id` of the newest message that you saw, the first in the list. Required without `id`."
        },
    )


class ReplayRequestSchema(RequestSchema):
    ids = fields.List(fields.String(validate=_ID), required=True, validate=validate.Length(min=1, max=MAX_IDS))
    as_ = fields.String(
        data_key="as",
        load_default=None,
        allow_none=True,
        validate=validate.OneOf(get_args(Mode)),
        metadata={"description": "How to read the messages; by default their headers decide."},
    )


class ReferenceSchema(ReplySchema):
    topic = fields.String(required=True)
    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)


class QuarantinedSchema(ReplySchema):
    id = fields.String(required=True, metadata={"example": "events/0@9912"})
    topic = fields.String(required=True)
    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)
    at = fields.String(required=True, metadata=_INSTANT)
    timestamp = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    reason = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "Size of key, value and headers, in bytes."})
    reference = fields.Nested(
        ReferenceSchema,
        required=True,
        allow_none=True,
        metadata={"description": "Where Kafka has the message, if it is too large for the quarantine."},
    )


class BytesSchema(ReplySchema):
    base64 = fields.String(required=True)
    text = fields.String(required=True, allow_none=True, metadata={"description": "Null if it is not UTF-8."})


class HeaderSchema(ReplySchema):
    name = fields.String(required=True)
    value = fields.Nested(BytesSchema, required=True, allow_none=True)


class QuarantinedMessageSchema(QuarantinedSchema):
    key = fields.Nested(BytesSchema, required=True, allow_none=True)
    value = fields.Nested(BytesSchema, required=True, allow_none=True)
    headers = fields.List(fields.Nested(HeaderSchema), required=True)


class QuarantineSchema(ReplySchema):
    """With `id`: `message` in place of the other members."""

    success = fields.Boolean(required=True)
    quarantine = fields.List(fields.Nested(QuarantinedSchema))
    next = fields.String(allow_none=True)
    count = fields.Integer(metadata={"description": "How many messages the quarantine has in all."})
    bytes = fields.Integer()
    oldest = fields.String(allow_none=True, metadata=_INSTANT)
    dropped = fields.Integer(metadata={"description": "How many messages were dropped to make room."})
    message = fields.Nested(QuarantinedMessageSchema)


class ReplayedMessageSchema(ReplySchema):
    id = fields.String(required=True)
    outcome = fields.String(required=True, validate=validate.OneOf(["replayed", "duplicate", "refused", "unknown"]))
    eventId = fields.String(required=True, allow_none=True)  # noqa: N815
    source = fields.String(required=True, allow_none=True)
    sequence = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class ReplayedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    replayed = fields.Integer(required=True)
    duplicates = fields.Integer(required=True)
    refused = fields.Integer(required=True)
    results = fields.List(fields.Nested(ReplayedMessageSchema), required=True)


class DroppedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    dropped = fields.Integer(required=True)
