"""Checks that the stored offsets still belong to a topic, and words the problems that stop a partition.

Consuming from an offset of another topic would lose messages silently. So any mismatch stops the partition until an
operator accepts the loss.
"""

from __future__ import annotations

from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo
from eventvault.problems import Problem
from eventvault.wording import counted

_GONE, _OUT_OF_RANGE = "kafka_messages_gone", "kafka_offset_out_of_range"
"""Two codes for the same loss. The second one is for a loss that is noticed while reading."""


def accept_loss_hint(topic: str, partition: int) -> str:
    return (
        "restore the topic as it was, or accept the loss with "
        f"POST /api/kafka/partitions/{topic}/{partition}/accept-loss: "
        "the partition is then read from its present first offset, and nothing is stored twice"
    )


def check_offset(
    topic: str, partition: int, stored: StoredOffset, topic_info: TopicInfo, low: int, high: int
) -> Problem | None:
    """Return why reading cannot continue at `stored`, None if it can. low, high: the partition's present offsets.

    The problem's details have `begins`, the present first offset, and `lost`, how many messages before it are gone.
    `next` is the stored offset, if messages after it are missing.
    """
    where = f"partition {partition} of the topic {topic}"
    begins = {"begins": low}
    is_same_topic = stored.topic_id is not None and stored.topic_id == topic_info.topic_id
    if not is_same_topic and _differ(stored.cluster_id, topic_info.cluster_id):
        return Problem(
            "kafka_cluster_changed",
            f"{where} is in cluster {topic_info.cluster_id}, its stored offset {stored.next} in {stored.cluster_id}",
            f"name the brokers of that cluster in KAFKA_BOOTSTRAP_SERVERS; or {accept_loss_hint(topic, partition)}",
            details=begins,
        )
    if _differ(stored.topic_id, topic_info.topic_id):
        return recreated(topic, partition, begins=low)
    if stored.next > high:
        return Problem(
            "kafka_topic_truncated",
            f"{where} ends at offset {high}, but was consumed up to {stored.next}",
            accept_loss_hint(topic, partition),
            details={**begins, "next": stored.next},
        )
    if stored.next < low:
        lost = low - stored.next
        removed = "was removed before it was" if lost == 1 else "were removed before they were"
        return Problem(
            _GONE,
            f"{where} begins at offset {low} now: {counted(lost, 'message')} from {stored.next} on {removed} consumed",
            accept_loss_hint(topic, partition),
            details={**begins, "next": stored.next, "lost": lost},
        )
    return None


def recreated(topic: str, partition: int, *, begins: int | None = None) -> Problem:
    """begins: the first offset of the topic as it is now, if it is known."""
    return Problem(
        "kafka_topic_recreated",
        f"the topic {topic} was recreated: the stored offset of partition {partition} belongs to the old topic",
        accept_loss_hint(topic, partition),
        details={} if begins is None else {"begins": begins},
    )


def diverged(topic: str, partition: int, offset: int) -> Problem:
    return Problem(
        "kafka_topic_diverged",
        f"partition {partition} of the topic {topic} has another message at offset {offset} than the consumed one",
        accept_loss_hint(topic, partition),
    )


def out_of_range(topic: str, partition: int, following: int | None, reason: str) -> Problem:
    return Problem(
        _OUT_OF_RANGE,
        f"partition {partition} of the topic {topic} no longer has the next offset: {reason}",
        accept_loss_hint(topic, partition),
        details={} if following is None else {"next": following},
    )


def cause_of(problem: Problem) -> str:
    """Return a text for the cause of a stop, which an operator accepts. It does not change when more messages are lost.

    The message of the problem does change: retention removes further messages, and others are appended.
    """
    following = problem.details.get("next")
    if following is None:
        return problem.message
    return f"{_GONE if problem.code == _OUT_OF_RANGE else problem.code} {following}"


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
