"""One attempt: calls the handler and returns the outcome as a report. Used by executors and by `worker.testing`."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from eventvault import json_text
from eventvault.errors import EventVaultError
from eventvault.jobs.job import MAX_RESULT_BYTES, JobError, JobProgress
from eventvault.jobs.messages import Done, Failed, Returned, Run
from eventvault.printable import encodable
from worker import registry
from worker.jobs import Fail, Job, Retry, Stopped
from worker.protocol import Outcome, cancelled, timed_out
from worker.registry import PayloadRefused

MAX_ERROR_LENGTH = 1_000
_MAX_FIELDS_BYTES = 8 * 1024
_TOO_MUCH: dict[str, Any] = {"payload": ["Has problems that do not fit into an answer."]}


class ResultNotJson(Exception):
    """The handler returned a value that has no JSON form."""


class ResultTooLarge(Exception):
    """The handler returned more than MAX_RESULT_BYTES."""


def carry_out(run: Run, on_progress: Callable[[JobProgress], None]) -> Outcome:
    """Call the handler and return its outcome, whatever it raises."""
    began = time.monotonic()
    try:
        result = _call(run, on_progress)
    except BaseException as error:  # noqa: BLE001 - it is the outcome
        return outcome_of(run, error, time.monotonic() - began)
    return Done(session=run.to, token=run.token, job=run.job, seconds=time.monotonic() - began, result=result)


def outcome_of(run: Run, error: BaseException, seconds: float) -> Outcome:
    """Return the outcome of an attempt that ended with an error. The traceback of an unexpected error is printed."""
    if isinstance(error, Stopped) and error.reason in ("drain", "refused"):
        return Returned(session=run.to, token=run.token, job=run.job)
    _print(error)
    failed = Failed(session=run.to, token=run.token, job=run.job, seconds=seconds, error=_job_error(run, error))
    match error:
        case Stopped():
            outcome = "timeout" if error.reason == "timeout" else "cancelled"
            return msgspec.structs.replace(failed, outcome=outcome)
        case Fail() | PayloadRefused() | ResultTooLarge():
            return msgspec.structs.replace(failed, retry=False)
        case Retry():
            return msgspec.structs.replace(failed, after=error.after)
    return failed


def _call(run: Run, on_progress: Callable[[JobProgress], None]) -> msgspec.Raw:
    registration = registry.find(run.type)
    if registration is None:
        raise UnknownType(run.type)
    payload = registration.load(msgspec.json.decode(run.payload))
    return encode_result(
        registration.handler(Job(run.job, run.type, payload, run.attempt, run.max_attempts, on_progress))
    )


class UnknownType(Exception):
    """No module of this worker has a handler of the type."""

    def __init__(self, job_type: str) -> None:
        known = ", ".join(registry.known_types())
        super().__init__(f"no handler is registered for the job type {job_type!r}; known: {known}")


def encode_result(result: Any) -> msgspec.Raw:
    """Return a result as JSON. Raises ResultNotJson or ResultTooLarge."""
    try:
        text = msgspec.json.encode(result)
        if b"null" in text:  # msgspec encodes NaN as null; json refuses it
            json.dumps(msgspec.to_builtins(result, str_keys=True), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultNotJson(f"the result cannot be JSON: {error}") from None
    if len(text) > MAX_RESULT_BYTES:
        raise ResultTooLarge(
            f"the result has {len(text)} bytes, at most {MAX_RESULT_BYTES} are accepted; write it to a file"
        )
    if json_text.is_deeper(text, json_text.MAX_DEPTH):
        raise ResultNotJson(f"the result is nested too deeply: it may have {json_text.MAX_DEPTH} levels")
    return msgspec.Raw(text)


def _job_error(run: Run, error: BaseException) -> JobError:
    match error:
        case Stopped():
            return timed_out(run.timeout) if error.reason == "timeout" else cancelled()
        case PayloadRefused():
            return JobError("invalid", _text(error), _bounded(error.fields))
        case ResultNotJson():
            return JobError("result_not_json", _text(error))
        case ResultTooLarge():
            return JobError("result_too_large", _text(error))
        case UnknownType():
            return JobError("job_type_unknown", _text(error))
        case EventVaultError():
            return JobError(error.code, _text(error))
        case Fail() | Retry():
            return JobError("job_failed", _text(error))
        case MemoryError():
            return JobError("job_memory", f"the handler needs more memory than WORKER_JOB_MEMORY: {_describe(error)}")
    return JobError("job_failed", _describe(error))


def _print(error: BaseException) -> None:
    if not isinstance(error, Fail | Retry | PayloadRefused | ResultNotJson | ResultTooLarge | UnknownType):
        traceback.print_exception(error, file=sys.stderr)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {_text(error)}"[:MAX_ERROR_LENGTH]


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a handler's own class may do anything
        text = "an error whose text cannot be made"
    return str(encodable(text[:MAX_ERROR_LENGTH]))


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = encodable(msgspec.to_builtins(fields, str_keys=True))
        return plain if len(msgspec.json.encode(plain)) <= _MAX_FIELDS_BYTES else _TOO_MUCH
    except (TypeError, ValueError, RecursionError):  # a schema may make messages that are not JSON
        return _TOO_MUCH
