"""A topic as the brokers describe it, and the place of a partition. Does not load the Kafka client."""

from __future__ import annotations

from typing import NamedTuple

PartitionPlace = tuple[str, int]
"""A topic and the number of one of its partitions."""


class TopicInfo(NamedTuple):
    """topic_id: None if the brokers are too old to have it."""

    cluster_id: str | None
    topic_id: str | None
    partitions: int
