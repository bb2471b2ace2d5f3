"""Writes outcomes and dead letters without waiting for the brokers; the outbox in `jobs_db` has them until then."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault.errors import KafkaRefused
from eventvault.jobs import outcomes
from eventvault.jobs.transport import Letter
from eventvault.kafka import clients, topics
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.jobs.job_topics import job_topics
from eventvault.settings import Settings

log = logging.getLogger("jobs")

RETRY_SECONDS = 1.0
MOST_ON_THEIR_ROAD = 10_000
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class Letters:
    """Belongs to one thread. has_news: letters came to the brokers since the last `publish`."""

    def __init__(self, settings: Settings) -> None:
        names = job_topics(settings)
        self._topics = {"result": names.results, "dead": names.dead}
        self._settings = settings
        self._producer: WatchedProducer | None = None
        self._on_brokers: dict[Letter, bool] = {}
        self._retry_at = 0.0
        self._reported: str | None = None
        self.has_news = False

    def publish(self, letters: Sequence[Letter]) -> list[Letter]:
        """Return those that are on the brokers, and begin to write the others."""
        self.poll()
        self.has_news = False
        there, others = [], []
        for letter in letters:
            if self._on_brokers.get(letter):
                there.append(letter)
            elif letter not in self._on_brokers:
                others.append(letter)
        for letter in there:
            self._on_brokers.pop(letter, None)
        if time.monotonic() >= self._retry_at:
            for letter in others[: MOST_ON_THEIR_ROAD - len(self._on_brokers)]:
                self._write(letter, letter)
        return there

    def poll(self) -> bool:
        """Take in what the brokers answered. Returns whether letters are on their road."""
        if self._producer is None:
            return False
        self._producer.poll()
        if self._producer.is_outdated:
            self._drop()
        return not all(self._on_brokers.values())

    def close(self) -> None:
        """Drop what the brokers do not have; the outbox has it."""
        self._drop()
        self._on_brokers.clear()

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.drop()
            self._producer = None

    def _write(self, letter: Letter, form: Letter) -> None:
        """form: what is written of the letter."""
        self._on_brokers[letter] = False
        try:
            if self._producer is None:
                self._producer = clients.producer(self._settings, linger_ms=1)
            self._producer.produce(
                self._topics[form.kind], form.value, form.key, headers=list(form.headers),
                on_delivery=partial(self._note, letter, form),
            )  # fmt: skip
        except (BufferError, KafkaException) as error:
            self._fail(letter, form, error.args[0] if isinstance(error, KafkaException) else None)
        except KafkaRefused as error:
            self._fail(letter, form, None, error.message)

    def _note(self, letter: Letter, form: Letter, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._fail(letter, form, error)
        elif letter in self._on_brokers:
            self._on_brokers[letter] = self.has_news = True
            self._reported = None

    def _fail(self, letter: Letter, form: Letter, error: KafkaError | None, reason: str = "the queue is full") -> None:
        """Write a letter again later; one that is too large in a shorter form, or not at all."""
        if error is not None and error.code() in _TOO_LARGE:
            if form == letter:
                self._write(letter, outcomes.shortened(letter))
                return
            log.error("a letter to %s is dropped, because its topic takes no larger one", self._topics[letter.kind])
            self._on_brokers[letter] = self.has_news = True
            return
        self._on_brokers.pop(letter, None)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        reason = reason if error is None else topics.reason_of(error)
        if error is not None and error.fatal():
            self._producer = None
        if reason != self._reported:
            log.warning("outcomes of jobs wait, and are written again: %s", reason)
            self._reported = reason
