"""The route of `/api/problems`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from app.edge import current_store
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, ReplySchema, RequestSchema, reply, validated_body
from eventvault.problems import CONSEQUENCES

blueprint = Blueprint("problems", __name__, url_prefix="/api/problems", description="Problems that need a decision.")
blueprint.before_request(reject_repeated_parameters)


class AcceptSchema(RequestSchema):
    about = fields.String(
        allow_none=True,
        metadata={
            "description": "`about.name` of the problem; needed if several have the code.",
            "example": "events/2",
        },
    )


class AcceptedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    code = fields.String(required=True)
    about = fields.String(required=True, allow_none=True)
    message = fields.String(required=True, metadata={"description": "What was accepted."})
    consequence = fields.String(required=True, metadata={"description": "What follows from it."})


_accept = AcceptSchema()


@blueprint.route("/<string:code>/accept", methods=["POST"])
@blueprint.doc(
    summary="Accept a problem that needs a decision",
    requestBody={"required": False, "content": {JSON: {"schema": AcceptSchema}}},
)
@blueprint.response(200, AcceptedSchema)
@accepts_parameters(body=True)
def accept(code: str) -> Response:
    """Accepts a problem that has `acceptable: true` in health. Health stops naming it.

    404 for an unknown code. 409 if no such problem waits for a decision. 422 if several have the code: name one in
    `about`. Then nothing was changed.
    """
    problem = current_store().accept_problem(code, validated_body(_accept).get("about"))
    return reply(
        {
            "success": True,
            "code": problem.code,
            "about": problem.about,
            "message": problem.message,
            "consequence": CONSEQUENCES[problem.code],
        }
    )
