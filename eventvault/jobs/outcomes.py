"""Makes the messages for others: outcomes of jobs for `job-results`, and dead letters with their reason. Pure.

An outcome has the fields that the worker of 0.1.0 wrote. The dead letter of a job is the job in a form that may be sent
again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault import clock
from eventvault.jobs.hidden_values import payload_without_secrets
from eventvault.jobs.job import MAX_NAME_LENGTH, Attempt, Job, JobError
from eventvault.jobs.transport import OutboxMessage, Submitted

HEADER_PREFIX = "x-eventvault-"
MAX_ERROR_LENGTH = 1_000
_encoder = msgspec.json.Encoder()


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The value of a message in the topic of outcomes.

    state: `done` with `result`, or `failed` with `error` {code, message}. worker: the host that ran or refused the job.
    Instants are ISO 8601.
    """

    id: str
    type: str | None
    state: str
    worker: str
    started_at: str
    finished_at: str
    result: msgspec.Raw | None = None
    error: dict[str, str] | None = None


class _SentAgain(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job in the form of the topic `jobs`."""

    id: str
    type: str
    payload: msgspec.Raw
    priority: int = 0
    key: str | None = None
    unique: str | None = None
    max_attempts: int | None = None
    timeout: float | None = None


def outcome_message(job: Job, result: bytes | None) -> OutboxMessage:
    """Return the outcome of a job that has ended. result: JSON text, None if there is none."""
    attempt = job.attempts[-1] if job.attempts else None
    ended = job.ended or job.created
    outcome = Outcome(
        id=job.id,
        type=job.type,
        state="done" if job.state == "done" else "failed",
        worker=attempt.host if attempt else "",
        started_at=clock.format_milliseconds(_started(attempt, ended)),
        finished_at=clock.format_milliseconds(ended),
        result=msgspec.Raw(result or b"null") if job.state == "done" else None,
        error=None
        if job.state == "done"
        else _error(job.error or JobError(f"job_{job.state}", f"the job is {job.state}")),
    )
    return OutboxMessage("result", _key(job.id), _encoder.encode(outcome))


def dead_letter(job: Job, payload: bytes | None) -> OutboxMessage:
    """Return a dead job in a form that may be sent to `jobs` again, with the reason in its headers.

    It has the values that only an administrator may see only if the job itself came by a topic.
    """
    text = msgspec.Raw(payload or b"null")
    sent = _SentAgain(
        id=job.id, type=job.type, payload=text if job.origin == "kafka" else payload_without_secrets(job.type, text),
        priority=job.priority, key=job.key,
        unique=job.unique, max_attempts=job.max_attempts, timeout=job.timeout,
    )  # fmt: skip
    error = job.error or JobError("job_dead", "the job is dead")
    headers = _headers({"reason": error.message, "code": error.code, "attempts": str(job.attempt)})
    return OutboxMessage("dead", _key(job.id), _encoder.encode(sent), headers)


def refusal_messages(submitted: Submitted, error: JobError, worker: str, now: int) -> list[OutboxMessage]:
    """Return the outcome and the dead letter of a message of `jobs` that is not a job. worker: this host."""
    position = submitted.position
    offset = position.offset - 1
    members = _members(submitted.value)
    job_id = _name(members, "id") or f"{position.topic}/{position.partition}/{offset}"
    instant = clock.format_milliseconds(now)
    outcome = Outcome(
        id=job_id, type=_name(members, "type"), state="failed", worker=worker, started_at=instant, finished_at=instant,
        error=_error(error),
    )  # fmt: skip
    origin = {
        "reason": error.message, "code": error.code, "topic": position.topic, "partition": str(position.partition),
        "offset": str(offset),
    }  # fmt: skip
    headers = (*submitted.headers, *_headers(origin))
    return [
        OutboxMessage("result", _key(job_id), _encoder.encode(outcome)),
        OutboxMessage("dead", submitted.key, submitted.value, headers),
    ]


def shortened(message: OutboxMessage) -> OutboxMessage:
    """Return a short form of a message that is larger than its topic allows."""
    if message.kind == "dead":
        note = (f"{HEADER_PREFIX}shortened", str(len(message.value or b"")).encode())
        return message._replace(value=None, headers=(*message.headers, note))
    reason = f"the result has {len(message.value or b'')} bytes, more than the topic accepts"
    outcome = msgspec.json.decode(message.value or b"{}")
    outcome.pop("result", None)
    outcome |= {"state": "failed", "error": _error(JobError("result_too_large", reason))}
    return message._replace(value=_encoder.encode(outcome))


def _started(attempt: Attempt | None, ended: int) -> int:
    return ended if attempt is None else attempt.started_at or attempt.sent_at


def _error(error: JobError) -> dict[str, str]:
    return {"code": error.code, "message": error.message[:MAX_ERROR_LENGTH]}


def _headers(values: dict[str, str]) -> tuple[tuple[str, bytes], ...]:
    return tuple((HEADER_PREFIX + name, value.encode(errors="replace")) for name, value in values.items())


def _key(job_id: str) -> bytes:
    return job_id.encode(errors="replace")


def _members(value: bytes | None) -> Any:
    try:
        return msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _name(members: Any, name: str) -> str | None:
    value = members.get(name) if isinstance(members, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH else None
