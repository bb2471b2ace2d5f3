"""A topic as the brokers describe it, and the name of its dead-letter topic. Free of the Kafka client."""

from __future__ import annotations

from typing import NamedTuple

DEAD_LETTER = ".dead-letter"
LONGEST_NAME = 249
"""Characters in a topic's name, by Kafka's own rule."""


class TopicInfo(NamedTuple):
    """topic_id: None if the brokers are too old to have one."""

    cluster_id: str | None
    topic_id: str | None
    partitions: int


def dead_letter_topic(topic: str) -> str:
    return topic_beside(topic, DEAD_LETTER)


def topic_beside(topic: str, suffix: str) -> str:
    """Return `<topic><suffix>`; a name that would be too long for Kafka is cut in front of the suffix."""
    return topic[: LONGEST_NAME - len(suffix)] + suffix
