"""The route of `/api/notify`."""

from __future__ import annotations

import msgspec
from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from app.edge import store_for_long_call
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import ReplySchema, reply, takes_no_body

blueprint = Blueprint("notify", __name__, url_prefix="/api/notify", description="Notifications.")
blueprint.before_request(reject_repeated_parameters)


class DeliverySchema(ReplySchema):
    address = fields.String(
        required=True,
        metadata={"description": "The address without its secrets.", "example": "mailto://…@example.org"},
    )
    delivered = fields.Boolean(required=True)
    seconds = fields.Float(required=True, metadata={"description": "How long it took."})
    problem = fields.String(required=True, allow_none=True, metadata={"description": "Why it was not delivered."})


class TestedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    deliveries = fields.List(fields.Nested(DeliverySchema), required=True)


@blueprint.route("/test", methods=["POST"])
@blueprint.doc(summary="Send a test notification")
@blueprint.response(200, TestedSchema)
@accepts_parameters()
@takes_no_body
def send_test() -> Response:
    """Sends a message to each address of `NOTIFY_URLS` and says what became of it, also if it was not delivered.

    It takes at most about 30 seconds. 409 if `NOTIFY_URLS` is not set.
    """
    with store_for_long_call() as store:
        deliveries = store.send_test_notification()
    return reply({"success": True, "deliveries": msgspec.to_builtins(deliveries)})
