"""Whether a topic is still the one that the stored offsets speak of: pure, and the problems that stop a partition.

Going on at an offset that means something else would lose messages without a word. So whatever does not fit stops
the partition, until somebody accepts the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo


def accept(partition: int) -> str:
    """What can be done about a stopped partition."""
    return (
        f"bring the topic back as it was; or accept the loss with POST /api/kafka/partitions/{partition}/accept-loss: "
        "the partition is then read from its present beginning, and what is stored already is not stored twice"
    )


class HealthProblem(NamedTuple):
    """What is wrong, in the words of `/api/health`."""

    code: str
    message: str
    hint: str

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


def check_offset(
    topic: str, partition: int, stored: StoredOffset, topic_info: TopicInfo, low: int, high: int
) -> HealthProblem | None:
    """Why `stored` cannot be gone on from; None: it can. low, high: the offsets that the partition has now."""
    where = f"partition {partition} of the topic {topic}"
    if stored.topic_id and topic_info.topic_id and stored.topic_id != topic_info.topic_id:
        return recreated(topic, partition)
    if not (stored.topic_id and topic_info.topic_id) and _differ(stored.cluster_id, topic_info.cluster_id):
        return HealthProblem(
            "kafka_cluster_changed",
            f"{where} is in cluster {topic_info.cluster_id}, its stored offset {stored.next} in {stored.cluster_id}",
            accept(partition),
        )
    if stored.next > high:
        return HealthProblem(
            "kafka_topic_truncated",
            f"{where} ends at offset {high}, and was taken up to {stored.next} already",
            accept(partition),
        )
    if stored.next < low:
        return HealthProblem(
            "kafka_messages_gone",
            f"{where} begins at offset {low} now: {low - stored.next} messages from {stored.next} on were removed "
            "before they were taken",
            accept(partition),
        )
    return None


def recreated(topic: str, partition: int) -> HealthProblem:
    return HealthProblem(
        "kafka_topic_recreated",
        f"the topic {topic} was deleted and created anew: the stored offset of partition {partition} means another one",
        accept(partition),
    )


def diverged(topic: str, partition: int, offset: int) -> HealthProblem:
    return HealthProblem(
        "kafka_topic_diverged",
        f"partition {partition} of the topic {topic} has another message at offset {offset} than the one taken there",
        accept(partition),
    )


def out_of_range(topic: str, partition: int, reason: str) -> HealthProblem:
    return HealthProblem(
        "kafka_offset_out_of_range",
        f"partition {partition} of the topic {topic} no longer has the offset that comes next: {reason}",
        accept(partition),
    )


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
