"""What the workers of 0.1.0 did: their consumer group, which must have no members while the dispatcher takes jobs.

They committed how far they had run the jobs of the topic. The dispatcher begins there, and goes on committing.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from eventvault.errors import KafkaUnreachable
from eventvault.kafka.clients import Admin
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo
from eventvault.kafka.topics import REQUEST_TIMEOUT_SECONDS, answer_of, is_refusal, unreachable


class OldWorkers:
    """For one thread. consumer: one of the group's id that is no member. Each method raises KafkaUnreachable."""

    def __init__(self, admin: Admin, consumer: Consumer, group: str, topic: str) -> None:
        self._admin = admin
        self._consumer = consumer
        self._group = group
        self._topic = topic

    def members(self) -> int:
        """Return how many workers take jobs from the topic as members of the group."""
        request = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            return len(answer_of(self._admin, request[self._group]).members)
        except KafkaUnreachable as error:
            if is_refusal(error):
                return 0
            raise

    def committed(self, partitions: int) -> dict[int, int]:
        """Return the committed offset of each of the first so many partitions that has one.

        The consumer is asked: librdkafka 2.16 crashes if an AdminClient asks and the group's coordinator is moving.
        """
        asked = [TopicPartition(self._topic, number) for number in range(partitions)]
        try:
            answered = self._consumer.committed(asked, timeout=REQUEST_TIMEOUT_SECONDS)
        except KafkaException as error:
            reason = unreachable(error)
            if is_refusal(reason):
                return {}
            raise reason from error
        return {each.partition: each.offset for each in answered if each.error is None and each.offset >= 0}


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
