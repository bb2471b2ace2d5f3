"""Submits the jobs of a posted body, each under an id of its own, so that a request that is sent again adds nothing."""

from __future__ import annotations

from itertools import count

import msgspec
from flask import request

from app.access import present_credential
from app.edge import current_jobs
from eventvault.jobs import sent
from eventvault.jobs.job import JobRequest
from eventvault.jobs.port import SubmitResult
from eventvault.operations.caller import present_caller, take_operation_id


def submit(body: bytes) -> list[SubmitResult]:
    """Submit all jobs of the body or none. Raises the errors of reading them and of the dispatcher."""
    asked = sent.read_jobs(body, request.content_type)
    if not asked:
        return []
    named = _with_ids(asked)
    credential = present_credential()
    results = current_jobs().submit(named, present_caller().started_by, sorted(credential.included))
    return [_as_first(*each) for each in zip(asked, named, results, strict=True)]


def _with_ids(asked: list[JobRequest]) -> list[JobRequest]:
    """Return the jobs with ids: those of a request with an `Idempotency-Key` are the same when it comes again."""
    operation_id, number = take_operation_id(), count()
    return [
        job
        if job.id is not None
        else msgspec.structs.replace(job, id=f"{operation_id}-{next(number)}" if operation_id else sent.new_id())
        for job in asked
    ]


def _as_first(asked: JobRequest, named: JobRequest, result: SubmitResult) -> SubmitResult:
    """Return the answer to a job whose id was made here: if it is there already, this request was sent twice."""
    if asked.id is not None or result.id != named.id:
        return result
    return msgspec.structs.replace(result, duplicate=False, differs=False)
