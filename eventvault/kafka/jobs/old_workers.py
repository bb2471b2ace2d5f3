"""The consumer group of the workers of 0.1.0. It must have no members while the dispatcher takes jobs.

These workers committed how far they had run the jobs of the topic. The dispatcher begins there, and goes on committing.
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
from eventvault.kafka.waits import call_in_thread
from eventvault.settings import Settings


class OldWorkers:
    """For one thread. Each method raises KafkaUnreachable."""

    def __init__(self, settings: Settings, admin: Admin) -> None:
        self._admin = admin
        self._settings = settings
        self._group = settings.kafka_jobs_group
        self._topic = settings.kafka_jobs_topic

    def members(self) -> int:
        """Return how many members the group has: workers of 0.1.0 that take jobs from the topic."""
        request = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_TIMEOUT_SECONDS)
        try:
            return len(answer_of(self._admin, request[self._group]).members)
        except KafkaUnreachable as error:
            if is_refusal(error):
                return 0
            raise

    def committed(self, partitions: int) -> dict[int, int]:
        """Return the committed offsets by partition, for the first `partitions` partitions.

        A consumer asks for them: librdkafka 2.16 crashes if an AdminClient asks while the group's coordinator moves.
        The consumer does not join the group. It is made for this request alone, which may end late.
        """
        places = [TopicPartition(self._topic, number) for number in range(partitions)]

        def ask() -> list[TopicPartition]:
            consumer = Consumer(config.jobs_reader(self._settings))
            try:
                return consumer.committed(places, timeout=REQUEST_TIMEOUT_SECONDS)
            finally:
                consumer.close()

        try:
            committed = answer_of(self._admin, call_in_thread(ask))
        except KafkaUnreachable as error:
            if is_refusal(error):
                return {}
            raise
        return {place.partition: place.offset for place in committed if place.error is None and place.offset >= 0}


def later_offsets(
    own: Mapping[int, StoredOffset], committed: Mapping[int, int], topic_info: TopicInfo
) -> dict[int, StoredOffset]:
    """Return where to begin in each partition: at the dispatcher's own offset, or at the committed one if it is later.

    If the topic was deleted since, a committed offset that is not later belongs to the deleted topic, too.
    """
    begin = dict(own)
    for partition, offset in committed.items():
        stored = own.get(partition)
        if stored is None or stored.next < offset:
            begin[partition] = StoredOffset(next=offset, topic_id=topic_info.topic_id, cluster_id=topic_info.cluster_id)
    return begin
