"""Writes outcomes and dead letters to Kafka without waiting; the outbox in `jobs_db` has them until the brokers do."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault.errors import KafkaRefused
from eventvault.jobs import outcomes
from eventvault.jobs.transport import OutboxMessage
from eventvault.kafka import client_errors, clients, topics
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.jobs.job_topics import job_topics
from eventvault.settings import Settings

log = logging.getLogger("jobs")

RETRY_SECONDS = 1.0
MOST_IN_FLIGHT = 10_000


class OutboxWriter:
    """Belongs to one thread. has_news: more messages are on the brokers since the last `publish`."""

    def __init__(self, settings: Settings) -> None:
        names = job_topics(settings)
        self._topics = {"result": names.results, "dead": names.dead}
        self._settings = settings
        self._producer: WatchedProducer | None = None
        self._on_brokers: dict[OutboxMessage, bool] = {}
        self._retry_at = 0.0
        self._reported: str | None = None
        self.has_news = False

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Return the messages that are on the brokers, and begin to write the others."""
        self.poll()
        self.has_news = False
        delivered, unsent = [], []
        for message in messages:
            if self._on_brokers.get(message):
                delivered.append(message)
            elif message not in self._on_brokers:
                unsent.append(message)
        for message in delivered:
            self._on_brokers.pop(message, None)
        if time.monotonic() >= self._retry_at:
            for message in unsent[: MOST_IN_FLIGHT - len(self._on_brokers)]:
                self._write(message, message)
        return delivered

    def poll(self) -> bool:
        """Process the brokers' answers. Returns whether messages are in flight."""
        if self._producer is None:
            return False
        self._producer.poll()
        if self._producer.is_outdated:
            self._drop()
        return not all(self._on_brokers.values())

    def close(self) -> None:
        """Drop the messages that the brokers do not have; the outbox has them."""
        self._drop()
        self._on_brokers.clear()

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.drop()
            self._producer = None

    def _write(self, message: OutboxMessage, form: OutboxMessage) -> None:
        """Begin to write a message. form: the message itself, or a shorter form of it."""
        self._on_brokers[message] = False
        try:
            if self._producer is None:
                self._producer = clients.producer(self._settings, linger_ms=1)
            self._producer.produce(
                self._topics[form.kind], form.value, form.key, headers=list(form.headers),
                on_delivery=partial(self._note, message, form),
            )  # fmt: skip
        except (BufferError, KafkaException) as error:
            self._fail(message, form, error.args[0] if isinstance(error, KafkaException) else None)
        except KafkaRefused as error:
            self._fail(message, form, None, error.message)

    def _note(self, message: OutboxMessage, form: OutboxMessage, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._fail(message, form, error)
        elif message in self._on_brokers:
            self._on_brokers[message] = self.has_news = True
            self._reported = None

    def _fail(
        self, message: OutboxMessage, form: OutboxMessage, error: KafkaError | None, reason: str = "the queue is full"
    ) -> None:
        """Let a message be written again later. If it is too large, write its shorter form, or drop it."""
        if error is not None and error.code() in client_errors.TOO_LARGE:
            if form == message:
                self._write(message, outcomes.shortened(message))
                return
            log.error("a message to %s is dropped: it is larger than the topic allows", self._topics[message.kind])
            self._on_brokers[message] = self.has_news = True
            return
        self._on_brokers.pop(message, None)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        reason = reason if error is None else topics.reason_of(error)
        if reason != self._reported:
            log.warning("outcomes of jobs cannot be written to Kafka; they wait, and it is retried: %s", reason)
            self._reported = reason
