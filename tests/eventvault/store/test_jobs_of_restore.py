"""A restore says how many unfinished jobs were created after its moment, and cancels them only if that is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventvault.errors import InvalidInput, JobsDisabled, JobsUnavailable
from eventvault.jobs.port import Jobs, QueueStatus
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


class CountingJobs(Jobs):
    """Two jobs are unfinished, whatever the instant."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.cancelled: list[int] = []
        self.fail: JobsUnavailable | None = None

    def status(self) -> QueueStatus:
        self._check()
        return QueueStatus(
            workers=0, slots=0, waiting=2, running=0, dead=0, held=0, oldest_waiting=None, states={},
            refused_reports=0, broker=False, problems=[],
        )  # fmt: skip

    def count_unfinished_after(self, instant: int) -> int:
        self._check()
        self.asked.append(instant)
        return 2

    def cancel_unfinished_after(self, instant: int) -> int:
        self._check()
        self.cancelled.append(instant)
        return 2

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail


@pytest.fixture
def jobs() -> CountingJobs:
    return CountingJobs()


@pytest.fixture
def service(settings: Settings, jobs: CountingJobs) -> Iterator[StoreService]:
    with running_service(settings, jobs=jobs) as service:
        service.append(drafts(3))
        yield service


def test_the_plan_and_the_answer_count_them_and_none_is_cancelled(service: StoreService, jobs: CountingJobs) -> None:
    entry = service.create_backup().backup
    assert service.plan_restore(entry.name)["unfinishedJobs"] == 2
    restored = service.restore(entry.name)
    assert (restored.unfinished_jobs, restored.cancelled_jobs) == (2, None)
    assert jobs.asked == [entry.created, entry.created], "plan and restore mean the same instant"
    assert jobs.cancelled == []


def test_those_after_the_moment_are_cancelled_if_that_is_asked_for(service: StoreService, jobs: CountingJobs) -> None:
    moment = Moment(sequence=2)
    planned = service.plan_restore(moment)
    restored = service.restore_moment(moment, cancel_jobs=True)
    assert (restored.unfinished_jobs, restored.cancelled_jobs) == (2, 2)
    assert planned["unfinishedJobs"] == 2
    assert set(jobs.asked) == set(jobs.cancelled), "plan and restore mean the same instant"


def test_without_jobs_nothing_is_counted(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(3))
        name = service.create_backup().backup.name
        with pytest.raises(JobsDisabled):
            service.restore(name, cancel_jobs=True)
        assert service.plan_restore(name)["unfinishedJobs"] is None
        assert service.restore(name).unfinished_jobs is None


def test_a_restore_that_could_not_cancel_them_does_not_begin(service: StoreService, jobs: CountingJobs) -> None:
    generation = service.status()["store"]["generation"]
    jobs.fail = JobsUnavailable("no dispatcher of jobs answers", hint="wait")
    with pytest.raises(JobsUnavailable):
        service.restore_moment(Moment(sequence=2), cancel_jobs=True)
    with pytest.raises(InvalidInput) as caught:
        service.restore_moment(Moment(sequence=2), staged=True, cancel_jobs=True)
    assert "cancelJobs" in caught.value.details["fields"]
    assert service.status()["store"]["generation"] == generation
    assert service.restore_moment(Moment(sequence=2)).unfinished_jobs is None, "a dispatcher that is away stops none"


def test_the_queue_is_part_of_health(service: StoreService, jobs: CountingJobs) -> None:
    assert service.queue is not None
    service.queue.ask()
    assert service.status()["jobQueue"]["waiting"] == 2
    jobs.fail = JobsUnavailable("no dispatcher of jobs answers", hint="wait")
    service.queue.ask()
    assert service.status()["jobQueue"] is None
