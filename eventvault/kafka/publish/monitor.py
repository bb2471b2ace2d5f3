"""The state of publishing: written by the publisher, read by health and by requests that wait for the brokers."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from eventvault import clock
from eventvault.database.values import Head, Published
from eventvault.events.event import summary_of
from eventvault.kafka.log_pace import HOUR, LogPace
from eventvault.problems import Problem

log = logging.getLogger("KafkaPublisher")

LATE_SECONDS = 60.0
"""Health is `degraded` if an event has waited for this long to be published."""
GRACE_SECONDS = 15.0
"""A failure that lasts for less is not a problem: for instance, a broker may start together with the service."""
AWAITED_SECONDS = 1.0
"""Longest pause between two calls of `wait_for_published` by one request."""
_SHOWN_IDS = 5
_MOST_REFUSED = 1000
"""A request hears within milliseconds that Kafka does not take its event."""


class PublishMonitor:
    """Safe for many threads. topic: None if nothing is published. publishes: False in a store that a command started.

    backlog: returns how many events wait, None if that is not known. monotonic: a clock in seconds, for tests.
    """

    def __init__(
        self,
        topic: str | None,
        backlog: Callable[[], int | None] = lambda: None,
        *,
        publishes: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic = topic
        self.published: Head | None = None
        """The generation, and the last event up to which the brokers have all that is to be published of it."""
        self._publishes = publishes
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._awaited_until = float("-inf")
        self._delivered = self._without_data = self._not_published = 0
        self._too_large: list[str] = []
        self._refused: deque[Head] = deque(maxlen=_MOST_REFUSED)
        self._backlog = backlog
        self._oldest: int | None = None
        self._failure: str | None = None
        self._hint = ""
        self._failed_since = self._waits_since = 0.0
        self._is_logged = False
        self._missing: str | None = None
        self._pace = LogPace[None](HOUR, monotonic)
        self._last_error: dict[str, Any] | None = None

    def delivered(self, count: int, generation: str, upto: int) -> None:
        """Record that the brokers have `count` messages more, and all events up to `upto`."""
        with self._changed:
            self._delivered += count
            self.published = Head(generation, upto)
            has_recovered = count > 0 and self._is_logged
            if count:
                self._failure = self._missing = None
                self._hint, self._is_logged = "", False
            self._changed.notify_all()
        if has_recovered:
            log.info("events are published to %s again", self.topic)

    def topic_found(self) -> None:
        self._missing = None

    def topic_missing(self, reason: str) -> None:
        self._missing = reason
        self._log_failure(reason)

    def oldest_waits_since(self, recorded: int | None) -> None:
        """Record when the first event that waits was recorded, in microseconds; None if none waits.

        GRACE_SECONDS begin again with the first event that waits after none did.
        """
        if self._oldest is None:
            self._waits_since = self._monotonic()
        self._oldest = recorded

    def failed(self, reason: str, hint: str = "") -> None:
        """Record an error that is retried without loss. hint: what to do, if the error does not pass on its own."""
        self._note(reason, hint)
        self._log_failure(reason)

    def heard(self, reason: str, hint: str = "") -> None:
        """Record an error that the client reports while it retries. It is shown only while an event waits."""
        if self._oldest is not None and hint:
            self.failed(reason, hint)
        else:
            self._note(reason, hint, is_shown=self._oldest is not None)

    def not_removed(self, reason: str) -> None:
        """Record that published events are still in the outbox. A crash would publish them again."""
        self._last_error = _error(reason)
        self._log(f"events published to {self.topic} cannot be removed from the outbox; it is retried: {reason}")

    def _note(self, reason: str, hint: str, *, is_shown: bool = True) -> None:
        if self._failure is None:
            self._failed_since = self._monotonic()
        self._failure, self._hint = reason, hint
        if is_shown:
            self._last_error = _error(reason)

    def too_large(self, body: bytes, *, is_first: bool) -> None:
        """Record that an event is published without its data."""
        if is_first:
            self._without_data += 1
            self._too_large = [*self._too_large, _name_of(body)][-_SHOWN_IDS:]
            log.warning("the topic %s takes no message as large as the event %s: it is published without its data, "
                        "with the address of the event in ce_dataref", self.topic, _name_of(body))  # fmt: skip

    def abandoned(self, body: bytes, event: Head | None) -> None:
        """Record that a message is not published. event: None if the present database does not have it."""
        with self._changed:
            self._not_published += 1
            if event is not None:
                self._refused.append(event)
        log.error("the event %s is not published: the topic %s does not even take its id and type", _name_of(body),
                  self.topic)  # fmt: skip

    def wait_for_published(self, seen: Published | None, generation: str, seconds: float) -> Published:
        """Return how far publishing has come in a generation, once that is not `seen`, or after so many seconds."""

        def progress() -> Published:
            published = self.published
            if published is None or published.generation != generation:
                return Published(generation, 0)
            refused = (event.sequence for event in self._refused if event.generation == generation)
            return Published(*published, tuple(refused))

        with self._changed:
            self._awaited_until = self._monotonic() + seconds + AWAITED_SECONDS
            self._changed.wait_for(lambda: progress() != seen, seconds)
            self._awaited_until = self._monotonic() + AWAITED_SECONDS
        return progress()

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits until the brokers have an event. Such a request asks again and again."""
        return self._monotonic() < self._awaited_until

    def problems(self) -> list[Problem]:
        """Return the problems; each goes away without a decision."""
        if self.topic is None or not self._publishes:
            return []
        problems = []
        if self._missing is not None:
            hint = f"create the topic {self.topic}, or set KAFKA_CREATE_TOPICS=true; nothing is lost meanwhile"
            problems.append(Problem("kafka_publish_topic_missing", self._missing, hint, self.topic))
        elif (seconds := self._seconds_waiting()) >= LATE_SECONDS or self._fails():
            why = f": {self._failure}" if self._failure is not None else ""
            message = f"events have been waiting for {seconds:.0f} s to be published to {self.topic}{why}"
            problems.append(Problem("kafka_publish_late", message, self._hint or _LATE_HINT, self.topic))
        if self._too_large or self._not_published:
            problems.append(self._too_large_problem())
        return problems

    def snapshot(self) -> dict[str, Any]:
        """Return the member `publish` of `kafka` in `/api/health`; empty if nothing is published."""
        if self.topic is None:
            return {}
        oldest, published = self._oldest, self.published
        described = {
            "topic": self.topic,
            "backlog": self._backlog(),
            "oldestWaiting": None if oldest is None else clock.format_milliseconds(oldest),
            "secondsWaiting": round(self._seconds_waiting(), 3),
            "publishedSequence": None if published is None else published.sequence,
            "published": self._delivered,
            "withoutData": self._without_data,
            "notPublished": self._not_published,
            "lastError": self._last_error,
        }
        return {"publish": described}

    def _seconds_waiting(self) -> float:
        oldest = self._oldest
        return 0.0 if oldest is None else max(0.0, (clock.now() - oldest) / 1e6)

    def _fails(self) -> bool:
        if self._oldest is None or self._failure is None:
            return False
        is_lasting = self._monotonic() - max(self._failed_since, self._waits_since) >= GRACE_SECONDS
        return is_lasting or self._hint != ""

    def _too_large_problem(self) -> Problem:
        count, named = self._without_data, ", ".join(self._too_large)
        are = "event is" if count == 1 else "events are"
        message = f"{count} {are} too large for the topic {self.topic} and published without data: {named}"
        if self._not_published:
            message = f"{message}; {self._not_published} of them cannot be published at all"
        hint = "raise max.message.bytes of the topic; ce_dataref of these messages has the address of the event"
        return Problem("kafka_event_too_large", message, hint, self.topic, degrades=self._not_published > 0)

    def _log_failure(self, reason: str) -> None:
        if self._log(f"nothing can be published to {self.topic} now; it is retried: {reason}"):
            self._is_logged = True

    def _log(self, text: str) -> bool:
        """Log a lasting failure, if that is due. Returns whether it was logged."""
        is_due = self._pace.is_due(None, text)
        if is_due:
            log.warning("%s", text)
        return is_due


_LATE_HINT = (
    "check the brokers; nothing is lost, and publishing goes on once they answer. `kafka.publish.lastError` in health "
    "has Kafka's own message"
)


def _error(reason: str) -> dict[str, Any]:
    return {"message": reason, "at": clock.format_milliseconds(clock.now())}


def _name_of(body: bytes) -> str:
    return repr(summary_of(body).get("id"))[:300]
