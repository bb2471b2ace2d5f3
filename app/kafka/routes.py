"""The routes of `/api/kafka`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields

from app.edge import current_store
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import ReplySchema, reply, takes_no_body

blueprint = Blueprint("kafka", __name__, url_prefix="/api/kafka", description="Decisions about the events from Kafka.")
blueprint.before_request(reject_repeated_parameters)


class AcceptedLossSchema(ReplySchema):
    success = fields.Boolean(required=True)
    topic = fields.String()
    partition = fields.Integer(required=True)
    message = fields.String(required=True)


_PARTITION = "<int(max=2147483647):partition>"


@blueprint.route(f"/partitions/<topic:topic>/{_PARTITION}/accept-loss", methods=["POST"])
@blueprint.doc(summary="Resume a stopped partition")
@blueprint.response(202, AcceptedLossSchema)
@accepts_parameters()
@takes_no_body
def accept_loss_of_topic(topic: str, partition: int) -> Response:
    """Resumes the partition at its current first offset and accepts the loss of the events before it.

    No event is stored twice. 409 if the partition is not stopped, or if no events are consumed from Kafka.
    """
    current_store().accept_loss(partition, topic)
    return reply({"success": True, "topic": topic, "partition": partition, "message": _MESSAGE}, 202)


@blueprint.route(f"/partitions/{_PARTITION}/accept-loss", methods=["POST"])
@blueprint.doc(summary="Resume a stopped partition of the only topic")
@blueprint.response(202, AcceptedLossSchema)
@accepts_parameters()
@takes_no_body
def accept_loss(partition: int) -> Response:
    """Does the same where events are consumed from one topic. With several it answers 409."""
    current_store().accept_loss(partition, None)
    return reply({"success": True, "partition": partition, "message": _MESSAGE}, 202)


_MESSAGE = "the partition is read from its present beginning; GET /api/health shows when it continues"
