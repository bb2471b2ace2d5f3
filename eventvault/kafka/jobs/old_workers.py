"""What the workers of 0.1.0 did: their consumer group, which must have no members while the dispatcher takes jobs.

They committed how far they had run the jobs of the topic. The dispatcher begins there, and goes on committing.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from eventvault.errors import KafkaUnreachable
from eventvault.kafka import config
from eventvault.kafka.clients import Admin
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.topic_info import TopicInfo
from eventvault.kafka.topics import REQUEST_TIMEOUT_SECONDS, answer_of, is_refusal
from eventvault.kafka.waits import begun
from eventvault.settings import Settings


class OldWorkers:
    """For one thread. Each method raises KafkaUnreachable."""

    def __init__(self, settings: Settings, admin: Admin) -> None:
        self._admin = admin
        self._settings = settings
        self._group = settings.kafka_jobs_group
        self._topic = settings.kafka_jobs_topic

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

        A consumer is asked: librdkafka 2.16 crashes if an AdminClient asks and the group's coordinator is moving. It is
        no member of the group, and made for this question alone, which may end late.
        """
        asked = [TopicPartition(self._topic, number) for number in range(partitions)]

        def ask() -> list[TopicPartition]:
            consumer = Consumer(config.jobs_reader(self._settings))
            try:
                return consumer.committed(asked, timeout=REQUEST_TIMEOUT_SECONDS)
            finally:
                consumer.close()

        try:
            answered = answer_of(self._admin, begun(ask))
        except KafkaUnreachable as error:
            if is_refusal(error):
                return {}
            raise
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
