"""A job, its attempts, and the request to submit one. All instants are microseconds since the epoch."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

State = Literal["pending", "sent", "running", "done", "dead", "cancelled", "held"]
FINAL_STATES: frozenset[State] = frozenset({"done", "dead", "cancelled"})
AttemptOutcome = Literal["done", "failed", "lost", "returned", "cancelled", "timeout"]
Origin = Literal["api", "kafka", "schedule", "recovered"]

MAX_NAME_LENGTH = 1_000
"""Characters of an id, a type, a `key` or a `unique`; each has at least one."""
MAX_SCHEDULE_NAME_LENGTH = 970
"""Characters of the name of a schedule: the id of a job that it submits is `cron/<name>/<instant>`."""
MAX_PAYLOAD_BYTES = 512 * 1024
MAX_RESULT_BYTES = 256 * 1024
MAX_ATTEMPTS = 5
TIMEOUT_SECONDS = 900.0
MAX_OUTPUT_OF_ATTEMPT = 4 * 1024
ATTEMPTS_LISTED = 20


class JobError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed. fields: what is wrong with the payload, by the member's name."""

    code: str
    message: str
    fields: dict[str, Any] | None = None


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job that a client, a message of `jobs` or a schedule submits.

    payload: JSON text. delay, timeout: seconds. run_at: an instant; not together with delay. priority: 0 to 9, 9 is the
    most urgent. key: jobs with one key run one at a time, in the order of their creation. unique: at most one
    unfinished job has it. max_attempts, timeout: None: the default of the job's type.
    """

    type: str
    id: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")
    delay: float | None = None
    run_at: int | None = None
    priority: int = 0
    key: str | None = None
    unique: str | None = None
    max_attempts: int | None = None
    timeout: float | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One sending of a job to a worker. number: from 1. output: the end of what the handler printed."""

    number: int
    token: str
    session: str
    host: str
    sent_at: int
    started_at: int | None = None
    ended_at: int | None = None
    outcome: AttemptOutcome | None = None
    error: JobError | None = None
    output: str = ""


class JobProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """fraction: 0 to 1, from the handler; None if it only gives a text."""

    fraction: float | None = None
    text: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job as `jobs_db` has it, without its payload and its result.

    order: its number among all jobs, in the order of creation. created, run_at, ended: instants. attempt: how often it
    was sent. tries: how often it failed, ran out of time, or was lost. token, session: of the live attempt, in the
    states `sent` and `running`. is_stopping: somebody cancelled it while it ran. by: who submitted it. digest: of the
    request, to tell whether a second request with its id differs. schedule: the name of the schedule that submitted it.
    attempts: the newest ATTEMPTS_LISTED. earlier_attempts: how many are not in `attempts`. line: its place in the line
    of its key after a retry.
    """

    id: str
    type: str
    order: int
    state: State
    created: int
    run_at: int
    digest: str
    origin: Origin = "api"
    by: str = ""
    priority: int = 0
    key: str | None = None
    unique: str | None = None
    max_attempts: int = MAX_ATTEMPTS
    timeout: float = TIMEOUT_SECONDS
    attempt: int = 0
    tries: int = 0
    token: str | None = None
    session: str | None = None
    is_stopping: bool = False
    progress: JobProgress | None = None
    error: JobError | None = None
    ended: int | None = None
    schedule: str | None = None
    attempts: tuple[Attempt, ...] = ()
    earlier_attempts: int = 0
    line: int = 0

    @property
    def place(self) -> int:
        """Its place in the line of its key, by its creation or its last retry."""
        return self.line or self.order

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class JobType(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A type of jobs that a worker runs, as it declares it.

    schema: JSON Schema of the payload, or null. scope: needed to submit a job of this type. timeout: seconds.
    """

    name: str
    schema: msgspec.Raw = msgspec.Raw(b"null")
    scope: str = "write"
    timeout: float = TIMEOUT_SECONDS
    max_attempts: int = MAX_ATTEMPTS


class JobSchedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job that is submitted at set times. cron: five fields. catch_up: seconds; an older firing is skipped.

    in_code: a worker's module declares it, so the interface cannot change it. next, last: instants of firings.
    skipped: firings that submitted no job because the last job was unfinished.
    """

    name: str
    type: str
    cron: str
    time_zone: str = "UTC"
    payload: msgspec.Raw = msgspec.Raw(b"null")
    overlap: bool = False
    catch_up: float = 86_400.0
    in_code: bool = False
    is_paused: bool = False
    next: int | None = None
    last: int | None = None
    last_job: str | None = None
    skipped: int = 0
