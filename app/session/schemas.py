"""The schemas of `/api/session`."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from app.replies import ReplySchema
from eventvault.access.register import LONGEST_TOKEN
from eventvault.scopes import SCOPES


class SignInSchema(Schema):
    token = fields.String(
        required=True,
        validate=validate.Length(1, LONGEST_TOKEN),
        metadata={"description": "A token, as `flask tokens create` prints it."},
    )


class SessionSchema(ReplySchema):
    success = fields.Boolean(required=True)
    key = fields.String(required=True, metadata={"description": "Sent with every request, as `X-EventVault-Session`."})
    name = fields.String(required=True, metadata={"description": "The name of the token."})
    scopes = fields.List(
        fields.String(validate=validate.OneOf(SCOPES)),
        required=True,
        metadata={"description": "What the token may do."},
    )


class EndedSchema(ReplySchema):
    success = fields.Boolean(required=True)
