"""What clients, schedules and recoveries ask of the machine: to submit, cancel, retry, hold and resume jobs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from eventvault.errors import JobQueueFull
from eventvault.jobs import arrows, keys
from eventvault.jobs.job import MAX_ATTEMPTS, TIMEOUT_SECONDS, Job, JobError, JobRequest, JobSchedule, Origin
from eventvault.jobs.port import Changed, SubmitResult
from eventvault.jobs.waiting import PAGE

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine
    from eventvault.jobs.schedule import StoredSchedule
    from eventvault.jobs.transport import Position

_DIGEST_BYTES = 16
_encoder = msgspec.json.Encoder()


def submit(
    machine: Machine, wanted: Sequence[JobRequest], by: str, origin: Origin = "api", schedule: str | None = None
) -> list[SubmitResult]:
    """Accept these jobs, which have ids and are checked. Raises JobQueueFull; then none is accepted."""
    if machine.ledger.counts.unfinished + len(wanted) > machine.limits.max_unfinished:
        raise JobQueueFull(
            f"{machine.ledger.counts.unfinished} jobs are unfinished, at most {machine.limits.max_unfinished} can be",
            hint="start more workers, or cancel jobs that are not needed",
        )
    return [submit_one(machine, request, by, origin, schedule) for request in wanted]


def cancel(machine: Machine, ids: Iterable[str]) -> list[Changed]:
    return [_cancel_one(machine, job_id, machine.ledger.job(job_id)) for job_id in ids]


def retry(machine: Machine, ids: Iterable[str]) -> list[Changed]:
    return [_retry_one(machine, job_id, machine.ledger.job(job_id)) for job_id in ids]


def pause(machine: Machine, job_type: str | None) -> list[str]:
    """Send no jobs of this type any more; if None, of no type, nor of those that workers name until `resume`."""
    if job_type is None:
        machine.pauses_new = True
        machine.ledger.changes.put(keys.PAUSES_NEW, b"")
    for name in [job_type] if job_type is not None else list(machine.types):
        machine.paused.add(name)
        machine.ledger.changes.put(keys.paused_key(name), b"")
    return sorted(machine.paused)


def resume(machine: Machine, job_type: str | None) -> list[str]:
    for name in [job_type] if job_type is not None else list(machine.paused):
        machine.paused.discard(name)
        machine.ledger.changes.remove(keys.paused_key(name))
    if job_type is None:
        machine.pauses_new = False
        machine.ledger.changes.remove(keys.PAUSES_NEW)
        machine.is_held, machine.is_releasing = False, True
        machine.ledger.changes.remove(keys.META_HELD)
        machine.ledger.changes.put(keys.META_RELEASE, b"")
    return sorted(machine.paused)


def hold_all(machine: Machine) -> None:
    """Send and fire nothing until somebody resumes: nobody knows what became of jobs meanwhile."""
    machine.is_held = True
    machine.ledger.changes.put(keys.META_HELD, b"")


def release(machine: Machine) -> None:
    """Let a page of the held jobs wait for a worker."""
    prefix = keys.STATE + keys.IS_HELD
    page = [value for _, value in islice(machine.ledger.changes.scan(prefix, keys.behind(prefix)), PAGE)]
    for value in page:
        job = machine.ledger.existing(keys.read_state_value(value)[1])
        released = msgspec.structs.replace(job, state="pending")
        machine.ledger.replace(job, released)
        if machine.ledger.may_run(released):
            machine.waiting.add(machine.ledger.changes, released)
    if not page:
        machine.is_releasing = False
        machine.ledger.changes.remove(keys.META_RELEASE)


def hold(machine: Machine, job: Job, payload: bytes) -> bool:
    """Take a job over that another `jobs_db` had, to wait until it is resumed. Returns False if it is there."""
    if machine.ledger.job(job.id) is not None:
        return False
    attempts = job.attempts
    if attempts and attempts[-1].outcome is None:
        attempts = (*attempts[:-1], msgspec.structs.replace(attempts[-1], outcome="lost", ended_at=machine.now))
    held = msgspec.structs.replace(
        job, state="held", order=machine.ledger.next_order(), line=0, token=None, session=None, attempts=attempts,
        origin="recovered",
    )  # fmt: skip
    if held.unique is not None:
        machine.ledger.changes.put(keys.unique_key(held.unique), held.id.encode())
    machine.ledger.add(held, payload)
    machine.ledger.enter_key(held)
    if held.is_stopping:
        arrows.end(machine, held, held, "cancelled")
    return True


def submit_one(
    machine: Machine, request: JobRequest, by: str, origin: Origin, schedule: str | None = None
) -> SubmitResult:
    """Accept a job, which has an id and is checked, even if the queue is full."""
    assert request.id is not None
    digest = digest_of(request)
    there = machine.ledger.job(request.id)
    if there is not None:
        machine.ledger.counts.duplicates += 1
        return SubmitResult(there.id, there.state, duplicate=True, differs=there.digest != digest)
    if request.unique is not None:
        holder = machine.ledger.changes.get(keys.unique_key(request.unique))
        if holder is not None:
            machine.ledger.counts.duplicates += 1
            other = machine.ledger.existing(holder.decode())
            return SubmitResult(other.id, other.state, duplicate=True, differs=other.digest != digest)
        machine.ledger.changes.put(keys.unique_key(request.unique), request.id.encode())
    job = _new_job(machine, request, digest, by, origin, schedule)
    machine.ledger.add(job, bytes(request.payload))
    if machine.ledger.enter_key(job):
        machine.waiting.add(machine.ledger.changes, job)
    return SubmitResult(job.id, job.state)


def _new_job(machine: Machine, request: JobRequest, digest: str, by: str, origin: Origin, schedule: str | None) -> Job:
    assert request.id is not None
    known = machine.types.get(request.type)
    run_at = machine.now if request.delay is None else machine.now + round(request.delay * 1e6)
    return Job(
        id=request.id, type=request.type, order=machine.ledger.next_order(), state="pending", created=machine.now,
        run_at=run_at if request.run_at is None else max(request.run_at, 0),
        digest=digest, origin=origin, by=by, priority=request.priority, key=request.key, unique=request.unique,
        max_attempts=request.max_attempts or (known.max_attempts if known else MAX_ATTEMPTS),
        timeout=request.timeout or (known.timeout if known else TIMEOUT_SECONDS), schedule=schedule,
    )  # fmt: skip


def _cancel_one(machine: Machine, job_id: str, job: Job | None) -> Changed:
    if job is None:
        return Changed(job_id, "unknown")
    if job.is_final:
        return Changed(job_id, "unchanged", job.state)
    if job.state in ("pending", "held"):
        if job.state == "pending" and machine.ledger.may_run(job):
            machine.waiting.remove(machine.ledger.changes, job)
        arrows.end(machine, job, job, "cancelled")
        return Changed(job_id, "changed", "cancelled")
    active = machine.session_of(job).active[job.token or ""]
    if not job.is_stopping:
        arrows.update(machine, active, is_stopping=True)
        arrows.stop(machine, active, "cancelled")
    return Changed(job_id, "stopping", job.state)


def _retry_one(machine: Machine, job_id: str, job: Job | None) -> Changed:
    if job is None:
        return Changed(job_id, "unknown")
    changes = machine.ledger.changes
    is_second = job.unique is not None and changes.get(keys.unique_key(job.unique)) is not None
    if job.state not in ("dead", "cancelled") or is_second:
        return Changed(job_id, "unchanged", job.state)
    again = msgspec.structs.replace(
        job, state="pending", run_at=machine.now, tries=0, error=None, ended=None, is_stopping=False,
        line=machine.ledger.next_order(),
    )  # fmt: skip
    if job.unique is not None:
        changes.put(keys.unique_key(job.unique), job.id.encode())
    machine.ledger.replace(job, again)
    if machine.ledger.enter_key(again):
        machine.waiting.add(changes, again)
    return Changed(job_id, "changed", "pending")


def put_schedule(machine: Machine, schedule: JobSchedule) -> JobSchedule:
    """Raises InvalidInput for a zone or cron that is none or never fires; JobScheduleInCode."""
    return machine.schedules.put(machine, schedule)


def take_schedule(machine: Machine, stored: StoredSchedule) -> None:
    """Take a schedule over that another `jobs_db` had, and which of its firings are over."""
    machine.schedules.take(machine, stored)


def take_position(machine: Machine, position: Position) -> None:
    """Read a topic on where another `jobs_db` was, unless this one has read it."""
    if machine.ledger.changes.get(keys.position_key(position.topic, position.partition)) is None:
        machine.read_to(position)


def note_adopted(machine: Machine, dispatcher: str) -> None:
    """Note whose copy is taken over: it may be replaced then."""
    machine.ledger.changes.put(keys.META_ADOPTED, dispatcher.encode())


def is_new(machine: Machine) -> bool:
    """Return whether nothing was taken over from another `jobs_db` yet."""
    return machine.ledger.changes.get(keys.META_NEW) is not None


def take_nothing_more(machine: Machine) -> None:
    machine.ledger.changes.remove(keys.META_NEW)


def delete_schedule(machine: Machine, name: str) -> None:
    """Raises JobScheduleNotFound, or JobScheduleInCode."""
    machine.schedules.delete(machine, name)


def end_unknown(machine: Machine, job_id: str, error: JobError) -> None:
    """End a waiting job whose type no worker ever named."""
    job = machine.ledger.existing(job_id)
    machine.waiting.remove(machine.ledger.changes, job)
    arrows.end(machine, job, msgspec.structs.replace(job, error=error), "dead")


def digest_of(request: JobRequest) -> str:
    """Return what tells whether a second request with one id is the same."""
    text = _encoder.encode(msgspec.structs.replace(request, id=None))
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()
