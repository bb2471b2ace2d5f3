"""Jobs and their handlers: a handler is a function of a Job, registered for a type.

    from worker.jobs import Job, job

    @job("report")
    def report(job: Job) -> dict:
        return {"rows": count(job.payload["table"])}

The result is what it returns, any JSON value. If it raises, the job fails. `python -m worker my_jobs` imports `my_jobs`
and registers its handlers. A handler must be idempotent: a job runs again if its worker is killed before the
result is written.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Callable
from typing import Any

import msgspec

from eventvault import clock, json_text
from eventvault.errors import EventVaultError, InvalidInput

log = logging.getLogger("worker")

MAX_ERROR_LENGTH = 1_000
MAX_NAME_LENGTH = 1_000
WORKER_NAME = f"{platform.node()}-{os.getpid()}"
"""Names this worker in results and logs."""


class Job(msgspec.Struct, frozen=True):
    """One job. id and type have 1 to MAX_NAME_LENGTH characters; payload is any JSON value."""

    id: str
    type: str
    payload: Any = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The outcome of a job: the value of its message in the results topic.

    state: `done` with `result`, or `failed` with `error` {code, message}. Instants are ISO 8601.
    """

    id: str
    type: str | None
    state: str
    worker: str
    started_at: str
    finished_at: str
    result: Any = None
    error: dict[str, str] | None = None


Handler = Callable[[Job], Any]
_HANDLERS: dict[str, Handler] = {}


def job(job_type: str) -> Callable[[Handler], Handler]:
    """Register a handler for a type. Raises ValueError if it has one already."""

    def register(handler: Handler) -> Handler:
        if _HANDLERS.get(job_type, handler) is not handler:
            raise ValueError(f"the job type {job_type!r} has a handler already: {_HANDLERS[job_type].__qualname__}")
        _HANDLERS[job_type] = handler
        return handler

    return register


@job("ping")
def ping(_: Job) -> dict[str, Any]:
    """Return the name of the worker that runs this job, and the job types it handles."""
    return {"worker": WORKER_NAME, "jobTypes": sorted(_HANDLERS)}


@job("echo")
def echo(job: Job) -> Any:
    """Return the payload, to test a round trip."""
    return job.payload


def run(value: bytes | None, fallback_id: str) -> Outcome:
    """Run the job in a message, whose id may be `fallback_id`; any error becomes a failed outcome."""
    started = clock.now()
    message: Any = None
    result: Any = None
    error: dict[str, str] | None = None
    try:
        message = json_text.parse(value or b"", "the job")
        result = _handle(_to_job(message))
    except EventVaultError as problem:
        log.warning("job %s failed: %s", _text_member(message, "id") or fallback_id, problem)
        error = _error(problem.code, problem.message)
    except BaseException as problem:
        log.exception("job %s failed", _text_member(message, "id") or fallback_id)
        error = _error("job_failed", f"{type(problem).__name__}: {problem}")
    return Outcome(
        id=_text_member(message, "id") or fallback_id,
        type=_text_member(message, "type"),
        state="done" if error is None else "failed",
        worker=WORKER_NAME,
        started_at=clock.format_milliseconds(started),
        finished_at=clock.format_milliseconds(clock.now()),
        result=result,
        error=error,
    )


def as_failed(outcome: Outcome, code: str, message: str) -> Outcome:
    """Return the outcome as failed, without its result."""
    return msgspec.structs.replace(outcome, state="failed", result=None, error=_error(code, message))


def encode(outcome: Outcome) -> bytes:
    """Return the outcome as JSON. It becomes a failed one if its result has no JSON form."""
    try:
        json.dumps(msgspec.to_builtins(outcome.result, str_keys=True), allow_nan=False)  # msgspec makes null of NaN
        return msgspec.json.encode(outcome)
    except (TypeError, ValueError, RecursionError) as error:
        return msgspec.json.encode(as_failed(outcome, "result_not_json", f"the result cannot be JSON: {error}"))


def _to_job(message: Any) -> Job:
    if not isinstance(message, dict):
        raise InvalidInput("the job is JSON, but not an object", hint=_FORM)
    for name in ("id", "type"):
        if _text_member(message, name) is None:
            raise InvalidInput(f"the job's {name} is not a text of 1 to {MAX_NAME_LENGTH} characters", hint=_FORM)
    return Job(id=message["id"], type=message["type"], payload=message.get("payload"))


def _handle(job: Job) -> Any:
    handler = _HANDLERS.get(job.type)
    if handler is None:
        raise InvalidInput(
            f"no handler is registered for the job type {job.type!r}; known: {', '.join(sorted(_HANDLERS))}",
            hint="start the worker with the module of the handler: python -m worker <module>",
        )
    return handler(job)


_FORM = 'send {"id": "…", "type": "…", "payload": …}'


def _text_member(message: Any, name: str) -> str | None:
    value = message.get(name) if isinstance(message, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH else None


def _error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message[:MAX_ERROR_LENGTH]}
