"""The position of each partition of one topic, in the consumer's thread. Several topics may share a consumer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from eventvault import progress
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import offset_check, topics
from eventvault.kafka.clients import Admin
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.offsets import StoredOffset, checksum
from eventvault.kafka.records import Records
from eventvault.kafka.topic_info import TopicInfo
from eventvault.problems import Problem

MAX_WAIT_SECONDS = 30.0

_offset: Callable[[Message], int] = Message.offset  # type: ignore[assignment]  # None only for an error


class ConsumedPosition(msgspec.Struct):
    """next: the next offset; None: the partition's first one. at_end: the end of the partition that was last seen.

    compare: the last stored message, which is read again to check that it is still the same.
    waits_until: when the partition is read again; None if it is read now. waits_for: the problem it waits for, until
    that is over. failures: how often in a row it waited for that.
    """

    stored: StoredOffset | None
    next: int | None = None
    at_end: int = 0
    compare: StoredOffset | None = None
    problem: Problem | None = None
    waits_until: float | None = None
    waits_for: Problem | None = None
    failures: int = 0

    @property
    def is_consuming(self) -> bool:
        return self.problem is None and self.waits_until is None


class Positions:
    """Assigns the partitions of a topic to one consumer and tracks their positions."""

    def __init__(
        self, admin: Admin, consumer: Consumer, topic: str, topic_info: TopicInfo, stored: dict[int, StoredOffset]
    ) -> None:
        self.topic_info = topic_info
        self.by_partition: dict[int, ConsumedPosition] = {}
        self._admin = admin
        self._consumer = consumer
        self._topic = topic
        self._stored = stored
        self._refusals: Counter[int] = Counter()
        """Partition → how often the brokers did not tell its first offset."""

    def add_partitions(self, topic_info: TopicInfo) -> None:
        """Begin to consume new partitions. Raises KafkaUnreachable; a second call continues.

        Partitions that failed before come last, so that a partition without a leader does not keep back the others.
        """
        self.topic_info = topic_info
        new = [number for number in range(topic_info.partitions) if number not in self.by_partition]
        for partition in sorted(new, key=self._refusals.__getitem__):
            progress.step()
            try:
                self.begin(partition, self._stored.get(partition))
            except KafkaUnreachable:
                self._refusals[partition] += 1
                raise

    def begin(self, partition: int, stored: StoredOffset | None) -> None:
        """Assign a partition at its stored offset, or stop it if that does not match."""
        position = ConsumedPosition(stored)
        if stored is not None:
            low, high = self.bounds(partition)
            position.next = stored.next
            position.problem = offset_check.check_offset(self._topic, partition, stored, self.topic_info, low, high)
            if stored.crc is not None and stored.next > low:
                position.compare = stored
        if position.problem is None:
            self._assign(partition, position)
        self.by_partition[partition] = position

    def bounds(self, partition: int) -> tuple[int, int]:
        return topics.bounds(self._admin, self._topic, partition)

    def stop(self, partition: int, problem: Problem) -> None:
        self._unassign(partition)
        self.by_partition[partition].problem = problem

    def wait(self, partition: int, problem: Problem) -> None:
        """Pause a partition because of a problem, and resume it at its `next` after 1, 2, 4 … seconds."""
        self._unassign(partition)
        position = self.by_partition[partition]
        position.waits_until = time.monotonic() + min(MAX_WAIT_SECONDS, 2.0**position.failures)
        position.waits_for = problem
        position.failures += 1

    def settle(self, partition: int) -> bool:
        """Note that a partition is read without a problem. Returns whether it waited because of one."""
        position = self.by_partition[partition]
        waited, position.waits_for, position.failures = position.waits_for is not None, None, 0
        return waited

    def resume_due(self) -> None:
        now = time.monotonic()
        for partition, position in self.by_partition.items():
            if position.problem is None and position.waits_until is not None and position.waits_until <= now:
                position.waits_until = None
                self._assign(partition, position)

    def new_messages(self, partition: int, messages: Sequence[Message]) -> Sequence[KafkaRecord]:
        """Return the messages that are not stored yet. Stops the partition if the last stored one has changed."""
        position = self.by_partition.get(partition)
        if position is None or not position.is_consuming or not messages:
            return ()
        if position.compare is not None:
            expected, position.compare = position.compare, None
            first_message = messages[0]
            if first_message.offset() == expected.next - 1 and checksum(first_message.value()) != expected.crc:
                self.stop(partition, offset_check.diverged(self._topic, partition, expected.next - 1))
                return ()
        first = position.next or 0
        if min(map(_offset, messages)) < first:
            messages = [message for message in messages if _offset(message) >= first]
        return Records(messages)

    def stopped(self) -> dict[int, Problem]:
        return {
            number: position.problem for number, position in self.by_partition.items() if position.problem is not None
        }

    def waiting(self) -> list[Problem]:
        """Return the problems that partitions wait for."""
        return [position.waits_for for position in self.by_partition.values() if position.waits_for is not None]

    def states(self) -> dict[int, dict[str, Any]]:
        """Return `state`, `next` and `lag` of every partition, without asking the broker."""
        return {number: self._state(number, position) for number, position in self.by_partition.items()}

    def _state(self, partition: int, position: ConsumedPosition) -> dict[str, Any]:
        state = "stopped" if position.problem else "waiting" if position.waits_for else "consuming"
        lag = None
        if state == "consuming":
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
            if high >= 0:
                lag = max(0, high - max(position.next if position.next is not None else low, position.at_end))
        return {"state": state, "next": position.next, "lag": lag}

    def _assign(self, partition: int, position: ConsumedPosition) -> None:
        """Read the partition from its position, or from the message to compare."""
        start, epoch = OFFSET_BEGINNING if position.next is None else position.next, -1
        if position.compare is not None:
            start = position.compare.next - 1
            epoch = -1 if position.compare.leader_epoch is None else position.compare.leader_epoch
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, start, leader_epoch=epoch)])

    def _unassign(self, partition: int) -> None:
        if self.by_partition[partition].is_consuming:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
