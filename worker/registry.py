"""The declarations of the modules of WORKER_JOBS: types with their handlers, and schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from marshmallow import Schema, ValidationError

from eventvault import scopes
from eventvault.jobs.job import (
    MAX_ATTEMPTS,
    MAX_NAME_LENGTH,
    MAX_SCHEDULE_NAME_LENGTH,
    TIMEOUT_SECONDS,
    JobSchedule,
    JobType,
)
from eventvault.schedules import CRON_ALLOWED, ZONE_ALLOWED, Cron, parse_zone
from worker.payload_schema import to_json_schema

LONGEST_TIMEOUT_SECONDS = 7 * 86_400.0
MOST_ATTEMPTS = 1_000

Handler = Callable[..., Any]


class PayloadRefused(Exception):
    """The payload does not fit the type's schema. fields: what is wrong, by the member's name."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__("the payload does not fit its schema: " + ", ".join(map(str, fields)))
        self.fields = fields


@dataclass(frozen=True)
class Registration:
    """A handler with the arguments of its decorator."""

    job_type: JobType
    handler: Handler
    schema: Schema | None = None

    def load(self, payload: Any) -> Any:
        """Return the payload for the handler. A schema gets {} in place of a missing payload. Raises PayloadRefused."""
        if self.schema is None:
            return payload
        try:
            return self.schema.load({} if payload is None else payload)
        except ValidationError as error:
            raise PayloadRefused({str(name): problem for name, problem in _fields_of(error).items()}) from error


class HandlerCatalogue(msgspec.Struct, frozen=True):
    """The types and schedules of a worker, for its hello."""

    types: list[JobType]
    schedules: list[JobSchedule]


@dataclass(frozen=True)
class _DeclaredSchedule:
    handler: Handler
    name: str | None
    schedule: JobSchedule


_registrations: dict[str, Registration] = {}
_schedules: list[_DeclaredSchedule] = []


def register(
    handler: Handler,
    job_type: str,
    schema: Schema | type[Schema] | None = None,
    timeout: float | timedelta = TIMEOUT_SECONDS,
    max_attempts: int = MAX_ATTEMPTS,
    scope: str = scopes.WRITE,
) -> None:
    """Register the handler of a type. Raises ValueError if the type has another, or if an argument is not allowed."""
    present = _registrations.get(job_type)
    if present is not None and present.handler is not handler:
        raise ValueError(f"the job type {job_type!r} has a handler already: {present.handler.__qualname__}")
    _require(0 < len(job_type) <= MAX_NAME_LENGTH, job_type, f"its name has not 1 to {MAX_NAME_LENGTH} characters")
    seconds = seconds_of(timeout)
    _require(
        0 < seconds <= LONGEST_TIMEOUT_SECONDS, job_type, f"timeout is {seconds:g} s, not above 0 and up to 7 days"
    )
    _require(0 < max_attempts <= MOST_ATTEMPTS, job_type, f"max_attempts is {max_attempts}, not 1 to {MOST_ATTEMPTS}")
    _require(scope in scopes.SCOPES, job_type, f"scope is {scope!r}, not one of {', '.join(scopes.SCOPES)}")
    loaded = schema() if isinstance(schema, type) else schema
    text = msgspec.Raw(b"null" if loaded is None else msgspec.json.encode(to_json_schema(loaded)))
    declaration = JobType(name=job_type, schema=text, scope=scope, timeout=seconds, max_attempts=max_attempts)
    _registrations[job_type] = Registration(declaration, handler, loaded)


def schedule(
    handler: Handler,
    cron: str,
    time_zone: str = "UTC",
    name: str | None = None,
    payload: Any = None,
    overlap: bool = False,
    catch_up: float | timedelta = 86_400.0,
) -> None:
    """Register when a handler's job is submitted. Raises ValueError if an argument is not allowed."""
    subject = f"of {handler.__qualname__}"
    try:
        is_on = Cron(cron).is_on
    except ValueError:
        is_on = False
    _require(is_on, subject, f"its schedule is {cron!r}; allowed: {CRON_ALLOWED.removeprefix('off, or ')}")
    try:
        parse_zone(time_zone)
    except ValueError:
        raise ValueError(f"the job {subject}: its time zone is {time_zone!r}; allowed: {ZONE_ALLOWED}") from None
    declared = JobSchedule(
        name=name or "", type="", cron=cron, time_zone=time_zone, payload=msgspec.Raw(msgspec.json.encode(payload)),
        overlap=overlap, catch_up=seconds_of(catch_up), in_code=True,
    )  # fmt: skip
    _schedules.append(_DeclaredSchedule(handler, name, declared))


def find(job_type: str) -> Registration | None:
    return _registrations.get(job_type)


def known_types() -> list[str]:
    return sorted(_registrations)


def catalogue() -> HandlerCatalogue:
    """Return the registered types and schedules.

    Raises ValueError for a schedule whose handler has no type, whose payload its schema refuses, or whose name is too
    long or not unique.
    """
    by_name: dict[str, JobSchedule] = {}
    for declared in _schedules:
        job_type = _type_of(declared.handler)
        name = declared.name or job_type
        _require_valid_payload(name, _registrations[job_type], declared.schedule)
        if len(name) > MAX_SCHEDULE_NAME_LENGTH:
            raise ValueError(
                f"the schedule {name[:40]!r}… has a name of {len(name)} characters, at most {MAX_SCHEDULE_NAME_LENGTH} "
                "are possible: give it a shorter one, as in @cron(…, name=…)"
            )
        if name in by_name:
            raise ValueError(
                f"the schedule {name!r} is declared twice: give one of them a name, as in @cron(…, name=…)"
            )
        by_name[name] = msgspec.structs.replace(declared.schedule, name=name, type=job_type)
    types = [registration.job_type for _, registration in sorted(_registrations.items())]
    return HandlerCatalogue(types, [by_name[name] for name in sorted(by_name)])


def seconds_of(span: float | timedelta) -> float:
    """Return a span in seconds. Raises ValueError or TypeError for any other value."""
    return span.total_seconds() if isinstance(span, timedelta) else float(span)


def _require_valid_payload(name: str, registration: Registration, schedule: JobSchedule) -> None:
    try:
        registration.load(msgspec.json.decode(schedule.payload))
    except PayloadRefused as refused:
        raise ValueError(f"the schedule {name!r}: {refused}; give it one, as in @cron(…, payload=…)") from None


def _fields_of(error: ValidationError) -> dict[str, Any]:
    fields: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return fields


def _type_of(handler: Handler) -> str:
    for name, registration in _registrations.items():
        if registration.handler is handler:
            return name
    raise ValueError(f"{handler.__qualname__} has a schedule and no type: use @job(…) beside @cron(…)")


def _require(allowed: bool, subject: str, problem: str) -> None:
    if not allowed:
        raise ValueError(f"the job {subject}: {problem}")
