"""The state of the Kafka input: written by the consumer, read by `/api/health` and `/metrics` at any time.

A lasting cause is logged once and then once an hour, so that an absent broker does not fill a disk with log lines.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventvault import clock
from eventvault.errors import PartitionNotStopped
from eventvault.kafka.topic_info import dead_letter_topic
from eventvault.problems import Problem
from eventvault.settings import Settings

log = logging.getLogger("KafkaMonitor")

GRACE_SECONDS = 15.0
"""A broker that starts together with the service gets this long before its absence is a problem."""

REPEAT_LOG_SECONDS = 3600.0
LETTERS_LOG_SECONDS = 60.0
_SHOWN_POSITIONS = 20


class KafkaMonitor:
    """Safe to use from many threads; no method blocks.

    monotonic: a clock in seconds, for tests. consumes: False in a store that a command started, which takes no events.
    """

    def __init__(
        self, settings: Settings, monotonic: Callable[[], float] = time.monotonic, *, consumes: bool = True
    ) -> None:
        self._consumes = consumes
        self.configured = bool(settings.kafka_bootstrap_servers)
        self._topic = settings.kafka_events_topic
        self._servers = settings.kafka_bootstrap_servers
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connected: bool | None = None
        self._away_since = monotonic()
        self._brokers: dict[int, str] = {}
        self._topic_missing = False
        self._topic_expected = False
        self._failure: str | None = None
        self._failure_logged_reason: str | None = None
        self._failure_logged_at = float("-inf")
        self._letters_logged_at = float("-inf")
        self._last_error: dict[str, Any] | None = None
        self._last_messages: dict[int, int] = {}
        """Partition → when a message of it was stored last, by this process."""
        self._partitions: dict[int, dict[str, Any]] = {}
        self._is_lag_known = False
        self._without_letter: tuple[int, list[str]] = (0, [])
        """How many messages have no dead letter, and where the first of them are."""
        self._letters_missing: str | None = None
        self._stopped: dict[int, Problem] = {}
        self._counts = {"consumed": 0, "duplicates": 0, "differing": 0, "deadLetters": 0}

    def connected(self, brokers: Mapping[int, str]) -> None:
        """Record that brokers answered just now."""
        with self._lock:
            was, self._connected, self._brokers = self._connected, True, dict(brokers)
        if not was:
            log.info("connected to Kafka: %s", ", ".join(brokers.values()))

    def lost(self, reason: str) -> None:
        """Record that no broker answers."""
        with self._lock:
            was, self._connected, self._is_lag_known = self._connected, False, False
            if was:
                self._away_since = self._monotonic()
            self._note_error(reason)
        if was or was is None:
            log.warning("no Kafka broker answers at %s; it is tried again until one does: %s", self._servers, reason)

    def connection_broken(self) -> None:
        """Record that a connection to a broker ended: until the brokers were asked again, the lag is not known."""
        with self._lock:
            self._is_lag_known = False

    def topic_exists(self, *, exists: bool, expected: bool = True) -> None:
        """Record whether the topic exists. expected: events were consumed from it before, so its absence is a loss."""
        with self._lock:
            was, self._topic_missing = self._topic_missing, not exists
            self._topic_expected = expected
        if not exists and not was:
            log.log(
                logging.ERROR if expected else logging.INFO, "the topic %s does not exist: waiting for it", self._topic
            )

    def failed(self, reason: str) -> bool:
        """Record an error that is tried again without loss. Returns True if it was logged, because it is new."""
        now = self._monotonic()
        with self._lock:
            self._failure = reason
            is_news = reason != self._failure_logged_reason or now - self._failure_logged_at >= REPEAT_LOG_SECONDS
            if is_news:
                self._failure_logged_reason, self._failure_logged_at = reason, now
            self._note_error(reason)
        if is_news:
            log.warning("events of the topic %s wait; it is tried again: %s", self._topic, reason)
        return is_news

    def recovered(self) -> None:
        with self._lock:
            was, self._failure, self._failure_logged_reason = self._failure, None, None
        if was is not None:
            log.info("events of the topic %s are consumed again", self._topic)

    def batch_stored(
        self, partitions: Iterable[int], *, events: int, duplicates: int, differing: int, dead_letters: int
    ) -> None:
        """Record what was stored. partitions: those whose messages it was."""
        with self._lock:
            self._last_messages |= dict.fromkeys(partitions, clock.now())
            for name, count in (
                ("consumed", events), ("duplicates", duplicates), ("differing", differing),
                ("deadLetters", dead_letters),
            ):  # fmt: skip
                self._counts[name] += count
        if differing:
            log.warning(
                "%d messages of %s have the source and id of a stored event but other content; the first event stays",
                differing, self._topic,
            )  # fmt: skip
        if dead_letters and self._letters_missing is None and self._letters_log_due():
            log.warning("%d messages of %s went to %s", dead_letters, self._topic, dead_letter_topic(self._topic))

    def letters_sent(self, missing: str | None, positions: Sequence[str]) -> None:
        """Record whether the dead letters of these messages (`partition/offset`) have a topic. missing: why not."""
        with self._lock:
            self._letters_missing = missing
            count, first = self._without_letter if missing is not None else (0, [])
            self._without_letter = count + len(positions), [*first, *positions][:_SHOWN_POSITIONS]
        if missing is not None:
            log.error("%s of %s are no events and have no dead letter: %s",
                      ", ".join(positions[:_SHOWN_POSITIONS]), self._topic, missing)  # fmt: skip

    def partitions(self, states: Mapping[int, dict[str, Any]], stopped: Mapping[int, Problem]) -> None:
        """Record the `state`, `next` and `lag` of all partitions, and the problems of those that are stopped."""
        with self._lock:
            before = self._stopped
            self._stopped = {
                partition: self._waiting(partition, problem, before.get(partition))
                for partition, problem in stopped.items()
            }
            self._partitions, self._is_lag_known = dict(states), True
            for partition in stopped.keys() - before.keys():
                self._note_error(stopped[partition].message)
        for partition in stopped.keys() - before.keys():
            log.error("%s; the partition is stopped: %s", stopped[partition].message, stopped[partition].hint)

    def check_stopped(self, partition: int) -> None:
        """Raise PartitionNotStopped if the partition is not stopped, or if Kafka is not configured."""
        with self._lock:
            is_stopped = partition in self._stopped
        if not is_stopped:
            raise PartitionNotStopped(
                f"partition {partition} of the topic {self._topic} is not stopped"
                if self.configured
                else "no events are consumed from Kafka: KAFKA_BOOTSTRAP_SERVERS is not set",
                hint="stoppedPartitions in the kafka part of GET /api/health lists the stopped ones",
            )

    def stopped_problems(self) -> list[Problem]:
        """Return the problems of the stopped partitions, which wait for a decision; `details` has the `partition`."""
        with self._lock:
            return [problem for _, problem in sorted(self._stopped.items())]

    def problems(self) -> list[Problem]:
        """Return the problems that go away without a decision."""
        if not self.configured or not self._consumes:
            return []
        problems = []
        with self._lock:
            if not self._connected and self._monotonic() - self._away_since >= GRACE_SECONDS:
                message = f"no Kafka broker answers at {self._servers}"
                problems.append(Problem("kafka_unreachable", message, _RETRIED))
            if self._connected and self._topic_missing and self._topic_expected:
                message = f"the topic {self._topic} is gone"
                problems.append(Problem("kafka_topic_missing", message, "create it again, or restore it"))
            if self._letters_missing is not None:
                problems.append(self._missing_letters(self._letters_missing, *self._without_letter))
            if self._connected and self._failure is not None:
                problems.append(Problem("kafka_waits", f"events from Kafka wait: {self._failure}", _RETRIED))
        return problems

    def _missing_letters(self, reason: str, count: int, first: Sequence[str]) -> Problem:
        topic = dead_letter_topic(self._topic)
        message = f"{count} messages of {self._topic} are no events and have no dead letter: {reason}"
        hint = (
            f"create the topic {topic}, or set KAFKA_CREATE_TOPICS=true; the messages stay in {self._topic} "
            f"until Kafka removes them: {', '.join(first)} (partition/offset)"
        )
        return Problem("kafka_dead_letters_missing", message, hint, topic)

    def snapshot(self) -> dict[str, Any]:
        """Return the `kafka` member of `/api/health`; `{"configured": false}` if Kafka is not configured."""
        if not self.configured:
            return {"configured": False}
        with self._lock:
            states = {
                number: state if self._is_lag_known else {**state, "lag": None}
                for number, state in sorted(self._partitions.items())
            }
            lags = [state["lag"] for state in states.values()]
            return {
                "configured": True,
                "consumes": self._consumes,
                "connected": bool(self._connected),
                "brokers": [{"id": number, "address": address} for number, address in sorted(self._brokers.items())],
                "topic": self._topic,
                "topicExists": bool(self._connected) and not self._topic_missing,
                "lag": sum(lags) if lags and None not in lags else None,
                "partitions": [
                    {"partition": number, **state, "lastMessageAt": _instant(self._last_messages.get(number))}
                    for number, state in states.items()
                ],
                "stoppedPartitions": sorted(self._stopped),
                **self._counts,
                "lastMessageAt": _instant(max(self._last_messages.values(), default=None)),
                "lastError": self._last_error,
            }

    def _waiting(self, partition: int, problem: Problem, earlier: Problem | None) -> Problem:
        return msgspec.structs.replace(
            problem,
            about=f"{self._topic}/{partition}",
            since=earlier.since if earlier and earlier.code == problem.code else clock.now(),
            details={**problem.details, "partition": partition},
        )

    def _letters_log_due(self) -> bool:
        """Return True once a minute, so that one broken producer does not fill the log."""
        now = self._monotonic()
        with self._lock:
            due = now - self._letters_logged_at >= LETTERS_LOG_SECONDS
            if due:
                self._letters_logged_at = now
        return due

    def _note_error(self, reason: str) -> None:
        self._last_error = {"message": reason, "at": _instant(clock.now())}


_RETRIED = "nothing is lost, and it is retried automatically; lastError in the kafka part has Kafka's own message"


def _instant(instant: int | None) -> str | None:
    return None if instant is None else clock.format_milliseconds(instant)
