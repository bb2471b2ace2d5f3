"""Submits jobs, each with an id, so that a request that is sent again adds nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventvault.jobs.job import JobRequest
from eventvault.jobs.port import Jobs, SubmitResult
from eventvault.jobs.sent import new_id


def submit(
    jobs: Jobs, asked: Sequence[JobRequest], by: str, scopes: list[str], make_id: Callable[[], str] = new_id
) -> list[SubmitResult]:
    """Submit all of the jobs or none. make_id: returns the id of one that has none. Raises as `Jobs.submit`."""
    named = [job if job.id is not None else msgspec.structs.replace(job, id=make_id()) for job in asked]
    results = jobs.submit(named, by, scopes) if named else []
    return [_as_first(*each) for each in zip(asked, named, results, strict=True)]


def _as_first(asked: JobRequest, named: JobRequest, result: SubmitResult) -> SubmitResult:
    """Return the result of a job whose id was made here: if it is there already, this request was sent twice."""
    if asked.id is not None or result.id != named.id:
        return result
    return msgspec.structs.replace(result, duplicate=False, differs=False)
