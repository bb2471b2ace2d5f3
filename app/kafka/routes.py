"""The routes of `/api/kafka`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.edge import current_store
from app.kafka.answers import message_json, page_json, replayed_json
from app.kafka.schemas import (
    AcceptedLossSchema,
    DroppedSchema,
    DropQuerySchema,
    QuarantineQuerySchema,
    QuarantineSchema,
    ReplayedSchema,
    ReplayRequestSchema,
)
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, reply, takes_no_body, validated_body
from eventvault.errors import InvalidInput
from eventvault.kafka.values import QuarantineFilter

blueprint = Blueprint("kafka", __name__, url_prefix="/api/kafka", description="Decisions about what comes from Kafka.")
blueprint.before_request(reject_repeated_parameters)
_replay = ReplayRequestSchema()


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
    """Does the same if events are consumed from only one topic. With several topics it answers 409."""
    current_store().accept_loss(partition, None)
    return reply({"success": True, "partition": partition, "message": _MESSAGE}, 202)


_MESSAGE = "the partition is read from its present beginning; GET /api/health shows when it continues"


@blueprint.route("/quarantine", methods=["GET"])
@blueprint.doc(summary="List messages that are not events, newest first")
@blueprint.arguments(QuarantineQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, QuarantineSchema)
def list_quarantine(asked: dict[str, Any]) -> Response:
    """Lists each message with the reason. With `id`: that message with its key, value and headers, as `message`.

    A page may be shorter than `limit` and still have a `next`.
    """
    if "id" in asked:
        return reply({"success": True, "message": message_json(current_store().quarantined_message(asked["id"]))})
    page = current_store().list_quarantine(_filter(asked), asked["limit"], asked.get("before"))
    return reply(page_json(page))


@blueprint.route("/quarantine", methods=["POST"])
@blueprint.doc(
    summary="Replay messages of the quarantine",
    requestBody={"required": True, "content": {JSON: {"schema": ReplayRequestSchema}}},
)
@blueprint.response(200, ReplayedSchema)
@accepts_parameters(body=True)
def replay_quarantined() -> Response:
    """Reads messages again, and appends the events in them. The write of an event also removes its message.

    A message stays, as `refused` with the reason, if it still is not an event, or if the registry has its event with
    other content. If the registry has the same event, it is a `duplicate`, and its message is removed, too. 404 if
    there is none of these messages.
    """
    asked = validated_body(_replay)
    return reply(replayed_json(current_store().replay_quarantined(asked["ids"], asked["as_"])))


@blueprint.route("/quarantine", methods=["DELETE"])
@blueprint.doc(summary="Drop messages of the quarantine")
@blueprint.arguments(DropQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, DroppedSchema)
@takes_no_body
def drop_quarantined(asked: dict[str, Any]) -> Response:
    """Removes messages for good: one by its `id`, those of a filter, or with `all` every message.

    Without `id`, `newest` and `count` say which messages you saw: no later one is dropped, and 409 if some of them are
    not there any more. The topic of dead letters does not change.
    """
    wanted = _filter(asked)
    is_filtered = any(name in asked for name in ("topic", "partition", "reason"))
    chosen = ["id" in asked, is_filtered, bool(asked.get("all"))]
    missing = [] if "id" in asked else [name for name in ("newest", "count") if name not in asked]
    if sum(chosen) != 1 or missing:
        raise InvalidInput(
            "the request does not say which messages to drop; nothing was dropped",
            hint="send ?id=; or a filter or all=true, together with newest= and count=: the id of the first message in "
            "the list that you saw, and how many messages it has",
            fields={name: ["Required."] for name in (missing if sum(chosen) == 1 else ["id"])},
        )
    return reply({"success": True, "dropped": current_store().drop_quarantined(wanted, asked.get("count"))})


def _filter(asked: dict[str, Any]) -> QuarantineFilter:
    ids = (asked["id"],) if "id" in asked else ()
    return QuarantineFilter(
        ids=ids, topic=asked.get("topic"), partition=asked.get("partition"), reason=asked.get("reason"),
        newest=asked.get("newest"),
    )  # fmt: skip
