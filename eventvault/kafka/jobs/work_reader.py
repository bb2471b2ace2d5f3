"""Reads one partition of `jobs.work` for a worker's session, with one client."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from confluent_kafka import KafkaException, Message, TopicPartition

from eventvault.errors import KafkaRefused, KafkaUnreachable
from eventvault.jobs import messages
from eventvault.jobs.messages import Work
from eventvault.kafka import config, topics
from eventvault.kafka.clients import Admin, MonotonicConsumer
from eventvault.kafka.jobs.client_watch import ClientWatch
from eventvault.kafka.jobs.job_topics import job_topics
from eventvault.kafka.jobs.reader_thread import CHECK_SECONDS, RestartReader, poll
from eventvault.kafka.topic_info import TopicInfo
from eventvault.settings import Settings

log = logging.getLogger("jobs")


@dataclass
class WorkState:
    """The state that the reading thread and the owner share. partition: the one that the session reads.

    connections: how often it began to read; messages before that are lost, and sent again after a hello.
    invalid: how many messages could not be decoded.
    """

    session: str
    partition: int = 0
    connections: int = 0
    is_connected: bool = False
    invalid: int = 0

    def note_disconnect(self) -> None:
        self.is_connected = False


class WorkReader:
    """Reads from the end of the partition on: what was sent to this session before is sent again."""

    def __init__(self, settings: Settings, state: WorkState) -> None:
        """Choose a partition and begin. Raises KafkaUnreachable if no broker answers or the topic does not exist."""
        self._topic = job_topics(settings).work
        self._key = state.session.encode()
        self._state = state
        self._admin = Admin(settings)
        self._client = ClientWatch(state.note_disconnect)
        self._consumer = MonotonicConsumer(config.session_reader(settings), self._client.note)
        try:
            self._topic_info = self._begin()
        except (KafkaUnreachable, KafkaException):
            self._consumer.close()
            raise
        self._client.check_in(CHECK_SECONDS)

    def close(self) -> None:
        self._consumer.close()

    def read(self) -> tuple[list[Work], list[int]]:
        if self._client.is_due():
            self._check()
        work: list[Work] = []
        sizes: list[int] = []
        for message in poll(self._consumer):
            decoded = self._decode(message)
            if decoded is not None:
                work.append(decoded)
                sizes.append(len(message))
        return work, sizes

    def _begin(self) -> TopicInfo:
        info = self._ask()
        if info is None:
            raise KafkaUnreachable(
                f"the topic {self._topic} does not exist; the dispatcher of the service creates it",
                hint="start the service, or create the topic",
                kafka=topics.UNKNOWN[0],
            )
        partition = random.randrange(info.partitions)  # nosec B311  # spreads the sessions
        _, end = topics.bounds(self._admin, self._topic, partition)
        self._consumer.assign([TopicPartition(self._topic, partition, end)])
        self._state.partition = partition
        self._state.connections += 1
        self._state.is_connected = True
        return info

    def _check(self) -> None:
        """Raise RestartReader if the topic was created again. If a broker is away, the client itself waits for it."""
        self._client.check_in(CHECK_SECONDS)
        try:
            info = self._ask()
        except KafkaRefused:
            self._state.is_connected = False
            raise  # a new client has the present password
        except KafkaUnreachable:
            self._state.is_connected = False
            return
        if info is None or info.topic_id != self._topic_info.topic_id:
            self._state.is_connected = False
            raise RestartReader
        self._state.is_connected = True

    def _ask(self) -> TopicInfo | None:
        return topics.topic_of(topics.ask_topic(self._admin, self._topic), None)

    def _decode(self, message: Message) -> Work | None:
        """Return the work in a message; None if it is for another session, or if it cannot be decoded."""
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            self._client.check_soon()
            return None
        if message.key() != self._key:
            return None
        try:
            work = messages.decode_work(message.value() or b"")
        except messages.DECODE_ERRORS as reason:
            if not self._state.invalid:
                log.warning("a message of %s is not for workers; later ones are only counted: %s", self._topic, reason)
            self._state.invalid += 1
            return None
        return work if work.to == self._state.session else None
