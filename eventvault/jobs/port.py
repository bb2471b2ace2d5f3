"""The port to the dispatcher: what the interface, the command line, health and restores ask of it."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from eventvault.jobs.job import Job, JobRequest, JobSchedule, JobType, State
from eventvault.problems import Problem
from eventvault.rpc.markers import changes, deadline


class SubmitResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """id: of the job that is there. duplicate: it was there before. differs: it is not what is asked for now."""

    id: str
    state: State
    duplicate: bool = False
    differs: bool = False


class JobView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job with its payload and its result, JSON texts; None if there is none (any more)."""

    job: Job
    payload: msgspec.Raw | None = None
    result: msgspec.Raw | None = None


class JobPage(msgspec.Struct, frozen=True):
    """Newest first. next: the id to list before, for the next page; None at the end."""

    jobs: list[Job]
    next: str | None = None


class Changed(msgspec.Struct, frozen=True):
    """What became of the request to change one job. outcome: `changed`; `stopping`, a cancelled one that still runs;

    `unchanged`, as it is in a state that has nothing to change; `unknown`, there is none.
    """

    id: str
    outcome: Literal["changed", "stopping", "unchanged", "unknown"]
    state: State | None = None


class KnownType(msgspec.Struct, frozen=True, rename="camel"):
    """A type that a worker has said that it runs. workers: living sessions that run it."""

    type: JobType
    workers: int
    is_paused: bool


class QueueStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`jobQueue` of health. oldest_waiting: the instant since which the oldest due job waits."""

    workers: int
    slots: int
    waiting: int
    running: int
    dead: int
    held: int
    oldest_waiting: int | None
    states: dict[str, int]
    refused_reports: int
    broker: bool
    problems: list[Problem]


class Jobs(Protocol):
    """Each method may raise JobsUnavailable if no dispatcher answers, and what changes something TooBusy or NoSpace."""

    @changes
    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        """Accept all of the jobs or none, durably. Each has an `id`, so that the call may be sent again.

        Raises InvalidInput with `fields`, TooLarge, JobTypeUnknown, ScopeMissing, or JobQueueFull. Of several jobs,
        `fields` has one member for each that is refused, by its index. scopes: those of the caller, included ones too.
        """

    def list_jobs(self, states: list[str], types: list[str], limit: int, before: str | None) -> JobPage:
        """Raises JobNotFound if there is no job `before`."""

    def job(self, job_id: str) -> JobView:
        """Raises JobNotFound."""

    @changes
    def cancel(self, ids: list[str]) -> list[Changed]: ...

    @changes
    def retry(self, ids: list[str]) -> list[Changed]:
        """Make dead and cancelled jobs pending again, with all their tries."""

    @changes
    def pause(self, job_type: str | None) -> list[str]:
        """Send no jobs of this type any more; if None, of all types, those that come later too.

        Returns the types that are paused.
        """

    @changes
    def resume(self, job_type: str | None) -> list[str]:
        """End a pause; None: of all types, and let the held jobs wait for a worker."""

    def types(self) -> list[KnownType]: ...

    def schedules(self) -> list[JobSchedule]: ...

    @changes
    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        """Make the schedule, or replace the one of its name.

        Raises InvalidInput for a zone or cron that is none or never fires, a name of more than MAX_SCHEDULE_NAME_LENGTH
        characters, or a payload that the type's schema refuses;
        JobTypeUnknown; JobScheduleInCode.
        """

    @changes
    def delete_schedule(self, name: str) -> None:
        """Raises JobScheduleNotFound, or JobScheduleInCode."""

    @deadline(0.5)
    def status(self) -> QueueStatus: ...

    @deadline(2.0)
    def count_unfinished_after(self, instant: int) -> int:
        """Return how many unfinished jobs were created after this instant."""

    @changes
    def cancel_unfinished_after(self, instant: int) -> int:
        """Cancel those; returns how many."""
