"""Reads the one partition of `jobs.reports` with one client: what workers report, and the dispatcher's own ticks."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from eventvault.jobs import messages
from eventvault.jobs.transport import Position
from eventvault.kafka import config, topics
from eventvault.kafka.clients import Admin, MonotonicConsumer
from eventvault.kafka.jobs.client_watch import ClientWatch
from eventvault.kafka.jobs.job_topics import JobTopics, TopicWatch, job_topics
from eventvault.kafka.jobs.reader_state import CaughtUp, ReaderState, ReadReport
from eventvault.kafka.jobs.reader_thread import CHECK_SECONDS, RestartReader, is_end, poll
from eventvault.kafka.topic_info import TopicInfo
from eventvault.problems import Problem
from eventvault.settings import Settings

log = logging.getLogger("jobs")

RECENT = 1_000
"""Newest reports that a dispatcher reads at its first start: an earlier worker's hello may be among them."""
_CREATED_SECONDS = 0.2
"""Seconds until a missing topic is checked again, because it was just created."""
_TOPIC_MISSING = "jobs_topic_missing"


class ReportsReader:
    """Reads the reports, and lets the missing topics of jobs be created.

    A topic that has become shorter, or that was created again, is read from its beginning. A second reading of a report
    changes nothing, nor does a report of an attempt that is over. Reports that the old topic lost are sent again.
    """

    def __init__(self, settings: Settings, state: ReaderState) -> None:
        self._names: JobTopics = job_topics(settings)
        self._topic = self._names.reports
        self._state = state
        self._admin = Admin(settings)
        self._watch = TopicWatch(self._names, self._admin, may_create=settings.kafka_create_topics)
        self._client = ClientWatch(state.note_disconnect)
        self._consumer = MonotonicConsumer(config.events_consumer(settings), self._client.note)
        self._cluster_id: str | None = None
        self._topic_info: TopicInfo | None = None

    def close(self) -> None:
        self._state.is_connected = False
        self._consumer.close()

    def read(self) -> tuple[list[Any], list[int]]:
        if self._client.is_due():
            self._check()
        items: list[Any] = []
        sizes: list[int] = []
        for message in poll(self._consumer):
            error = message.error()
            item = self._report(message) if error is None else self._end_of(error)
            if item is not None:
                items.append(item)
                sizes.append(len(message))
        return items, sizes

    def _check(self) -> None:
        """Check the topics, and begin to read. Raises KafkaUnreachable, or RestartReader for another topic."""
        if self._cluster_id is None:
            cluster = topics.cluster_once_logged_in(self._admin)
            if cluster is None:
                return
            self._cluster_id = cluster.cluster_id
        existing = self._watch.check(self._cluster_id)
        self._state.is_connected = True
        self._name_missing()
        if self._names.work in existing:
            self._state.work_partitions = existing[self._names.work].partitions
        self._follow(existing.get(self._topic))
        is_complete = existing.keys() | self._watch.missing.keys() >= set(self._names)
        self._client.check_in(CHECK_SECONDS if is_complete else _CREATED_SECONDS)

    def _follow(self, topic_info: TopicInfo | None) -> None:
        before = self._topic_info
        if before is not None and (topic_info is None or topic_info.topic_id != before.topic_id):
            raise RestartReader
        if before is None and topic_info is not None:
            self._consumer.incremental_assign([TopicPartition(self._topic, 0, self._begin(topic_info))])
            self._topic_info = topic_info

    def _begin(self, topic_info: TopicInfo) -> int:
        """Return the offset to begin at: after the last report read; at the first start, at the newest RECENT ones."""
        low, high = topics.bounds(self._admin, self._topic, 0)
        position = self._state.reports
        if position is None:
            begin = max(low, high - RECENT)
            self._state.is_late = begin > low
            self._state.reports = self._position(begin, topic_info)
            return begin
        is_recreated = position.topic_id and topic_info.topic_id and position.topic_id != topic_info.topic_id
        if is_recreated or not low <= position.offset <= high:
            log.warning("the topic %s was created again or lost messages; it is read from its beginning", self._topic)
            return OFFSET_BEGINNING
        return position.offset

    def _report(self, message: Message) -> ReadReport | None:
        """Return the report in a message. Counts a message that is not a report, and returns None."""
        offset = message.offset() or 0
        position = self._state.reports = self._position(offset + 1, self._topic_info)
        try:
            return ReadReport(messages.decode_report(message.value() or b""), position)
        except messages.DECODE_ERRORS as error:
            if not self._state.invalid:
                log.warning(
                    "offset %d of %s is not a report; later ones are only counted: %s", offset, self._topic, error
                )
            self._state.invalid += 1
            return None

    def _end_of(self, error: KafkaError) -> CaughtUp | None:
        """Return a CaughtUp if the error says, for the first time, that all reports were read."""
        if not is_end(error):
            self._client.check_soon()
        elif not self._state.has_caught_up:
            self._state.has_caught_up = True
            return CaughtUp(self._state.is_late)
        return None

    def _position(self, offset: int, topic_info: TopicInfo | None) -> Position:
        if topic_info is None:
            return Position(self._topic, 0, offset)
        return Position(self._topic, 0, offset, topic_id=topic_info.topic_id, cluster_id=topic_info.cluster_id)

    def _name_missing(self) -> None:
        for name in self._names:
            reason = self._watch.missing.get(name)
            if reason is None:
                self._state.problems.pop(name, None)
            else:
                message = f"the topic {name}, which jobs need, does not exist: {reason}"
                hint = "create it, or set KAFKA_CREATE_TOPICS=true; nothing is lost meanwhile"
                self._state.problems[name] = Problem(_TOPIC_MISSING, message, hint)
