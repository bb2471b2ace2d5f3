"""Dead letters: messages that are not events go to `<events topic>.dead-letter` with the reason in their headers.

Key, value and headers are those of the message. A dead letter is delivered before the offset after its message is
stored, so it may be sent twice (its headers show it). It is missing only if the topic does not exist and may not be
created: that stops no partition, and the quarantine has the message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault.errors import KafkaUnreachable
from eventvault.kafka import clients, topics
from eventvault.kafka.clients import Admin, WatchedProducer
from eventvault.kafka.messages import KafkaRecord
from eventvault.kafka.monitor import RETRIED
from eventvault.kafka.values import Reference
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.topic_names import dead_letter_topic

DELIVERY_MILLISECONDS = 5_000
HEADER_PREFIX = "x-eventvault-"
ORIGIN_HEADERS = ("reason", "topic", "partition", "offset", "timestamp")
"""Names of the headers that a dead letter adds after those of the message, each with the prefix."""


class _TopicMissing(Exception):
    """The topic does not exist and cannot be created; the text says why."""


def undelivered(topic: str, reason: str) -> Problem:
    """Return the problem of a partition of `topic` that waits for its dead letter."""
    message = f"events from Kafka wait: a dead letter cannot be delivered to {dead_letter_topic(topic)}: {reason}"
    return Problem("kafka_waits", message, RETRIED, topic)


class DeadLetters:
    """Delivers dead letters, in one thread. The first one creates the topic, with KAFKA_CREATE_TOPICS.

    missing: why the topic of the last call of `send` does not exist; None if it does.
    """

    def __init__(self, settings: Settings) -> None:
        self.missing: str | None = None
        self._references: dict[tuple[str, int, int], Reference] = {}
        self._settings = settings
        self._producer: WatchedProducer | None = None
        self._ensured: set[str] = set()

    def send(self, topic: str, letters: Sequence[tuple[KafkaRecord, str]]) -> list[str | None]:
        """Deliver (message, reason) pairs of a topic. Returns for each None, or why it could not be delivered yet.

        If the topic is `missing`, nothing is delivered, and the caller must not wait for it.
        """
        outcomes: list[str | None] = ["no answer"] * len(letters)
        if not letters:
            return outcomes
        self.missing = None
        try:
            producer, dead_topic = self._open(), dead_letter_topic(topic)
            self._ensure_topic(dead_topic)
            for index, (message, reason) in enumerate(letters):
                self._produce(
                    producer, dead_topic, message, reason, partial(self._note_delivery, outcomes, index, message)
                )
            producer.flush(DELIVERY_MILLISECONDS / 1000 + 1)
        except (KafkaException, BufferError) as error:
            reason = topics.reason_of(error) if isinstance(error, KafkaException) else str(error)
            outcomes = [outcome and reason for outcome in outcomes]
        except KafkaUnreachable as error:
            outcomes = [outcome and error.message for outcome in outcomes]
        except _TopicMissing as reason:
            self.missing = str(reason)
            return [None] * len(letters)
        if any(outcomes):
            self.close()
        return outcomes

    def pop_reference(self, message: KafkaRecord) -> Reference | None:
        """Return where Kafka has the dead letter of a message, and forget it; None if there is none."""
        return self._references.pop((message.topic, message.partition, message.offset), None)

    def close(self) -> None:
        """Close the producer and drop what it could not deliver."""
        if self._producer is not None:
            self._producer.drop()
            self._producer = None
            self._ensured.clear()

    def _open(self) -> WatchedProducer:
        if self._producer is None:
            self._producer = clients.producer(self._settings, DELIVERY_MILLISECONDS)
        return self._producer

    def _ensure_topic(self, topic: str) -> None:
        """Create the topic if it is missing. Raises _TopicMissing, or KafkaUnreachable if no broker answers."""
        if topic in self._ensured:
            return
        admin = Admin(self._settings)
        if topics.topic_of(topics.ask_topic(admin, topic), None) is None:
            may_create = self._settings.kafka_create_topics
            reason = topics.create_topic(admin, topic, topics.DEAD_LETTERS, may_create=may_create)
            if reason is not None:
                raise _TopicMissing(f"the topic {topic} does not exist, and {reason}")
        self._ensured.add(topic)

    def _produce(
        self,
        producer: WatchedProducer,
        topic: str,
        message: KafkaRecord,
        reason: str,
        on_delivery: Callable[[KafkaError | None, Message], None],
    ) -> None:
        deadline = time.monotonic() + DELIVERY_MILLISECONDS / 1000
        while True:
            try:
                producer.produce(
                    topic, message.value, message.key, headers=_headers(message, reason), on_delivery=on_delivery
                )
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise
                producer.poll(0.1)

    def _note_delivery(
        self, outcomes: list[str | None], index: int, sent: KafkaRecord, error: KafkaError | None, letter: Message
    ) -> None:
        outcomes[index] = None if error is None else topics.reason_of(error)
        offset, partition = letter.offset(), letter.partition()
        if error is None and offset is not None and partition is not None and offset >= 0:
            self._references[sent.topic, sent.partition, sent.offset] = Reference(
                letter.topic() or "", partition, offset
            )


def _headers(message: KafkaRecord, reason: str) -> list[tuple[str, str | bytes | None]]:
    timestamp = "" if message.timestamp is None else str(message.timestamp)
    origin = (reason, message.topic, str(message.partition), str(message.offset), timestamp)
    added = [
        (HEADER_PREFIX + name, value.encode(errors="replace"))
        for name, value in zip(ORIGIN_HEADERS, origin, strict=True)
    ]
    return [*message.headers, *added]
