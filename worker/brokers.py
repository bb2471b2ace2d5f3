"""Whether the brokers are there, said once each time that changes, and the worker's topics made where they allow it."""

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
    """Belongs to one thread. No method raises because a broker is away."""

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_bootstrap_servers
        self._topics = (settings.kafka_jobs_topic, settings.kafka_results_topic)
        self._admin = AdminClient(config.client(settings))
        self._reported: str | None = None
        self._is_ready = False
        self._check_due = 0.0

    def check_again(self) -> None:
        """Something failed: look again soon."""
        self._is_ready = False

    def check_when_due(self) -> None:
        """After `check_again`, until all is well: look for the brokers and the topics, every few seconds."""
        if not self._is_ready and time.monotonic() >= self._check_due:
            self.make_topics()
            self._check_due = time.monotonic() + CHECK_SECONDS

    def make_topics(self) -> None:
        """Make the topics that are missing; where that is not allowed, say so once and wait for somebody else."""
        try:
            topics.describe_cluster(self._admin)
        except KafkaUnreachable as error:
            self._report(
                f"no Kafka broker answers at {self._servers}, it is tried again until one does: {error.message}"
            )
            return
        missing = [reason for topic in self._topics if (reason := self._make(topic))]
        self._is_ready = not missing
        if missing:
            self._report("; ".join(missing))
        else:
            self._report_ready()

    def _make(self, topic: str) -> str | None:
        try:
            if topics.topic_of(topics.ask_topic(self._admin, topic), None) is None:
                topics.create_topic(self._admin, topic)
                log.info("created the topic %s", topic)
        except KafkaUnreachable as error:
            return f"the topic {topic} is not there and cannot be made, it is waited for: {error.message}"
        return None

    def _report(self, text: str) -> None:
        if self._reported is None:
            log.warning("%s", text)
        self._reported = text

    def _report_ready(self) -> None:
        if self._reported is not None:
            log.info("Kafka answers at %s again, all topics are there", self._servers)
        self._reported = None
