"""The dispatcher's end of the transport over Kafka.

Two threads read reports and jobs. Work goes to the partition of `jobs.work` that its session named in its hello. Before
all reports that were there at the start are read, nothing is sent and no job is read: the reports tell whether the
database is an old copy, and whether another dispatcher acts.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault.errors import KafkaRefused
from eventvault.jobs import messages
from eventvault.jobs.lease import LEASE_SECONDS, LEASE_TICKS, TICK_SECONDS
from eventvault.jobs.messages import Beat, Bye, Fenced, Report, SessionHello, Tick, Work
from eventvault.jobs.transport import Loss, OutboxMessage, Position, Received, Submitted
from eventvault.kafka import clients
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.jobs.inbox import Inbox
from eventvault.kafka.jobs.job_topics import job_topics
from eventvault.kafka.jobs.jobs_reader import JobsReader, stored_offset
from eventvault.kafka.jobs.outbox_writer import OutboxWriter
from eventvault.kafka.jobs.reader_state import CaughtUp, ReaderState, ReadReport
from eventvault.kafka.jobs.reader_thread import ReaderThread
from eventvault.kafka.jobs.reports_reader import ReportsReader
from eventvault.kafka.jobs.ticks import Ticks
from eventvault.problems import Problem
from eventvault.recent import Recent
from eventvault.settings import Settings

log = logging.getLogger("jobs")

MOST_UNSENT = 10_000
"""Most messages that wait until it is known whether they may be sent. Others are dropped, and sent again later."""
MOST_SESSIONS = 10_000
"""Most sessions whose partition is remembered: those that reported last."""
_POLL_SECONDS = 0.02
"""Seconds between two polls for the brokers' answers while messages are in flight."""
_REPORTS, _JOBS = 0, 1

_TWO_DISPATCHERS = "two_dispatchers"
_REWOUND = "jobs_rewound"
_RESUME = "check which jobs ran meanwhile, cancel those that must not run again, and resume with POST /api/jobs/resume"


class KafkaTransport:
    """dispatcher: returns the dispatcher's id, once the database is open.

    on_arrival: called by the reading threads when something has come, for an owner that also waits for other things.
    """

    def __init__(
        self,
        settings: Settings,
        dispatcher: Callable[[], str],
        *,
        tick_seconds: float = TICK_SECONDS,
        on_arrival: Callable[[], None] | None = None,
    ) -> None:
        self.tick_seconds = tick_seconds
        self._settings = settings
        self._dispatcher = dispatcher
        self._names = job_topics(settings)
        self._on_arrival = on_arrival
        self._outbox_writer = OutboxWriter(settings)
        self._state = ReaderState(None, {})
        self._ticks = Ticks("", 0, tick_seconds)
        self._inbox: Inbox | None = None
        self._readers: list[ReaderThread] = []
        self._producer: WatchedProducer | None = None
        self._partitions: Recent[str, int] = Recent(MOST_SESSIONS)
        self._unsent: deque[Work] = deque(maxlen=MOST_UNSENT)
        self._read_offsets: dict[int, int] = {}
        """Partition of `jobs` → the offset after the last message that `receive` returned."""

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        self.close()
        reports = [at for at in positions if at.topic == self._names.reports and at.partition == 0]
        jobs = {at.partition: stored_offset(at) for at in positions if at.topic == self._names.jobs}
        state = self._state = ReaderState(reports[0] if reports else None, jobs)
        self._read_offsets = {partition: stored.next for partition, stored in jobs.items()}
        self._ticks = Ticks(self._dispatcher(), reports[0].tick if reports else 0, self.tick_seconds)
        self._partitions = Recent(MOST_SESSIONS)
        for session, partition in sessions.items():
            self._partitions.put(session, partition)
        self._make_producer()
        inbox = self._inbox = Inbox(2, self._on_arrival)
        self._readers = [
            ReaderThread("kafka reports", partial(ReportsReader, self._settings, state), partial(inbox.put, _REPORTS)),
            ReaderThread("kafka jobs", partial(JobsReader, self._settings, state), partial(inbox.put, _JOBS)),
        ]
        for reader in self._readers:
            reader.start()

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        inbox = self._inbox
        if inbox is None:
            raise RuntimeError("the transport is not open")
        if most:
            self._state.written = dict(self._read_offsets)
        deadline = time.monotonic() + seconds
        while True:
            if most:
                self._step()
            reports, jobs = inbox.take(
                max(0.0, min(deadline - time.monotonic(), self.seconds_until_due())),
                [most, most if submissions and self._ticks.acts else 0],
            )
            received = self._received(reports)
            for submitted in jobs:
                self._read_offsets[submitted.position.partition] = submitted.position.offset
            if received or jobs or inbox.was_woken or self._outbox_writer.has_news or time.monotonic() >= deadline:
                return received, jobs

    def send(self, work: Sequence[Work]) -> None:
        self._unsent.extend(work)
        self._send_waiting()

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        return self._outbox_writer.publish(messages)

    def is_rewound(self) -> bool:
        return self._ticks.is_rewound

    def go_on(self, *, lacks_changes: bool = False) -> None:
        self._ticks.go_on(lacks_changes=lacks_changes)
        self._state.accept()

    def losses(self) -> list[Loss]:
        return list(self._state.losses.values())

    def remember(self, losses: Sequence[Loss]) -> None:
        for loss in losses:
            if loss.place not in self._state.losses:
                self._state.note_loss(loss)

    def is_connected(self) -> bool:
        return self._state.is_connected

    def wake(self) -> None:
        if self._inbox is not None:
            self._inbox.wake()

    def problems(self) -> list[Problem]:
        problems = [*self._state.problems.values(), *self._state.stopped.values()]
        problems += [Problem(loss.code, loss.message, loss.hint) for loss in self.losses()]
        if self._ticks.is_rewound:
            message = "the database of jobs is an old copy: what was written since is missing"
            problems.append(Problem(_REWOUND, message, _RESUME))
        others = self._ticks.others_that_act()
        if others:
            message = f"another dispatcher takes jobs from {self._names.jobs} too: {', '.join(others)}"
            hint = "stop one of the services, or give it a KAFKA_JOBS_TOPIC of its own"
            problems.append(Problem(_TWO_DISPATCHERS, message, hint))
        return problems

    @property
    def invalid(self) -> int:
        """How many messages of `jobs.reports` were not reports."""
        return self._state.invalid

    def close(self) -> None:
        for reader in self._readers:
            reader.request_stop()
        if self._inbox is not None:
            self._inbox.close()
        for reader in self._readers:
            reader.stop()
        if self._producer is not None:
            self._producer.flush(0.2)
            self._producer.purge()
        self._outbox_writer.close()
        self._readers, self._inbox, self._producer = [], None, None
        self._unsent.clear()

    def seconds_until_due(self) -> float:
        """Return after how many seconds `receive` has something to do, even if nothing comes."""
        longest = _POLL_SECONDS if self._outbox_writer.poll() else float("inf")
        return min(self._ticks.due_in() + 0.001, longest)

    def _make_producer(self) -> None:
        """Make a producer; if that fails, a later tick retries it. What it cannot deliver in a lease is sent again."""
        milliseconds = round(max(LEASE_SECONDS, self.tick_seconds * LEASE_TICKS) * 1000)
        try:
            self._producer = clients.producer(self._settings, milliseconds, linger_ms=1)
        except KafkaRefused as error:
            log.debug("nothing is sent to the workers: %s", error)

    def _step(self) -> None:
        """Write what is due, and process the brokers' answers."""
        self._state.may_take = self._ticks.acts
        self._send_waiting()
        if self._ticks.due_in() <= 0:
            self._produce_tick(self._ticks.next())
        if self._producer is not None:
            self._producer.poll()
            if self._producer.is_outdated:
                self._producer.drop()
                self._producer = None
                self._make_producer()

    def _received(self, items: Sequence[ReadReport | CaughtUp]) -> list[Received]:
        received = []
        for item in items:
            if isinstance(item, CaughtUp):
                self._ticks.caught_up(is_late=item.is_late)
            elif self._note_report(item.report):
                received.append(Received(item.report, self._with_tick(item.position)))
        return received

    def _with_tick(self, position: Position) -> Position:
        return Position(
            position.topic, position.partition, position.offset,
            topic_id=position.topic_id, cluster_id=position.cluster_id, tick=self._ticks.number,
        )  # fmt: skip

    def _note_report(self, report: Report) -> bool:
        """Note what a report tells the transport. Returns whether it is for the dispatcher, too.

        A dispatcher that stands by gets no sessions, so it sends nothing. Reports about its earlier work still come.
        """
        if isinstance(report, Tick):
            return self._ticks.read(report)
        if isinstance(report, SessionHello):
            self._partitions.put(report.session, report.partition)
        elif isinstance(report, Bye):
            self._partitions.pop(report.session)
        else:
            self._partitions.touch(report.session)
        return not (self._ticks.stands_by and isinstance(report, SessionHello | Beat | Bye))

    def _send_waiting(self) -> None:
        if self._ticks.stands_by or self._ticks.is_rewound:
            self._unsent.clear()
        while self._unsent and self._ticks.acts:
            self._produce(self._unsent.popleft())

    def _produce(self, message: Work) -> None:
        """Write one message. If that fails, the message is dropped, and sent again later.

        A session must learn that it is fenced even from a dispatcher that never read its hello. So a Fenced message to
        a session with an unknown partition is written to all partitions.
        """
        partition = self._partitions.get(message.to)
        if partition is not None:
            self._produce_to(partition, message)
        elif isinstance(message, Fenced):
            for partition in range(self._state.work_partitions):
                self._produce_to(partition, message)

    def _produce_to(self, partition: int, message: Work) -> None:
        if self._producer is None:
            return
        try:
            self._producer.produce(self._names.work, messages.encode(message), message.to.encode(), partition=partition)
        except (BufferError, KafkaException, OverflowError, UnicodeEncodeError) as error:
            log.debug("a message to session %s is not sent: %s", message.to, error)

    def _produce_tick(self, tick: Tick) -> None:
        def note(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._ticks.failed()

        if self._producer is None:
            self._make_producer()
        if self._producer is None:
            self._ticks.failed()
        else:
            try:
                key = tick.dispatcher.encode()
                self._producer.produce(self._names.reports, messages.encode(tick), key, partition=0, on_delivery=note)
            except (BufferError, KafkaException):
                self._ticks.failed()
