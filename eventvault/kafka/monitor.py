"""The state of the Kafka input: written by the consumer, read by `/api/health` and `/metrics` at any time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from eventvault import clock
from eventvault.errors import PartitionNotStopped, TopicNotNamed
from eventvault.kafka.log_pace import HOUR, MINUTE, LogPace
from eventvault.kafka.topic_info import PartitionPlace
from eventvault.kafka.values import QuarantineContents
from eventvault.operations.rate import Rate
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.topic_names import dead_letter_topic
from eventvault.wording import counted

log = logging.getLogger("KafkaMonitor")

GRACE_SECONDS = 15.0
"""How long a broker or a topic may be absent before that is a problem: it may start together with the service."""

_SHOWN_POSITIONS = 20


class TopicState(NamedTuple):
    """A topic as the consumer sees it.

    expected: events were consumed from it before, so its absence is a loss. partitions: `state`, `next` and `lag` of
    each. stopped: why partitions are stopped. waits_for: why the topic, or partitions of it, cannot be read now.
    elsewhere: the cluster that it was consumed from, if another cluster answers now and does not have the topic.
    """

    name: str
    exists: bool = True
    expected: bool = False
    partitions: Mapping[int, dict[str, Any]] = {}
    stopped: Mapping[int, Problem] = {}
    waits_for: Sequence[Problem] = ()
    elsewhere: str | None = None


class KafkaMonitor:
    """Safe to use from many threads; no method blocks.

    monotonic: a clock in seconds, for tests. consumes: False in a store that a command started: it consumes no events.
    """

    def __init__(
        self, settings: Settings, monotonic: Callable[[], float] = time.monotonic, *, consumes: bool = True
    ) -> None:
        self._consumes = consumes
        self.quarantine: QuarantineContents | None = None
        """What the registry has in quarantine, as it was last read; None before that."""
        self.configured = bool(settings.kafka_bootstrap_servers)
        self._chosen = settings.kafka_events_topic
        self._servers = settings.kafka_bootstrap_servers
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connected: bool | None = None
        self._disconnected_at = monotonic()
        self._brokers: dict[int, str] = {}
        self._topics: dict[str, TopicState] = {}
        """The topics that the consumer reported. Before its first report, the topics of the setting are shown."""
        self._missing_since: dict[str | None, float] = {}
        """Topic → since when it is missing; None: since when no topic matches the pattern."""
        self._refusal: Problem | None = None
        self._refused_by_a_broker: Problem | None = None
        self._failure: str | None = None
        self._causes = LogPace[tuple[str, str | None]](HOUR, monotonic)
        self._letters = LogPace[str](MINUTE, monotonic)
        self._last_error: dict[str, Any] | None = None
        self._last_messages: dict[PartitionPlace, int] = {}
        """Partition → when this process last stored a message of it."""
        self._is_lag_known = False
        self._letters_missing: dict[str, tuple[str, int, list[str]]] = {}
        """Topic → why messages of it have no dead letter, how many they are, and where the first ones are."""
        self._stopped: dict[PartitionPlace, Problem] = {}
        self._rate = Rate(monotonic())
        self._counts = {"consumed": 0, "duplicates": 0, "differing": 0, "deadLetters": 0}

    def connected(self, brokers: Mapping[int, str]) -> None:
        with self._lock:
            was, self._connected, self._brokers, self._refusal = self._connected, True, dict(brokers), None
        if not was:
            log.info("connected to Kafka: %s", ", ".join(brokers.values()))

    def lost(self, reason: str, refused: str | None = None) -> None:
        """Record that no broker answers. refused: what to do if the brokers refuse the client or a setting is wrong."""
        refusal = None if refused is None else Problem("kafka_refused", reason, refused)
        with self._lock:
            was, self._connected, self._is_lag_known = self._connected, False, False
            is_news = was is not False or (refused is not None and refused != (self._refusal and self._refusal.hint))
            if was:
                self._disconnected_at = self._monotonic()
            self._refusal = refusal
            self._note_error(reason)
        if is_news and refused is not None:
            log.error("%s; it is retried until the brokers accept it: %s", reason, refused)
        elif is_news:
            log.warning("no Kafka broker answers at %s; it is retried until one does: %s", self._servers, reason)

    def refused(self, reason: str, hint: str) -> None:
        """Record that one broker refuses the consumer, while others may answer. hint: what to do."""
        with self._lock:
            is_news = self._refused_by_a_broker is None or self._refused_by_a_broker.hint != hint
            self._refused_by_a_broker = Problem("kafka_refused", reason, hint)
            self._note_error(reason)
        if is_news:
            log.error("%s; it is retried until the broker accepts it: %s", reason, hint)

    def accepted_by_all(self) -> None:
        with self._lock:
            was, self._refused_by_a_broker = self._refused_by_a_broker, None
        if was is not None:
            log.info("no Kafka broker refuses EventVault any more")

    def connection_broken(self) -> None:
        """Record that a connection to a broker broke: the lag is unknown until the brokers were asked again."""
        with self._lock:
            self._is_lag_known = False

    def topics(self, states: Sequence[TopicState]) -> None:
        """Record the present state of all topics, and log what has changed."""
        now = self._monotonic()
        missing = [state for state in states if not state.exists]
        with self._lock:
            news = [state for state in missing if state.name not in self._missing_since]
            absent: list[str | None] = [*(state.name for state in missing), *([] if states else [None])]
            self._missing_since = {name: self._missing_since.get(name, now) for name in absent}
            self._topics, self._is_lag_known = {state.name: state for state in states}, True
            stopped = self._note_stopped(states)
            causes = _distinct(problem for state in states for problem in state.waits_for)
            over = self._causes.logged.keys() - {_key_of(problem) for problem in causes} - {_OF_ALL_TOPICS}
            for key in over:
                del self._causes.logged[key]
            waiting = [problem for problem in causes if self._causes.is_due(_key_of(problem), problem.message)]
            for problem in (*waiting, *stopped):
                self._note_error(problem.message)
        for state in news:
            level = logging.ERROR if state.expected else logging.INFO
            log.log(level, "the topic %s does not exist: waiting for it", state.name)
        for _, topic in over:
            log.info("the topic %s is consumed again", topic)
        for problem in waiting:
            log.warning("%s: %s", problem.message, problem.hint)
        for problem in stopped:
            log.error("%s; the partition is stopped: %s", problem.message, problem.hint)

    def failed(self, reason: str) -> bool:
        """Record an error of all topics, which is retried without loss. Returns True if it was logged as new."""
        with self._lock:
            self._failure = reason
            is_news = self._causes.is_due(_OF_ALL_TOPICS, reason)
            self._note_error(reason)
        if is_news:
            log.warning("events from Kafka wait; it is retried: %s", reason)
        return is_news

    def recovered(self) -> None:
        with self._lock:
            was, self._failure = self._failure, None
            self._causes.logged.pop(_OF_ALL_TOPICS, None)
        if was is not None:
            log.info("events from Kafka are consumed again")

    def batch_stored(
        self, places: Collection[PartitionPlace], *, events: int, duplicates: int, differing: int, dead_letters: int
    ) -> None:
        """Record what a batch stored. places: the partitions of its messages."""
        with self._lock:
            self._last_messages |= dict.fromkeys(places, clock.now())
            self._rate.add(events + dead_letters, self._monotonic())
            for name, count in (
                ("consumed", events), ("duplicates", duplicates), ("differing", differing),
                ("deadLetters", dead_letters),
            ):  # fmt: skip
                self._counts[name] += count
        if differing:
            log.warning(
                "%s of %s with the source and id of a stored event but other content: the stored event stays",
                counted(differing, "message"), ", ".join(sorted({topic for topic, _ in places})),
            )  # fmt: skip

    def letters_sent(self, topic: str, missing: str | None, positions: Sequence[str]) -> None:
        """Record how the dead letters of these messages (`partition/offset`) ended. missing: why there is no topic."""
        dead_topic = dead_letter_topic(topic)
        with self._lock:
            is_due = missing is None and self._letters.is_due(topic)
            _, count, first = self._letters_missing.pop(topic, ("", 0, []))
            if missing is not None:
                shown = [*first, *positions][:_SHOWN_POSITIONS]
                self._letters_missing[topic] = missing, count + len(positions), shown
        if missing is not None:
            log.error("%s of %s are not events and have no dead letter: %s",
                      ", ".join(positions[:_SHOWN_POSITIONS]), topic, missing)  # fmt: skip
        elif is_due:
            log.warning("dead letters: %s of %s went to %s", counted(len(positions), "message"), topic, dead_topic)

    def find_stopped(self, partition: int, topic: str | None) -> Problem:
        """Return why a partition is stopped, as `stopped_problems` does. topic: may be None if there is only one.

        Raises TopicNotNamed if there are several, PartitionNotStopped if it is not stopped or Kafka is not used.
        """
        with self._lock:
            names, stopped = self._names(), dict(self._stopped)
        if topic is None and len(names) > 1:
            raise TopicNotNamed(
                f"events are consumed from {len(names)} topics, and each may have a partition {partition}",
                hint=f"POST /api/kafka/partitions/<topic>/{partition}/accept-loss names the topic: "
                + ", ".join(names[:_SHOWN_POSITIONS]),
            )
        topic = topic or next(iter(names), None)
        if topic is not None and (topic, partition) in stopped:
            return stopped[topic, partition]
        of_topic = f" of the topic {topic}" if topic is not None else ""
        raise PartitionNotStopped(
            f"partition {partition}{of_topic} is not stopped"
            if self.configured
            else "no events are consumed from Kafka: KAFKA_BOOTSTRAP_SERVERS is not set",
            hint="stoppedPartitions in the kafka part of GET /api/health lists the stopped ones",
        )

    def stopped_problems(self) -> list[Problem]:
        """Return the problems of the stopped partitions, which wait for a decision.

        Their `details` have the `topic` and the `partition`.
        """
        with self._lock:
            return [problem for _, problem in sorted(self._stopped.items())]

    def problems(self) -> list[Problem]:
        """Return the problems that go away without a decision."""
        if not self.configured or not self._consumes:
            return []
        problems = _quarantine_problems(self.quarantine)
        with self._lock:
            if self._refusal is not None:
                problems.append(self._refusal)
            elif not self._connected and self._monotonic() - self._disconnected_at >= GRACE_SECONDS:
                message = f"no Kafka broker answers at {self._servers}"
                problems.append(Problem("kafka_unreachable", message, RETRIED))
            if self._connected:
                problems += [] if self._refused_by_a_broker is None else [self._refused_by_a_broker]
                problems += self._missing_topics()
                problems += _distinct(problem for state in self._topics.values() for problem in state.waits_for)
            problems += [_missing_letters(topic, *missing) for topic, missing in sorted(self._letters_missing.items())]
            if self._connected and self._failure is not None:
                problems.append(Problem("kafka_waits", f"events from Kafka wait: {self._failure}", RETRIED))
        return problems

    def snapshot(self) -> dict[str, Any]:
        """Return the `kafka` member of `/api/health`; `{"configured": false}` if Kafka is not configured."""
        if not self.configured:
            return {"configured": False}
        with self._lock:
            names = self._names()
            topics = [self._describe(name) for name in names]
            partitions = [self._describe_partition(place) for place in self._places()]
            is_one = len(names) == 1
            lag = _sum(partition["lag"] for partition in partitions)
            rate = round(self._rate.per_second(self._monotonic()) or 0)
            return {
                "configured": True,
                "consumes": self._consumes,
                "connected": bool(self._connected),
                "brokers": [{"id": number, "address": address} for number, address in sorted(self._brokers.items())],
                "topic": names[0] if is_one else None,
                "pattern": str(self._chosen) if self._chosen.pattern is not None else None,
                "topicExists": bool(topics) and all(topic["exists"] for topic in topics),
                "topics": topics,
                "lag": lag,
                "messagesPerSecond": rate,
                "remainingSeconds": round(lag / rate, 1) if lag and rate else None,
                "partitions": partitions,
                "stoppedPartitions": [
                    number if is_one else f"{topic}/{number}" for topic, number in sorted(self._stopped)
                ],
                **self._counts,
                **_describe_quarantine(self.quarantine),
                "lastMessageAt": _instant(max(self._last_messages.values(), default=None)),
                "lastError": self._last_error,
            }

    def topic_names(self) -> list[str]:
        """Return the topics that events are consumed from now; none without Kafka."""
        with self._lock:
            return self._names() if self.configured and self._consumes else []

    def _names(self) -> list[str]:
        return list(self._topics or self._chosen.names)

    def _places(self) -> list[PartitionPlace]:
        return [(name, number) for name, state in self._topics.items() for number in sorted(state.partitions)]

    def _describe(self, name: str) -> dict[str, Any]:
        state = self._topics.get(name, TopicState(name, exists=False))
        partitions = [self._describe_partition((name, number)) for number in state.partitions]
        reasons = [*(problem.message for problem in (*state.stopped.values(), *state.waits_for))]
        return {
            "name": name,
            "exists": bool(self._connected) and state.exists,
            "partitions": len(partitions),
            "lag": _sum(partition["lag"] for partition in partitions),
            "error": reasons[0] if reasons else None,
        }

    def _describe_partition(self, place: PartitionPlace) -> dict[str, Any]:
        topic, number = place
        state = self._topics[topic].partitions[number]
        if not self._is_lag_known:
            state = {**state, "lag": None}
        return {
            "topic": topic, "partition": number, **state, "lastMessageAt": _instant(self._last_messages.get(place)),
        }  # fmt: skip

    def _note_stopped(self, states: Sequence[TopicState]) -> list[Problem]:
        """Record which partitions are stopped. Returns the problems of the newly stopped ones."""
        before = self._stopped
        self._stopped = {
            (state.name, number): _stopped_problem(state.name, number, problem, before.get((state.name, number)))
            for state in states
            for number, problem in state.stopped.items()
        }
        return [problem for place, problem in self._stopped.items() if place not in before]

    def _missing_topics(self) -> list[Problem]:
        """Return the problems of topics that do not exist; of a topic never seen before only after GRACE_SECONDS."""
        now = self._monotonic()
        problems = []
        for name, since in self._missing_since.items():
            state = None if name is None else self._topics.get(name)
            if state is not None and state.expected and self._chosen.pattern is None:
                problems.append(_deleted_topic(state))
            elif now - since >= GRACE_SECONDS:
                problems.append(_no_match(str(self._chosen)) if state is None else _absent_topic(state))
        return problems

    def _note_error(self, reason: str) -> None:
        self._last_error = {"message": reason, "at": _instant(clock.now())}


RETRIED = "nothing is lost, and it is retried automatically; lastError in the kafka part has Kafka's own message"
_CREATE = "create it again, or restore it"
_OF_ALL_TOPICS = ("kafka_waits", None)


def _key_of(problem: Problem) -> tuple[str, str | None]:
    return problem.code, problem.about


def _stopped_problem(topic: str, partition: int, problem: Problem, earlier: Problem | None) -> Problem:
    return msgspec.structs.replace(
        problem,
        about=f"{topic}/{partition}",
        since=earlier.since if earlier and earlier.code == problem.code else clock.now(),
        details={**problem.details, "topic": topic, "partition": partition},
    )


def _missing_letters(topic: str, reason: str, count: int, first: Sequence[str]) -> Problem:
    are = "is not an event and has" if count == 1 else "are not events and have"
    message = f"{counted(count, 'message')} of {topic} {are} no dead letter: {reason}"
    hint = (
        f"create the topic {dead_letter_topic(topic)}, or set KAFKA_CREATE_TOPICS=true; the quarantine has "
        f"the messages: {', '.join(first)} (partition/offset)"
    )
    return Problem("kafka_dead_letters_missing", message, hint, dead_letter_topic(topic), degrades=False)


def _deleted_topic(state: TopicState) -> Problem:
    if state.elsewhere is None:
        return Problem("kafka_topic_missing", f"the topic {state.name} is gone", _CREATE, state.name)
    message = f"the topic {state.name} was consumed from the cluster {state.elsewhere}; another cluster answers now"
    return Problem("kafka_topic_missing", message, "correct KAFKA_BOOTSTRAP_SERVERS, or create the topic", state.name)


def _absent_topic(state: TopicState) -> Problem:
    """Return the problem of a topic that never existed, or that a pattern matched before it was deleted."""
    if state.expected:
        hint = "create it again; if it was deleted on purpose, exclude it from the pattern in KAFKA_EVENTS_TOPIC"
        return Problem("kafka_topic_missing", f"the topic {state.name} is gone", hint, state.name, degrades=False)
    hint = "create it, or correct KAFKA_EVENTS_TOPIC; it is consumed once it is there"
    return Problem("kafka_topic_missing", f"the topic {state.name} does not exist", hint, state.name, degrades=False)


def _no_match(pattern: str) -> Problem:
    return Problem(
        "kafka_no_topic",
        f"KAFKA_EVENTS_TOPIC is {pattern}, and the brokers show no topic with such a name",
        "create one, correct the pattern, or allow this client to Describe the topics; topics of jobs, of dead letters "
        "and Kafka's own never match",
        degrades=False,
    )


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems, only one of those with the same code and topic."""
    return list({_key_of(problem): problem for problem in problems}.values())


def _sum(lags: Iterable[int | None]) -> int | None:
    all_lags = list(lags)
    numbers = [lag for lag in all_lags if lag is not None]
    return sum(numbers) if all_lags and len(numbers) == len(all_lags) else None


def _quarantine_problems(contents: QuarantineContents | None) -> list[Problem]:
    if contents is None or not contents.count:
        return []
    are = "is not an event and waits in the quarantine,"
    if contents.count > 1:
        are = "are not events and wait in the quarantine, the oldest"
    message = f"{counted(contents.count, 'message')} from Kafka {are} since {_instant(contents.oldest)}"
    hint = (
        "flask kafka quarantine list, or GET /api/kafka/quarantine, shows each with its reason: replay or drop it there"
    )
    details = {"count": contents.count, "oldest": _instant(contents.oldest)}
    return [Problem("kafka_quarantine", message, hint, details=details, degrades=False)]


def _describe_quarantine(contents: QuarantineContents | None) -> dict[str, Any]:
    """Return `quarantine`, and `deadLetters`, their number since the registry began."""
    if contents is None:
        return {"quarantine": None}
    return {
        "deadLetters": contents.totals.letters,
        "quarantine": {
            "count": contents.count,
            "bytes": contents.bytes,
            "oldest": _instant(contents.oldest),
            "dropped": contents.totals.dropped,
        },
    }


def _instant(instant: int | None) -> str | None:
    return None if instant is None else clock.format_milliseconds(instant)
