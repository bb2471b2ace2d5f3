"""The topics of jobs: their names, and a check that creates the missing ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from eventvault.kafka import topics
from eventvault.kafka.clients import Admin
from eventvault.kafka.topic_info import TopicInfo
from eventvault.settings import Settings
from eventvault.topic_names import REPORTS, WORK, dead_letter_topic, topic_beside

log = logging.getLogger("jobs")

WORK_PARTITIONS = 12
_DAY_MILLISECONDS = 86_400_000
_WORK = {"retention.ms": str(_DAY_MILLISECONDS)}
_REPORTS = {"retention.ms": str(7 * _DAY_MILLISECONDS)}


class JobTopics(NamedTuple):
    """jobs: submitted by anybody. work: sent to sessions. reports: sent by sessions. results, dead: for anybody."""

    jobs: str
    work: str
    reports: str
    results: str
    dead: str


def job_topics(settings: Settings) -> JobTopics:
    jobs = settings.kafka_jobs_topic
    return JobTopics(
        jobs,
        topic_beside(jobs, WORK),
        topic_beside(jobs, REPORTS),
        settings.kafka_results_topic,
        dead_letter_topic(jobs),
    )


class TopicWatch:
    """Checks the topics of jobs, and creates the missing ones with KAFKA_CREATE_TOPICS; for one thread.

    missing: topic → why it did not exist at the last check.
    """

    def __init__(self, names: JobTopics, admin: Admin, *, may_create: bool) -> None:
        self.missing: Mapping[str, str] = {}
        self._names = names
        self._may_create = may_create
        self._admin = admin

    def check(self, cluster_id: str | None) -> dict[str, TopicInfo]:
        """Return the topics that exist, by name, and create the others. Raises KafkaUnreachable."""
        requests = topics.ask_topics(self._admin, self._names)
        infos = {name: topics.topic_of(request, cluster_id) for name, request in requests.items()}
        reasons = {name: self._create(name) for name, info in infos.items() if info is None}
        for name in reasons.keys() - self.missing.keys():
            if reasons[name]:
                log.warning("the topic %s is missing: %s", name, reasons[name])
        self.missing = {name: reason for name, reason in reasons.items() if reason}
        return {name: info for name, info in infos.items() if info is not None}

    def _create(self, name: str) -> str | None:
        """Create a topic; the next check finds it. Returns None, or why not. Raises KafkaUnreachable."""
        properties, partitions = self._config_of(name)
        reason = topics.create_topic(self._admin, name, properties, partitions, may_create=self._may_create)
        if reason is None:
            log.info("created the topic %s", name)
        return reason

    def _config_of(self, name: str) -> tuple[Mapping[str, str], int]:
        configs = {self._names.work: (_WORK, WORK_PARTITIONS), self._names.reports: (_REPORTS, 1)}
        return configs.get(name, (topics.DEAD_LETTERS if name == self._names.dead else {}, -1))
