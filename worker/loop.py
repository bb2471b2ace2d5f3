"""The worker's loop: runs one job at a time, writes its result, then commits its offset. A signal drains it.

A handler runs in its own thread. Meanwhile the loop polls with paused partitions, so that the worker stays in the group
during a long job. A rebalance that revokes the running job's partition waits for the job, so that it runs once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from eventvault.kafka import config, topics
from eventvault.settings import Settings
from worker import outcomes
from worker.brokers import Brokers
from worker.heartbeat import Heartbeat
from worker.outcomes import Outcome
from worker.results import ResultWriter

log = logging.getLogger("worker")

POLL_SECONDS = 0.1
QUICK_SECONDS = 0.5
"""A job that ends within this time causes no pause. A pause drops prefetched messages."""
REVOKE_SECONDS = 240.0
"""How long a rebalance waits for the running job. After five minutes the group removes this worker."""


class RunningJob:
    """A job in its own thread. partition_lost: another worker has its partition now."""

    def __init__(self, message: Message) -> None:
        self.partition_key = (message.topic() or "", message.partition() or 0)
        self.offset = message.offset() or 0
        self.outcome: Outcome | None = None
        self.result_written = False
        self.partition_lost = False
        self.done = threading.Event()
        self._value = message.value()

    def start(self) -> None:
        threading.Thread(target=self._run, name="job", daemon=True).start()

    def _run(self) -> None:
        self.outcome = outcomes.run(self._value, f"{self.partition_key[0]}/{self.partition_key[1]}/{self.offset}")
        self.done.set()


class Worker:
    """Runs until `drain` is called. Only `drain` may be called from a signal handler."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka_jobs_topic
        self._draining = False
        self._running: RunningJob | None = None
        self._waiting: deque[Message] = deque()
        self._reported_errors: set[int] = set()
        self._brokers = Brokers(settings)
        self._heartbeat = Heartbeat()
        self._results = ResultWriter(settings, self._brokers, self._beat)
        self._consumer = Consumer({**config.jobs_consumer(settings), "error_cb": self._client_error})

    def drain(self) -> None:
        """Start no further job. `run` returns once the running job's result is written and committed."""
        self._draining = True

    def run(self) -> None:
        """Run jobs until `drain`. Raises KafkaException for an error that a retry cannot fix."""
        self._brokers.check_when_due()
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._partitions_assigned,
            on_revoke=self._partitions_revoked,
            on_lost=self._partitions_lost,
        )
        try:
            while not self._draining:
                self._brokers.check_when_due()
                self._poll()
                while self._waiting and not self._draining:
                    self._run_job(RunningJob(self._waiting.popleft()))
        finally:
            self._consumer.close()
            self._heartbeat.close()

    def _beat(self) -> None:
        self._heartbeat.beat(kafka_answers=self._brokers.is_ready)

    def _run_job(self, running: RunningJob) -> None:
        """Run one job until its offset is committed."""
        self._running = running
        running.start()
        quick = running.done.wait(QUICK_SECONDS)
        if not quick:
            self._consumer.pause(self._consumer.assignment())
        while not running.done.is_set():
            self._poll()
        self._finish(running)
        self._running = None
        if not quick:
            self._consumer.resume(self._consumer.assignment())

    def _finish(self, running: RunningJob) -> None:
        """Write the result, then commit the offset. Without the commit the partition's next worker repeats the job."""
        outcome = running.outcome
        if running.result_written or outcome is None:
            return
        self._results.write(outcome)
        running.result_written = True
        log.info("job %s (%s): %s", outcome.id, outcome.type, outcome.state)
        if running.partition_lost:
            log.warning("job %s will run again: its partition moved to another worker", outcome.id)
            return
        try:
            self._consumer.commit(
                offsets=[TopicPartition(*running.partition_key, running.offset + 1)], asynchronous=False
            )
        except KafkaException as error:
            log.warning("job %s may run again: its offset is not committed: %s", outcome.id, topics.reason_of(error))

    def _poll(self) -> None:
        self._beat()
        message = self._consumer.poll(POLL_SECONDS)
        if message is None:
            return
        error = message.error()
        if error is None:
            self._waiting.append(message)
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._client_error(error)

    def _client_error(self, error: KafkaError) -> None:
        """Handle an error that a retry may fix. Log unusual ones, each code once."""
        self._brokers.check_again()
        transient = (*topics.UNKNOWN, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)
        if error.code() not in transient and error.code() not in self._reported_errors:
            self._reported_errors.add(error.code())
            log.warning("a Kafka call failed and is retried: %s", error.str())

    def _partitions_assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("assigned %d more partitions of %s", len(partitions), self._topic)
        consumer.incremental_assign(partitions)
        if self._running is not None:
            consumer.pause(partitions)

    def _partitions_revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        partition_keys = self._drop_waiting_jobs(partitions)
        running = self._running
        if running is not None and running.partition_key in partition_keys:
            if self._await_job(running):
                self._finish(running)
            running.partition_lost = True
        consumer.incremental_unassign(partitions)

    def _await_job(self, running: RunningJob) -> bool:
        """Wait for the end of the job, at most REVOKE_SECONDS. Returns whether it has ended."""
        deadline = time.monotonic() + REVOKE_SECONDS
        while not running.done.wait(1.0) and time.monotonic() < deadline:
            self._beat()
        return running.done.is_set()

    def _partitions_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        partition_keys = self._drop_waiting_jobs(partitions)
        if self._running is not None and self._running.partition_key in partition_keys:
            self._running.partition_lost = True
        consumer.incremental_unassign(partitions)

    def _drop_waiting_jobs(self, partitions: list[TopicPartition]) -> set[tuple[str, int]]:
        """Drop the waiting jobs of partitions that move to another worker, and return the partitions' keys."""
        partition_keys = {(partition.topic, partition.partition) for partition in partitions}
        remaining = [
            message for message in self._waiting if (message.topic(), message.partition()) not in partition_keys
        ]
        self._waiting = deque(remaining)
        return partition_keys
