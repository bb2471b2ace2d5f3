"""Processes the messages of the topic `jobs`: submits the job in a message, or quarantines the message. Pure."""

from __future__ import annotations

import platform

from eventvault.errors import EventVaultError, InvalidInput, TooLarge
from eventvault.jobs import commands
from eventvault.jobs.job import MAX_NAME_LENGTH, MAX_PAYLOAD_BYTES, JobError, JobRequest
from eventvault.jobs.outcomes import refusal_messages
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.sent import read_job
from eventvault.jobs.transport import Submitted

BUILT_IN = frozenset({"verify", "rehearse", "export", "prune", "webhook"})
"""Types whose jobs need a scope, which a message cannot prove: JOBS_FROM_KAFKA names those that the topic may bring."""
MAX_MESSAGE_BYTES = MAX_PAYLOAD_BYTES + 64 * 1024
"""A larger message is refused unread: its payload or its names must be too large."""


def process(queue: JobQueue, submitted: Submitted) -> None:
    """Process a message of the topic. Its position is written together with the changes that it causes."""
    queue.read_to(submitted.position)
    try:
        request = _read_request(submitted, queue.limits.refused_from_kafka)
    except EventVaultError as error:
        refuse(queue, submitted, JobError(error.code, error.message, error.details.get("fields")))
        return
    accepted = commands.submit_one(queue, request, by="", origin="kafka")
    if accepted.differs and accepted.id == request.id:
        message = f"there is a job with the id {request.id!r} already, and it differs; nothing was added"
        _publish(queue, submitted, JobError("job_differs", message), has_outcome=False)


def refuse(queue: JobQueue, submitted: Submitted, error: JobError) -> None:
    """Quarantine a message that is not a job, with the reason. Its position is written with that."""
    queue.read_to(submitted.position)
    queue.quarantine.put(submitted, error, queue.now, MAX_MESSAGE_BYTES)
    _publish(queue, submitted, error)


def _read_request(submitted: Submitted, refused: frozenset[str]) -> JobRequest:
    """Return the job in a message. Raises an EventVaultError if the message is not a job."""
    value = submitted.value or b""
    if len(value) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"the message has {len(value)} bytes, at most {MAX_MESSAGE_BYTES} are accepted", hint=_LARGE)
    request = read_job(value, exact=False)
    if request.id is None:
        raise InvalidInput(f"the job's id is not a text of 1 to {MAX_NAME_LENGTH} characters", hint=_FORM)
    if request.type in refused:
        raise InvalidInput(
            f"jobs of the type {request.type!r} are not accepted from Kafka",
            hint=f"submit it with POST /api/jobs, or set JOBS_FROM_KAFKA={request.type}",
        )
    return request


def _publish(queue: JobQueue, submitted: Submitted, error: JobError, *, has_outcome: bool = True) -> None:
    """Publish why a message was not accepted: a dead letter, and an outcome for those who wait for one."""
    if queue.limits.publishes:
        messages = refusal_messages(submitted, error, platform.node(), queue.now)
        queue.outbox.put(messages if has_outcome else messages[1:])


_FORM = 'send {"id": "…", "type": "…", "payload": …}'
_LARGE = "send a reference in place of the data: an event's id, or the name of a file"
