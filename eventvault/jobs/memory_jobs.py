"""The in-memory double of the dispatcher's port, without a database, a process and workers.

`offer` names types as a worker does; `start` and `finish` do what a worker would do. Nothing runs on its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from eventvault import clock
from eventvault.jobs import checking
from eventvault.jobs.job import (
    FINAL_STATES,
    Attempt,
    Job,
    JobError,
    JobProgress,
    JobRequest,
    JobSchedule,
    JobType,
    State,
)
from eventvault.jobs.port import Changed, JobPage, Jobs, JobView, KnownType, QueueStatus, SubmitResult
from eventvault.jobs.queries import job_not_found
from eventvault.jobs.schedule import declared_in_code, not_found, when_of

_ENDED: tuple[State, ...] = ("dead", "cancelled")


class MemoryJobs(Jobs):
    """now: the clock, in microseconds."""

    def __init__(self, now: clock.Clock = clock.now) -> None:
        self._now = now
        self._jobs: dict[str, Job] = {}
        self._texts: dict[str, tuple[msgspec.Raw, msgspec.Raw | None]] = {}
        self._types: dict[str, JobType] = {}
        self._schedules: dict[str, JobSchedule] = {}
        self._paused: set[str] = set()
        self._pauses_new = False

    def offer(self, *types: JobType, schedules: Iterable[JobSchedule] = ()) -> None:
        """Name types, and schedules in code, as the hello of a worker does."""
        if self._pauses_new:
            self._paused |= {job_type.name for job_type in types} - self._types.keys()
        self._types |= {job_type.name: job_type for job_type in types}
        for schedule in schedules:
            self._schedules[schedule.name] = msgspec.structs.replace(schedule, in_code=True)

    def start(self, job_id: str, progress: JobProgress | None = None) -> None:
        job = self._jobs[job_id]
        attempt = Attempt(
            number=job.attempt + 1, token="t", session="s", host="h", sent_at=self._now(), started_at=self._now()
        )
        self._change(
            job, state="running", attempt=attempt.number, attempts=(*job.attempts, attempt), token="t", session="s",
            progress=progress,
        )  # fmt: skip

    def finish(self, job_id: str, result: bytes = b"null", error: JobError | None = None, output: str = "") -> None:
        """End the attempt. The job becomes done, or dead if there is an error."""
        job = self._jobs[job_id]
        ended = msgspec.structs.replace(
            job.attempts[-1], ended_at=self._now(), outcome="failed" if error else "done", error=error, output=output
        )
        self._change(
            job, state="dead" if error else "done", attempts=(*job.attempts[:-1], ended), ended=self._now(),
            tries=job.tries + (error is not None), error=error, token=None, session=None,
        )  # fmt: skip
        if error is None:
            self._texts[job_id] = (msgspec.Raw(b"null"), msgspec.Raw(result))

    def hold(self, job_id: str) -> None:
        self._change(self._jobs[job_id], state="held")

    def _change(self, job: Job, **changes: object) -> None:
        self._jobs[job.id] = msgspec.structs.replace(job, **changes)

    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        checking.check(requests, self._types, scopes)
        return [self._submit(request, by) for request in requests]

    def _submit(self, request: JobRequest, by: str) -> SubmitResult:
        assert request.id is not None
        digest = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
        existing = self._jobs.get(request.id)
        if existing is not None:
            return SubmitResult(existing.id, existing.state, duplicate=True, differs=existing.digest != digest)
        for job in self._jobs.values():
            if request.unique is not None and job.unique == request.unique and not job.is_final:
                return SubmitResult(job.id, job.state, duplicate=True, differs=True)
        now, job_type = self._now(), self._types[request.type]
        self._jobs[request.id] = Job(
            id=request.id,
            type=request.type,
            order=len(self._jobs),
            state="pending",
            created=now,
            run_at=now + round((request.delay or 0) * 1e6) if request.run_at is None else request.run_at,
            digest=digest,
            by=by,
            priority=request.priority,
            key=request.key,
            unique=request.unique,
            max_attempts=request.max_attempts or job_type.max_attempts,
            timeout=request.timeout or job_type.timeout,
        )
        self._texts[request.id] = (request.payload, None)
        return SubmitResult(request.id, "pending")

    def list_jobs(self, states: list[str], types: list[str], limit: int, before: str | None) -> JobPage:
        newest = sorted(self._jobs.values(), key=lambda job: -job.order)
        if before is not None:
            last = self._find(before).order
            newest = [job for job in newest if job.order < last]
        jobs = [job for job in newest if (not states or job.state in states) and (not types or job.type in types)]
        return JobPage(jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else None)

    def job(self, job_id: str) -> JobView:
        job = self._find(job_id)
        payload, result = self._texts[job_id]
        return JobView(job, None if job.state == "done" else payload, result)

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise job_not_found(job_id)
        return job

    def cancel(self, ids: list[str]) -> list[Changed]:
        return [self._change_if_known(job_id, self._cancel) for job_id in ids]

    def retry(self, ids: list[str]) -> list[Changed]:
        return [self._change_if_known(job_id, self._retry) for job_id in ids]

    def _change_if_known(self, job_id: str, change: Callable[[Job], Changed]) -> Changed:
        job = self._jobs.get(job_id)
        return Changed(job_id, "unknown") if job is None else change(job)

    def _cancel(self, job: Job) -> Changed:
        if job.is_final:
            return Changed(job.id, "unchanged", job.state)
        if job.state in ("sent", "running"):
            self._change(job, is_stopping=True)
            return Changed(job.id, "stopping", job.state)
        self._change(job, state="cancelled", ended=self._now())
        return Changed(job.id, "changed", "cancelled")

    def _retry(self, job: Job) -> Changed:
        if job.state not in _ENDED:
            return Changed(job.id, "unchanged", job.state)
        self._change(job, state="pending", tries=0, ended=None, error=None, run_at=self._now(), is_stopping=False)
        return Changed(job.id, "changed", "pending")

    def pause(self, job_type: str | None) -> list[str]:
        if job_type is not None and job_type not in self._types:
            raise checking.unknown_type(job_type, self._types)
        self._pauses_new |= job_type is None
        self._paused |= {job_type} if job_type is not None else set(self._types)
        return sorted(self._paused)

    def resume(self, job_type: str | None) -> list[str]:
        if job_type is None:
            self._paused.clear()
            self._pauses_new = False
            for job in list(self._jobs.values()):
                if job.state == "held":
                    self._change(job, state="pending")
        elif job_type not in self._types:
            raise checking.unknown_type(job_type, self._types)
        else:
            self._paused.discard(job_type)
        return sorted(self._paused)

    def types(self) -> list[KnownType]:
        return [KnownType(job_type, 1, name in self._paused) for name, job_type in sorted(self._types.items())]

    def schedules(self) -> list[JobSchedule]:
        return [self._schedules[name] for name in sorted(self._schedules)]

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        self._require_changeable(self._schedules.get(schedule.name))
        checking.check_schedule(schedule, self._types)
        firing = when_of(schedule).next_after(self._now())
        self._schedules[schedule.name] = msgspec.structs.replace(schedule, next=firing)
        return self._schedules[schedule.name]

    def delete_schedule(self, name: str) -> None:
        schedule = self._schedules.get(name)
        if schedule is None:
            raise not_found(name)
        self._require_changeable(schedule)
        del self._schedules[name]

    def _require_changeable(self, schedule: JobSchedule | None) -> None:
        if schedule is not None and schedule.in_code:
            raise declared_in_code(schedule.name)

    def status(self) -> QueueStatus:
        states = [job.state for job in self._jobs.values()]
        waiting = [job.run_at for job in self._jobs.values() if job.state == "pending" and job.run_at <= self._now()]
        return QueueStatus(
            workers=1,
            slots=1,
            waiting=states.count("pending"),
            running=states.count("running"),
            dead=states.count("dead"),
            held=states.count("held"),
            oldest_waiting=min(waiting, default=None),
            states={state: states.count(state) for state in dict.fromkeys(states)},
            refused_reports=0,
            broker=False,
            problems=[],
        )

    def count_unfinished_after(self, instant: int) -> int:
        return len(self._unfinished_after(instant))

    def cancel_unfinished_after(self, instant: int) -> int:
        return len(self.cancel(self._unfinished_after(instant)))

    def _unfinished_after(self, instant: int) -> list[str]:
        return [job.id for job in self._jobs.values() if job.created > instant and job.state not in FINAL_STATES]
