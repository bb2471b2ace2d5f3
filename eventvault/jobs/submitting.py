"""Submits jobs, each with an id, so that a repeated request adds nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventvault.jobs.job import JobRequest
from eventvault.jobs.port import Jobs, SubmitResult
from eventvault.jobs.sent import new_id


def submit(
    jobs: Jobs, requests: Sequence[JobRequest], by: str, scopes: list[str], make_id: Callable[[], str] = new_id
) -> list[SubmitResult]:
    """Submit all of the jobs or none. make_id: returns an id for a job without one. Raises as `Jobs.submit`."""
    named = [job if job.id is not None else msgspec.structs.replace(job, id=make_id()) for job in requests]
    results = jobs.submit(named, by, scopes) if named else []
    return [_not_duplicate(*triple) for triple in zip(requests, named, results, strict=True)]


def _not_duplicate(request: JobRequest, named: JobRequest, result: SubmitResult) -> SubmitResult:
    """Return the result. A job whose id was made here is not a duplicate: only its request was sent twice."""
    if request.id is not None or result.id != named.id:
        return result
    return msgspec.structs.replace(result, duplicate=False, differs=False)
