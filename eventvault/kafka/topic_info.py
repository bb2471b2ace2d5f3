"""A topic as the brokers describe it, and what names follow from its name: pure, and free of the Kafka client."""

from __future__ import annotations

from typing import NamedTuple

DEAD_LETTER = ".dead-letter"
LONGEST_NAME = 249
"""Characters in a topic's name, by Kafka's own rule."""


class TopicInfo(NamedTuple):
    """A topic as the brokers describe it. topic_id: None where they are too old to have one."""

    cluster_id: str | None
    topic_id: str | None
    partitions: int


def dead_letter_topic(topic: str) -> str:
    """`<topic>.dead-letter`; a name that would be too long for Kafka is cut before the ending."""
    return topic[: LONGEST_NAME - len(DEAD_LETTER)] + DEAD_LETTER
