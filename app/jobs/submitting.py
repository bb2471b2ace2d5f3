"""Submits the jobs of a posted body."""

from __future__ import annotations

from itertools import count

from flask import request

from app.access import current_credential
from app.edge import current_jobs
from eventvault.jobs import sent, submitting
from eventvault.jobs.port import SubmitResult
from eventvault.operations.caller import current_caller, take_operation_id


def submit(body: bytes) -> list[SubmitResult]:
    """Submit all jobs of the body or none. Raises the errors of reading them and of the dispatcher.

    A repeated request with an `Idempotency-Key` gives its jobs the same ids.
    """
    requests = sent.read_jobs(body, request.content_type)
    if not requests:
        return []
    operation_id, numbers = take_operation_id(), count()
    make_id = (lambda: f"{operation_id}-{next(numbers)}") if operation_id else sent.new_id
    scopes = sorted(current_credential().included)
    return submitting.submit(current_jobs(), requests, current_caller().started_by, scopes, make_id)
