"""The jobs of a service on another machine, through the port that `eventvault.jobs.port` declares."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import quote

import msgspec

from app.cli.remote import errors
from app.cli.remote.answers import instant_of, reads
from app.cli.remote.store import RemoteStore
from app.cli.remote.transport import JSON, Request, get, post, with_bytes, with_json
from eventvault import clock
from eventvault.jobs.job import Attempt, Job, JobError, JobProgress, JobRequest, JobSchedule, JobType
from eventvault.jobs.port import Changed, JobPage, Jobs, JobView, KnownType, QueueStatus, SubmitResult

_PATH = "/api/jobs"
_NULL = msgspec.Raw(b"null")


class _Answer(msgspec.Struct, rename="camel"):
    pass


class _Result(_Answer):
    id: str
    state: Any
    duplicate: bool = False
    differs: bool = False


class _Submitted(_Answer):
    results: list[_Result]


class _Attempt(_Answer):
    number: int
    sent_at: str
    session: str = ""
    host: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    outcome: Any = None
    error: JobError | None = None
    output: str = ""


class _Job(_Answer):
    id: str
    type: str
    state: Any
    created_at: str
    run_at: str
    ended_at: str | None = None
    attempt: int = 0
    tries: int = 0
    max_attempts: int = 0
    timeout: float = 0.0
    priority: int = 0
    key: str | None = None
    unique: str | None = None
    origin: Any = "api"
    started_by: str = ""
    schedule: str | None = None
    cancel_requested: bool = False
    progress: JobProgress | None = None
    error: JobError | None = None
    payload: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL
    attempts: list[_Attempt] = []
    earlier_attempts: int = 0


class _Jobs(_Answer):
    jobs: list[_Job]
    next: str | None = None


class _OneJob(_Answer):
    job: _Job


class _Changed(_Answer):
    jobs: list[Changed]


class _Paused(_Answer):
    paused: list[str]


class _Type(_Answer):
    type: str
    scope: str = "write"
    timeout: float = 0.0
    max_attempts: int = 0
    workers: int = 0
    paused: bool = False
    schema: msgspec.Raw = _NULL


class _Types(_Answer):
    types: list[_Type]


class _Schedule(_Answer):
    name: str
    type: str
    cron: str
    time_zone: str = "UTC"
    payload: msgspec.Raw = _NULL
    overlap: bool = False
    catch_up: float = 0.0
    paused: bool = False
    in_code: bool = False
    next: str | None = None
    last: str | None = None
    last_job: str | None = None
    skipped: int = 0


class _OneSchedule(_Answer):
    schedule: _Schedule


class _Schedules(_Answer):
    schedules: list[_Schedule]


class _Queue(_Answer):
    workers: int = 0
    slots: int = 0
    waiting: int = 0
    running: int = 0
    dead: int = 0
    held: int = 0
    states: dict[str, int] = {}


class _Health(_Answer):
    job_queue: _Queue | None = None


def _job(answer: _Job) -> Job:
    return Job(
        id=answer.id,
        type=answer.type,
        order=0,
        state=answer.state,
        created=clock.parse_lenient(answer.created_at),
        run_at=clock.parse_lenient(answer.run_at),
        digest="",
        origin=answer.origin,
        by=answer.started_by,
        priority=answer.priority,
        key=answer.key,
        unique=answer.unique,
        max_attempts=answer.max_attempts,
        timeout=answer.timeout,
        attempt=answer.attempt,
        tries=answer.tries,
        is_stopping=answer.cancel_requested,
        progress=answer.progress,
        error=answer.error,
        ended=instant_of(answer.ended_at),
        schedule=answer.schedule,
        attempts=tuple(map(_attempt, answer.attempts)),
        earlier_attempts=answer.earlier_attempts,
    )


def _attempt(answer: _Attempt) -> Attempt:
    return Attempt(
        number=answer.number,
        token="",
        session=answer.session,
        host=answer.host,
        sent_at=clock.parse_lenient(answer.sent_at),
        started_at=instant_of(answer.started_at),
        ended_at=instant_of(answer.ended_at),
        outcome=answer.outcome,
        error=answer.error,
        output=answer.output,
    )


def _view(answer: _OneJob) -> JobView:
    return JobView(_job(answer.job), answer.job.payload.copy(), answer.job.result.copy())


def _known_type(answer: _Type) -> KnownType:
    job_type = JobType(
        name=answer.type,
        schema=answer.schema.copy(),
        scope=answer.scope,
        timeout=answer.timeout,
        max_attempts=answer.max_attempts,
    )
    return KnownType(job_type, answer.workers, answer.paused)


def _schedule(answer: _Schedule) -> JobSchedule:
    return JobSchedule(
        name=answer.name,
        type=answer.type,
        cron=answer.cron,
        time_zone=answer.time_zone,
        payload=answer.payload.copy(),
        overlap=answer.overlap,
        catch_up=answer.catch_up,
        in_code=answer.in_code,
        is_paused=answer.paused,
        next=instant_of(answer.next),
        last=instant_of(answer.last),
        last_job=answer.last_job,
        skipped=answer.skipped,
    )


def _status(answer: _Health) -> QueueStatus:
    queue = answer.job_queue or _Queue()
    return QueueStatus(
        workers=queue.workers,
        slots=queue.slots,
        waiting=queue.waiting,
        running=queue.running,
        dead=queue.dead,
        held=queue.held,
        oldest_waiting=None,
        states=queue.states,
        refused_reports=0,
        broker=False,
        problems=[],
    )


def _members(job: JobRequest) -> dict[str, Any]:
    members = {
        "type": job.type,
        "id": job.id,
        "payload": job.payload,
        "delay": job.delay,
        "runAt": clock.optional_microseconds(job.run_at),
        "priority": job.priority or None,
        "key": job.key,
        "unique": job.unique,
        "maxAttempts": job.max_attempts,
        "timeout": job.timeout,
    }
    return {name: value for name, value in members.items() if value is not None}


def _path_of_schedule(name: str) -> str:
    return f"{_PATH}/schedules/{quote(name, safe='', errors='surrogateescape')}"


class RemoteJobs(Jobs):
    """The jobs of a service. The service knows by the token who submits a job and what they may do."""

    def __init__(self, store: RemoteStore) -> None:
        self._read = store.read

    @classmethod
    def over(cls, store: RemoteStore) -> Self:
        """Return the jobs of a store. The type checker takes the constructor for that of an abstract class."""
        return cls(store)

    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        body = msgspec.json.encode([_members(job) for job in requests])
        request = with_bytes(Request("POST", _PATH), body, JSON)
        answer: _Submitted = self._read(request, msgspec.json.Decoder(_Submitted).decode)
        return [SubmitResult(job.id, job.state, job.duplicate, job.differs) for job in answer.results]

    def list_jobs(self, states: list[str], types: list[str], limit: int, before: str | None) -> JobPage:
        if len(types) > 1:
            raise errors.not_over_http("a list of several types")
        request = get(
            _PATH, state=",".join(states) or None, type=types[0] if types else None, limit=limit, before=before
        )
        page: JobPage = self._read(
            request, reads(_Jobs, lambda answer: JobPage(list(map(_job, answer.jobs)), answer.next))
        )
        return page

    def job(self, job_id: str) -> JobView:
        view: JobView = self._read(get(_PATH, id=job_id), reads(_OneJob, _view))
        return view

    def cancel(self, ids: list[str]) -> list[Changed]:
        return self._change("cancel", ids)

    def retry(self, ids: list[str]) -> list[Changed]:
        return self._change("retry", ids)

    def _change(self, verb: str, ids: list[str]) -> list[Changed]:
        request = post(f"{_PATH}/{verb}", {"ids": ids})
        changes: list[Changed] = self._read(request, reads(_Changed, lambda answer: answer.jobs))
        return changes

    def pause(self, job_type: str | None) -> list[str]:
        return self._pause("pause", job_type)

    def resume(self, job_type: str | None) -> list[str]:
        return self._pause("resume", job_type)

    def _pause(self, verb: str, job_type: str | None) -> list[str]:
        request = post(f"{_PATH}/{verb}", {} if job_type is None else {"type": job_type})
        paused: list[str] = self._read(request, reads(_Paused, lambda answer: answer.paused))
        return paused

    def types(self) -> list[KnownType]:
        types: list[KnownType] = self._read(
            get(f"{_PATH}/types"), reads(_Types, lambda answer: list(map(_known_type, answer.types)))
        )
        return types

    def schedules(self) -> list[JobSchedule]:
        schedules: list[JobSchedule] = self._read(
            get(f"{_PATH}/schedules"), reads(_Schedules, lambda answer: list(map(_schedule, answer.schedules)))
        )
        return schedules

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        members = {
            "type": schedule.type,
            "cron": schedule.cron,
            "timeZone": schedule.time_zone,
            "payload": schedule.payload,
            "overlap": schedule.overlap,
            "catchUp": schedule.catch_up,
            "paused": schedule.is_paused,
        }
        made: JobSchedule = self._read(
            with_json("PUT", _path_of_schedule(schedule.name), members),
            reads(_OneSchedule, lambda answer: _schedule(answer.schedule)),
        )
        return made

    def delete_schedule(self, name: str) -> None:
        self._read(with_json("DELETE", _path_of_schedule(name)), lambda _: None)

    def status(self) -> QueueStatus:
        status: QueueStatus = self._read(get("/api/health"), reads(_Health, _status))
        return status

    def count_unfinished_after(self, instant: int) -> int:
        raise errors.not_over_http("a count of the jobs since an instant")

    def cancel_unfinished_after(self, instant: int) -> int:
        raise errors.not_over_http("a cancellation of the jobs since an instant")
