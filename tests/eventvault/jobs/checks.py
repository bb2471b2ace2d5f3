"""What must hold in `jobs_db` after every batch, and what the runs of the handlers must show."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.job import ATTEMPTS_LISTED, Job
from eventvault.jobs.ledger import JobCounts
from tests.eventvault.jobs.rig import MemoryDatabase, World


def check_database(database: MemoryDatabase) -> None:
    """Every index says what the records say, and each unfinished job is in one place."""
    records = database.records()
    for job in records.values():
        check_job(job)
    assert set(database.keys_of(keys.CREATED)) == {keys.created_key(job.order) for job in records.values()}
    assert dict(database.scan(keys.STATE, keys.end_of(keys.STATE))) == {
        keys.state_key(keys.GROUPS[job.state], job.order): keys.state_value(job.created, job.id)
        for job in records.values()
    }
    assert set(database.keys_of(keys.TYPE)) == {
        keys.type_key(job.type, keys.GROUPS[job.state], job.order) for job in records.values()
    }
    assert set(database.keys_of(keys.ENDED)) == {
        keys.ended_key(is_dead=job.state == "dead", ended=job.ended, order=job.order)
        for job in records.values()
        if job.is_final and job.ended is not None
    }
    check_places(database, records)
    check_texts(database, records)
    counts = msgspec.json.decode(database.get(keys.META_COUNTS) or b"{}", type=JobCounts)
    assert {state: count for state, count in counts.states.items() if count} == Counter(
        job.state for job in records.values()
    )


def check_job(job: Job) -> None:
    is_active = job.state in ("sent", "running")
    assert (job.token is not None) == (job.session is not None) == is_active
    assert job.tries <= job.max_attempts
    assert job.attempt == job.earlier_attempts + len(job.attempts)
    assert len(job.attempts) <= ATTEMPTS_LISTED
    for attempt in job.attempts[:-1]:
        assert attempt.outcome is not None
        assert attempt.outcome != "done" or job.state != "done"
    if job.attempts:
        last = job.attempts[-1]
        assert (last.outcome is None) == is_active
        assert not is_active or last.token == job.token
        assert (last.outcome == "done") == (job.state == "done")
    assert (job.ended is not None) == job.is_final


def check_places(database: MemoryDatabase, records: dict[str, Job]) -> None:
    """Each unfinished job waits, or waits behind another of its key, or is with a living session, or is held."""
    unfinished = [job for job in records.values() if not job.is_final]
    lines: dict[str, list[Job]] = defaultdict(list)
    for job in sorted(unfinished, key=lambda job: job.place):
        if job.key is not None:
            lines[job.key].append(job)
    heads = {keys.head_key(key): line[0].id.encode() for key, line in lines.items()}
    assert dict(database.scan(keys.HEAD, keys.end_of(keys.HEAD))) == heads
    assert set(database.keys_of(keys.KEYED)) == {
        keys.keyed_key(key, job.place) for key, line in lines.items() for job in line
    }
    may_run = [job for job in unfinished if job.key is None or job is lines[job.key][0]]
    assert dict(database.scan(keys.WAITING, keys.end_of(keys.WAITING))) == {
        keys.waiting_key(job.type, job.priority, job.run_at, job.order): job.id.encode()
        for job in may_run
        if job.state == "pending"
    }
    active = [job for job in unfinished if job.state in ("sent", "running")]
    assert all(job in may_run for job in active)
    assert set(database.keys_of(keys.ACTIVE)) == {keys.active_key(job.id) for job in active}
    sessions = {key[1:].decode() for key in database.keys_of(keys.SESSION)}
    assert {job.session for job in active} <= sessions
    assert dict(database.scan(keys.UNIQUE, keys.end_of(keys.UNIQUE))) == {
        keys.unique_key(job.unique): job.id.encode() for job in unfinished if job.unique is not None
    }


def check_texts(database: MemoryDatabase, records: dict[str, Job]) -> None:
    assert {key[1:].decode() for key in database.keys_of(keys.PAYLOAD)} == {
        job.id for job in records.values() if job.state != "done"
    }
    assert {key[1:].decode() for key in database.keys_of(keys.RESULT)} == {
        job.id for job in records.values() if job.state == "done"
    }


def check_runs(world: World) -> None:
    """Every run is on record before it begins, no token runs twice, and a run that was followed by another was lost."""
    records = world.database.records()
    tokens = [run.message.token for run in world.runs]
    assert len(tokens) == len(set(tokens))
    for run in world.runs:
        job = records[run.message.job]
        attempts = {attempt.token: attempt for attempt in job.attempts}
        if job.earlier_attempts == 0:
            assert run.message.token in attempts
            if run.message.token != job.attempts[-1].token:
                assert attempts[run.message.token].outcome in ("failed", "lost", "returned", "timeout", "cancelled")
