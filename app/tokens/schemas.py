"""The schemas of `/api/tokens`."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validates_schema

from app.replies import ReplySchema, RequestSchema
from eventvault import scopes, token_text

_SCOPE = "One or more of " + ", ".join(f"`{scope}`" for scope in scopes.SCOPES) + ", joined by `+`."

_NAME = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_SCOPES = f"^({'|'.join(scopes.SCOPES)})(\\+({'|'.join(scopes.SCOPES)}))*$"


class TokenRequestSchema(RequestSchema):
    """Either a new token with `name` and `scope`, or `rotate`: the name of the token to replace."""

    name = fields.String(metadata={**_NAME, "description": f"{token_text.NAME_ALLOWED}.", "example": "cron"})
    scope = fields.String(metadata={"pattern": _SCOPES, "description": _SCOPE, "example": "backup"})
    expires = fields.String(
        load_default=None,
        allow_none=True,
        metadata={
            "pattern": r"^([1-9][0-9]*[hdwHDW]|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{8,}.*)$",
            "description": "A span such as `12h`, `90d` or `8w`, or an instant; never by default.",
        },
    )
    rotate = fields.String(metadata={**_NAME, "description": "The name of the token to replace. It ends in an hour."})
    now = fields.Boolean(load_default=False, metadata={"description": "With `rotate`: the old token ends at once."})

    @validates_schema
    def _check_members(self, body: dict[str, Any], **_: Any) -> None:
        if "rotate" in body:
            others = [name for name in ("name", "scope") if name in body] + ["expires"] * bool(body.get("expires"))
            problems = {name: ["Not together with `rotate`."] for name in others}
        else:
            problems = {name: ["Missing."] for name in ("name", "scope") if name not in body}
            if body.get("now"):
                problems["now"] = ["Only together with `rotate`."]
        if problems:
            raise ValidationError(problems)


_EITHER = {
    "oneOf": [
        {
            "required": ["name", "scope"],
            "not": {"required": ["rotate"]},
            "properties": {"now": {"const": False}, "name": {"not": {"enum": sorted(token_text.RESERVED)}}},
        },
        {
            "required": ["rotate"],
            "not": {"anyOf": [{"required": ["name"]}, {"required": ["scope"]}]},
            "properties": {"expires": {"type": "null"}},
        },
    ]
}
TOKEN_BODY = {"allOf": [TokenRequestSchema, _EITHER]}
"""The body in the OpenAPI document, with what `_check_members` checks."""


class TokenSchema(ReplySchema):
    id = fields.String(required=True, metadata={"example": "4fQ2mZ8k"})
    name = fields.String(required=True)
    scope = fields.String(required=True, metadata={"example": "read+backup"})
    created = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    expires = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    from_ = fields.String(
        data_key="from",
        required=True,
        metadata={"description": "`shell`, the name of the token that made it, or `API_TOKENS`."},
    )


class ListedTokenSchema(TokenSchema):
    expired = fields.Boolean(required=True)
    lastUsed = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"format": "date-time", "description": "To within a minute."}
    )


class TokenListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    tokens = fields.List(fields.Nested(ListedTokenSchema), required=True)


class PreviousTokenSchema(ReplySchema):
    id = fields.String(required=True)
    expires = fields.String(required=True, metadata={"format": "date-time"})


def _copy_problem() -> fields.String:
    return fields.String(
        metadata={"description": "Why the copy in `BACKUP_DIR` could not be written; it is tried again."}
    )


class MadeTokenSchema(TokenSchema):
    success = fields.Boolean(required=True)
    token = fields.String(required=True, metadata={"description": "The token itself. It is shown only here."})
    previous = fields.Nested(PreviousTokenSchema, metadata={"description": "With `rotate`: the token that ends."})
    copyProblem = _copy_problem()  # noqa: N815


class RevokedTokenSchema(ReplySchema):
    success = fields.Boolean(required=True)
    id = fields.String(required=True)
    name = fields.String(required=True)
    revoked = fields.String(required=True, metadata={"format": "date-time"})
    copyProblem = _copy_problem()  # noqa: N815
