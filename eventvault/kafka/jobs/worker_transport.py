"""The worker's end of the transport over Kafka. It makes no client before `open`, because the worker forks earlier."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from eventvault.errors import KafkaRefused, KafkaUnreachable
from eventvault.jobs import messages
from eventvault.jobs.job import JobError
from eventvault.jobs.messages import Beat, Done, Failed, Progressed, Report, Returned, SessionHello, Work
from eventvault.jobs.transport import TransportAway
from eventvault.kafka import client_errors, clients, topics
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.jobs.inbox import Inbox
from eventvault.kafka.jobs.job_topics import job_topics
from eventvault.kafka.jobs.reader_thread import Reader, ReaderThread
from eventvault.kafka.jobs.work_reader import WorkReader, WorkState
from eventvault.settings import Settings

log = logging.getLogger("jobs")

RETRY_SECONDS = 1.0


class KafkaWorkerTransport:
    """For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = job_topics(settings).reports
        self._state = WorkState("")
        self._inbox = Inbox(1)
        self._reader: ReaderThread | None = None
        self._producer: WatchedProducer | None = None
        self._waiting: deque[Report] = deque()
        """Reports that were not handed to the client yet, in order."""
        self._progress: dict[str, Progressed] = {}
        """Token → the newest progress. It waits until the one before it was sent."""
        self._progress_in_flight: set[str] = set()
        """Tokens with a progress that waits or is in flight. While no broker answers, one of each is enough."""
        self._retry_at = 0.0
        self._is_away = False
        self._has_beat = False
        """Whether a beat waits or is in flight. While no broker answers, one is enough."""

    def connections(self) -> int:
        return self._state.connections

    def open(self, session: str) -> int:
        self._stop_reader()
        state = self._state = WorkState(session, connections=self._state.connections)
        first: list[Reader] = []
        try:
            first.append(WorkReader(self._settings, state))
        except (KafkaUnreachable, KafkaException) as error:
            reason = self._reason(error)
            self._report_away(reason)
            raise TransportAway(reason) from error
        self._report_back()
        self._waiting.clear()
        self._progress.clear()
        self._progress_in_flight.clear()
        self._has_beat = False
        put = partial(self._inbox.put, 0)
        self._reader = ReaderThread(
            "kafka work", lambda: first.pop() if first else WorkReader(self._settings, state), put
        )
        self._reader.start()
        return state.partition

    def fileno(self) -> int:
        return self._inbox.fileno()

    def receive(self, seconds: float, most: int) -> list[Work]:
        self._produce_waiting()
        (work,) = self._inbox.take(seconds, [most])
        return [message for message in work if message.to == self._state.session]

    def report(self, reports: Sequence[Report]) -> None:
        for report in reports:
            self._queue(report)
        self._produce_waiting()

    def _queue(self, report: Report) -> None:
        """Let a report wait. Of progress and beats only the newest one waits."""
        if isinstance(report, Progressed):
            if report.token in self._progress_in_flight:
                self._progress[report.token] = report
                return
            self._progress_in_flight.add(report.token)
        elif isinstance(report, Beat):
            if self._has_beat:
                return
            self._has_beat = True
        if isinstance(report, Progressed | Done | Failed | Returned):
            self._progress.pop(report.token, None)
        self._waiting.append(report)

    def is_open(self) -> bool:
        return self._state.is_connected

    def close(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._stop_reader()
        self._retry_at = 0.0
        self._produce_waiting()
        if self._producer is not None:
            self._producer.flush(max(0.0, deadline - time.monotonic()))
            self._producer.purge()
            self._producer = None
        self._inbox.close()

    def _reason(self, error: KafkaUnreachable | KafkaException) -> str:
        if isinstance(error, KafkaException):
            return topics.reason_of(error)
        if isinstance(error, KafkaRefused) or error.details.get("kafka") in topics.UNKNOWN:
            return f"{error.message} ({error.hint})"
        return f"no Kafka broker answers at {self._settings.kafka_bootstrap_servers}: {error.message}"

    def _report_away(self, reason: str) -> None:
        if not self._is_away:
            log.warning("%s; the worker tries again", reason)
        self._is_away = True

    def _report_back(self) -> None:
        if self._is_away:
            log.info("Kafka answers at %s, and the worker takes jobs", self._settings.kafka_bootstrap_servers)
        self._is_away = False

    def _stop_reader(self) -> None:
        if self._reader is not None:
            self._reader.request_stop()
            self._inbox.clear()  # otherwise the thread might wait for room
            self._reader.stop()
            self._reader = None
            self._state.is_connected = False

    def _produce_waiting(self) -> None:
        """Hand the waiting reports to the client, which sends them in order and retries until a broker has them."""
        if self._producer is not None:
            self._producer.poll()
            if self._producer.is_outdated:
                self._producer.drop()  # reports that are not written wait again
                self._producer = None
        if time.monotonic() < self._retry_at:
            return
        for token in self._progress.keys() - self._progress_in_flight:
            self._queue(self._progress[token])
        while self._waiting:
            report = self._waiting.popleft()
            if not self._produce(report):
                self._waiting.appendleft(report)
                self._retry_at = time.monotonic() + RETRY_SECONDS
                return

    def _put_back(self, report: Report) -> None:
        """Let a report that was not written wait again, unless it is progress and there is newer one."""
        if isinstance(report, Progressed):
            self._progress.setdefault(report.token, report)
        else:
            self._waiting.append(report)
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _note_answered(self, report: Report) -> None:
        if isinstance(report, Beat):
            self._has_beat = False
        elif isinstance(report, Progressed):
            self._progress_in_flight.discard(report.token)

    def _produce(self, report: Report) -> bool:
        if isinstance(report, SessionHello):
            report = msgspec.structs.replace(report, partition=self._state.partition)
        try:
            if self._producer is None:
                self._producer = clients.producer(self._settings)
            self._producer.produce(
                self._topic, messages.encode(report), self._state.session.encode(), partition=0,
                on_delivery=partial(self._note, report),
            )  # fmt: skip
        except (BufferError, KafkaRefused):
            return False
        except KafkaException as error:
            return self._fail(report, error.args[0])
        return True

    def _note(self, report: Report, error: KafkaError | None, _: Message) -> None:
        if getattr(report, "session", None) != self._state.session:
            return  # the report is of an earlier session
        self._note_answered(report)
        if error is not None and not self._fail(report, error):
            self._put_back(report)

    def _fail(self, report: Report, error: KafkaError) -> bool:
        """Return whether a report that was not written needs no retry. A result that is too large becomes a failure."""
        self._note_answered(report)
        if error.code() in client_errors.TOO_LARGE:
            if isinstance(report, Done):
                self._waiting.append(_too_large(report, self._topic))
            else:
                log.error(
                    "a report of job %s is larger than the topic %s takes", getattr(report, "job", "-"), self._topic
                )
            return True
        return isinstance(report, Beat)


def _too_large(report: Done, topic: str) -> Failed:
    error = JobError("result_too_large", f"the result is larger than the topic {topic} accepts")
    return Failed(
        session=report.session, token=report.token, job=report.job, seconds=report.seconds, error=error, retry=False
    )
