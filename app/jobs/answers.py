"""How the API and the command line describe jobs, schedules and types. They never show the tokens of attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from eventvault import clock
from eventvault.jobs.job import Attempt, Job, JobError, JobSchedule
from eventvault.jobs.port import Changed, JobView, KnownType, SubmitResult


def submitted_json(results: Sequence[SubmitResult]) -> dict[str, Any]:
    """Return the answer to a submission, in the form of the answer to posted events."""
    duplicates = sum(result.duplicate for result in results)
    return {
        "success": True,
        "accepted": len(results) - duplicates,
        "duplicates": duplicates,
        "results": [_result(result) for result in results],
    }


def _result(result: SubmitResult) -> dict[str, Any]:
    differs = {"differs": True} if result.differs else {}
    return {"id": result.id, "state": result.state, "duplicate": result.duplicate, **differs}


def job_json(job: Job) -> dict[str, Any]:
    """Return a job for a list: without its payload, result and attempts."""
    return {
        "id": job.id,
        "type": job.type,
        "state": job.state,
        "createdAt": clock.format_milliseconds(job.created),
        "runAt": clock.format_milliseconds(job.run_at),
        "endedAt": clock.optional_milliseconds(job.ended),
        "attempt": job.attempt,
        "tries": job.tries,
        "maxAttempts": job.max_attempts,
        "timeout": job.timeout,
        "priority": job.priority,
        "key": job.key,
        "unique": job.unique,
        "origin": job.origin,
        "startedBy": job.by,
        "schedule": job.schedule,
        "cancelRequested": job.is_stopping,
        "progress": None if job.progress is None else _progress(job),
        "error": _error(job.error),
    }


def view_json(view: JobView) -> dict[str, Any]:
    """Return a job with its payload, result and attempts."""
    return {
        **job_json(view.job),
        "payload": _raw(view.payload),
        "result": _raw(view.result),
        "attempts": [_attempt(attempt) for attempt in view.job.attempts],
        "earlierAttempts": view.job.earlier_attempts,
    }


def _progress(job: Job) -> dict[str, Any]:
    assert job.progress is not None
    return {"fraction": job.progress.fraction, "text": job.progress.text}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "session": attempt.session,
        "host": attempt.host,
        "sentAt": clock.format_milliseconds(attempt.sent_at),
        "startedAt": clock.optional_milliseconds(attempt.started_at),
        "endedAt": clock.optional_milliseconds(attempt.ended_at),
        "outcome": attempt.outcome,
        "error": _error(attempt.error),
        "output": attempt.output,
    }


def _error(error: JobError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    fields = {} if error.fields is None else {"fields": error.fields}
    return {"code": error.code, "message": error.message, **fields}


def changed_json(change: Changed) -> dict[str, Any]:
    return {"id": change.id, "outcome": change.outcome, "state": change.state}


def type_json(known: KnownType) -> dict[str, Any]:
    return {
        "type": known.type.name,
        "scope": known.type.scope,
        "timeout": known.type.timeout,
        "maxAttempts": known.type.max_attempts,
        "workers": known.workers,
        "paused": known.is_paused,
        "schema": _raw(known.type.schema),
    }


def schedule_json(schedule: JobSchedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "type": schedule.type,
        "cron": schedule.cron,
        "timeZone": schedule.time_zone,
        "payload": _raw(schedule.payload),
        "overlap": schedule.overlap,
        "catchUp": schedule.catch_up,
        "paused": schedule.is_paused,
        "inCode": schedule.in_code,
        "next": clock.optional_milliseconds(schedule.next),
        "last": clock.optional_milliseconds(schedule.last),
        "lastJob": schedule.last_job,
        "skipped": schedule.skipped,
    }


def _raw(text: msgspec.Raw | None) -> Any:
    """Return a JSON text in a form that is written unchanged; None if there is none."""
    return None if text is None else orjson.Fragment(bytes(text))
