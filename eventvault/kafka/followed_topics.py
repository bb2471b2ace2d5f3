"""The events topics in the consumer's thread: which exist, how far each was consumed, and why one is not read.

One consumer reads all of them. A topic that cannot be read does not stop the others: health shows the reason, and it is
retried after a while.
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
"""Seconds between two requests for the names of all topics, for a pattern: the answer lists the whole cluster."""
MAX_PARTITIONS = 5_000
"""Of all topics together: each archive's manifest and each segment of the journal has the offsets of all of them."""


class RestartConsumer(Exception):
    """Drop what was read and is not stored, and start a new client at the stored offsets.

    It must be a new client, because librdkafka uses its old knowledge of a topic that was recreated.
    """


class Unanswered(Exception):
    """The brokers do not answer about a topic at present; it is retried."""


class _Failure(msgspec.Struct):
    """Why a topic cannot be followed. until: when it is retried. count: failures in a row before this one."""

    problem: Problem
    until: float
    count: int


class FollowedTopics:
    """metadata: the registry's metadata at the start of the consumer, with the stored offsets."""

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
        """Topic → the problem that not all of its partitions are read, because there are too many."""
        self._names_now: frozenset[str] = frozenset()
        self._listed: Sequence[str] = ()
        self._names_due = 0.0
        self._cluster_id: str | None = None
        self._check_due = 0.0
        self._is_report_due = False

    def check_soon(self) -> None:
        self._check_due = 0.0

    def check_when_due(self) -> bool:
        """Ask the brokers which topics there are, and begin to read new topics and partitions.

        Returns False while the client is still logging in: there is nothing to read yet, so call it again.
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
        answers = self._answers(topics.ask_topics(self._admin, names))
        self._missing = {name for name, topic_info in answers.items() if topic_info is None}
        self._failures = {name: failure for name, failure in self._failures.items() if name in names}
        self._beyond = {name: problem for name, problem in self._beyond.items() if answers.get(name) is not None}
        for name, topic_info in answers.items():
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
        """Return the topics about which the brokers do not answer, and why. The others are those of the stored offsets.

        A topic's id shows that, its name does not: a recreated topic gets another id. So the messages that were read
        before the request belong to the topic. Raises RestartConsumer for another topic, or KafkaUnreachable.
        """
        answers = self._answers(requests)
        for name, topic_info in answers.items():
            self._check_same(name, topic_info)
        return {name: self._failures[name].problem for name in requests.keys() - answers.keys()}

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
        self._positions[topic].by_partition[partition].next = stored.next

    def settle(self, topic: str, partition: int) -> None:
        """Note that the partition is read without a problem."""
        self._is_report_due |= self._positions[topic].settle(partition)

    def wait(self, topic: str, partition: int, problem: Problem) -> None:
        """Pause the partition because of a problem; after a while it is read again from its stored offset."""
        self._positions[topic].wait(partition, problem)
        self._is_report_due = True

    def note_error(self, topic: str | None, partition: int | None, offset: int | None, error: KafkaError) -> bool:
        """Record an error about a partition. Returns False if no followed partition is meant."""
        positions = self._positions.get(topic or "")
        position = positions.by_partition.get(-1 if partition is None else partition) if positions else None
        if topic is None or partition is None or positions is None or position is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            position.at_end = offset or 0
            if position.is_consuming:
                self.settle(topic, partition)
        elif error.code() in client_errors.OUT_OF_RANGE:
            reason = topics.reason_of(error)
            positions.stop(partition, offset_check.out_of_range(topic, partition, position.next, reason))
            self._is_report_due = True
        elif error.code() in topics.UNKNOWN:
            self.check_soon()
        elif position.is_consuming:
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
        """Return the topics to follow. With a pattern these include topics that it matched and that are gone."""
        if self._chosen.pattern is None:
            return list(self._chosen.names)
        if time.monotonic() >= self._names_due:
            self._listed = topics.names(self._admin)
            self._names_due = time.monotonic() + NAMES_SECONDS
        candidates = {*self._listed, *self._stored, *self._positions}
        return self._chosen.matching(candidates, self._other_topics)

    def _answers(self, requests: Mapping[str, topics.TopicRequest]) -> dict[str, TopicInfo | None]:
        """Return the answer about each topic, None if it does not exist. A refused topic is noted and has no answer.

        Raises KafkaUnreachable if no broker answers.
        """
        answers: dict[str, TopicInfo | None] = {}
        for name, request in requests.items():
            try:
                answers[name] = topics.topic_of(request, self._cluster_id)
            except KafkaUnreachable as error:
                if not topics.is_refusal(error):
                    raise
                self._note_failure(name, error)
        return answers

    def _check_same(self, name: str, topic_info: TopicInfo | None) -> None:
        positions = self._positions.get(name)
        if positions is None:
            return
        if topic_info is None or topic_info.topic_id != positions.topic_info.topic_id:
            raise RestartConsumer

    def _follow(self, name: str, topic_info: TopicInfo) -> None:
        """Begin to read a topic's new partitions. If the brokers do not answer about them, it is retried later."""
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
        """Return how many partitions of a topic are read, or were read before: these go on, however many are new."""
        positions = self._positions.get(name)
        read = 0 if positions is None else len(positions.by_partition)
        return max(read, *(number + 1 for number in self._stored.get(name, {})), 0)

    def _note_failure(self, name: str, error: KafkaUnreachable) -> None:
        failure = self._failures.get(name)
        count = failure.count + 1 if failure is not None else 0
        until = time.monotonic() + min(MAX_WAIT_SECONDS, 2.0**count)
        self._failures[name] = _Failure(
            refused(name, error.details.get("kafka"), topics.reason_of_unreachable(error)), until, count
        )
        self._is_report_due = True

    def _report(self, names: Collection[str]) -> None:
        self._is_report_due = False
        states = [self._state(name) for name in sorted(set(names))]
        self._monitor.topics(states)
        partitions = [partition for state in states for partition in state.partitions.values()]
        if partitions and all(state["lag"] == 0 for state in partitions if state["state"] == "consuming"):
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
    hint = "check the brokers; it is retried automatically, and the other topics go on"
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        hint = f"allow this client to Read and to Describe the topic {topic}; it is retried automatically"
    return Problem("kafka_topic_refused", f"the topic {topic} cannot be read: {reason}", hint, topic)


def _too_many(topic: str) -> Problem:
    return Problem(
        "kafka_topic_refused",
        f"not all of the topic {topic} is read: the events topics have more than {MAX_PARTITIONS:,} partitions in all",
        "let KAFKA_EVENTS_TOPIC name fewer topics, or exclude some from its pattern",
        topic,
    )
