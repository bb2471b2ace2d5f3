"""What the workers of 0.1.0 did: their consumer group, which must have no members while the dispatcher takes jobs.

They committed how far they had run the jobs of the topic. The dispatcher begins there, and goes on committing.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from eventvault.errors import KafkaUnreachable
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo
from eventvault.kafka.topics import REQUEST_TIMEOUT_SECONDS, answer_of, is_refusal


class OldWorkers:
    """The consumer group, for one thread. Each method raises KafkaUnreachable."""

    def __init__(self, admin: AdminClient, group: str, topic: str) -> None:
        self._admin = admin
        self._group = group
        self._topic = topic

    def members(self) -> int:
        """Return how many workers take jobs from the topic as members of the group."""
        request = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            return len(answer_of(request[self._group]).members)
        except KafkaUnreachable as error:
            if is_refusal(error):
                return 0
            raise

    def committed(self) -> dict[int, int]:
        """Return the committed offset of each partition that has one."""
        request = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group)], request_timeout=REQUEST_TIMEOUT_SECONDS
        )
        try:
            partitions: list[TopicPartition] = answer_of(request[self._group]).topic_partitions
        except KafkaUnreachable as error:
            if is_refusal(error):
                return {}
            raise
        return {
            each.partition: each.offset
            for each in partitions
            if each.topic == self._topic and each.offset >= 0 and each.error is None
        }


def later_of(
    own: Mapping[int, StoredOffset], committed: Mapping[int, int], topic_info: TopicInfo
) -> dict[int, StoredOffset]:
    """Return where to begin in each partition: at the dispatcher's own offset, or at the committed one if it is later.

    Where the topic was deleted since, a committed offset that is not later is of the deleted one too.
    """
    begin = dict(own)
    for partition, offset in committed.items():
        mine = own.get(partition)
        if mine is None or mine.next < offset:
            begin[partition] = StoredOffset(next=offset, topic_id=topic_info.topic_id, cluster_id=topic_info.cluster_id)
    return begin
