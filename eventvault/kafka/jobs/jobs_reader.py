"""Reads the topic `jobs` with one client: where each partition begins, its new messages, and what was lost."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

from confluent_kafka import KafkaException, Message, TopicPartition

from eventvault.jobs.transport import Loss, Position, Submitted
from eventvault.kafka import config, offsets, topics
from eventvault.kafka.clients import Admin, MonotonicConsumer
from eventvault.kafka.jobs.client_watch import ClientWatch
from eventvault.kafka.jobs.old_workers import OldWorkers, later_offsets
from eventvault.kafka.jobs.reader_state import ReaderState
from eventvault.kafka.jobs.reader_thread import CHECK_SECONDS, RestartReader, is_end, poll
from eventvault.kafka.offsets import StoredOffset
from eventvault.kafka.positions import Positions
from eventvault.kafka.topic_info import TopicInfo
from eventvault.problems import Problem
from eventvault.settings import Settings

log = logging.getLogger("jobs")

_DIVERGED = "kafka_topic_diverged"
_TRUNCATED = "kafka_topic_truncated"
_GONE = "kafka_messages_gone"
_OLD_WORKERS = "old_workers"


class JobsReader:
    """Reads the messages of `jobs`.

    A job that is read twice is recognised by its id. So after a loss a partition goes on automatically, at its present
    first message; health names lost messages. Only if other messages are at offsets that were read, the partition stays
    stopped until somebody accepts that: the queue may no longer have the ids of the jobs that ran before.
    """

    def __init__(self, settings: Settings, state: ReaderState) -> None:
        self._topic = settings.kafka_jobs_topic
        self._state = state
        self._admin = Admin(settings)
        self._client = ClientWatch()
        self._consumer = MonotonicConsumer(config.jobs_reader(settings), self._client.note)
        self._old_workers = OldWorkers(settings, self._admin)
        self._positions: Positions | None = None
        self._committed: dict[int, int] = {}
        self._cluster_id: str | None = None
        self._could_take = False

    def close(self) -> None:
        self._consumer.close()

    def read(self) -> tuple[list[Submitted], list[int]]:
        if self._client.is_due() or self._state.may_take != self._could_take:
            self._check()
        by_partition: dict[int, list[Message]] = defaultdict(list)
        for message in poll(self._consumer):
            error = message.error()
            if error is None:
                by_partition[message.partition() or 0].append(message)
            elif not is_end(error):
                self._client.check_soon()
        submitted = [job for partition, group in by_partition.items() for job in self._new(partition, group)]
        return submitted, [len(job.value or b"") for job in submitted]

    def _check(self) -> None:
        """Follow the topic, or release its partitions. Raises KafkaUnreachable, or RestartReader for another topic."""
        self._could_take = self._state.may_take
        if self._cluster_id is None:
            cluster = topics.cluster_once_logged_in(self._admin)
            if cluster is None:
                return
            self._cluster_id = cluster.cluster_id
        topic_info = topics.topic_of(topics.ask_topic(self._admin, self._topic), self._cluster_id)
        positions = self._positions
        if positions is not None and (topic_info is None or topic_info.topic_id != positions.topic_info.topic_id):
            raise RestartReader
        if topic_info is None or not self._state.may_take or self._have_old_workers():
            self._release()
        else:
            self._follow(topic_info)
        self._client.check_in(CHECK_SECONDS)

    def _follow(self, topic_info: TopicInfo) -> None:
        if self._positions is None:
            self._committed = self._old_workers.committed(topic_info.partitions)
            begin = later_offsets(self._state.jobs, self._committed, topic_info)
            self._positions = Positions(self._admin, self._consumer, self._topic, topic_info, begin)
        self._positions.add_partitions(topic_info)
        self._resume_stopped(self._positions)
        self._commit()

    def _new(self, partition: int, messages: Sequence[Message]) -> list[Submitted]:
        """Return the messages that were not read yet."""
        positions = self._positions
        if positions is None:
            return []
        info = positions.topic_info
        records = list(positions.new_messages(partition, messages))
        ends = [offsets.after(record.offset, record.value, record.leader_epoch, info) for record in records]
        if ends:
            self._state.jobs[partition] = ends[-1]
            positions.by_partition[partition].next = ends[-1].next
        return [
            Submitted(record.key, record.value, tuple(record.headers), _position(self._topic, partition, end))
            for record, end in zip(records, ends, strict=True)
        ]

    def _have_old_workers(self) -> bool:
        members = self._old_workers.members()
        if members:
            if _OLD_WORKERS not in self._state.problems:
                log.warning("no jobs are read from %s: %d workers of an earlier release read it", self._topic, members)
            message = f"{members} workers of an earlier release take the jobs of the topic {self._topic}"
            hint = "stop them, or start them from this release; until then the dispatcher takes no job from the topic"
            self._state.problems[_OLD_WORKERS] = Problem(_OLD_WORKERS, message, hint)
        else:
            self._state.problems.pop(_OLD_WORKERS, None)
        return members > 0

    def _release(self) -> None:
        if self._positions is not None:
            consuming = [n for n, position in self._positions.by_partition.items() if position.is_consuming]
            self._consumer.incremental_unassign([TopicPartition(self._topic, number) for number in consuming])
            self._positions = None

    def _resume_stopped(self, positions: Positions) -> None:
        """Let stopped partitions go on, except where an operator must accept it first."""
        stopped: dict[str, Problem] = {}
        for partition, problem in positions.stopped().items():
            about = f"{self._topic}/{partition}"
            if problem.code == _DIVERGED and not self._is_accepted(about, problem):
                stopped[about] = Problem(problem.code, problem.message, _ACCEPT)
                continue
            low, high = positions.bounds(partition)
            offset = high if problem.code == _TRUNCATED else low
            self._note_loss(about, problem, offset)
            info = positions.topic_info
            self._committed.pop(partition, None)
            self._state.jobs[partition] = StoredOffset(next=offset, topic_id=info.topic_id, cluster_id=info.cluster_id)
            positions.begin(partition, self._state.jobs[partition])
        self._state.stopped = stopped
        for about in self._state.accepted.keys() - stopped.keys():
            self._state.accepted.pop(about, None)

    def _is_accepted(self, about: str, problem: Problem) -> bool:
        """Return whether somebody accepted this loss. The acceptance is used once: a later loss needs its own."""
        accepted = self._state.accepted.pop(about, None)
        return accepted is not None and accepted.message == problem.message

    def _note_loss(self, about: str, problem: Problem, offset: int) -> None:
        log.error("%s: %s; it goes on at offset %d", about, problem.message, offset)
        if problem.code == _GONE:
            self._state.note_loss(Loss(f"{about}/{offset}", problem.code, problem.message, _SEND_AGAIN))

    def _commit(self) -> None:
        """Commit to the old workers' group how far all jobs are on disk; never less than they committed."""
        later = {
            partition: offset
            for partition, offset in dict(self._state.written).items()
            if partition in self._state.jobs
            and self._committed.get(partition, -1) < offset <= self._state.jobs[partition].next
        }
        if not later:
            return
        committed = [TopicPartition(self._topic, partition, offset) for partition, offset in later.items()]
        try:
            self._consumer.commit(offsets=committed, asynchronous=True)
        except KafkaException as error:
            log.debug("the offsets of %s are not committed: %s", self._topic, error)
        self._committed.update(later)


def _position(topic: str, partition: int, stored: StoredOffset) -> Position:
    return Position(topic, partition, stored.next, stored.crc, stored.leader_epoch, stored.topic_id, stored.cluster_id)


def stored_offset(position: Position) -> StoredOffset:
    return StoredOffset(
        next=position.offset,
        crc=position.crc,
        leader_epoch=position.leader_epoch,
        topic_id=position.topic_id,
        cluster_id=position.cluster_id,
    )


_ACCEPT = (
    "restore the topic as it was, or accept it with POST /api/jobs/resume: jobs that are there already do not run again"
)
_SEND_AGAIN = (
    "send what is missing again, then POST /api/jobs/resume; a longer retention.ms lets the service be away for longer"
)
