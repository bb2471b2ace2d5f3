"""The events topics in the consumer's thread: which there are, how far each was consumed, and why one is not read.

One consumer reads all of them. A topic that cannot be read stops no other one: the reason goes to health, and it is
tried again after a while.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import msgspec
from confluent_kafka import Consumer, KafkaError, Message

from eventvault import progress
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import client_errors, offset_check, offsets, topics
from eventvault.kafka.clients import Admin
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.monitor import KafkaMonitor, TopicState
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.positions import MAX_WAIT_SECONDS, Positions
from eventvault.kafka.topic_info import TopicInfo
from eventvault.problems import Problem
from eventvault.settings import Settings

CHECK_SECONDS = 2.0
NAMES_SECONDS = 10.0
"""How often a pattern asks for the names of all topics: the answer has all partitions of the cluster."""
MAX_PARTITIONS = 5_000
"""Of all topics together. Each archive's manifest and each segment of the journal has the offsets of all of them."""


class RestartConsumer(Exception):
    """Drop what was read and is not stored, and start a new client at the stored offsets.

    It must be a new client, because librdkafka uses its old knowledge of a topic that was recreated.
    """


class Unanswered(Exception):
    """The brokers do not answer about a topic at present; that is tried again."""


class _Failure(msgspec.Struct):
    """Why a topic cannot be followed. until: when it is tried again. count: how often in a row."""

    problem: Problem
    until: float
    count: int


class FollowedTopics:
    """metadata: the registry's at the start of the consumer, with the stored offsets."""

    def __init__(
        self,
        settings: Settings,
        admin: Admin,
        consumer: Consumer,
        monitor: KafkaMonitor,
        metadata: Mapping[bytes, bytes],
    ) -> None:
        self._chosen = settings.kafka_events_topic
        self._other_topics = settings.other_topics
        self._admin = admin
        self._consumer = consumer
        self._monitor = monitor
        self._stored = offsets.stored_by_topic(metadata)
        self._positions: dict[str, Positions] = {}
        self._failures: dict[str, _Failure] = {}
        self._missing: set[str] = set()
        self._beyond: dict[str, Problem] = {}
        """Topics of which not all partitions are read, as there are too many."""
        self._names_now: frozenset[str] = frozenset()
        self._listed: Sequence[str] = ()
        self._names_due = 0.0
        self._cluster_id: str | None = None
        self._check_due = 0.0
        self._is_report_due = False

    def check_soon(self) -> None:
        self._check_due = 0.0

    def check_when_due(self) -> bool:
        """Ask the brokers which topics there are, and begin with what is new.

        Returns False while the client is still logging in: there is nothing to read yet, and it is to be called again.
        Raises KafkaUnreachable, or RestartConsumer if a topic is not the one whose offsets are stored.
        """
        if time.monotonic() < self._check_due:
            return True
        cluster = topics.cluster_once_logged_in(self._admin)
        if cluster is None:
            return False
        self._cluster_id = cluster.cluster_id
        names = self._names()
        self._names_now = frozenset(names)
        found = self._answers(topics.ask_topics(self._admin, names))
        self._missing = {name for name, topic_info in found.items() if topic_info is None}
        self._failures = {name: failure for name, failure in self._failures.items() if name in names}
        self._beyond = {name: problem for name, problem in self._beyond.items() if found.get(name) is not None}
        for name, topic_info in found.items():
            self._check_same(name, topic_info)
            if topic_info is not None:
                self._follow(name, topic_info)
        self._check_due = time.monotonic() + CHECK_SECONDS
        self._monitor.connected(cluster.brokers)
        self._report(names)
        return True

    def ask(self, names: Collection[str]) -> Mapping[str, topics.TopicRequest]:
        """Send a request about topics, for `refusals`."""
        return topics.ask_topics(self._admin, names)

    def refusals(self, requests: Mapping[str, topics.TopicRequest]) -> dict[str, Problem]:
        """Return of which topics the brokers do not say that they are those of the stored offsets, and why.

        A name alone does not tell, but a topic's id does: a recreated topic never gets its old one back. So messages
        that were read before the request are the topic's. Raises RestartConsumer for another topic, KafkaUnreachable.
        """
        found = self._answers(requests)
        for name, topic_info in found.items():
            self._check_same(name, topic_info)
        return {name: self._failures[name].problem for name in requests.keys() - found.keys()}

    def new_messages(self, topic: str, partition: int, messages: Sequence[Message]) -> Sequence[KafkaRecord]:
        """Return the messages that are not stored yet. Stops the partition if the last stored one has changed."""
        positions = self._positions.get(topic)
        if positions is None:
            return ()
        records = positions.new_messages(partition, messages)
        self._is_report_due |= not records
        return records

    def topic_info(self, topic: str) -> TopicInfo:
        return self._positions[topic].topic_info

    def consumed(self, topic: str, partition: int, stored: StoredOffset) -> None:
        """Note what was stored as the partition's offset."""
        self._positions[topic].by_partition[partition].next = stored.next

    def settle(self, topic: str, partition: int) -> None:
        """Note that the partition is read without a problem."""
        self._is_report_due |= self._positions[topic].settle(partition)

    def wait(self, topic: str, partition: int, problem: Problem) -> None:
        """Pause the partition because of a problem, and read it again from its stored offset after a while."""
        self._positions[topic].wait(partition, problem)
        self._is_report_due = True

    def note_error(self, topic: str | None, partition: int | None, offset: int | None, error: KafkaError) -> bool:
        """Record what a consumer says of a partition. Returns False if it is of none that is followed."""
        positions = self._positions.get(topic or "")
        position = positions.by_partition.get(-1 if partition is None else partition) if positions else None
        if topic is None or partition is None or positions is None or position is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            position.at_end = offset or 0
            if position.consuming:
                self.settle(topic, partition)
        elif error.code() in client_errors.OUT_OF_RANGE:
            reason = topics.reason_of(error)
            positions.stop(partition, offset_check.out_of_range(topic, partition, position.next, reason))
            self._is_report_due = True
        elif error.code() in topics.UNKNOWN:
            self.check_soon()
        elif position.consuming:
            self.wait(topic, partition, refused(topic, error.code(), topics.reason_of(error)))
        return True

    def present_beginning(self, topic: str, partition: int, cause: str) -> StoredOffset | None:
        """Return a stopped partition's present first offset; None if it is not stopped, or for another reason.

        cause: `cause_of` the problem that was accepted. Raises Unanswered.
        """
        if topic not in self._positions or topic in self._failures:
            raise Unanswered
        positions = self._positions[topic]
        problem = positions.stopped().get(partition)
        if problem is None or offset_check.cause_of(problem) != cause:
            return None
        try:
            low, _ = positions.bounds(partition)
        except KafkaUnreachable as error:
            self._note_failure(topic, error)
            raise Unanswered from None
        info = positions.topic_info
        return StoredOffset(next=low, topic_id=info.topic_id, cluster_id=info.cluster_id)

    def report_when_due(self) -> None:
        """Tell the monitor what has changed since the last check."""
        if self._is_report_due:
            self._report([*self._positions, *self._missing, *self._failures, *self._beyond])

    def _names(self) -> list[str]:
        """Return the topics to follow. With a pattern also those that it matches and that are gone."""
        if self._chosen.pattern is None:
            return list(self._chosen.names)
        if time.monotonic() >= self._names_due:
            self._listed = topics.names(self._admin)
            self._names_due = time.monotonic() + NAMES_SECONDS
        known = {*self._listed, *self._stored, *self._positions}
        return self._chosen.matching(known, self._other_topics)

    def _answers(self, requests: Mapping[str, topics.TopicRequest]) -> dict[str, TopicInfo | None]:
        """Return the answer about each topic, None if it does not exist. A refused one is a failure and has no answer.

        Raises KafkaUnreachable if no broker answers.
        """
        found: dict[str, TopicInfo | None] = {}
        for name, request in requests.items():
            try:
                found[name] = topics.topic_of(request, self._cluster_id)
            except KafkaUnreachable as error:
                if not topics.is_refusal(error):
                    raise
                self._note_failure(name, error)
        return found

    def _check_same(self, name: str, topic_info: TopicInfo | None) -> None:
        positions = self._positions.get(name)
        if positions is None:
            return
        if topic_info is None or topic_info.topic_id != positions.topic_info.topic_id:
            raise RestartConsumer

    def _follow(self, name: str, topic_info: TopicInfo) -> None:
        """Begin with a topic's new partitions. If the brokers do not answer about them, it is tried again later."""
        progress.step()
        failure = self._failures.get(name)
        if failure is not None and time.monotonic() < failure.until:
            return
        if topic_info.partitions > self._room_for(name):
            self._beyond[name] = _too_many(name)
            topic_info = topic_info._replace(partitions=min(topic_info.partitions, self._read_of(name)))
            if not topic_info.partitions:
                return
        else:
            self._beyond.pop(name, None)
        if name not in self._positions:
            self._positions[name] = Positions(self._admin, self._consumer, name, topic_info, self._stored.get(name, {}))
        try:
            self._positions[name].add_partitions(topic_info)
        except KafkaUnreachable as error:
            self._note_failure(name, error)
        else:
            self._failures.pop(name, None)
        self._positions[name].resume_due()

    def _room_for(self, name: str) -> int:
        """Return how many partitions of a topic can be read beside those of the others."""
        others = {*self._positions, *self._stored.keys() & self._names_now} - {name}
        return MAX_PARTITIONS - sum(map(self._read_of, others))

    def _read_of(self, name: str) -> int:
        """Return how many partitions of a topic are read, or were before: they stay, however many are new."""
        positions = self._positions.get(name)
        read = 0 if positions is None else len(positions.by_partition)
        return max(read, *(number + 1 for number in self._stored.get(name, {})), 0)

    def _note_failure(self, name: str, error: KafkaUnreachable) -> None:
        failure = self._failures.get(name)
        count = failure.count + 1 if failure is not None else 0
        until = time.monotonic() + min(MAX_WAIT_SECONDS, 2.0**count)
        self._failures[name] = _Failure(refused(name, error.details.get("kafka"), topics.words_of(error)), until, count)
        self._is_report_due = True

    def _report(self, names: Collection[str]) -> None:
        self._is_report_due = False
        states = [self._state(name) for name in sorted(set(names))]
        self._monitor.topics(states)
        partitions = [partition for state in states for partition in state.partitions.values()]
        if partitions and all(each["lag"] == 0 for each in partitions if each["state"] == "consuming"):
            self._monitor.recovered()

    def _state(self, name: str) -> TopicState:
        positions, failure = self._positions.get(name), self._failures.get(name)
        waiting = [*([self._beyond[name]] if name in self._beyond else [])]
        waiting += positions.waiting() if positions is not None else []
        return TopicState(
            name=name,
            exists=name not in self._missing,
            expected=name in self._stored,
            partitions=positions.states() if positions is not None else {},
            stopped=positions.stopped() if positions is not None else {},
            waits_for=[*([failure.problem] if failure is not None else []), *waiting],
            elsewhere=self._elsewhere(name),
        )

    def _elsewhere(self, name: str) -> str | None:
        """Return the cluster of the stored offsets of a topic that does not exist, if another cluster answers now."""
        clusters = {stored.cluster_id for stored in self._stored.get(name, {}).values()} - {None, self._cluster_id}
        return next(iter(clusters), None) if name in self._missing and self._cluster_id is not None else None


def refused(topic: str, code: int | None, reason: str) -> Problem:
    """Return the problem of a topic that the brokers do not let this client read."""
    hint = "check the brokers; it is tried again by itself, and the other topics go on"
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        hint = f"allow this client to Read and to Describe the topic {topic}; it is tried again by itself"
    return Problem("kafka_topic_refused", f"the topic {topic} cannot be read: {reason}", hint, topic)


def _too_many(topic: str) -> Problem:
    return Problem(
        "kafka_topic_refused",
        f"not all of the topic {topic} is read: the events topics have more than {MAX_PARTITIONS:,} partitions in all",
        "let KAFKA_EVENTS_TOPIC name fewer topics, or exclude some from its pattern",
        topic,
    )
