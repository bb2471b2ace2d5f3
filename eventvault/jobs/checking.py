"""Checks jobs against the types that workers have named: the type, the caller's scopes, and the payload.

Pure. The worker has the last word: its executor checks the payload again, with its own schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from eventvault.errors import InvalidInput, JobTypeUnknown, ScopeMissing
from eventvault.jobs.job import JobRequest, JobSchedule, JobType

MAX_PROBLEMS = 20
"""Most problems of a payload, and most refused jobs of a request, that an error describes."""
_LONGEST = 200
_SHOWN = 20
_NO_SCHEMA = b"null"


def check(requests: Sequence[JobRequest], types: Mapping[str, JobType], scopes: Sequence[str]) -> None:
    """Raise JobTypeUnknown, ScopeMissing or InvalidInput if one of the jobs is not accepted.

    scopes: those of the caller, with included ones. For several jobs, `fields` has the refused ones, by index.
    """
    problems: dict[str, dict[str, list[str]]] = {}
    for index, request in enumerate(requests):
        job_type = types.get(request.type)
        place = str(index) if len(requests) > 1 else None
        if job_type is None:
            raise unknown_type(request.type, types, place)
        if job_type.scope not in scopes:
            raise _scope_missing(job_type)
        if of_job := problems_of(request.payload, job_type):
            problems[place or ""] = of_job
            if len(problems) == MAX_PROBLEMS:
                break
    if problems:
        place, first = next(iter(problems.items()))
        raise InvalidInput(
            f"the payload of {f'job {place}' if place else 'the job'} does not fit its type: {', '.join(first)}",
            hint="nothing of this request was accepted; `fields` says what is wrong",
            fields=problems if place else first,
        )


def problems_of(payload: msgspec.Raw, job_type: JobType) -> dict[str, list[str]]:
    """Return what the schema of a type refuses in a payload, by the member: `payload.customer`."""
    if bytes(job_type.schema) == _NO_SCHEMA:
        return {}
    try:
        validator = _compiled(bytes(job_type.schema))
        value = msgspec.json.decode(payload)
        value = {} if value is None else value  # as the worker loads it
        if validator.is_valid(value):
            return {}
        problems: dict[str, list[str]] = {}
        for error in islice(validator.iter_errors(value), MAX_PROBLEMS):
            name = ".".join(["payload", *map(str, error.instance_path)])[:_LONGEST]
            problems.setdefault(name, []).append(error.message[:_LONGEST])
    except (ValueError, msgspec.MsgspecError) as error:  # for instance, a number that is too large
        return {"payload": [f"It cannot be checked: {error}."]}
    return problems


def check_schedule(schedule: JobSchedule, types: Mapping[str, JobType]) -> None:
    """Raise JobTypeUnknown, or InvalidInput if the payload does not fit the type."""
    job_type = types.get(schedule.type)
    if job_type is None:
        raise unknown_type(schedule.type, types)
    if problems := problems_of(schedule.payload, job_type):
        raise InvalidInput("the payload does not fit its type", hint="`fields` says why", fields=problems)


def unknown_type(name: str, types: Mapping[str, JobType], place: str | None = None) -> JobTypeUnknown:
    """Return the error for an unknown type, which names the known ones. place: the index of the job in the request."""
    names = sorted(types)
    close = get_close_matches(name, names, 1)
    listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "") if names else "none yet"
    proposal = f"did you mean {close[0]}? " if close else ""
    fields: dict[str, Any] = {"type": ["Not the name of a type that a worker runs."]}
    return JobTypeUnknown(
        f"there is no job type {name!r}",
        hint=f"{proposal}Known: {listed}",
        known=names[:_SHOWN],
        fields=fields if place is None else {place: fields},
    )


def _scope_missing(job_type: JobType) -> ScopeMissing:
    return ScopeMissing(
        f"submitting a job of the type {job_type.name} needs {job_type.scope}",
        hint=f"use a token with this scope: flask tokens create NAME --scope {job_type.scope}",
        scope=job_type.scope,
    )


@lru_cache(maxsize=1_000)
def _compiled(schema: bytes) -> Any:
    """Return an offline validator: a worker's schema must not make this process read files or ask other machines."""
    return jsonschema_rs.Draft202012Validator(msgspec.json.decode(schema), offline=True)
