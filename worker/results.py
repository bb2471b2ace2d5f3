"""Writes outcomes to the results topic; all in-sync brokers have them before the job's offset is committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from eventvault.kafka import config
from eventvault.settings import Settings
from worker import outcomes
from worker.brokers import Brokers
from worker.outcomes import Outcome

log = logging.getLogger("worker")

TRY_MILLISECONDS = 30_000
RETRY_SECONDS = 1.0
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class ResultWriter:
    """Writes one outcome at a time; belongs to one thread. on_wait: called again and again during a wait."""

    def __init__(self, settings: Settings, brokers: Brokers, on_wait: Callable[[], None]) -> None:
        self._topic = settings.kafka_results_topic
        self._config = {**config.producer(settings, TRY_MILLISECONDS), "linger.ms": 0}
        self._brokers = brokers
        self._on_wait = on_wait
        self._producer = Producer(self._config)

    def write(self, outcome: Outcome) -> None:
        """Write the outcome. Returns once the brokers have it, and retries until then.

        An outcome that is too large for the topic is written as a failed one instead.
        """
        value = outcomes.encode(outcome)
        reported = None
        while (error := self._deliver(outcome.id, value)) is not None:
            if error.code() in _TOO_LARGE:
                reason = f"the result has {len(value)} bytes, more than the topic {self._topic} accepts"
                value = outcomes.encode(outcomes.as_failed(outcome, "result_too_large", reason))
            elif error.code() != reported:
                reported = error.code()
                log.warning("the result of job %s cannot be written and is retried: %s", outcome.id, error.str())
            self._replace_producer()

    def _deliver(self, key: str, value: bytes) -> KafkaError | None:
        reports: list[KafkaError | None] = []
        try:
            self._producer.produce(
                self._topic, value, key.encode(errors="replace"), on_delivery=partial(_note, reports)
            )
        except KafkaException as error:
            return error.args[0]
        while not reports:
            self._producer.poll(0.1)
            self._on_wait()
        return reports[0]

    def _replace_producer(self) -> None:
        """Create a new producer, because a failed one may be unusable, and the topics if they are missing."""
        time.sleep(RETRY_SECONDS)
        self._brokers.make_topics()
        self._producer = Producer(self._config)


def _note(reports: list[KafkaError | None], error: KafkaError | None, _: Message) -> None:
    reports.append(error)
