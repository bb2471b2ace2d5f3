"""Messages of the topic `jobs`: each is a job, one that is there already, or none and then quarantined. Pure."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from eventvault.errors import EventVaultError, InvalidInput, TooLarge
from eventvault.jobs import asking
from eventvault.jobs.job import MAX_NAME_LENGTH, MAX_PAYLOAD_BYTES, JobError, JobRequest
from eventvault.jobs.outcomes import refused_letters
from eventvault.jobs.sent import read_job
from eventvault.jobs.transport import Submitted

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine

BUILT_IN = frozenset({"verify", "rehearse", "export", "prune", "webhook"})
"""Types whose jobs need a scope that a message cannot prove: JOBS_FROM_KAFKA names those that may come by the topic."""
MAX_MESSAGE_BYTES = MAX_PAYLOAD_BYTES + 64 * 1024
"""A larger message is not read: its payload is too large, or its names are."""


def take(machine: Machine, submitted: Submitted) -> None:
    """Take in a message of the topic. Its position is written with what follows from it."""
    machine.read_to(submitted.position)
    try:
        request = _request_in(submitted, machine.limits.refused_from_kafka)
    except EventVaultError as error:
        refuse(machine, submitted, JobError(error.code, error.message, error.details.get("fields")))
        return
    accepted = asking.submit_one(machine, request, by="", origin="kafka")
    if accepted.differs and accepted.id == request.id:
        message = f"there is a job with the id {request.id!r} already, and it differs; nothing was added"
        _publish(machine, submitted, JobError("job_differs", message), has_outcome=False)


def refuse(machine: Machine, submitted: Submitted, error: JobError) -> None:
    """Quarantine a message that is no job, and write why. Its position is written with that."""
    machine.read_to(submitted.position)
    machine.quarantine.put(machine, submitted, error, MAX_MESSAGE_BYTES)
    _publish(machine, submitted, error)


def _request_in(submitted: Submitted, refused: frozenset[str]) -> JobRequest:
    """Raises an EventVaultError if there is none."""
    value = submitted.value or b""
    if len(value) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"the message has {len(value)} bytes, at most {MAX_MESSAGE_BYTES} are taken", hint=_LARGE)
    request = read_job(value, exact=False)
    if request.id is None:
        raise InvalidInput(f"the job's id is not a text of 1 to {MAX_NAME_LENGTH} characters", hint=_FORM)
    if request.type in refused:
        raise InvalidInput(
            f"jobs of the type {request.type!r} are not taken from Kafka",
            hint=f"submit it with POST /api/jobs, or set JOBS_FROM_KAFKA={request.type}",
        )
    return request


def _publish(machine: Machine, submitted: Submitted, error: JobError, *, has_outcome: bool = True) -> None:
    """Write why a message is no job of its own; whoever waits for the outcome of its id learns it too."""
    if machine.limits.publishes:
        letters = refused_letters(submitted, error, platform.node(), machine.now)
        machine.outbox.put(machine, letters if has_outcome else letters[1:])


_FORM = 'send {"id": "…", "type": "…", "payload": …}'
_LARGE = "send where the data are in place of the data: an event's id, or the name of a file"
