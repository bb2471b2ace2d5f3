"""Watches the brokers, logs when they become unavailable or available, and creates the worker's topics."""

from __future__ import annotations

import logging
import time

from confluent_kafka.admin import AdminClient

from eventvault.errors import KafkaUnreachable
from eventvault.kafka import config, topics
from eventvault.settings import Settings

log = logging.getLogger("worker")

CHECK_SECONDS = 5.0


class Brokers:
    """Watches the brokers; belongs to one thread. No method raises if a broker is unavailable.

    is_ready: brokers answered, and all topics exist.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_bootstrap_servers
        self._topics = (settings.kafka_jobs_topic, settings.kafka_results_topic)
        self._may_create = settings.kafka_create_topics
        self._admin = AdminClient(config.client(settings))
        self._reported: str | None = None
        self.is_ready = False
        self._check_due = 0.0

    def check_again(self) -> None:
        """Let the next `check_when_due` check, because a call failed."""
        self.is_ready = False

    def check_when_due(self) -> None:
        """Check brokers and topics every CHECK_SECONDS until all answer, at first and after `check_again`."""
        if not self.is_ready and time.monotonic() >= self._check_due:
            self.make_topics()
            self._check_due = time.monotonic() + CHECK_SECONDS

    def make_topics(self) -> None:
        """Create missing topics, with KAFKA_CREATE_TOPICS. If that is not allowed, log it once and wait for them."""
        try:
            topics.describe_cluster(self._admin)
        except KafkaUnreachable as error:
            self.is_ready = False
            self._report(f"no Kafka broker answers at {self._servers}; the worker retries: {error.message}")
            return
        missing = [reason for topic in self._topics if (reason := self._make(topic))]
        self.is_ready = not missing
        if missing:
            self._report("; ".join(missing))
        else:
            self._report_ready()

    def _make(self, topic: str) -> str | None:
        try:
            if topics.topic_of(topics.ask_topic(self._admin, topic), None) is not None:
                return None
            if not self._may_create:
                return f"the topic {topic} does not exist, and KAFKA_CREATE_TOPICS is false; the worker waits for it"
            topics.create_topic(self._admin, topic)
            log.info("created the topic %s", topic)
        except KafkaUnreachable as error:
            return f"the topic {topic} is missing and cannot be created; the worker waits for it: {error.message}"
        return None

    def _report(self, text: str) -> None:
        if self._reported is None:
            log.warning("%s", text)
        self._reported = text

    def _report_ready(self) -> None:
        if self._reported is not None:
            log.info("Kafka answers at %s again, and all topics exist", self._servers)
        self._reported = None
