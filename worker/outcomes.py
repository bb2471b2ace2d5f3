"""From a message of the jobs topic to its outcome in the results topic."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import msgspec

from eventvault import clock, json_text
from eventvault.errors import EventVaultError, InvalidInput
from eventvault.jobs.job import MAX_NAME_LENGTH
from worker import registry
from worker.attempt import MAX_ERROR_LENGTH
from worker.jobs import WORKER_NAME, Job
from worker.registry import PayloadRefused

log = logging.getLogger("worker")


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


def run(value: bytes | None, fallback_id: str) -> Outcome:
    """Run the job in a message, whose id may be `fallback_id`; any error becomes a failed outcome."""
    started = clock.now()
    message: Any = None
    result: Any = None
    error: dict[str, str] | None = None
    try:
        message = json_text.parse(value or b"", "the job")
        result = _handle(_to_job(message))
    except PayloadRefused as problem:
        error = _error("invalid", str(problem))
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
    registration = registry.find(job.type)
    if registration is None:
        raise InvalidInput(
            f"no handler is registered for the job type {job.type!r}; known: {', '.join(registry.known_types())}",
            hint="start the worker with the module of the handler: python -m worker <module>",
        )
    return registration.handler(replace(job, payload=registration.load(job.payload)))


_FORM = 'send {"id": "…", "type": "…", "payload": …}'


def _text_member(message: Any, name: str) -> str | None:
    value = message.get(name) if isinstance(message, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH else None


def _error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message[:MAX_ERROR_LENGTH]}
