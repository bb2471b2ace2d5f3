"""The 14 invariants of jobs, in the database of a real dispatcher and in what handlers wrote down while they ran.

The 14th is that both transports pass one suite: `tests/eventvault/jobs/test_transports.py`, and this one.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from eventvault.jobs import keys
from eventvault.jobs.job import ATTEMPTS_LISTED, FINAL_STATES, Job
from tests.crash.jobs_of_service import Run, differences, lasting
from tests.eventvault.jobs.checks import check_database
from tests.eventvault.jobs.rig import MemoryDatabase

CRON = "cron/"
REREAD = (keys.POSITION, keys.META_COUNTS)
"""What else changes when messages are read again: how far topics were read, and how many jobs were duplicates."""


def check_quiet(image: MemoryDatabase, runs: Sequence[Run], accepted: Iterable[str], harmed: Collection[int]) -> None:
    """Check all that shows once each job is final. harmed: supervisors that were killed or stopped."""
    check_database(image)  # 2, 3, 7 and 13, and that each index says what the records say
    records = image.records()
    of_job: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        of_job[run.job].append(run)
    expected = {*accepted, *firings(records)}
    assert set(records) == expected, f"1: every accepted id is there, and no other: {set(records) ^ expected}"
    assert set(of_job) <= set(records)
    for job in records.values():
        check_history(job, of_job[job.id])
        check_losses(job, harmed)
    check_lines(records.values(), of_job)
    check_firings(records)


def check_history(job: Job, runs: Sequence[Run]) -> None:
    """Compare a final job with the runs of its handler."""
    outcomes = [attempt.outcome for attempt in job.attempts]
    assert job.state in FINAL_STATES, f"1: an accepted job becomes final: {job}"
    assert job.token is None, f"2: a final job has no live token: {job}"
    assert outcomes.count("done") == (job.state == "done"), f"3: done at most once, if it is done: {job}"
    numbers = [attempt.number for attempt in job.attempts]
    assert numbers == list(range(1 + job.earlier_attempts, 1 + job.attempt)), f"4: an attempt is not on record: {job}"
    assert len({attempt.token for attempt in job.attempts}) == len(numbers) <= ATTEMPTS_LISTED, f"5: {job}"
    later = {run.attempt for run in runs if run.attempt > job.earlier_attempts}
    assert later <= set(numbers), f"4: a run is not on record: {job}"
    assert len({run.attempt for run in runs}) == len(runs), f"5: an attempt ran twice: {job}"
    assert all(each in ("failed", "lost", "returned", "timeout") for each in outcomes[:-1]), f"6: {job}"
    assert job.tries <= job.max_attempts, f"13: it is tried too often: {job}"
    if job.state == "done":
        assert [run for run in runs if run.attempt == job.attempt and run.end is not None], f"3: it did not run: {job}"


def check_losses(job: Job, harmed: Collection[int]) -> None:
    """8: no lease ends while dispatcher or broker is away, so only those are lost whose supervisor was away itself."""
    for attempt in job.attempts:
        supervisor = int(attempt.host.rpartition("-")[2])
        assert attempt.outcome != "lost" or supervisor in harmed, f"8: a living worker was lost: {job}"


def check_lines(jobs: Iterable[Job], runs: Mapping[str, Sequence[Run]]) -> None:
    """9: jobs of one key run in the order of their creation, one at a time.

    A handler whose supervisor stood still for longer than a lease may run on beside its successor: nobody can end it,
    and what it returns is refused. So runs that were lost do not count.
    """
    lines: dict[str, list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.place):
        if job.key is not None:
            lines[job.key].append(job)
    for line in lines.values():
        spans = [span for job in line for span in spans_of(job, runs[job.id])]
        for (_, end), (begin, which) in itertools.pairwise(spans):
            assert end <= begin, f"9: {which} ran before the one before it had ended"


def spans_of(job: Job, runs: Sequence[Run]) -> list[tuple[float, float]]:
    """Return begin and end of each run of a job that was not lost."""
    lost = {attempt.number for attempt in job.attempts if attempt.outcome == "lost"}
    return [
        (run.begin, run.begin if run.end is None else run.end)
        for run in sorted(runs, key=lambda run: run.attempt)
        if run.attempt not in lost
    ]


def check_firings(records: Mapping[str, Job]) -> None:
    """10: a firing exists once: its job is named after its minute, and the minutes are all different."""
    minutes = [job_id.rpartition("/")[2] for job_id in firings(records)]
    assert all(minute.endswith(":00.000Z") for minute in minutes), f"10: {minutes}"
    assert len(set(minutes)) == len(minutes), f"10: {minutes}"


def firings(records: Mapping[str, Job]) -> list[str]:
    return [job_id for job_id in records if job_id.startswith(CRON)]


def check_on_the_way(images: Iterable[MemoryDatabase], last: MemoryDatabase) -> None:
    """Check what the database had at some moments between: consistent, and what was final then is so at the end."""
    records = last.records()
    for image in images:
        check_database(image)  # 2 and 7 hold at each moment
        for job in image.records().values():
            assert not job.is_final or records[job.id].state == job.state, f"3: a final job changed: {job}"


def check_restores(before: MemoryDatabase, after: MemoryDatabase) -> None:
    """12: a restore changes no key but ticks and sessions."""
    assert differences(lasting(before), lasting(after)) == {}


def check_replay(before: MemoryDatabase, after: MemoryDatabase, new: Collection[str]) -> None:
    """11: what is read a second time changes nothing. new: jobs that came since."""
    assert set(after.records()) == set(before.records()) | set(new)
    changed = differences(lasting(before, REREAD), lasting(after, REREAD))
    assert {key for key, (was, _) in changed.items() if was is not None} == set(), "11: a replay changes what was there"
