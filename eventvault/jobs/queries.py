"""Reads jobs, types and schedules from a snapshot of `jobs_db`, in any thread, while the dispatcher goes on."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing

import msgspec

from eventvault.errors import JobNotFound
from eventvault.jobs import keys
from eventvault.jobs.database import Snapshot
from eventvault.jobs.job import Job, JobSchedule, JobType
from eventvault.jobs.port import JobPage, JobView, KnownType
from eventvault.jobs.schedule import StoredSchedule
from eventvault.jobs.sessions import StoredSession

_record = msgspec.json.Decoder(Job)
_SENT = frozenset({"sent", "running"})
_ALL_GROUPS = tuple(dict.fromkeys(keys.GROUPS.values()))


def job_of(snapshot: Snapshot, job_id: str) -> Job:
    """Return a job's record. Raises JobNotFound."""
    value = snapshot.get(keys.record_key(job_id))
    if value is None:
        raise job_not_found(job_id)
    return _record.decode(value)


def job_not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"there is no job {job_id!r}", hint="GET /api/jobs lists those that there are")


def view_of(snapshot: Snapshot, job_id: str) -> JobView:
    """Return a job with its payload and result. Raises JobNotFound."""
    job = job_of(snapshot, job_id)
    return JobView(job, _raw(snapshot.get(keys.payload_key(job_id))), _raw(snapshot.get(keys.result_key(job_id))))


def page_of(snapshot: Snapshot, states: Sequence[str], types: Sequence[str], limit: int, before: str | None) -> JobPage:
    """Return the newest jobs of these states and types; empty means all. Raises JobNotFound if `before` is unknown."""
    end = None if before is None else job_of(snapshot, before).order
    jobs: list[Job] = []
    with closing(_newest(snapshot, frozenset(states), types, end)) as newest:
        for job in newest:
            if (not states or job.state in states) and (not types or job.type in types):
                jobs.append(job)
                if len(jobs) > limit:
                    return JobPage(jobs[:limit], jobs[limit - 1].id)
    return JobPage(jobs)


def types_of(snapshot: Snapshot) -> list[KnownType]:
    sessions = [session.hello for session in sessions_of(snapshot)]
    names = [{job_type.name for job_type in hello.types} for hello in sessions]
    scanned = snapshot.scan(keys.KNOWN_TYPE, keys.end_of(keys.KNOWN_TYPE))
    types = [msgspec.json.decode(value, type=JobType) for _, value in scanned]
    return [
        KnownType(
            job_type,
            sum(job_type.name in of_session for of_session in names),
            snapshot.get(keys.paused_key(job_type.name)) is not None,
        )
        for job_type in types
    ]


def sessions_of(snapshot: Snapshot) -> list[StoredSession]:
    scanned = snapshot.scan(keys.SESSION, keys.end_of(keys.SESSION))
    return [msgspec.json.decode(value, type=StoredSession) for _, value in scanned]


def unfinished_after(snapshot: Snapshot, instant: int) -> Iterator[str]:
    """Yield the ids of the unfinished jobs that were created after an instant, held ones too."""
    for group in (keys.UNFINISHED, keys.IS_HELD):
        prefix = keys.STATE + group
        for _, value in snapshot.scan(prefix, keys.end_of(prefix)):
            created, job_id = keys.read_state_value(value)
            if created > instant:
                yield job_id


def _newest(
    snapshot: Snapshot, states: frozenset[str], types: Sequence[str], end: int | None
) -> Generator[Job, None, None]:
    """Yield the jobs of all groups that have one of the states, the newest first."""
    groups = {group for state, group in keys.GROUPS.items() if state in states} or set(_ALL_GROUPS)
    scans: list[Iterator[tuple[int, str]]] = []
    with ExitStack() as stack:
        if states & _SENT and "pending" not in states:  # a few jobs, among up to a million that wait
            groups.discard(keys.UNFINISHED)
            scans.append(iter(_active(snapshot, end)))
        for prefix in _prefixes(states, types, groups):
            scans.append(stack.enter_context(closing(_orders(snapshot, prefix, end))))
        for _, job_id in heapq.merge(*scans, reverse=True):
            yield job_of(snapshot, job_id)


def _prefixes(states: frozenset[str], types: Sequence[str], groups: set[bytes]) -> list[bytes]:
    if types:
        return [keys.type_prefix(name, group) for name in dict.fromkeys(types) for group in groups]
    return [keys.STATE + group for group in groups] if states else [keys.CREATED]


def _active(snapshot: Snapshot, end: int | None) -> list[tuple[int, str]]:
    jobs = [job_of(snapshot, key[1:].decode()) for key, _ in snapshot.scan(keys.ACTIVE, keys.end_of(keys.ACTIVE))]
    return sorted(((job.order, job.id) for job in jobs if end is None or job.order < end), reverse=True)


def _orders(snapshot: Snapshot, prefix: bytes, end: int | None) -> Generator[tuple[int, str], None, None]:
    stop = keys.end_of(prefix) if end is None else prefix + end.to_bytes(8, "big")
    is_state = prefix.startswith(keys.STATE)
    for key, value in snapshot.scan(prefix, stop, reverse=True):
        yield keys.order_of(key), keys.read_state_value(value)[1] if is_state else value.decode()


def _raw(value: bytes | None) -> msgspec.Raw | None:
    return None if value is None else msgspec.Raw(value)


def schedules_of(snapshot: Snapshot) -> list[JobSchedule]:
    scanned = snapshot.scan(keys.SCHEDULE, keys.end_of(keys.SCHEDULE))
    return [msgspec.json.decode(value, type=StoredSchedule).schedule for _, value in scanned]
