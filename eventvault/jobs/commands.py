"""The commands of clients and schedules: submit, cancel, retry, pause and resume jobs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from eventvault.errors import JobQueueFull
from eventvault.jobs import keys, transitions
from eventvault.jobs.job import MAX_ATTEMPTS, TIMEOUT_SECONDS, Job, JobRequest, Origin
from eventvault.jobs.port import Changed, SubmitResult
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.waiting import PAGE

_DIGEST_BYTES = 16
_encoder = msgspec.json.Encoder()


def submit(queue: JobQueue, wanted: Sequence[JobRequest], by: str) -> list[SubmitResult]:
    """Accept all of these jobs, which have ids and are checked. Raises JobQueueFull if not all of them fit."""
    if queue.ledger.counts.unfinished + len(wanted) > queue.limits.max_unfinished:
        raise JobQueueFull(
            f"{queue.ledger.counts.unfinished} jobs are unfinished, at most {queue.limits.max_unfinished} are accepted",
            hint="start more workers, or cancel jobs that are not needed",
        )
    return [submit_one(queue, request, by, "api") for request in wanted]


def cancel(queue: JobQueue, ids: Iterable[str]) -> list[Changed]:
    return [_cancel_one(queue, job_id, queue.ledger.job(job_id)) for job_id in ids]


def retry(queue: JobQueue, ids: Iterable[str]) -> list[Changed]:
    return [_retry_one(queue, job_id, queue.ledger.job(job_id)) for job_id in ids]


def pause(queue: JobQueue, job_type: str | None) -> list[str]:
    """Send no more jobs of this type; if None, of any type, including types that workers name until `resume`."""
    if job_type is None:
        queue.pauses_new = True
        queue.ledger.changes.put(keys.PAUSES_NEW, b"")
    for name in [job_type] if job_type is not None else list(queue.types):
        queue.paused.add(name)
        queue.ledger.changes.put(keys.paused_key(name), b"")
    return sorted(queue.paused)


def resume(queue: JobQueue, job_type: str | None) -> list[str]:
    for name in [job_type] if job_type is not None else list(queue.paused):
        queue.paused.discard(name)
        queue.ledger.changes.remove(keys.paused_key(name))
    if job_type is None:
        queue.pauses_new = False
        queue.ledger.changes.remove(keys.PAUSES_NEW)
        queue.is_held, queue.is_releasing = False, True
        queue.ledger.changes.remove(keys.META_HELD)
        queue.ledger.changes.put(keys.META_RELEASE, b"")
    return sorted(queue.paused)


def hold_all(queue: JobQueue) -> None:
    """Send and fire nothing until somebody resumes, because it is unknown what became of the jobs meanwhile."""
    queue.is_held = True
    queue.ledger.changes.put(keys.META_HELD, b"")


def release(queue: JobQueue) -> None:
    """Make a page of the held jobs pending."""
    prefix = keys.STATE + keys.IS_HELD
    page = [value for _, value in islice(queue.ledger.changes.scan(prefix, keys.end_of(prefix)), PAGE)]
    for value in page:
        job = queue.ledger.existing(keys.read_state_value(value)[1])
        released = msgspec.structs.replace(job, state="pending")
        queue.ledger.replace(job, released)
        if queue.ledger.may_run(released):
            queue.waiting.add(queue.ledger.changes, released)
    if not page:
        queue.is_releasing = False
        queue.ledger.changes.remove(keys.META_RELEASE)


def submit_one(
    queue: JobQueue, request: JobRequest, by: str, origin: Origin, schedule: str | None = None
) -> SubmitResult:
    """Accept a job, which has an id and is checked, even if the queue is full."""
    assert request.id is not None
    digest = digest_of(request)
    existing = queue.ledger.job(request.id)
    if existing is not None:
        queue.ledger.counts.duplicates += 1
        return SubmitResult(existing.id, existing.state, duplicate=True, differs=existing.digest != digest)
    if request.unique is not None:
        holder = queue.ledger.changes.get(keys.unique_key(request.unique))
        if holder is not None:
            queue.ledger.counts.duplicates += 1
            other = queue.ledger.existing(holder.decode())
            return SubmitResult(other.id, other.state, duplicate=True, differs=other.digest != digest)
        queue.ledger.changes.put(keys.unique_key(request.unique), request.id.encode())
    job = _new_job(queue, request, digest, by, origin, schedule)
    queue.ledger.add(job, bytes(request.payload))
    if queue.ledger.enter_key(job):
        queue.waiting.add(queue.ledger.changes, job)
    return SubmitResult(job.id, job.state)


def _new_job(queue: JobQueue, request: JobRequest, digest: str, by: str, origin: Origin, schedule: str | None) -> Job:
    assert request.id is not None
    job_type = queue.types.get(request.type)
    run_at = queue.now if request.delay is None else queue.now + round(request.delay * 1e6)
    return Job(
        id=request.id, type=request.type, order=queue.ledger.next_order(), state="pending", created=queue.now,
        run_at=run_at if request.run_at is None else max(request.run_at, 0),
        digest=digest, origin=origin, by=by, priority=request.priority, key=request.key, unique=request.unique,
        max_attempts=request.max_attempts or (job_type.max_attempts if job_type else MAX_ATTEMPTS),
        timeout=request.timeout or (job_type.timeout if job_type else TIMEOUT_SECONDS), schedule=schedule,
    )  # fmt: skip


def _cancel_one(queue: JobQueue, job_id: str, job: Job | None) -> Changed:
    if job is None:
        return Changed(job_id, "unknown")
    if job.is_final:
        return Changed(job_id, "unchanged", job.state)
    if job.state in ("pending", "held"):
        if job.state == "pending" and queue.ledger.may_run(job):
            queue.waiting.remove(queue.ledger.changes, job)
        transitions.end(queue, job, job, "cancelled")
        return Changed(job_id, "changed", "cancelled")
    active = queue.session_of(job).active[job.token or ""]
    if not job.is_stopping:
        transitions.update(queue, active, is_stopping=True)
        transitions.stop(queue, active, "cancelled")
    return Changed(job_id, "stopping", job.state)


def _retry_one(queue: JobQueue, job_id: str, job: Job | None) -> Changed:
    if job is None:
        return Changed(job_id, "unknown")
    changes = queue.ledger.changes
    is_unique_held = job.unique is not None and changes.get(keys.unique_key(job.unique)) is not None
    if job.state not in ("dead", "cancelled") or is_unique_held:
        return Changed(job_id, "unchanged", job.state)
    again = msgspec.structs.replace(
        job, state="pending", run_at=queue.now, tries=0, error=None, ended=None, is_stopping=False,
        line=queue.ledger.next_order(),
    )  # fmt: skip
    if job.unique is not None:
        changes.put(keys.unique_key(job.unique), job.id.encode())
    queue.ledger.replace(job, again)
    if queue.ledger.enter_key(again):
        queue.waiting.add(changes, again)
    return Changed(job_id, "changed", "pending")


def digest_of(request: JobRequest) -> str:
    """Return a digest of the request without its id. It tells whether a second request with this id is the same."""
    text = _encoder.encode(msgspec.structs.replace(request, id=None))
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()
