"""The routes of `/api/tokens`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.access import current_credential
from app.edge import current_edge
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, reply, takes_no_body, validated_body
from app.tokens.answers import ended_json, made_json
from app.tokens.schemas import TOKEN_BODY, MadeTokenSchema, RevokedTokenSchema, TokenListSchema, TokenRequestSchema
from eventvault.access.changes import TokenChanges

blueprint = Blueprint("tokens", __name__, url_prefix="/api/tokens", description="Who may use the service.")
blueprint.before_request(reject_repeated_parameters)

_request = TokenRequestSchema()


def _changes() -> TokenChanges:
    return TokenChanges(current_edge().settings)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List the tokens")
@blueprint.response(200, TokenListSchema)
@accepts_parameters()
def list_tokens() -> Response:
    """Lists the tokens that were made here, oldest first, then those of `API_TOKENS`, without their secret text."""
    return reply({"success": True, "tokens": _changes().list_tokens()})


@blueprint.route("", methods=["POST"])
@blueprint.doc(
    summary="Make or replace a token",
    requestBody={"required": True, "content": {JSON: {"schema": TOKEN_BODY}}},
)
@blueprint.response(201, MadeTokenSchema)
@accepts_parameters(body=True)
def make_token() -> Response:
    """Answers with the token, once: only its SHA-256 is stored. 409 if a valid token has the name.

    With `rotate`, a new token takes the place of the newest one of that name, with its scope and its full lifetime; the
    old one ends in an hour, or at once with `now`. It takes no `Idempotency-Key`: answers to such requests are stored.
    """
    body, by = validated_body(_request), current_credential().name
    if "rotate" in body:
        made = _changes().rotate(body["rotate"], by=by, at_once=body["now"])
    else:
        made = _changes().create(body["name"], body["scope"], by=by, expires=body["expires"])
    current_edge().tokens.check_now()
    return reply({"success": True, **made_json(made)}, 201)


@blueprint.route("/<string:token_id>", methods=["DELETE"])
@blueprint.doc(summary="Revoke a token")
@blueprint.response(200, RevokedTokenSchema)
@accepts_parameters()
@takes_no_body
def revoke_token(token_id: str) -> Response:
    """Within a second every worker refuses the token, and no restore makes it valid again. May be repeated."""
    ended = _changes().revoke(token_id, by=current_credential().name)
    current_edge().tokens.check_now()
    return reply({"success": True, **ended_json(ended)})
