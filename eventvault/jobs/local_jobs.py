"""The port `Jobs` in the dispatcher's process. Threads read snapshots of the database; changes wait for a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from eventvault.jobs import checking, commands, queries
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.job import JobRequest, JobSchedule, JobType
from eventvault.jobs.port import Changed, JobPage, Jobs, JobView, KnownType, QueueStatus, SubmitResult
from eventvault.jobs.queue import JobQueue
from eventvault.problems import Problem

START_SECONDS = 5.0
"""How long after a start a submission may wait for the hello of a worker that knows its type."""
_POLL_SECONDS = 0.05
IDS = 1_000
"""Most jobs that are changed in one turn."""


class LocalJobs(Jobs):
    """Asks a dispatcher that runs. Safe to use from many threads."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        problems: Callable[[], list[Problem]] = list,
    ) -> None:
        """problems: returns further problems of the dispatcher's process."""
        self._dispatcher = dispatcher
        self._problems = problems
        self._monotonic = monotonic
        self._started = monotonic()

    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        types = self._types_for({request.type for request in requests})
        checking.check(requests, types, scopes)
        return self._dispatcher.call(lambda queue: commands.submit(queue, requests, by))

    def list_jobs(self, states: list[str], types: list[str], limit: int, before: str | None) -> JobPage:
        with self._dispatcher.database.snapshot() as snapshot:
            return queries.page_of(snapshot, states, types, limit, before)

    def job(self, job_id: str) -> JobView:
        with self._dispatcher.database.snapshot() as snapshot:
            return queries.view_of(snapshot, job_id)

    def cancel(self, ids: list[str]) -> list[Changed]:
        return self._in_pages(ids, commands.cancel)

    def retry(self, ids: list[str]) -> list[Changed]:
        return self._in_pages(ids, commands.retry)

    def pause(self, job_type: str | None) -> list[str]:
        self._require_known(job_type)
        return self._dispatcher.call(lambda queue: commands.pause(queue, job_type))

    def resume(self, job_type: str | None) -> list[str]:
        self._require_known(job_type)
        paused = self._dispatcher.call(lambda queue: commands.resume(queue, job_type))
        if job_type is None:
            self._dispatcher.accept_losses()
        return paused

    def types(self) -> list[KnownType]:
        with self._dispatcher.database.snapshot() as snapshot:
            return queries.types_of(snapshot)

    def schedules(self) -> list[JobSchedule]:
        with self._dispatcher.database.snapshot() as snapshot:
            return queries.schedules_of(snapshot)

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        types = self._types_for({schedule.type})
        checking.check_schedule(schedule, types)
        return self._dispatcher.call(lambda queue: queue.schedules.put(schedule, queue.now))

    def delete_schedule(self, name: str) -> None:
        self._dispatcher.call(lambda queue: queue.schedules.delete(name))

    def status(self) -> QueueStatus:
        status = self._dispatcher.status()
        return msgspec.structs.replace(status, problems=[*status.problems, *self._problems()])

    def count_unfinished_after(self, instant: int) -> int:
        with self._dispatcher.database.snapshot() as snapshot:
            return sum(1 for _ in queries.unfinished_after(snapshot, instant))

    def cancel_unfinished_after(self, instant: int) -> int:
        with self._dispatcher.database.snapshot() as snapshot:
            ids = list(queries.unfinished_after(snapshot, instant))
        results = self._in_pages(ids, commands.cancel)
        return sum(result.outcome in ("changed", "stopping") for result in results)

    def _require_known(self, job_type: str | None) -> None:
        types = self._dispatcher.types()
        if job_type is not None and job_type not in types:
            raise checking.unknown_type(job_type, types)

    def _in_pages(self, ids: list[str], change: Callable[[JobQueue, Iterable[str]], list[Changed]]) -> list[Changed]:
        changed: list[Changed] = []
        for start in range(0, len(ids), IDS):
            page = ids[start : start + IDS]
            changed += self._dispatcher.call(lambda queue, page=page: change(queue, page))  # type: ignore[misc]
        return changed

    def _types_for(self, names: set[str]) -> dict[str, JobType]:
        """Return the known types. Soon after a start, wait for the workers that know the types `names`."""
        while True:
            types = self._dispatcher.types()
            if names <= types.keys() or self._monotonic() - self._started > START_SECONDS:
                return types
            time.sleep(_POLL_SECONDS)
