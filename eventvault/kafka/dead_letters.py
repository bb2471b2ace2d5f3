"""Dead letters: messages that are no event go to `<events topic>.dead-letter` with the reason in their headers.

Key, value and headers are those of the message. A dead letter is delivered before the offset beyond its message is
stored, so it may come twice (its headers show it). It is missing only if the topic does not exist and may not be made:
that stops no partition, and the message stays in its own topic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from eventvault.errors import KafkaUnreachable
from eventvault.kafka import config, topics
from eventvault.kafka.messages import Record
from eventvault.kafka.monitor import RETRIED
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.topic_names import dead_letter_topic

DELIVERY_MILLISECONDS = 5_000
HEADER_PREFIX = "x-eventvault-"

_TOPIC_CONFIG = {"max.message.bytes": str(config.LARGEST_MESSAGE_BYTES), "retention.ms": "-1"}
"""Any message fits with the added headers, and none expires before an operator has read it."""


class _TopicMissing(Exception):
    """The topic does not exist and cannot be made; says why."""


def undelivered(topic: str, reason: str) -> Problem:
    """Return the problem of a partition of `topic` that waits for its dead letter."""
    message = f"events from Kafka wait: a dead letter cannot be delivered to {dead_letter_topic(topic)}: {reason}"
    return Problem("kafka_waits", message, RETRIED, topic)


class DeadLetters:
    """Delivers dead letters, in one thread. The first one creates the topic, with KAFKA_CREATE_TOPICS.

    missing: why the topic did not exist for the letters that were sent last; None if it did.
    """

    def __init__(self, settings: Settings) -> None:
        self.missing: str | None = None
        self._settings = settings
        self._producer: Producer | None = None
        self._ensured: set[str] = set()

    def send(self, topic: str, letters: Sequence[tuple[Record, str]]) -> list[str | None]:
        """Deliver (message, reason) pairs of a topic. Returns for each None, or why it could not be delivered yet.

        If the topic is `missing`, nothing is delivered and nothing is to be awaited.
        """
        outcomes: list[str | None] = ["no answer"] * len(letters)
        if not letters:
            return outcomes
        self.missing = None
        try:
            producer, dead_topic = self._open(), dead_letter_topic(topic)
            self._ensure_topic(dead_topic)
            for index, (message, reason) in enumerate(letters):
                self._produce(producer, dead_topic, message, reason, partial(_note, outcomes, index))
            producer.flush(DELIVERY_MILLISECONDS / 1000 + 1)
        except (KafkaException, BufferError) as error:
            outcomes = [outcome and str(error) for outcome in outcomes]
        except KafkaUnreachable as error:
            outcomes = [outcome and error.message for outcome in outcomes]
        except _TopicMissing as reason:
            self.missing = str(reason)
            return [None] * len(letters)
        if any(outcomes):
            self.close()
        return outcomes

    def close(self) -> None:
        """Close the producer and drop what it could not deliver."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None
            self._ensured.clear()

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(config.producer(self._settings, DELIVERY_MILLISECONDS))
        return self._producer

    def _ensure_topic(self, topic: str) -> None:
        """Raises _TopicMissing, or KafkaUnreachable if no broker answers."""
        if topic in self._ensured:
            return
        admin = AdminClient(config.client(self._settings))
        if topics.topic_of(topics.ask_topic(admin, topic), None) is None:
            self._create_topic(admin, topic)
        self._ensured.add(topic)

    def _create_topic(self, admin: AdminClient, topic: str) -> None:
        if not self._settings.kafka_create_topics:
            raise _TopicMissing(f"the topic {topic} does not exist, and KAFKA_CREATE_TOPICS is false")
        try:
            topics.create_topic(admin, topic, _TOPIC_CONFIG)
        except KafkaUnreachable as error:
            if not topics.is_refusal(error):
                raise
            raise _TopicMissing(f"the topic {topic} does not exist and cannot be created: {error.message}") from None

    def _produce(
        self,
        producer: Producer,
        topic: str,
        message: Record,
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


def _headers(message: Record, reason: str) -> list[tuple[str, str | bytes | None]]:
    origin = {
        "reason": reason,
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "timestamp": "" if message.timestamp is None else str(message.timestamp),
    }
    ours = [(HEADER_PREFIX + name, value.encode(errors="replace")) for name, value in origin.items()]
    return [*message.headers, *ours]


def _note(outcomes: list[str | None], index: int, error: KafkaError | None, _: Message) -> None:
    outcomes[index] = None if error is None else topics.reason_of(error)
