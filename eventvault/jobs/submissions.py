"""Messages of the topic `jobs`: each is a job, one that is there already, or none and then quarantined. Pure."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import msgspec

from eventvault.errors import EventVaultError, InvalidInput, TooLarge
from eventvault.jobs import asking, keys
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
MAX_QUARANTINED = 1_000
"""So many messages are in quarantine; each further one replaces another one. The topic of dead letters has them all."""
_encoder = msgspec.msgpack.Encoder()


class Quarantined(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that is no job. instant: when it was read. value: cut to MAX_MESSAGE_BYTES."""

    instant: int
    error: JobError
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def take(machine: Machine, submitted: Submitted) -> None:
    """Take in a message of the topic. Its position is written with what follows from it."""
    machine.read_to(submitted.position)
    try:
        request = _request_in(submitted, machine.limits.refused_from_kafka)
    except EventVaultError as error:
        _quarantine(machine, submitted, JobError(error.code, error.message, error.details.get("fields")))
        return
    accepted = asking.submit_one(machine, request, by="", origin="kafka")
    if accepted.differs and accepted.id == request.id:
        message = f"there is a job with the id {request.id!r} already, and it differs; nothing was added"
        _publish(machine, submitted, JobError("job_differs", message), has_outcome=False)


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


def _quarantine(machine: Machine, submitted: Submitted, error: JobError) -> None:
    position, changes, counts = submitted.position, machine.ledger.changes, machine.ledger.counts
    if counts.quarantined >= MAX_QUARANTINED:
        oldest = next(changes.scan(keys.QUARANTINE, keys.behind(keys.QUARANTINE)), None)
        if oldest is not None:
            changes.remove(oldest[0])
    counts.quarantined += 1
    value = None if submitted.value is None else submitted.value[:MAX_MESSAGE_BYTES]
    entry = Quarantined(machine.now, error, submitted.key, value, submitted.headers)
    key = keys.quarantine_key(position.topic, position.partition, position.offset - 1)
    changes.put(key, _encoder.encode(entry))
    _publish(machine, submitted, error)


def _publish(machine: Machine, submitted: Submitted, error: JobError, *, has_outcome: bool = True) -> None:
    """Write why a message is no job of its own; whoever waits for the outcome of its id learns it too."""
    if machine.limits.publishes:
        letters = refused_letters(submitted, error, platform.node(), machine.now)
        machine.outbox.put(machine, letters if has_outcome else letters[1:])


_FORM = 'send {"id": "…", "type": "…", "payload": …}'
_LARGE = "send where the data are in place of the data: an event's id, or the name of a file"
